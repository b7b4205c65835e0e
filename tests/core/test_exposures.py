from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from dlsia_core.classical import fill_gaps
from dlsia_core.errors import ArrayError, SettingError
from dlsia_core.exposure_shift import PairError, common_area, find_shift
from dlsia_core.exposures import (
    FROM_FIRST,
    FROM_NEITHER,
    FROM_SECOND,
    PairLimits,
    align,
    compare_exposures,
    merge_exposures,
)
from dlsia_core.gaps import gap_columns, gap_rows
from dlsia_core.inpainting_scores import score_frame
from dlsia_core.intensity import LogScale
from dlsia_core.judged_gaps import true_horizontal_gaps
from dlsia_core.noise_floor import local_expectation, poisson_floor, two_exposure_floor
from dlsia_core.resize import AreaResizer
from tasks.readers import ValidityRule, gap_valid, header_facts, open_file, valid_pixels

SHAPE = (200, 160)
ALS = "edf/als733"


def detector_valid(shape=SHAPE):
    """Two horizontal gaps of 17 rows, one vertical of 7 columns, a few dead pixels."""
    valid = np.ones(shape, bool)
    valid[55:72] = valid[127:144] = valid[:, 77:84] = False
    valid[10, 20] = valid[100, 120] = False
    return valid


def scattering(shape, beam, level=30.0):
    """Expected counts: rings about a beam, an air peak, a background."""
    row, column = np.indices(shape)
    radius = np.hypot(row - beam[0], column - beam[1])
    rings = sum(np.exp(-(((radius - r) / 3) ** 2)) for r in (30, 62, 95, 130))
    return level * (0.15 + rings + 3 * np.exp(-radius / 15))


def pair(shift, seed=0, level=30.0, flux=1.0, shape=SHAPE):
    """Two exposures of one sample; pixels without value are -1, and two pixels of the detector are hot."""
    rng, valid = np.random.default_rng(seed), detector_valid(shape)
    beam = (0.6 * shape[0], 0.55 * shape[1])
    moved = (beam[0] + shift[0], beam[1] + shift[1])
    frames = [
        rng.poisson(factor * scattering(shape, at, level)).astype(np.int32)
        for at, factor in ((beam, 1.0), (moved, flux))
    ]
    for frame in frames:
        frame[30, 40] = frame[150, 100] = 900_000
        frame[~valid] = -1
    return frames[0], frames[1], valid, valid.copy()


@given(size=st.integers(1, 40), sign=st.sampled_from([-1, 1]), axis=st.sampled_from([0, 1]), seed=st.integers(0, 9))
@hypothesis_settings(max_examples=25)
def test_the_shift_is_found_though_gaps_and_hot_pixels_stay_in_place(size, sign, axis, seed):
    shift = (sign * size, 0) if axis == 0 else (0, sign * size)
    found = find_shift(*pair(shift, seed))
    assert (found.rows, found.columns) == shift
    assert found.margin > 5
    assert found.runner_up != shift
    assert 0.7 < found.chi_square < 1.4


def test_an_unmoved_detector_is_recognized_and_fills_nothing():
    first, second, first_valid, second_valid = pair((0, 0))
    found = find_shift(first, second, first_valid, second_valid)
    assert (found.rows, found.columns) == (0, 0)
    with pytest.raises(PairError, match="cannot fill the gaps of the first: the detector was not moved"):
        merge_exposures(first, second, first_valid, second_valid)


def test_the_shift_is_found_between_exposures_of_unequal_time_and_for_weak_frames():
    assert find_shift(*pair((23, 0), flux=0.3)).rows == 23
    assert find_shift(*pair((23, 0), level=15.0)).rows == 23


def test_no_shift_is_made_up():
    rng = np.random.default_rng(0)
    first, _, valid, _ = pair((0, 0))
    flat = rng.poisson(30.0, SHAPE)
    with pytest.raises(PairError, match=r"shift not found: .* fit almost equally well .* give the shift"):
        find_shift(flat, rng.poisson(30.0, SHAPE), valid, valid)
    with pytest.raises(PairError, match="shift not found: too few counts"):
        find_shift(np.zeros_like(first), np.zeros_like(first), valid, valid)
    with pytest.raises(PairError, match="too few counts in the pixels that both"):
        find_shift(first, first, valid, np.zeros_like(valid))
    with pytest.raises(PairError, match=r"\(12, 0\) \(rows, columns\), is the largest that was tried; raise largest"):
        find_shift(*pair((12, 0)), largest_shift=12)


