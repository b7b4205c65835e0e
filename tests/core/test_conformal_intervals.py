"""Intervals hold the true value as often as promised: three scores, groups, few frames, ties at the ends."""

import json
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dlsia_core.conformal import (
    Band,
    IntervalCalibration,
    bin_groups,
    calibrate_intervals,
    measure_intervals,
)
from dlsia_core.errors import ArrayError, SettingError


def uneven(rng: np.random.Generator, frames: int, pixels: int = 5) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Truth, a biased prediction, and the true spread of the error, which differs by pixel."""
    center, spread = rng.normal(size=(2, frames, pixels))
    spread = np.exp(spread)
    return center + spread * rng.normal(size=center.shape) + 0.5, center, spread


def band_of(kind: str, center: np.ndarray, spread: np.ndarray) -> Band:
    bands = {
        "absolute": lambda: Band.around(center),
        "scaled": lambda: Band.around(center, spread),
        "quantiles": lambda: Band.between(center - 3 * spread, center + 3 * spread),  # too wide: t is negative
    }
    return bands[kind]()


@pytest.mark.parametrize("kind", ["absolute", "scaled", "quantiles"])
@pytest.mark.parametrize("n", [5, 20, 1000])
def test_coverage_is_what_the_theorem_says(kind: str, n: int) -> None:
    """Over calibrations the coverage follows Beta(k, n + 1 - k), k = ceil((n + 1) 0.8), of mean k / (n + 1)."""
    seeds = 150 if n < 1000 else 60
    k = math.ceil((n + 1) * 0.8)
    measured = []
    for seed in range(seeds):
        rng = np.random.default_rng(seed)
        truth, center, spread = uneven(rng, n, 1)
        calibration = calibrate_intervals(band_of(kind, center, spread), truth, 0.8)
        truth, center, spread = uneven(rng, 1, 2000)
        lower, upper = calibration.interval(band_of(kind, center, spread))
        measured.append(((lower <= truth) & (truth <= upper)).mean())
    mean, variance = k / (n + 1), k * (n + 1 - k) / ((n + 1) ** 2 * (n + 2))
    sampling = mean * (1 - mean) / 2000
    assert np.mean(measured) == pytest.approx(mean, abs=3.5 * math.sqrt((variance + sampling) / seeds))


def test_a_scale_makes_intervals_narrower_where_the_error_is_small() -> None:
    rng = np.random.default_rng(0)
    truth, center, spread = uneven(rng, 400)
    widths = {}
    for kind in ("absolute", "scaled", "quantiles"):
        calibration = calibrate_intervals(band_of(kind, center, spread), truth, 0.9)
        measured = measure_intervals(*calibration.interval(band_of(kind, center, spread)), truth, resamples=10)
        assert measured.coverage.estimate == pytest.approx(0.9, abs=0.01)
        widths[kind] = measured.median_width
    assert widths["scaled"] < 0.7 * widths["absolute"]
    assert widths["quantiles"] < 0.85 * widths["absolute"]


def test_few_frames_give_infinite_intervals_and_say_so(caplog) -> None:
    truth, center, _ = uneven(np.random.default_rng(0), 8)
    calibration = calibrate_intervals(Band.around(center), truth, 0.9)
    lower, upper = calibration.interval(Band.around(center))
    assert np.isneginf(lower).all()
    assert np.isposinf(upper).all()
    assert "40 pixels of 8 units, fewer than the 9 units this needs, so the intervals are infinite" in caplog.text
    restored = IntervalCalibration.from_dict(json.loads(json.dumps(calibration.to_dict(), allow_nan=False)))
    assert restored == calibration
    with pytest.raises(SettingError, match="kind 'sets'; wanted 'intervals'"):
        IntervalCalibration.from_dict({"kind": "sets"})


@given(
    seed=st.integers(0, 9999), step=st.sampled_from([0.1, 1 / 3, 1.0, 1e5 / 7]), center=st.sampled_from([0.0, 1e3, 1e9])
)
def test_a_truth_exactly_on_an_end_is_inside(seed: int, step: float, center: float) -> None:
    """Counts have ties; rounding must not put the very pixels the threshold was taken from outside."""
    rng = np.random.default_rng(seed)
    prediction = center + rng.integers(-3, 4, size=(9, 4)) * step
    truth = prediction + rng.integers(-3, 4, size=(9, 4)) * step
    scale = rng.choice([step, 0.7, 3.0], size=truth.shape)
    for band in (Band.around(prediction, scale), Band.between(prediction - 9 * step, prediction + 9 * step)):
        calibration = calibrate_intervals(band, truth, 0.9)  # 9 frames: the threshold is the largest score
        lower, upper = calibration.interval(band)
        assert ((lower <= truth) & (truth <= upper)).all()


def grouped(rng: np.random.Generator, frames: int) -> tuple[np.ndarray, np.ndarray]:
    """Group 0: error 1; group 1: error 5; group 2, in two frames only: error 20."""
    group = np.tile(np.arange(60) % 2, (frames, 1))
    group[:2, :6] = 2
    return rng.normal(size=group.shape) * np.array([1.0, 5.0, 20.0])[group], group


def test_each_group_is_covered_and_small_groups_are_pooled() -> None:
    rng = np.random.default_rng(0)
    (truth, group), (new_truth, new_group) = grouped(rng, 300), grouped(rng, 300)
    zero = Band.around(np.zeros_like(truth))
    together, each = (calibrate_intervals(zero, truth, 0.9, group=g) for g in (None, group))
    assert each.groups == (0, 1)
    assert each.pooled.units == 2
    for calibration, given_group, wanted in ((together, None, (0.999, 0.8)), (each, new_group, (0.9, 0.9))):
        lower, upper = calibration.interval(zero, given_group)
        inside = (lower <= new_truth) & (new_truth <= upper)
        for number, share in enumerate(wanted):
            assert inside[new_group == number].mean() == pytest.approx(share, abs=0.02)
        if given_group is not None:
            assert np.isinf(upper[new_group == 2]).all()
    assert "all other groups together: calibrated on 12 pixels of 2 units" in each.statement
    unseen = each.interval(Band.around(np.zeros((1, 2))), np.array([[0, 77]]))[1]
    assert np.isfinite(unseen[0, 0])
    assert np.isinf(unseen[0, 1])
    for calibration, wrong in ((each, None), (together, group)):
        with pytest.raises(ArrayError, match="give `interval` the same"):
            calibration.interval(zero, wrong)
    assert IntervalCalibration.from_dict(json.loads(json.dumps(each.to_dict()))) == each


def test_pooled_groups_are_covered_together() -> None:
    """Forty groups, each in five frames: none can stand alone, all together can."""
    group = np.repeat(np.arange(40), 5)[:, None] * np.ones((1, 20), np.int64)
    truth = np.random.default_rng(0).normal(size=group.shape)
    calibration = calibrate_intervals(Band.around(np.zeros_like(truth)), truth, 0.9, group=group)
    assert calibration.groups == ()
    assert calibration.pooled.units == 200
    assert calibration.pooled.value == pytest.approx(1.645, abs=0.1)


def test_unmeasured_pixels_do_not_count() -> None:
    rng = np.random.default_rng(0)
    truth, center, _ = uneven(rng, 30)
    valid = rng.random(truth.shape) < 0.5
    hidden = np.where(valid, truth, np.nan)
    first = calibrate_intervals(Band.around(center), hidden, 0.9, valid=valid)
    again = calibrate_intervals(Band.around(np.where(valid, center, 1e9)), hidden, 0.9, valid=valid)
    assert first == again
    assert first.pooled.pixels == valid.sum()
    with pytest.raises(ArrayError, match="not finite on valid pixels"):
        calibrate_intervals(Band.around(center), hidden, 0.9)


def test_quantiles_that_would_cross_give_their_middle() -> None:
    band = Band.between(np.full((30, 1), -10.0), np.full((30, 1), 10.0))
    calibration = calibrate_intervals(band, np.zeros((30, 1)), 0.9)
    assert calibration.pooled.value == -10
    narrow = Band.between(np.array([[2.0]]), np.array([[4.0]]))
    lower, upper = calibration.interval(narrow)
    assert (lower.item(), upper.item()) == (3.0, 3.0)


def test_bins_of_several_quantities_make_groups() -> None:
    distance, intensity = np.meshgrid([0.0, 1.0, 2.0], [5.0, 20.0, np.nan], indexing="ij")
    number = bin_groups((distance, [1.0, 2.0]), (intensity, [10.0]))
    assert number.tolist() == [[0, 1, -1], [2, 3, -1], [4, 5, -1]]
    with pytest.raises(SettingError, match="must be finite and rise"):
        bin_groups((distance, [2.0, 1.0]))


def test_bands_that_say_nothing_are_refused() -> None:
    center = np.zeros((2, 3))
    for scale in (0.0, -1.0, np.nan, np.inf):
        with pytest.raises(ArrayError, match="at 6 pixels; give it a floor"):
            Band.around(center, np.full(center.shape, scale))
    with pytest.raises(ArrayError, match="must be the same"):
        Band.between(center, np.zeros(3))
    with pytest.raises(ArrayError, match=r"group has shape \(2,\)"):
        calibrate_intervals(Band.around(center), center, 0.9, group=np.zeros(2, int))
    with pytest.raises(ArrayError, match="valid must be bool"):
        calibrate_intervals(Band.around(center), center, 0.9, valid=np.ones((2, 3)))
