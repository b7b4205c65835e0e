"""The error that counting noise alone makes: no inpainting can be measured to be better on average.

Where the truth is one exposure, even a perfect prediction (the expected counts) differs from it: `realizations=1`.
Two exposures of the same pixels differ from each other by more, about sqrt(2) times: `realizations=2`.
"""

import math
from dataclasses import dataclass
from functools import cache
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import uniform_filter
from scipy.stats import poisson

from dlsia_core.errors import ArrayError, SettingError
from dlsia_core.inpainting_scores import pool_scores, score_frame
from dlsia_core.intensity import IntensityScale
from dlsia_core.metrics.moments import PairMoments
from dlsia_core.resize import AreaResizer

FloatArray = NDArray[np.float64]
BoolArray = NDArray[np.bool_]
Realizations = Literal[1, 2]

LARGEST_TABLED = 400.0  # counts; above, the noise is so nearly normal that the error is below 0.1 %
# Whole numbers above 10: the difference has kinks there, by less than 1 % of it.
_MEANS = np.concatenate([[0.0], np.geomspace(1e-3, 1, 40), np.arange(9, 80) / 8, np.arange(10.0, LARGEST_TABLED + 1)])
_COUNTS = np.arange(int(LARGEST_TABLED + 12 * LARGEST_TABLED**0.5))


@dataclass(frozen=True)
class NoiseFloor:
    """L1 of the noise on some pixels of a frame; `pearson_r` is None where only L1 was computed."""

    n_pixels: int
    l1: float
    pearson_r: float | None = None


def two_exposure_floor(
    first: NDArray[Any],
    second: NDArray[Any],
    first_valid: BoolArray,
    second_valid: BoolArray,
    resizer: AreaResizer,
    scale: IntensityScale,
) -> NoiseFloor:
    """Two exposures against each other where both were measured, resized and normalized as frames are.

    Counts and valid are (y, x), aligned as by `dlsia_core.exposures.align`; multiply the second by their flux ratio
    where that is not 1. This is the floor with two realizations.

    Raises ArrayError for unequal shapes and without a common pixel.
    """
    if first_valid.shape != second_valid.shape:
        raise ArrayError(f"valid of the exposures have shapes {first_valid.shape} and {second_valid.shape}")
    both = first_valid & second_valid
    one, two = (scale.normalize(resizer.resize(counts, both)[0]) for counts in (first, second))
    common = np.isfinite(one)
    return NoiseFloor(int(np.count_nonzero(common)), *_l1_and_r(score_frame(two, one, common)))


def poisson_floor_map(
    expected: NDArray[Any],
    valid: BoolArray,
    resizer: AreaResizer,
    scale: IntensityScale,
    *,
    realizations: Realizations = 1,
) -> FloatArray:
    """Expected absolute error of every resized pixel by Poisson noise: (row, column) float64, NaN where not measured.

    expected      mean counts (y, x), >= 0, where `valid` (y, x)
    realizations  1: a noisy value against scale(expected); 2: two noisy values against each other

    A resized value is a weighted mean of Poisson numbers. It is taken for k N with N Poisson and k such that mean and
    variance are right, which is exact for equal weights, and E|f(X) - f(Y)| = 2 sum F (1 - F) (f(k (n + 1)) - f(k n))
    is summed over n (Gini's mean difference); above 400 counts the normal limit is used.

    Raises ArrayError for expected counts that are negative or not finite where measured, and for unequal shapes.

    >>> from dlsia_core.intensity import LinearScale
    >>> pixel = np.full((1, 1), 100.0)
    >>> floor = poisson_floor_map(pixel, pixel > 0, AreaResizer((1, 1), (1, 1)), LinearScale(0, 1))
    >>> round(floor.item(), 2)  # de Moivre: 2 * 100**101 * exp(-100) / 100! = 7.97
    7.97
    """
    if realizations not in (1, 2):
        raise SettingError(f"realizations is {realizations!r}; it must be 1 or 2")
    _check_expected(expected, valid)
    # float32 is the resizer's answer: 1e-7 of the mean, far below its noise.
    mean = resizer.resize(expected.astype(np.float64), valid)[0].astype(np.float64)
    variance = resizer.variance(expected, valid)
    result = np.where(np.isfinite(mean), 0.0, np.nan)
    counted = mean > 0  # False where NaN
    grain = variance[counted] / mean[counted]
    result[counted] = _expected_difference(mean[counted] / grain, grain, scale, realizations)
    return result


def poisson_floor(
    expected: NDArray[Any],
    valid: BoolArray,
    resizer: AreaResizer,
    scale: IntensityScale,
    judged: BoolArray,
    *,
    realizations: Realizations = 1,
) -> NoiseFloor:
    """Mean of `poisson_floor_map` over the judged pixels (row, column) of the resized frame."""
    floor = poisson_floor_map(expected, valid, resizer, scale, realizations=realizations)
    _check_judged(judged, floor)
    return NoiseFloor(int(np.count_nonzero(judged)), float(floor[judged].mean()))


