"""Errors of inpainted pixels are as large as promised, are nothing where nothing is known, and survive JSON."""

import json
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy.ndimage import distance_transform_edt

from deployments.simulated_beamtime import SimulationSettings, simulate_frame
from dlsia_core.conformal.left_out import left_out_level, units_of_kind
from dlsia_core.errors import ArrayError, SettingError
from dlsia_core.gap_surroundings import GapSurroundings
from dlsia_core.gaps import DEAD, INPAINTED, MEASURED, fill_linear, gap_columns, gap_rows, provenance
from dlsia_core.imitated_gaps import imitated_gaps
from dlsia_core.inpainting_uncertainty import InpaintingUncertainty
from dlsia_core.intensity import LogScale
from dlsia_core.resize import AreaResizer
from dlsia_core.uncertainty_calibration import UncertaintySettings, calibrate_uncertainty

N_FRAMES, SIZE = 40, (310, 244)
QUICK = UncertaintySettings(pixels_per_frame=800)


@pytest.fixture(scope="module")
def scan():
    """Frames of one simulated scan of four sample types, with NaN in gaps, and the same without gaps."""
    setup, scale = SimulationSettings(detector="Pilatus300k", seed=11), LogScale()
    resizer, frames, truth = AreaResizer((619, 487), SIZE), [], []
    for index in range(N_FRAMES):
        frame = simulate_frame(setup, index)
        valid = (frame.counts >= 0) & (frame.counts <= 1_000_000)
        frames.append(scale.normalize(resizer.resize(frame.counts, valid)[0]))
        truth.append(scale.normalize(resizer.resize(frame.gapless, np.ones_like(valid))[0]))
    return np.stack(frames), np.stack(truth)


def share_covered(uncertainty, frame, truth, judged):
    """Share of the judged pixels whose interval holds the truth."""
    origin, filled = provenance(np.isfinite(frame), 8), fill_linear(frame)
    half = uncertainty.half_width(filled, origin)
    known = judged & (origin == INPAINTED) & np.isfinite(half)
    assert known.sum() > 0.9 * (judged & (origin == INPAINTED)).sum()
    return float((np.abs(filled - truth) <= half)[known].mean())


def covered_in_artificial_gaps(uncertainty, frame, seed):
    hidden = imitated_gaps(np.isfinite(frame), np.random.default_rng(seed))
    return share_covered(uncertainty, np.where(hidden, np.nan, frame), frame, hidden & np.isfinite(frame))


def covered_in_true_gaps(uncertainty, frame, truth):
    return share_covered(uncertainty, frame, truth, np.isnan(frame))


@pytest.mark.parametrize("n_frames", [6, 10])
def test_promised_90_percent_are_88_to_92_in_other_frames_over_many_seeds(scan, n_frames):
    frames, truth = scan
    hidden, true = [], []
    for seed in range(8):
        order = np.random.default_rng(seed).permutation(N_FRAMES)
        uncertainty = calibrate_uncertainty(frames[order[:n_frames]], fill_linear, QUICK)
        others = order[n_frames : n_frames + 8]
        hidden.append(np.mean([covered_in_artificial_gaps(uncertainty, frames[i], (seed, i)) for i in others]))
        true.append(np.mean([covered_in_true_gaps(uncertainty, frames[i], truth[i]) for i in others]))
    assert 0.88 <= np.mean(hidden) <= 0.92
    assert 0.88 <= np.mean(true) <= 0.92
    assert np.mean([0.86 <= share <= 0.94 for share in hidden]) >= 0.8


def test_measured_coverage_tells_what_the_calibration_does(scan):
    frames, truth = scan
    uncertainty = calibrate_uncertainty(frames[::5], fill_linear, QUICK)
    measured = uncertainty.measured
    assert measured.frames == uncertainty.frames == len(frames[::5])
    assert measured.low < measured.coverage < measured.high
    assert 0.88 <= measured.coverage <= 0.92
    others = [covered_in_true_gaps(uncertainty, frames[i], truth[i]) for i in range(2, N_FRAMES, 5)]
    assert np.mean(others) == pytest.approx(measured.coverage, abs=0.03)
    assert "each frame by the others" in uncertainty.statement


