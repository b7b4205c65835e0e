"""A simulated frame is what its docstring says: reproducible, Poisson, rings, gaps and defects where they belong."""

import numpy as np
import pytest
from numpy.typing import NDArray
from pydantic import ValidationError
from sklearn.metrics import silhouette_score

from deployments.simulated_beamtime import DETECTORS, SAMPLES, SimulationSettings, simulate_frame
from deployments.simulated_beamtime.detector import COUNT_CUTOFF, build_scene
from deployments.simulated_beamtime.frames import expected_counts, sample_of
from deployments.simulated_beamtime.samples import PATTERNS
from dlsia_core.errors import SettingError

SMALL = SimulationSettings(detector="Pilatus300k", samples=SAMPLES, seed=3)


def changed(**changes: object) -> SimulationSettings:
    return SimulationSettings(**{**SMALL.model_dump(), **changes})


def test_frame_depends_on_settings_and_index_alone() -> None:
    forward = [simulate_frame(SMALL, i).counts for i in range(5)]
    build_scene.cache_clear()
    for index in (4, 0, 3, 1, 2):
        np.testing.assert_array_equal(simulate_frame(SMALL, index).counts, forward[index])
    longer = changed(n_frames=500, start_index=2, damaged_files=9, file_format="tiff")
    np.testing.assert_array_equal(simulate_frame(longer, 4).counts, forward[4])


@pytest.mark.parametrize("change", [{"seed": 4}, {"scan": "other"}])
def test_other_seed_or_scan_gives_other_noise_on_the_same_pattern(change: dict[str, object]) -> None:
    a, b = (simulate_frame(s, 0) for s in (changed(beam_jitter=0.0), changed(beam_jitter=0.0, **change)))
    np.testing.assert_array_equal(a.expected, b.expected)
    noise = [((f.gapless - f.expected) / np.sqrt(f.expected)).ravel() for f in (a, b)]
    assert abs(np.corrcoef(noise)[0, 1]) < 5 / np.sqrt(noise[0].size)


def test_two_frames_of_a_scan_share_no_noise() -> None:
    frames = [simulate_frame(changed(samples=("powder",)), i) for i in (0, 1)]
    noise = [((f.gapless - f.expected) / np.sqrt(f.expected)).ravel() for f in frames]
    assert abs(np.corrcoef(noise)[0, 1]) < 5 / np.sqrt(noise[0].size)


@pytest.mark.parametrize("detector", DETECTORS)
def test_gaps_are_where_pyfai_has_them(detector: str) -> None:
    from pyFAI.detectors import detector_factory

    frame = simulate_frame(changed(detector=detector), 0)
    np.testing.assert_array_equal(frame.counts == -1, detector_factory(detector).mask != 0)


def test_defects_stay_while_everything_else_changes() -> None:
    a, b = simulate_frame(SMALL, 0).counts, simulate_frame(changed(seed=9, scan="other"), 3).counts
    for of_defect in (lambda c: c == -2, lambda c: c > COUNT_CUTOFF):
        np.testing.assert_array_equal(of_defect(a), of_defect(b))
    assert (a == -2).sum() == round(2e-4 * (a != -1).sum())
    assert (a > COUNT_CUTOFF).sum() == 4
    other = simulate_frame(changed(detector_seed=1), 0).counts
    assert ((other == -2) != (a == -2)).any()


@pytest.mark.parametrize("dead_fraction", [0.0, 0.001, 0.2])
def test_as_many_dead_pixels_as_asked_for_and_none_in_a_gap(dead_fraction: float) -> None:
    scene = build_scene(changed(dead_fraction=dead_fraction))
    assert scene.dead.size == np.unique(scene.dead).size == round(dead_fraction * (~scene.gaps).sum())
    assert not scene.gaps.ravel()[scene.dead].any()
    assert np.intersect1d(scene.dead, scene.hot).size == 0


def test_measured_pixels_show_the_gapless_exposure() -> None:
    frame = simulate_frame(SMALL, 2)
    measured = (frame.counts >= 0) & (frame.counts <= COUNT_CUTOFF)
    np.testing.assert_array_equal(frame.counts[measured], frame.gapless[measured])
    assert frame.gapless.min() >= 0
    assert frame.gapless.max() <= COUNT_CUTOFF
    assert (frame.counts.dtype, frame.gapless.dtype, frame.expected.dtype) == (np.int32, np.int32, np.float32)