@given(rows=st.integers(-6, 6), columns=st.integers(-5, 5))
def test_common_areas_show_the_same_scattering(rows, columns):
    scene = np.arange(40 * 40).reshape(40, 40)
    first, second = scene[10:17, 10:16], scene[10 - rows : 17 - rows, 10 - columns : 16 - columns]
    here, there = common_area((7, 6), (rows, columns))
    assert np.array_equal(first[here], second[there])
    assert first[here].size == (7 - abs(rows)) * (6 - abs(columns))
    moved, valid = align(second, np.ones((7, 6), bool), (rows, columns))
    assert np.array_equal(moved[valid], first[valid])
    assert valid.sum() == first[here].size


def test_filling_takes_the_second_exposure_to_the_bit_and_averages_nothing():
    first, second, first_valid, second_valid = pair((25, 0))
    merged = merge_exposures(first, second, first_valid, second_valid)
    assert merged.shift == (25, 0)
    assert merged.search.rows == 25
    assert merged.counts.dtype == np.int32
    assert np.array_equal(merged.counts[first_valid], first[first_valid])
    taken = merged.origin == FROM_SECOND
    rows, columns = np.nonzero(taken)
    assert np.array_equal(merged.counts[taken], second[rows + 25, columns])
    assert merged.n_filled == taken.sum() > 2 * 17 * 150
    assert np.array_equal(merged.origin == FROM_FIRST, first_valid)
    assert np.array_equal(merged.valid, merged.origin != FROM_NEITHER)
    assert gap_rows(merged.valid) == ()
    assert gap_columns(merged.valid) == ((77, 84),)
    assert merged.valid[10, 20]  # a dead pixel, replaced as in the paper


def test_a_known_shift_is_taken_but_checked():
    frames = pair((25, 0), level=3.0)
    merged = merge_exposures(*frames, shift=(25, 0))
    assert merged.search is None
    assert merged.shift == (25, 0)
    with pytest.raises(PairError, match=r"exposures disagree: at a shift of \(20, 0\) px .* wrong shift"):
        merge_exposures(*pair((25, 0)), shift=(20, 0))


def test_a_shift_smaller_than_the_gap_fills_a_part_of_it():
    merged = merge_exposures(*pair((10, 0)))
    assert gap_rows(merged.valid) == ((55, 62), (127, 134))


@pytest.mark.parametrize("shift", [(0, 20), (0, -20)])
def test_a_detector_moved_sideways_fills_the_vertical_gap(shift):
    merged = merge_exposures(*pair(shift))
    assert gap_columns(merged.valid) == ()
    assert len(gap_rows(merged.valid)) == 2


def test_agreement_of_a_good_pair_is_what_noise_makes():
    first, second, first_valid, second_valid = pair((25, 0))
    first_valid &= first < 100_000
    second_valid &= second < 100_000
    moved, moved_valid = align(second, second_valid, (25, 0))
    agreement = compare_exposures(first, moved, first_valid, moved_valid, limits=PairLimits(systematic=0))
    both = first_valid & moved_valid
    assert agreement.n_pixels == both.sum()
    assert agreement.flux_ratio == pytest.approx(1, abs=4 * agreement.flux_error)
    assert agreement.chi_square == pytest.approx(1, abs=0.25)
    scale = LogScale()
    one, two = scale.normalize(first[both]), scale.normalize(agreement.flux_ratio * moved[both])
    assert agreement.l1 == pytest.approx(np.abs(one - two).mean(), rel=1e-4)
    assert agreement.pearson_r == pytest.approx(np.corrcoef(one, two)[0, 1], rel=1e-4)


@given(flux=st.floats(0.2, 5))
@hypothesis_settings(max_examples=10)
def test_the_flux_ratio_is_found_in_spite_of_hot_pixels(flux):
    first, second, first_valid, second_valid = pair((25, 0), flux=flux)
    moved, moved_valid = align(second, second_valid, (25, 0))
    agreement = compare_exposures(first, moved, first_valid, moved_valid)
    assert agreement.flux_ratio == pytest.approx(1 / flux, abs=5 * agreement.flux_error)
    assert agreement.chi_square < 1.5


@given(level=st.floats(0.05, 200), flux=st.floats(0.2, 5), seed=st.integers(0, 99))
@hypothesis_settings(max_examples=20)
def test_chi_square_is_one_for_noise_at_every_level_and_flux(level, flux, seed):
    rng, valid = np.random.default_rng(seed), np.ones((400, 400), bool)
    agreement = compare_exposures(
        rng.poisson(level, (400, 400)),
        rng.poisson(level * flux, (400, 400)),
        valid,
        valid,
        limits=PairLimits(systematic=0.0),
    )
    assert agreement.chi_square == pytest.approx(1, abs=0.15)  # 2500 blocks: five standard deviations


