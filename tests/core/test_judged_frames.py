"""Frames with gaps whose truth is known, and how sure figures over several of them are."""

import numpy as np
import pytest

from dlsia_core.errors import ArrayError, SettingError
from dlsia_core.exposures import PairLimits
from dlsia_core.inpainting_intervals import l1_ratio, pearson_interval
from dlsia_core.judged_frames import (
    draw_vertical_gaps,
    has_gaps,
    horizontal_frame,
    merge_pair,
    vertical_frame,
)
from dlsia_core.metrics.bootstrap import bootstrap_interval, regression_parts, regression_statistic
from dlsia_core.metrics.moments import pair_moments

SHAPE = (96, 120)


def frame_with_gaps(seed: int = 0) -> np.ndarray:
    frame = np.random.default_rng(seed).random(SHAPE, dtype=np.float32)
    frame[30:33] = np.nan
    frame[:, 50:53] = np.nan
    return frame


def test_only_pixels_that_were_not_shown_and_are_true_are_judged():
    shown, truth = frame_with_gaps(), frame_with_gaps()
    truth[30:33, 60:] = 0.5
    for case in (
        horizontal_frame(shown, truth),
        vertical_frame(shown, draw_vertical_gaps(np.isfinite(shown), np.random.default_rng(0))),
    ):
        assert case.judged.any()
        assert np.isnan(case.shown[case.judged]).all()
        assert np.isfinite(case.truth[case.judged]).all()
    assert horizontal_frame(shown, truth).judged.sum() == 3 * 60


@pytest.mark.parametrize("seed", range(5))
def test_artificial_gaps_lie_over_measured_columns_and_leave_the_others(seed: int):
    frame = frame_with_gaps()
    hidden = draw_vertical_gaps(np.isfinite(frame), np.random.default_rng(seed))
    columns = np.flatnonzero(hidden.any(axis=0))
    assert (hidden.all(axis=0) == hidden.any(axis=0)).all()
    assert not set(columns) & {50, 51, 52}
    case = vertical_frame(frame, hidden)
    np.testing.assert_array_equal(np.isnan(case.shown), hidden | np.isnan(frame))
    assert case.judged.sum() == columns.size * (SHAPE[0] - 3)


def test_frames_without_anything_to_judge_are_refused():
    frame = frame_with_gaps()
    with pytest.raises(ArrayError, match="no measured pixel lies in the artificial gaps"):
        vertical_frame(np.full_like(frame, np.nan), np.ones(SHAPE, bool))
    with pytest.raises(ArrayError, match="all measured pixels lie in the artificial gaps"):
        vertical_frame(frame, np.ones(SHAPE, bool))
    with pytest.raises(ArrayError, match="none of the horizontal gaps"):
        horizontal_frame(frame, frame)
    whole = np.ones(SHAPE, bool)
    assert not has_gaps(whole, "vertical")
    assert not has_gaps(whole, "horizontal")
    with pytest.raises(SettingError, match="cannot be moved"):
        draw_vertical_gaps(whole, np.random.default_rng(0))


def exposures(flux: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Two exposures 7 rows apart, the second of `flux` times the first, and where both measure."""
    y, x = np.indices((SHAPE[0] + 7, SHAPE[1]))
    mean = 60 * (1.3 + np.cos(np.hypot(y - 40, x - 70) / 4))
    rng = np.random.default_rng(1)
    first, second = rng.poisson(mean[7:]), rng.poisson(flux * mean[:-7])
    valid = np.ones(SHAPE, bool)
    valid[30:34] = False
    return first, second, valid


@pytest.mark.parametrize(("flux", "scaled"), [(1.0, False), (0.5, True), (1.7, True)])
def test_counts_are_scaled_where_the_exposures_are_unequal_and_nowhere_else(flux: float, scaled: bool):
    first, second, valid = exposures(flux)
    limits = PairLimits(largest_shift=20)
    merged, factor = merge_pair(first, second, valid, valid, limits=limits)
    assert merged.shift == (7, 0)
    assert merged.search is not None
    assert factor == (pytest.approx(1 / flux, rel=0.02) if scaled else 1.0)
    np.testing.assert_allclose(merged.counts[30:34], factor * second[37:41])
    if scaled:
        with pytest.raises(ArrayError, match="times the counts of the second"):
            merge_pair(first, second, valid, valid, flux="keep", limits=limits)


def test_a_bad_pair_is_refused_whatever_the_flux():
    first, _, valid = exposures(1.0)
    with pytest.raises(ArrayError, match="the detector was not moved"):
        merge_pair(first, first, valid, valid, limits=PairLimits(largest_shift=20))


def pixels(n_frames: int = 6) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(3)
    truth = rng.normal(1e3, 2.0, (n_frames, 50))
    return truth + rng.normal(0.2, 0.5, truth.shape), truth


def test_the_interval_of_r_is_that_of_the_pixels_themselves():
    """From moments alone it must come out as from the pixels, though their mean is far from 0."""
    predicted, truth = pixels()
    found = pearson_interval([pair_moments(p, t) for p, t in zip(predicted, truth, strict=True)], seed=5, resamples=200)
    expected = bootstrap_interval(
        regression_parts(predicted, truth), regression_statistic("pearson_r"), seed=5, resamples=200
    )
    assert found is not None
    assert (found.estimate, found.low, found.high) == pytest.approx(
        (expected.estimate, expected.low, expected.high), abs=1e-10
    )
    assert found.estimate == pytest.approx(np.corrcoef(predicted.ravel(), truth.ravel())[0, 1])


def test_a_ratio_needs_the_same_frames_and_is_sure_where_methods_differ_alike():
    predicted, truth = pixels()
    once = [pair_moments(p, t) for p, t in zip(predicted, truth, strict=True)]
    twice = [pair_moments(t + 2 * (p - t), t) for p, t in zip(predicted, truth, strict=True)]
    found = l1_ratio(twice, once, seed=0)
    assert (found.estimate, found.low, found.high) == pytest.approx((2, 2, 2))
    with pytest.raises(ArrayError, match="different pixels or frames"):
        l1_ratio(once[:-1], once, seed=0)
    with pytest.raises(ArrayError, match="makes no error"):
        l1_ratio(once, [pair_moments(t, t) for t in truth], seed=0)
    single = l1_ratio(twice[:1], once[:1], seed=0)
    assert single.estimate == pytest.approx(2)
    assert np.isnan([single.low, single.high]).all()
    assert pearson_interval(once[:1], seed=0) is None
