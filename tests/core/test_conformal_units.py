"""Thresholds: the right rank at any n, exact decimals, and a promise that survives pixels that resemble each other."""

import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dlsia_core.conformal import (
    Band,
    Threshold,
    block_units,
    calibrate_intervals,
    conformal_quantile,
    fewest_units,
    hierarchical_threshold,
    measure_intervals,
    measure_sets,
    unit_of_pixels,
)
from dlsia_core.conformal.quantile import draw_from_units
from dlsia_core.errors import ArrayError, SettingError


@given(n=st.integers(0, 60), percent=st.integers(1, 99))
def test_the_quantile_has_the_rank_of_the_theorem(n: int, percent: int) -> None:
    """ceil((n + 1) (1 - alpha)) in whole numbers; in floats (9 + 1) * 0.9 or (n + 1) * 0.07 may round up."""
    rank = -(-(n + 1) * percent // 100)
    scores = np.random.default_rng(n).permutation(n).astype(float)
    assert conformal_quantile(scores, percent / 100) == (rank - 1 if rank <= n else math.inf)
    assert (n >= fewest_units(percent / 100)) == (rank <= n)


@given(sizes=st.lists(st.integers(1, 7), min_size=1, max_size=12), tenths=st.integers(1, 9), seed=st.integers(0, 99))
def test_the_hierarchical_threshold_is_the_quantile_of_exact_masses(sizes: list[int], tenths: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    unit = np.repeat(rng.permutation(100)[: len(sizes)], sizes)
    scores = rng.integers(0, 6, len(unit)).astype(float)
    order = rng.permutation(len(unit))
    found = hierarchical_threshold(scores[order], unit[order], tenths / 10)
    counts = dict(zip(*np.unique(unit, return_counts=True), strict=True))
    wanted, mass = math.inf, Fraction(0)
    for score in sorted(set(scores), reverse=True):
        mass = sum((Fraction(1, int(counts[u])) for u, s in zip(unit, scores, strict=True) if s <= score), Fraction(0))
        if mass >= Fraction(tenths, 10) * (len(sizes) + 1):
            wanted = score
    assert found == Threshold(wanted, len(sizes), len(unit))


def coverage_with_equal_pixels(units: int, hierarchical: bool, per_unit: int | None, seed: int) -> float:
    """Chance to cover a pixel of a new frame; errors are that of the frame and a little of the pixel."""
    rng = np.random.default_rng(seed)
    truth = rng.normal(size=(units, 1)) + 0.02 * rng.normal(size=(units, 50))
    zero = Band.around(np.zeros_like(truth))
    how = "frame" if hierarchical else "pixel"
    limit = calibrate_intervals(zero, truth, 0.9, units=how, pixels_per_unit=per_unit, seed=seed).pooled.value
    return math.erf(limit / math.sqrt(2 * 1.0004)) if math.isfinite(limit) else 1.0


@pytest.mark.parametrize("per_unit", [None, 1, 5])
def test_frames_as_units_keep_the_promise_where_pixels_break_it(per_unit: int | None) -> None:
    """Eleven frames of nearly equal pixels: 90 % of the pixels are those of 10 frames, and 10 / 12 = 83 %."""
    by_frame = [coverage_with_equal_pixels(11, True, per_unit, seed) for seed in range(400)]
    by_pixel = [coverage_with_equal_pixels(11, False, None, seed) for seed in range(400)]
    error = 3.5 * np.std(by_frame) / 20
    assert 0.9 - error <= np.mean(by_frame) <= 0.9 + 2 / 12 + error
    assert np.mean(by_pixel) == pytest.approx(10 / 12, abs=0.02)


def test_pixels_that_resemble_each_other_let_the_coverage_swing() -> None:
    """4000 independent pixels would hold the coverage to 0.5 %; 80 frames of 50 that resemble each other do not."""
    independent = np.sqrt(0.9 * 0.1 / 4000)
    assert np.std([coverage_with_equal_pixels(80, False, None, seed) for seed in range(100)]) > 5 * independent


def test_blocks_of_a_smooth_field_are_units() -> None:
    """One frame, errors alike over 8 x 8 pixels: blocks of 16 keep the promise, and say how few grounds there are."""
    covered = []
    for seed in range(100):
        rng = np.random.default_rng(seed)
        field = np.kron(rng.normal(size=(2, 8, 8)), np.ones((8, 8)))
        zero = Band.around(np.zeros_like(field[:1]))
        units = block_units((1, 64, 64), (16, 16))
        calibration = calibrate_intervals(zero, field[:1], 0.9, units=units)
        assert calibration.pooled.units == 16
        covered.append(measure_intervals(*calibration.interval(zero), field[1:], resamples=1).coverage.estimate)
    assert np.mean(covered) >= 0.9 - 3.5 * np.std(covered) / 10


def test_drawing_from_units_takes_as_many_of_each_at_random() -> None:
    unit = np.array([5, 2, 5, 5, 2, 9])
    drawn = draw_from_units(unit, 2, seed=0)
    assert sorted(unit[drawn].tolist()) == [2, 2, 5, 5, 9]
    assert len(set(drawn.tolist())) == 5
    picks = [tuple(draw_from_units(unit, 1, seed=s).tolist()) for s in range(200)]
    assert np.mean([0 in p for p in picks]) == pytest.approx(1 / 3, abs=0.12)
    assert np.array_equal(drawn, draw_from_units(unit, 2, seed=0))


def test_units_have_the_shape_of_the_label_or_are_refused() -> None:
    assert unit_of_pixels("pixel", (2, 2)).tolist() == [[0, 1], [2, 3]]
    scans = unit_of_pixels(np.array([4, 4, 8]), (3, 2, 2))
    assert (scans[:2] == 4).all()
    assert (scans[2] == 8).all()
    volume = block_units((2, 3, 4, 4), (3, 2, 4))
    assert len(np.unique(volume)) == 4
    assert (volume[0, :, :2] == 0).all()
    with pytest.raises(SettingError, match="units is 'tile'; wanted 'frame', 'pixel'"):
        unit_of_pixels("tile", (2, 2))
    with pytest.raises(ArrayError, match="units have shape"):
        unit_of_pixels(np.arange(3), (2, 2))
    with pytest.raises(ArrayError, match="whole numbers"):
        unit_of_pixels(np.ones(2), (2, 2))
    with pytest.raises(SettingError, match="block_shape"):
        block_units((1, 4, 4), (2,))
    with pytest.raises(SettingError, match="coverage is 90"):
        conformal_quantile(np.ones(3), 90)


def test_measured_coverage_of_sets_by_hand() -> None:
    """Frame 0: 1 of 1 covered; frame 1: 1 of 3; by pixel 2 of 4, by frame the mean of 1 and 1/3."""
    label = np.array([[[0, 255, 255]], [[1, 2, 2]]], np.uint8)
    sets = np.zeros((2, 3, 1, 3), bool)
    sets[0, 0, 0, 0] = sets[1, :, 0, 0] = True
    measured = measure_sets(sets, label, seed=0)
    assert measured.coverage.estimate == 0.5
    assert measured.unit_coverage.estimate == pytest.approx((1 + 1 / 3) / 2)
    assert measured.per_class == (1.0, 1.0, 0.0)
    assert measured.mean_size == 1.0
    assert measured.size_shares == (0.5, 0.25, 0.0, 0.25)
    assert (measured.units, measured.pixels) == (2, 4)
    alone = measure_sets(sets[:1], label[:1])
    assert alone.to_dict()["coverage"] == {"estimate": 1.0, "low": None, "high": None, "undefined": 0}
    with pytest.raises(ArrayError, match="nothing to measure"):
        measure_sets(sets, np.full_like(label, 255))


def test_measured_coverage_of_intervals_by_hand_and_its_bootstrap() -> None:
    truth = np.array([[0.0, 1.0, np.nan], [2.0, 9.0, 0.5]])
    lower, upper = np.zeros_like(truth), np.array([[1.0, 1.0, 1.0], [3.0, 3.0, np.inf]])
    measured = measure_intervals(lower, upper, truth, valid=np.isfinite(truth), seed=1)
    assert measured.coverage.estimate == pytest.approx(4 / 5)
    assert measured.unit_coverage.estimate == pytest.approx((1 + 2 / 3) / 2)
    assert (measured.mean_width, measured.median_width, measured.infinite_share) == (2.0, 2.0, pytest.approx(0.2))
    assert measured.unit_coverage.low == pytest.approx(2 / 3)
    assert measured.unit_coverage.high == 1.0
    with pytest.raises(ArrayError, match="NaN on valid pixels"):
        measure_intervals(lower, upper, truth)