def test_unequal_exposures_are_refused_or_scaled():
    frames = pair((25, 0), flux=0.5)
    with pytest.raises(
        PairError, match=r"the first exposure has [12]\.\d+ times the counts of the second.*flux=\"scale"
    ):
        merge_exposures(*frames)
    merged = merge_exposures(*frames, flux="scale")
    taken = merged.origin == FROM_SECOND
    beam = (0.6 * SHAPE[0], 0.55 * SHAPE[1])
    expected = scattering(SHAPE, beam)[taken].sum()
    assert merged.counts[taken].sum() == pytest.approx(expected, rel=0.02)
    assert np.array_equal(merged.counts[frames[2]], frames[0][frames[2]])


def test_frames_of_different_samples_are_refused():
    first, _, valid, _ = pair((25, 0))
    rng = np.random.default_rng(3)
    other = rng.poisson(scattering(SHAPE, (60, 60), 25.0))
    with pytest.raises(PairError, match=r"disagree|shift not found"):
        merge_exposures(first, other, valid, valid)
    with pytest.raises(PairError, match=r"the exposures disagree.*another sample"):
        merge_exposures(first, other, valid, valid, shift=(25, 0))


def test_a_sample_that_the_beam_damaged_is_refused():
    """Rings that fade by a third between the exposures."""
    first, second, first_valid, second_valid = pair((25, 0), level=60)
    beam = (0.6 * SHAPE[0] + 25, 0.55 * SHAPE[1])
    row, column = np.indices(SHAPE)
    fade = np.where(np.hypot(row - beam[0], column - beam[1]) > 45, 0.67, 1.0)
    damaged = np.where(second_valid, np.random.default_rng(1).binomial(np.maximum(second, 0), fade), -1)
    with pytest.raises(PairError, match="the exposures disagree"):
        merge_exposures(first, damaged, first_valid, second_valid)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"second": np.ones((3, 3), int)}, r"frames of \(200, 160\) and \(3, 3\) px"),
        ({"first": np.ones(SHAPE, complex)}, "the first frame is complex128; wanted counts"),
        ({"second_valid": np.ones(SHAPE, np.uint8)}, "valid of the second frame is uint8; wanted bool"),
        ({"first": np.full(SHAPE, np.nan)}, "shift not found|not finite"),
    ],
)
def test_what_is_no_pair_is_refused(change, message):
    names = ("first", "second", "first_valid", "second_valid")
    frames = dict(zip(names, pair((25, 0)), strict=True)) | change
    with pytest.raises(ArrayError, match=message):
        merge_exposures(*frames.values())


def test_pairs_without_a_common_area_are_refused():
    first, second, first_valid, second_valid = pair((25, 0))
    with pytest.raises(PairError, match=r"no common area: a shift of \(200, 0\) px leaves nothing"):
        merge_exposures(first, second, first_valid, second_valid, shift=(200, 0))
    with pytest.raises(PairError, match=r"no common area: .* wanted at least 10%"):
        merge_exposures(first, second, first_valid, second_valid, shift=(195, 0))
    with pytest.raises(PairError, match=r"the common area holds 0 and .* counts; both exposures need some"):
        merge_exposures(np.zeros_like(first), second, first_valid, second_valid, shift=(25, 0))


def test_impossible_settings_are_refused():
    frames = pair((25, 0))
    with pytest.raises(SettingError, match="unknown flux 'average'; known: keep, scale"):
        merge_exposures(*frames, flux="average")
    with pytest.raises(SettingError, match="largest_shift is 160; it must be 1 to 159"):
        find_shift(*frames, largest_shift=160)
    with pytest.raises(SettingError, match="smallest_common_share is 0"):
        PairLimits(smallest_common_share=0)
    with pytest.raises(SettingError, match="cannot be negative"):
        PairLimits(systematic=-0.1)


# Recorded frames


def recorded(path):
    if not path.exists():
        pytest.skip(f"no {path.name} among the real frames")
    with open_file(path) as file:
        frame = file.read(0)
    return frame.counts, valid_pixels(frame.counts, header_facts(frame.header), ValidityRule())


