"""How sure a metric is: percentile bootstrap over frames, and over moving blocks of pixels that resemble each other."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from dlsia_core.errors import ArrayError, SettingError
from dlsia_core.metrics.confusion import IGNORE, confusion_matrix

FloatArray = NDArray[np.float64]
Statistic = Callable[[FloatArray], float]
"""From the sum of the parts of a set to the metric of the set."""


@dataclass(frozen=True)
class Interval:
    """A metric of the whole set with the percentiles of its bootstrap; undefined: resamples in which it was NaN."""

    estimate: float
    low: float
    high: float
    undefined: int = 0


def bootstrap_interval(
    parts: NDArray[np.generic], statistic: Statistic, *, seed: int, confidence: float = 0.95, resamples: int = 1000
) -> Interval:
    """Percentile interval of a metric that follows from sums, with units (frames, blocks) drawn with replacement.

    parts: (unit, ...), what each unit adds to the sums: confusion matrices (`confusion_parts`), `regression_parts`,
        hits and pixels, ... A unit is what could have come out differently: the frame, the sample, the block, and not
        the pixel, whose neighbors resemble it and would make the interval too narrow.
    statistic: from the summed parts, of shape parts.shape[1:] and float64, to the metric.
    Resamples in which the metric is NaN (a class that was not drawn) are left out and counted in `undefined`.
    Raises ArrayError for fewer than 2 units. Source: Efron & Tibshirani 1993, §13.3.

    >>> hits_and_pixels = np.array([[9, 10], [8, 10], [10, 10], [7, 10]])
    >>> interval = bootstrap_interval(hits_and_pixels, lambda sums: sums[0] / sums[1], seed=0)
    >>> interval.estimate, round(interval.low, 3), round(interval.high, 3)
    (0.85, 0.75, 0.95)
    """
    _check(confidence, resamples)
    added: FloatArray = np.asarray(parts, dtype=np.float64)
    if added.ndim < 1 or len(added) < 2:
        raise ArrayError(f"parts have shape {added.shape}; a bootstrap needs at least 2 units on the first axis")
    drawn = np.random.default_rng(seed).multinomial(len(added), np.full(len(added), 1 / len(added)), size=resamples)
    sums = np.tensordot(drawn.astype(np.float64), added, axes=1)
    return _interval(statistic(added.sum(axis=0)), [statistic(total) for total in sums], confidence)


def moving_block_interval(
    parts: NDArray[np.generic],
    statistic: Statistic,
    block_shape: Sequence[int],
    *,
    seed: int,
    confidence: float = 0.95,
    resamples: int = 1000,
) -> Interval:
    """Percentile interval for one frame or a few, with overlapping blocks of pixels drawn with replacement.

    parts: (frame, y, x, part) or (frame, z, y, x, part), what each pixel adds to the sums (0 = it does not count).
    block_shape: of the blocks, one number per axis between frame and part, several times the correlation length of the
        parts and well below the frame; each resample takes as many blocks as cover the frames, from any place inside.
    statistic: from the summed parts (part,) to the metric; it must not depend on the sums' common factor.
    Source: Künsch 1989, Ann. Statist. 17, 1217 (moving blocks); in the plane Lahiri 2003, §12. Pixels near the border
    are in fewer blocks, and correlation beyond a block is not seen: with few frames the interval is a lower bound.

    >>> hit = np.random.default_rng(0).random((1, 32, 32)) < 0.8
    >>> parts = np.stack([hit, np.ones_like(hit)], axis=-1)
    >>> interval = moving_block_interval(parts, lambda sums: sums[0] / sums[1], (4, 4), seed=0)
    >>> interval.low < interval.estimate < interval.high
    True
    """
    _check(confidence, resamples)
    added: FloatArray = np.asarray(parts, dtype=np.float64)
    shape, block = added.shape[1:-1], tuple(block_shape)
    if len(shape) < 1 or len(block) != len(shape) or any(not 1 <= b <= s for b, s in zip(block, shape, strict=False)):
        raise ArrayError(f"block_shape is {block}; wanted {len(shape)} numbers, each in 1 .. its axis of {shape}")
    rng = np.random.default_rng(seed)
    needed = len(added) * int(np.prod([-(-size // edge) for size, edge in zip(shape, block, strict=True)]))
    places = [len(added), *(size - edge + 1 for size, edge in zip(shape, block, strict=True))]
    block_sums = _block_sums(added, block).reshape(-1, added.shape[-1])
    picked = (block_sums[rng.integers(int(np.prod(places)), size=needed)].sum(axis=0) for _ in range(resamples))
    estimate = statistic(added.reshape(-1, added.shape[-1]).sum(axis=0))
    return _interval(estimate, [statistic(total) for total in picked], confidence)


def confusion_parts(
    label: NDArray[np.integer], predicted: NDArray[np.integer], classes: int, *, ignore_index: int = IGNORE
) -> NDArray[np.int64]:
    """One confusion matrix per frame, (frame, classes, classes) int64, for `bootstrap_interval`.

    >>> confusion_parts(np.array([[0, 1], [1, 1]]), np.array([[0, 0], [1, 1]]), classes=2).tolist()
    [[[1, 0], [1, 0]], [[0, 0], [0, 2]]]
    """
    if label.shape != predicted.shape:
        raise ArrayError(f"predicted has shape {predicted.shape} and label {label.shape}; they must be the same")
    pairs = zip(label, predicted, strict=True)
    return np.stack([confusion_matrix(truth, answer, classes, ignore_index=ignore_index) for truth, answer in pairs])


def regression_parts(
    prediction: NDArray[np.floating], truth: NDArray[np.floating], weight: NDArray[np.generic] | None = None
) -> FloatArray:
    """What each frame adds to l1, l2 and Pearson's r, (frame, 8) float64, for `bootstrap_interval`.

    prediction, truth, weight: (frame, ...) of one shape; weight may be `valid`; where it is 0 the truth may be NaN.
    The numbers are taken about the common mean of all frames, so that their squares keep their digits.

    >>> truth = np.array([[1.0, 2.0], [3.0, 5.0], [2.0, 2.0]])
    >>> parts = regression_parts(truth + 1, truth)
    >>> bootstrap_interval(parts, regression_statistic("l1"), seed=0).estimate
    1.0
    """
    w = np.ones(truth.shape) if weight is None else np.asarray(weight, dtype=np.float64)
    if not prediction.shape == truth.shape == w.shape:
        raise ArrayError(f"shapes are {prediction.shape}, {truth.shape}, {w.shape}; they must be the same")
    x, y = (np.where(w > 0, values, 0).astype(np.float64) for values in (prediction, truth))
    if not (w >= 0).all() or not (np.isfinite(x).all() and np.isfinite(y).all()):
        raise ArrayError("weights must be 0 or greater, and prediction and truth finite where the weight is above 0")
    total = w.sum() or 1.0
    difference, dx, dy = x - y, x - (w * x).sum() / total, y - (w * y).sum() / total
    values = (np.ones_like(w), np.abs(difference), difference**2, dx, dy, dx**2, dy**2, dx * dy)
    return np.stack([(w * v).reshape(len(w), -1).sum(axis=1) for v in values], axis=-1)


def regression_statistic(name: str) -> Statistic:
    """The statistic "l1", "l2", "rmse" or "pearson_r" of summed `regression_parts`; NaN where undefined."""
    names = ("l1", "l2", "rmse", "pearson_r")
    if name not in names:
        raise SettingError(f"{name!r} is no statistic of a regression; known are {', '.join(names)}")

    def statistic(sums: FloatArray) -> float:
        weight, absolute, square, x, y, xx, yy, xy = sums
        if not weight > 0:
            return float("nan")
        if name == "pearson_r":
            spread = np.sqrt(max(xx - x * x / weight, 0.0)) * np.sqrt(max(yy - y * y / weight, 0.0))
            return float((xy - x * y / weight) / spread) if spread > 0 else float("nan")
        l2 = square / weight
        return float({"l1": absolute / weight, "l2": l2, "rmse": np.sqrt(l2)}[name])

    return statistic


def _check(confidence: float, resamples: int) -> None:
    if not 0 < confidence < 1:
        raise SettingError(f"confidence is {confidence}; it must be between 0 and 1, e.g. 0.95")
    if resamples < 1:
        raise SettingError(f"resamples is {resamples}; it must be at least 1")


def _interval(estimate: float, values: list[float], confidence: float) -> Interval:
    drawn = np.asarray(values, dtype=np.float64)
    defined = drawn[np.isfinite(drawn)]
    tail = (1 - confidence) / 2
    low, high = np.quantile(defined, [tail, 1 - tail]) if defined.size else (np.nan, np.nan)
    return Interval(float(estimate), float(low), float(high), int(drawn.size - defined.size))


def _block_sums(parts: FloatArray, block: tuple[int, ...]) -> FloatArray:
    """Sums over every block that fits inside a frame, by running sums along each axis."""
    for axis, edge in enumerate(block, start=1):
        padding = [(1, 0) if a == axis else (0, 0) for a in range(parts.ndim)]
        running = np.pad(parts.cumsum(axis=axis), padding)
        size = running.shape[axis]
        parts = running.take(range(edge, size), axis) - running.take(range(size - edge), axis)
    return parts