def monte_carlo_floor(
    expected: NDArray[Any],
    valid: BoolArray,
    resizer: AreaResizer,
    scale: IntensityScale,
    judged: BoolArray,
    *,
    seed: int,
    realizations: Realizations = 1,
    n_draws: int = 4,
) -> NoiseFloor:
    """The same by drawing exposures, with Pearson r; slower, and free of the closed form's approximations."""
    if realizations not in (1, 2) or n_draws < 1:
        raise SettingError(f"realizations is {realizations!r} and n_draws {n_draws}; wanted 1 or 2, and at least 1")
    _check_expected(expected, valid)
    mean = np.where(valid, expected, 0).astype(np.float64)
    perfect = scale.normalize(resizer.resize(mean, valid)[0])
    _check_judged(judged, perfect)
    rng, scores = np.random.default_rng(seed), []
    for _ in range(n_draws):
        drawn = [scale.normalize(resizer.resize(rng.poisson(mean), valid)[0]) for _ in range(realizations)]
        scores.append(score_frame(drawn[1] if realizations == 2 else perfect, drawn[0], judged))
    return NoiseFloor(int(np.count_nonzero(judged)), *_l1_and_r(pool_scores(scores)))


def local_expectation(counts: NDArray[Any], valid: BoolArray, size: int = 5) -> FloatArray:
    """Expected counts (row, column) float64 where only one exposure is known: the mean of measured pixels around.

    size  side of the square in pixels, odd; the estimate blurs features that are smaller

    Pixels without any measured one in reach get 0. Raises SettingError for other sizes.

    >>> local_expectation(np.array([[2, 4, -1, 6]]), np.array([[True, True, False, True]]), 3).round(3).tolist()
    [[2.667, 3.0, 5.0, 6.0]]
    """
    if size < 1 or size % 2 == 0:
        raise SettingError(f"size is {size}; it must be odd and at least 1")
    measured = uniform_filter(valid.astype(np.float64), size, mode="nearest")
    total = uniform_filter(np.where(valid, counts, 0).astype(np.float64), size, mode="nearest")
    reached = measured > 0.5 / size**2  # running sums leave rounding where nothing was measured
    result = np.zeros(counts.shape)
    np.divide(total, measured, out=result, where=reached)
    return np.maximum(result, 0.0)


def _expected_difference(
    means: FloatArray, grains: FloatArray, scale: IntensityScale, realizations: Realizations
) -> FloatArray:
    """E|f(kN) - f(kM)| (one realization) or E|f(kN) - f(kN')| (two) for N, N' Poisson of mean M, and k = grain."""
    sigma = grains * np.sqrt(means)
    upper, lower = (scale.normalize(grains * means + sign * sigma).astype(np.float64) for sign in (1, -1))
    result: FloatArray = (upper - lower) / 2 * np.sqrt(2 / np.pi * realizations)
    few = means < LARGEST_TABLED
    if not few.any():
        return result
    low, high = grains[few].min(), grains[few].max()
    # Grains differ by how resized pixels cut detector pixels, within a factor of a few: some knots are enough.
    knots = np.geomspace(low, high, 1 if high < 1.0001 * low else 8)
    table = np.stack([_tabled(float(grain), scale, realizations) for grain in knots], axis=1)
    position = np.interp(np.log(grains[few]), np.log(knots), np.arange(knots.size))
    left = np.minimum(position.astype(np.intp), max(knots.size - 2, 0))
    right = np.minimum(left + 1, knots.size - 1)
    place = np.interp(means[few], _MEANS, np.arange(_MEANS.size))
    below = np.minimum(place.astype(np.intp), _MEANS.size - 2)
    part, share = place - below, position - left
    columns = [(1 - part) * table[below, side] + part * table[below + 1, side] for side in (left, right)]
    result[few] = (1 - share) * columns[0] + share * columns[1]
    return result


def _tabled(grain: float, scale: IntensityScale, realizations: Realizations) -> FloatArray:
    """The difference for every one of _MEANS."""
    cumulative = _cumulative()
    values = scale.normalize(grain * np.arange(_COUNTS.size + 1.0)).astype(np.float64)
    steps = np.diff(values)
    if realizations == 2:
        spread: FloatArray = 2 * (cumulative * (1 - cumulative)) @ steps
        return spread
    perfect = scale.normalize(grain * _MEANS).astype(np.float64)[:, None]
    below = np.clip(perfect, values[:-1], values[1:]) - values[:-1]  # the part of each step below the perfect value
    difference: FloatArray = (cumulative * below + (1 - cumulative) * (steps - below)).sum(axis=1)
    return difference


@cache
def _cumulative() -> FloatArray:
    """Probability of at most n counts, (mean, n), for _MEANS and _COUNTS."""
    return np.asarray(poisson.cdf(_COUNTS[None, :], _MEANS[:, None]))


def _check_expected(expected: NDArray[Any], valid: BoolArray) -> None:
    if expected.shape != valid.shape or valid.dtype != np.bool_:
        raise ArrayError(
            f"expected {expected.shape} and valid {valid.shape}, {valid.dtype}: wanted one shape, and bool"
        )
    measured = expected[valid]
    if not np.isfinite(measured).all() or (measured < 0).any():
        raise ArrayError("expected counts must be finite and at least 0 where measured")


def _check_judged(judged: BoolArray, resized: NDArray[Any]) -> None:
    if judged.shape != resized.shape or judged.dtype != np.bool_ or not judged.any():
        raise ArrayError(
            f"judged must be bool {resized.shape} with a True pixel; got {judged.dtype} {judged.shape}, "
            f"{np.count_nonzero(judged)} px"
        )
    if not np.isfinite(resized[judged]).all():
        raise ArrayError("pixels are judged that were not measured; judge where the resized truth is finite")


def _l1_and_r(moments: PairMoments) -> tuple[float, float | None]:
    scores = moments.scores()
    return scores["l1"], None if math.isnan(scores["pearson_r"]) else scores["pearson_r"]