def test_silver_behenate_of_two_beamlines_is_no_pair(real_frames: Path):
    """The same sample on the same kind of detector, at another distance and energy."""
    first, first_valid = recorded(real_frames / ALS / "AgB_10s_hi_1m.edf")
    second, second_valid = recorded(real_frames / "edf" / "esrf_bm26" / "Pilatus1M.edf.gz")
    with pytest.raises(PairError, match=r"disagree|shift not found"):
        merge_exposures(first, second, first_valid, second_valid, flux="scale")


def test_frames_of_a_time_scan_were_taken_without_moving(real_frames: Path):
    folder = real_frames / "cbf" / "p03_gisaxs"
    frames = [recorded(folder / f"jg_gisaxs_4nm_old_3ml_insitu_ds03_00001_0000{i}.cbf") for i in (5, 6)]
    (first, first_valid), (second, second_valid) = frames
    found = find_shift(first, second, first_valid, second_valid)
    assert (found.rows, found.columns) == (0, 0)
    assert found.margin > 20
    with pytest.raises(PairError, match="the detector was not moved"):
        merge_exposures(first, second, first_valid, second_valid)


@pytest.mark.parametrize("rows", [30, -19])
def test_a_recorded_frame_split_in_two_exposures_is_merged_again(real_frames: Path, rows: int):
    """Each count goes to one of two exposures by chance, which makes two independent Poisson frames of half the time.

    The second is moved, and a detector with gaps at other places than the recorded ones looks at both.
    """
    counts, recorded_valid = recorded(real_frames / ALS / "AgB_10s_hi_1m.edf")
    one = np.random.default_rng(0).binomial(counts, 0.5).astype(np.int32)
    two, two_known = align(counts - one, recorded_valid, (-rows, 0))
    gaps = np.ones(counts.shape, bool)
    for start in (120, 332, 544, 756):
        gaps[start : start + 17] = False
    merged = merge_exposures(one, two, recorded_valid & gaps, two_known & gaps)
    assert merged.shift == (rows, 0)
    assert merged.search.margin > 50
    assert merged.agreement.chi_square < 1.1
    assert merged.agreement.flux_ratio == pytest.approx(1, abs=0.002)
    filled = merged.origin == FROM_SECOND
    assert filled[120:137, :487].all()
    assert np.array_equal(merged.counts[filled], (counts - one)[filled])


def pair_of_silver_behenate(real_frames):
    return (
        *recorded(real_frames / ALS / "AgB_10s_hi_1m.edf"),
        *recorded(real_frames / ALS / "AgB_10s_lo_1m.edf"),
    )


def test_the_two_exposures_of_silver_behenate_at_als_733(real_frames: Path):
    """At 512 x 512 in log(1 + counts): the exposures against each other 8.6e-3, linear 10.8e-3, biharmonic 18.2e-3."""
    first, first_valid, second, second_valid = pair_of_silver_behenate(real_frames)
    merged = merge_exposures(first, second, first_valid, second_valid, flux="scale")
    scale, resizer = LogScale(), AreaResizer(first.shape, (512, 512))
    shown, truth = (
        scale.normalize(resizer.resize(*frame)[0]) for frame in ((first, first_valid), (merged.counts, merged.valid))
    )
    judged = true_horizontal_gaps(np.isfinite(shown), np.isfinite(truth))
    l1 = {
        name: score_frame(fill_gaps(shown, name).values, truth, judged).scores()["l1"]
        for name in ("biharmonic", "linear", "harmonic")
    }
    moved, moved_valid = align(second * merged.agreement.flux_ratio, second_valid, merged.shift)
    floor = two_exposure_floor(first, moved, first_valid, moved_valid, resizer, scale)
    assert floor.l1 == pytest.approx(8.6e-3, rel=0.1)
    assert floor.pearson_r == pytest.approx(0.993, abs=0.002)
    assert l1["linear"] == pytest.approx(10.8e-3, rel=0.15)
    assert l1["biharmonic"] == pytest.approx(18.2e-3, rel=0.15)


@pytest.mark.parametrize(("shape", "published"), [((512, 512), 8.6e-3), ((1043, 981), 21.9e-3)])
def test_poisson_noise_explains_the_floor_of_the_real_pair(real_frames: Path, shape, published):
    """The figure measured between two exposures, from the first of them alone."""
    counts, _ = recorded(real_frames / ALS / "AgB_10s_hi_1m.edf")
    valid = gap_valid(counts.shape)
    resizer = AreaResizer(counts.shape, shape)
    judged = resizer.coverage(valid) >= 0.5
    floor = poisson_floor(local_expectation(counts, valid), valid, resizer, LogScale(), judged, realizations=2)
    assert floor.l1 == pytest.approx(published, rel=0.06)