def test_many_frames_are_measured_on_a_third_that_was_not_calibrated_on(scan):
    uncertainty = calibrate_uncertainty(scan[0], fill_linear, QUICK)
    assert (uncertainty.frames, uncertainty.measured.frames) == (N_FRAMES - N_FRAMES // 3, N_FRAMES // 3)
    assert uncertainty.measured.way == "other frames"
    assert 0.88 <= uncertainty.measured.coverage <= 0.92


def test_same_frames_and_seed_same_calibration_and_another_seed_another(scan):
    first, again, other = (
        calibrate_uncertainty(scan[0][:8], fill_linear, UncertaintySettings(pixels_per_frame=300, seed=seed)).to_dict()
        for seed in (0, 0, 1)
    )
    assert first == again != other


def test_json_gives_the_same_half_widths(scan):
    uncertainty = calibrate_uncertainty(scan[0][:8], fill_linear, QUICK)
    kept = InpaintingUncertainty.from_dict(json.loads(json.dumps(uncertainty.to_dict(), allow_nan=False)))
    assert kept == uncertainty
    frame = scan[0][9]
    origin = provenance(np.isfinite(frame), 8)
    np.testing.assert_array_equal(*(u.half_width(fill_linear(frame), origin) for u in (kept, uncertainty)))
    with pytest.raises(SettingError, match="format of the uncertainty is 7"):
        InpaintingUncertainty.from_dict({**uncertainty.to_dict(), "format": 7})


def test_measured_pixels_have_no_error_and_dead_and_unprocessed_ones_none_known(scan):
    uncertainty = calibrate_uncertainty(scan[0][:8], fill_linear, QUICK)
    frame = scan[0][9].copy()
    frame[20:60, 20:60] = np.nan
    origin = provenance(np.isfinite(frame), 8)
    origin[0, :5] = 255
    half = uncertainty.half_width(fill_linear(frame), origin)
    assert half.dtype == np.float32
    assert (half[origin == MEASURED] == 0).all()
    assert np.isnan(half[(origin == DEAD) | (origin == 255)]).all()
    far = distance_transform_edt(origin != MEASURED) > uncertainty.kinds.reach
    assert (far & (origin == INPAINTED)).any()
    assert np.isnan(half[far]).all()
    assert (half[~far & (origin == INPAINTED)] > 0).all()


def test_a_frames_half_widths_do_not_depend_on_the_frames_beside_it(scan):
    uncertainty = calibrate_uncertainty(scan[0][:8], fill_linear, QUICK)
    frames = scan[0][8:13].copy()
    frames[1, 40:44] = frames[3, :, 50:53] = np.nan
    frames[4] = np.nan
    origin = np.stack([provenance(np.isfinite(frame), 8) for frame in frames])
    filled = np.stack([fill_linear(frame) for frame in frames])
    alone = [uncertainty.half_width(frame, at) for frame, at in zip(filled, origin, strict=True)]
    np.testing.assert_array_equal(uncertainty.half_widths(filled, origin), alone)


def test_counts_on_another_scale_have_errors_on_that_scale(scan):
    once, twice = (calibrate_uncertainty(factor * scan[0][:8], fill_linear, QUICK) for factor in (1, 4))
    frame = scan[0][9]
    origin = provenance(np.isfinite(frame), 8)
    halves = [u.half_width(fill_linear(f * frame), origin) for u, f in ((once, 1), (twice, 4))]
    np.testing.assert_allclose(halves[1], 4 * halves[0], rtol=1e-4)
    assert twice.measured.coverage == pytest.approx(once.measured.coverage, abs=1e-3)


def test_rough_surroundings_have_larger_errors_than_flat_ones():
    rng = np.random.default_rng(3)
    frames = rng.normal(size=(8, 60, 80)).astype(np.float32) * np.where(np.arange(80) < 40, 1, 0.1).astype(np.float32)
    frames[:, 28:31] = np.nan
    uncertainty = calibrate_uncertainty(frames, fill_linear, QUICK)
    origin = provenance(np.isfinite(frames[0]), 8)
    half = uncertainty.half_width(fill_linear(frames[0]), origin)
    assert half[29, 5:35].mean() > 4 * half[29, 45:75].mean()


def test_too_few_frames_give_a_reason_and_no_number(scan):
    none = calibrate_uncertainty([*scan[0][:3], np.ones(SIZE, np.float32)], fill_linear, QUICK)
    assert (none.calibrated, none.frames) == (False, 3)
    assert "No calibrated error: 3 held-out frames with gaps are too few, 6 are needed" in none.statement
    assert InpaintingUncertainty.from_dict(json.loads(json.dumps(none.to_dict()))) == none
    origin = provenance(np.isfinite(scan[0][0]), 8)
    half = none.half_width(fill_linear(scan[0][0]), origin)
    assert np.array_equal(np.isnan(half), origin != MEASURED)
    assert not calibrate_uncertainty([], fill_linear).calibrated


def test_frames_that_tell_nothing_of_each_other_give_a_reason_and_no_number():
    """Each frame is filled ten times worse than the one before, at the same roughness."""
    rng = np.random.default_rng(0)
    frames = rng.normal(size=(6, 40, 40)).astype(np.float32)
    frames[:, :, 18:21] = np.nan
    wrong = iter(10.0 ** np.arange(6))
    none = calibrate_uncertainty(frames, lambda frame: np.full_like(frame, next(wrong)), QUICK)
    assert "differ so much" in none.reason


@pytest.mark.parametrize("bad", [lambda f: f, lambda f: f[:-1]], ids=["NaN", "shape"])
def test_fills_that_fill_nothing_are_refused(scan, bad):
    with pytest.raises(ArrayError, match="finite in gaps"):
        calibrate_uncertainty(scan[0][:1], bad)


@pytest.mark.parametrize(
    "wrong", [{"coverage": 1.0}, {"window": 4}, {"fewest_frames": 2}, {"distance_bins": 0}, {"pixels_per_frame": 1}]
)
def test_impossible_settings_are_refused(wrong):
    with pytest.raises(SettingError, match=next(iter(wrong))):
        UncertaintySettings(**wrong)


def test_an_uncertainty_is_a_calibration_or_a_reason():
    with pytest.raises(SettingError, match="or a reason"):
        InpaintingUncertainty(0.9, 3)


def by_hand(frame, window):
    """Roughness by its definition: the mean over the window of the differences at both pixels of each measured pair."""
    total, pairs = np.zeros(frame.shape), np.zeros(frame.shape)
    for (r, c), value in np.ndenumerate(frame):
        for other in ((r + 1, c), (r, c + 1)):
            if other[0] < frame.shape[0] and other[1] < frame.shape[1]:
                difference = abs(value - frame[other])
                if np.isfinite(difference):
                    for place in ((r, c), other):
                        total[place] += difference
                        pairs[place] += 1
    reach = window // 2
    around = [np.pad(values, reach, mode="symmetric") for values in (total, pairs)]
    rough = np.full(frame.shape, np.nan)
    for r, c in np.ndindex(frame.shape):
        amount, n = (values[r : r + window, c : c + window].sum() for values in around)
        if n:
            rough[r, c] = amount / n
    return rough


@settings(max_examples=30, deadline=None)
@given(
    hnp.arrays(np.float64, (7, 9), elements=st.floats(-5, 5, width=16)),
    hnp.arrays(np.bool_, (7, 9), elements=st.integers(0, 3).map(bool)),
    st.sampled_from([3, 5]),
)
def test_roughness_is_its_definition(values, measured, window):
    if not measured.any():
        return
    frame = np.where(measured, values, np.nan)
    found, wanted = GapSurroundings.of(measured, window).roughness(frame), by_hand(frame, window)
    known = np.isfinite(wanted)
    np.testing.assert_allclose(found[known], wanted[known], atol=1e-9)
    assert np.isfinite(found).all()


def test_roughness_looks_at_measured_pixels_only_and_knows_no_direction():
    rng = np.random.default_rng(1)
    frame = rng.normal(size=(30, 40))
    measured = rng.random((30, 40)) > 0.1
    measured[:, 20:23] = False
    around = GapSurroundings.of(measured, 7)
    rough = around.roughness(frame)
    np.testing.assert_array_equal(around.roughness(np.where(measured, frame, 1e9)), rough)
    np.testing.assert_allclose(around.roughness(frame + 5), rough, atol=1e-12)
    for turn in (np.flipud, np.fliplr, np.transpose):
        turned = GapSurroundings.of(np.ascontiguousarray(turn(measured)), 7).roughness(turn(frame))
        np.testing.assert_allclose(turned, turn(rough), atol=1e-12)


def test_the_middle_of_a_wide_gap_is_as_rough_as_its_edge():
    frame = np.random.default_rng(2).normal(size=(20, 60))
    measured = np.ones(frame.shape, dtype=bool)
    measured[:, 20:40] = False
    rough = GapSurroundings.of(measured, 5).roughness(frame)
    assert rough[10, 30] == pytest.approx(rough[10, 19], rel=0.6)
    assert rough[10, 30] > 0


@pytest.mark.parametrize("bad", [np.zeros((3, 3), bool), np.ones((3, 3)), np.ones(3, bool)])
def test_surroundings_of_nothing_are_refused(bad):
    with pytest.raises(ArrayError, match="some of it True"):
        GapSurroundings.of(bad, 3)


def detector():
    valid = np.ones((120, 90), dtype=bool)
    valid[:, 30:32] = valid[:, 60:62] = valid[40:44] = valid[84:88] = False
    return valid


@pytest.mark.parametrize("seed", range(8))
def test_imitated_gaps_are_as_wide_and_as_far_apart_as_the_true_ones_and_touch_none(seed):
    valid = detector()
    hidden = imitated_gaps(valid, np.random.default_rng(seed))
    for runs in (gap_rows, gap_columns):
        true, false = runs(valid), runs(~hidden)
        assert [stop - start for start, stop in false] == [stop - start for start, stop in true]
        assert len({f[0] - t[0] for f, t in zip(false, true, strict=True)}) == 1
        assert all(f[1] < t[0] or f[0] > t[1] for f in false for t in true)


def test_a_beamstop_and_dead_pixels_are_imitated_too():
    valid = detector()
    valid[60:70, 40:48] = valid[5, 5] = False
    for seed in range(4):
        hidden = imitated_gaps(valid, np.random.default_rng(seed))
        gaps = np.zeros_like(valid)
        for start, stop in gap_rows(~hidden):
            gaps[start:stop] = True
        for start, stop in gap_columns(~hidden):
            gaps[:, start:stop] = True
        assert 40 < (hidden & ~gaps).sum() <= 81
        assert distance_transform_edt(hidden).max() >= 4


@pytest.mark.parametrize(
    "missing", [(slice(5, 6), slice(5, 6)), (slice(1, 19), slice(None)), (slice(0), slice(0))], ids=str
)
def test_something_measured_is_hidden_whatever_the_gaps_are(missing):
    valid = np.ones((20, 16), dtype=bool)
    valid[missing] = False
    hidden = imitated_gaps(valid, np.random.default_rng(0))
    assert 0 < (hidden & valid).sum() < valid.sum()


def test_level_of_few_units_covers_new_units_as_promised_where_the_safe_threshold_covers_all():
    rng, found = np.random.default_rng(0), []
    for _ in range(200):
        spread = np.exp(0.2 * rng.standard_normal(26))
        scores = np.abs(rng.normal(size=(26, 200)) * spread[:, None])
        unit, group = np.repeat(np.arange(6), 200), np.zeros(1200, dtype=np.int64)
        level = left_out_level(scores[:6].ravel(), unit, group, 0.9)
        found.append((scores[6:] <= np.quantile(scores[:6], level)).mean())
    assert np.mean(found) == pytest.approx(0.9, abs=0.012)


def test_level_is_the_one_at_which_left_out_units_are_covered_as_promised():
    rng = np.random.default_rng(1)
    counts = [50, 200, 90, 400]
    unit = np.repeat(np.arange(4), counts)
    scores, group = rng.exponential(1 + unit / 6), rng.integers(0, 2, len(unit))
    level = left_out_level(scores, unit, group, 0.8)
    shares = []
    for left in range(4):
        hits = []
        for kind in (0, 1):
            others = [np.sort(scores[(unit == k) & (group == kind)]) for k in range(4) if k != left]
            for score in scores[(unit == left) & (group == kind)]:
                hits.append(np.mean([np.searchsorted(o, score) / len(o) for o in others]) < level)
        shares.append(np.mean(hits))
    assert np.mean(shares) == pytest.approx(0.8, abs=0.02)


def test_kinds_are_counted_in_units():
    group, unit = np.array([3, 3, 3, 1, 1]), np.array([0, 0, 2, 2, 2])
    assert units_of_kind(group, unit).tolist() == [2, 2, 2, 1, 1]
    assert not math.isnan(left_out_level(np.arange(5.0), unit, group, 0.5) or 1.0)
