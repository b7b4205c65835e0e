"""How sure comparisons of inpainting methods are: intervals over frames that `compare_methods` does not give."""

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from dlsia_core.errors import ArrayError
from dlsia_core.inpainting_scores import pool_scores
from dlsia_core.metrics.bootstrap import Interval, bootstrap_interval, regression_statistic
from dlsia_core.metrics.moments import PairMoments

FloatArray = NDArray[np.float64]


def pearson_interval(
    frames: Sequence[PairMoments], *, seed: int, confidence: float = 0.95, resamples: int = 1000
) -> Interval | None:
    """Pearson r of all pixels of some frames together, with its interval over frames (percentile bootstrap).

    None for fewer than two frames, which cannot vary, and where r is undefined: a side is constant.

    >>> truth, other = np.arange(6.0), np.array([0.0, 2.0, 1.0, 3.0, 5.0, 4.0])
    >>> from dlsia_core.metrics.moments import pair_moments
    >>> frames = [pair_moments(other[part], truth[part]) for part in (slice(0, 3), slice(3, 6))]
    >>> found = pearson_interval(frames, seed=0)
    >>> round(found.estimate, 6), round(float(np.corrcoef(other, truth)[0, 1]), 6)
    (0.885714, 0.885714)
    """
    pooled = pool_scores(frames)
    if len(frames) < 2 or math.isnan(pooled.scores()["pearson_r"]):
        return None
    parts = np.array([_sums(frame, pooled.mean_prediction, pooled.mean_truth) for frame in frames])
    statistic = regression_statistic("pearson_r")
    return bootstrap_interval(parts, statistic, seed=seed, confidence=confidence, resamples=resamples)


def l1_ratio(
    over: Sequence[PairMoments],
    under: Sequence[PairMoments],
    *,
    seed: int,
    confidence: float = 0.95,
    resamples: int = 1000,
) -> Interval:
    """L1 of one method over that of another on the same pixels of the same frames, with its interval over frames.

    Every draw takes the same frames for both. Bounds are NaN for fewer than two frames.
    Raises ArrayError for other pixels, and where the second method makes no error.

    >>> from dlsia_core.metrics.moments import pair_moments
    >>> good, poor = pair_moments([1.0], [2.0]), pair_moments([4.0], [2.0])
    >>> l1_ratio([good, good], [poor, poor], seed=0)
    Interval(estimate=0.5, low=0.5, high=0.5, undefined=0)
    """
    if [frame.weight for frame in over] != [frame.weight for frame in under]:
        raise ArrayError("the two methods were scored on different pixels or frames; a ratio needs the same")
    sums = np.array([[a.absolute, b.absolute] for a, b in zip(over, under, strict=True)]).reshape(-1, 2)
    total = sums.sum(axis=0)
    if not total[1] > 0:
        raise ArrayError("the method to compare with makes no error, so there is no ratio to it")
    if len(sums) < 2:
        return Interval(float(total[0] / total[1]), math.nan, math.nan)
    return bootstrap_interval(sums, _quotient, seed=seed, confidence=confidence, resamples=resamples)


def _quotient(sums: FloatArray) -> float:
    return float(sums[0] / sums[1]) if sums[1] > 0 else math.nan


def _sums(frame: PairMoments, mean_x: float, mean_y: float) -> list[float]:
    """What a frame adds to the sums of `regression_statistic`, about the common means of all frames."""
    n, x, y = frame.weight, frame.mean_prediction - mean_x, frame.mean_truth - mean_y
    squares = (frame.spread_prediction + n * x * x, frame.spread_truth + n * y * y, frame.spread_both + n * x * y)
    return [n, frame.absolute, frame.square, n * x, n * y, *squares]