@pytest.mark.parametrize("sample", SAMPLES)
def test_noise_is_poisson(sample: str) -> None:
    """Mean and variance equal the rate, at high rates and low ones, and empty pixels are as many as exp(-rate) says."""
    frame = simulate_frame(changed(samples=(sample,)), 1)
    rate, counts = (a.astype(np.float64).ravel() for a in (frame.expected, frame.gapless))
    for low, high in ((0.05, 0.5), (0.5, 5.0), (5.0, np.inf)):
        chosen = (rate >= low) & (rate < high)
        n, z2 = chosen.sum(), (counts[chosen] - rate[chosen]) ** 2 / rate[chosen]
        if n < 1000:
            continue
        assert abs((counts[chosen] - rate[chosen]).sum()) < 5 * np.sqrt(rate[chosen].sum())
        assert abs(z2.mean() - 1) < 5 * np.sqrt((2 + 1 / rate[chosen]).mean() / n)
        empty = np.exp(-rate[chosen])
        assert abs((counts[chosen] == 0).sum() - empty.sum()) <= 5 * np.sqrt((empty * (1 - empty)).sum()) + 1


def test_noise_has_the_rates_mean_and_variance_in_one_pixel_over_many_frames() -> None:
    settings = changed(samples=("saxs_spheres",), beam_jitter=0.0, drift_frames=1e12)
    counts = np.stack([simulate_frame(settings, i).gapless[100:140, 100:140] for i in range(60)]).astype(float)
    rate = expected_counts(settings, 0)[100:140, 100:140]
    z = (counts.mean(axis=0) - rate) / np.sqrt(rate / 60)
    assert abs(z.mean()) < 5 / np.sqrt(z.size)
    assert counts.var(axis=0, ddof=1).mean() == pytest.approx(rate.mean(), rel=0.05)


@pytest.mark.parametrize(("calibrant", "distance_m"), [("AgBh", 1.2), ("LaB6", 0.15)])
def test_rings_are_where_pyfai_expects_them(calibrant: str, distance_m: float) -> None:
    from pyFAI.calibrant import get_calibrant
    from pyFAI.integrator.azimuthal import AzimuthalIntegrator

    settings = SimulationSettings(samples=("powder",), calibrant=calibrant, distance_m=distance_m, tube_radius_m=None)
    beam, pixel = build_scene(settings).beam, 172e-6
    integrator = AzimuthalIntegrator(
        dist=distance_m,
        poni1=(beam[0] + 0.5) * pixel,  # pyFAI counts from the pixel's corner, Beam_xy from its centre
        poni2=(beam[1] + 0.5) * pixel,
        detector="Pilatus2M",
        wavelength=settings.wavelength_m,
    )
    two_theta = integrator.center_array(unit="2th_rad")
    step = pixel / distance_m / 2
    expected = expected_counts(settings, 0)
    sums = np.bincount((two_theta / step).astype(int).ravel(), expected.ravel().astype(np.float64))
    profile = sums / np.maximum(np.bincount((two_theta / step).astype(int).ravel()), 1)
    rings = np.asarray(get_calibrant(calibrant, settings.wavelength_m).get_2th())
    inside = rings[(rings > 0.01) & (rings < two_theta[0, 0] * 0.9)][:4]
    assert inside.size >= 2
    for ring in inside:
        near = slice(int(ring / step) - 12, int(ring / step) + 13)
        at = (near.start + int(profile[near].argmax()) + 0.5) * step
        assert abs(at - ring) < 1.5 * step
        assert profile[near].max() > 3 * profile[near].min()


def test_film_has_its_wing_above_a_dark_horizon() -> None:
    """The Yoneda wing is at incidence + critical angle (0.6 + 0.18 degrees) above the beam; the substrate is dark."""
    settings = changed(detector="Pilatus2M", samples=("gisaxs_film",))
    scene, expected = build_scene(settings), expected_counts(settings, 0)
    columns = slice(int(scene.beam[1]) - 300, int(scene.beam[1]) - 150)
    rows = expected[:, columns].mean(axis=1)
    pixels_per_radian = settings.distance_m / 172e-6
    wing = scene.beam[0] - np.tan(np.radians(0.78)) * pixels_per_radian
    assert abs(int(rows.argmax()) - wing) < 3
    horizon = scene.beam[0] - np.tan(np.radians(0.6)) * pixels_per_radian
    assert rows.max() > 20 * rows[int(horizon) + 10 : int(scene.beam[0])].max()


def blocks(counts: NDArray[np.int32]) -> NDArray[np.float64]:
    """What a crude feature extractor sees: log of the mean counts in blocks of 24 pixels, gaps left out."""
    height, width = (n // 24 * 24 for n in counts.shape)
    valid = ((counts >= 0) & (counts <= COUNT_CUTOFF))[:height, :width]
    shape = (height // 24, 24, width // 24, 24)
    total = np.where(valid, counts[:height, :width], 0).reshape(shape).sum(axis=(1, 3))
    return np.log1p(total / np.maximum(valid.reshape(shape).sum(axis=(1, 3)), 1)).ravel()


def test_sample_types_make_clusters() -> None:
    features = np.stack([blocks(simulate_frame(SMALL, i).counts) for i in range(40)])
    names = np.array([sample_of(SMALL, i) for i in range(40)])
    distance = np.linalg.norm(features[:, None] - features[None], axis=2)
    np.fill_diagonal(distance, np.inf)
    np.testing.assert_array_equal(names[distance.argmin(axis=1)], names)
    assert silhouette_score(features, names) > 0.4


@pytest.mark.parametrize("sample", SAMPLES)
def test_samples_drift_slowly_and_away_from_their_start(sample: str) -> None:
    settings = changed(samples=(sample,), beam_jitter=0.0, drift_frames=30.0)
    at = [np.log1p(expected_counts(settings, i)) for i in (0, 1, 10, 40)]
    away = [float(np.abs(later - at[0]).mean()) for later in at[1:]]
    assert 0 < away[0] < away[1] < away[2]


def test_every_sample_type_has_a_pattern() -> None:
    assert set(PATTERNS) == set(SAMPLES)
    with pytest.raises(ValidationError, match="powder"):
        changed(samples=("glass",))


def test_counts_are_proportional_to_exposure_and_brightness() -> None:
    once, twice = expected_counts(SMALL, 1), expected_counts(changed(exposure_s=2.0), 1)
    np.testing.assert_allclose(twice, 2 * once, rtol=1e-5)
    brighter = expected_counts(changed(brightness=3.0), 1)
    np.testing.assert_allclose(brighter - 0.1, 3 * (once - 0.1), rtol=1e-4, atol=1e-4)


def test_flat_field_shows_modules_only_when_asked_for() -> None:
    perfect, spread = (build_scene(changed(flat_field_spread=v, detector_seed=2)).transmission for v in (0.0, 0.1))
    # Rows 194 and 212 face each other across the first gap; the solid angle alone is smooth there.
    step = [float(np.abs(np.log(e[212, :200] / e[194, :200])).mean()) for e in (perfect, spread)]
    assert step[0] < 0.002
    assert step[1] > 0.02
    within = np.diff(spread[100:110, :200], axis=0)
    assert np.abs(within).max() < 1e-4


def test_beamstop_and_flight_tube_cast_shadows() -> None:
    settings = changed(detector="Pilatus2M", samples=("saxs_spheres",))
    expected = expected_counts(settings, 0)
    y, x = (round(c) for c in build_scene(settings).beam)
    assert expected[y, x] < 0.02 * expected[y - 30, x]
    assert expected[5, 5] == pytest.approx(0.1)
    clear = expected_counts(changed(**{**settings.model_dump(), "beamstop_radius_px": 0.0, "tube_radius_m": None}), 0)
    assert clear[y, x] > clear[y - 30, x]
    assert clear[5, 5] > 0.5


def test_impossible_settings_are_refused_with_what_to_do() -> None:
    with pytest.raises(SettingError, match=r"no ring of calibrant 'LaB6'.*shorten distance_m"):
        simulate_frame(changed(samples=("powder",), calibrant="LaB6", distance_m=5.0), 0)
    with pytest.raises(SettingError, match=r"unknown calibrant 'cheese'.*AgBh"):
        simulate_frame(changed(samples=("powder",), calibrant="cheese"), 0)
    with pytest.raises(ValidationError, match="damaged_files is 3, but only 2 frames"):
        SimulationSettings(n_frames=2, damaged_files=3)
    with pytest.raises(ValidationError, match="frames_in_all"):
        SimulationSettings(frames_in_all=2)
    with pytest.raises(IndexError, match="counts from 0"):
        simulate_frame(SMALL, -1)
