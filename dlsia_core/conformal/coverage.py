"""How often sets and intervals contain the truth on frames of their own, and how large they are."""

import math
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dlsia_core.conformal.quantile import Units, unit_of_pixels
from dlsia_core.errors import ArrayError
from dlsia_core.metrics.bootstrap import Interval, bootstrap_interval
from dlsia_core.metrics.confusion import IGNORE, counted_pixels, require_classes


@dataclass(frozen=True)
class SetCoverage:
    """coverage: share of the labelled pixels whose set holds the true class.

    unit_coverage: the mean over units of that share, which is what a calibration promises; pixels of a unit with few
        labels count for more in it. Both with an interval by bootstrap over units, NaN where there is one unit only.
    per_class: coverage of the pixels of each true class, NaN where there is none.
    mean_size: classes in a set; size_shares: share of the sets with 0, 1, 2, ... classes.
    """

    coverage: Interval
    unit_coverage: Interval
    per_class: tuple[float, ...]
    mean_size: float
    size_shares: tuple[float, ...]
    units: int
    pixels: int

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON; None where undefined."""
        return {key: _plain(value) for key, value in asdict(self).items()}


@dataclass(frozen=True)
class IntervalCoverage:
    """coverage, unit_coverage: as in `SetCoverage`, for values in intervals.

    mean_width, median_width: of the finite intervals; infinite_share: of those that are not.
    """

    coverage: Interval
    unit_coverage: Interval
    mean_width: float
    median_width: float
    infinite_share: float
    units: int
    pixels: int

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON; None where undefined."""
        return {key: _plain(value) for key, value in asdict(self).items()}


def measure_sets(
    sets: NDArray[np.bool_],
    label: NDArray[np.integer],
    *,
    units: Units = "frame",
    ignore_index: int = IGNORE,
    seed: int = 0,
    resamples: int = 1000,
) -> SetCoverage:
    """Coverage and size of sets on labelled pixels that were used neither in training nor in calibration.

    sets: (frame, class, ...) bool; label: (frame, ...), integer; units: see `unit_of_pixels`.
    Raises ArrayError for shapes that do not fit and where nothing is labelled.

    >>> sets = np.array([[[True, True]], [[True, False]]]).transpose(1, 0, 2)  # one frame, two classes, two pixels
    >>> measured = measure_sets(sets, np.array([[0, 1]]))
    >>> measured.coverage.estimate, measured.per_class, measured.mean_size
    (0.5, (1.0, 0.0), 1.5)
    """
    if sets.shape[:1] + sets.shape[2:] != label.shape or sets.dtype != np.bool_:
        raise ArrayError(f"sets are {sets.dtype} {sets.shape} and label {label.shape}; wanted bool (frame, class, ...)")
    classes = sets.shape[1]
    counted = _some(counted_pixels(label, None, ignore_index))
    require_classes("label", label[counted], classes, ignore_index)
    shown = np.moveaxis(sets, 1, -1)[counted]
    truth = label[counted].astype(np.int64)
    hit = shown[np.arange(len(truth)), truth]
    there, hits = np.bincount(truth, minlength=classes), np.bincount(truth, weights=hit, minlength=classes)
    per_class = tuple(float(h / n) if n else math.nan for h, n in zip(hits, there, strict=True))
    shares = np.bincount(shown.sum(axis=1), minlength=classes + 1) / len(truth)
    covered = _coverages(hit, unit_of_pixels(units, label.shape)[counted], seed, resamples)
    mean_size = float(shares @ np.arange(classes + 1))
    return SetCoverage(*covered[:2], per_class, mean_size, tuple(shares.tolist()), covered[2], len(truth))


def measure_intervals(
    lower: NDArray[np.floating],
    upper: NDArray[np.floating],
    truth: NDArray[np.floating],
    *,
    valid: NDArray[np.bool_] | None = None,
    units: Units = "frame",
    seed: int = 0,
    resamples: int = 1000,
) -> IntervalCoverage:
    """Coverage and width of intervals on pixels that were used neither in training nor in calibration.

    lower, upper, truth: (frame, ...) of one shape; valid: True where the truth was measured; units: see
    `unit_of_pixels`. Raises ArrayError for shapes that do not fit, and where nothing is valid.

    >>> measured = measure_intervals(np.zeros((2, 2)), np.ones((2, 2)), np.array([[0.5, 2.0], [1.0, 0.0]]))
    >>> measured.coverage.estimate, measured.mean_width
    (0.75, 1.0)
    """
    counted = np.ones(truth.shape, np.bool_) if valid is None else valid
    if not lower.shape == upper.shape == truth.shape == counted.shape or counted.dtype != np.bool_:
        shapes = lower.shape, upper.shape, truth.shape, counted.shape
        raise ArrayError(f"lower, upper, truth and valid have shapes {shapes}; wanted one shape, and valid bool")
    _some(counted)
    low, high, true = lower[counted], upper[counted], truth[counted]
    if np.isnan(true).any():
        raise ArrayError("truth holds NaN on valid pixels")
    covered = _coverages((low <= true) & (true <= high), unit_of_pixels(units, truth.shape)[counted], seed, resamples)
    finite = np.isfinite(low) & np.isfinite(high)
    width = (high[finite] - low[finite]).astype(np.float64)
    mean, median = (float(width.mean()), float(np.median(width))) if width.size else (math.nan, math.nan)
    return IntervalCoverage(*covered[:2], mean, median, float(1 - finite.mean()), covered[2], len(true))


def _coverages(
    hit: NDArray[np.bool_], unit: NDArray[np.int64], seed: int, resamples: int
) -> tuple[Interval, Interval, int]:
    """Share of all pixels, mean of the shares of the units, and the number of units."""
    _, inverse, pixels = np.unique(unit, return_inverse=True, return_counts=True)
    hits = np.bincount(inverse, weights=hit)
    by_pixel, by_unit = np.stack([hits, pixels], -1), np.stack([hits / pixels, np.ones(len(hits))], -1)
    return _share(by_pixel, seed, resamples), _share(by_unit, seed, resamples), len(pixels)


def _share(parts: NDArray[np.float64], seed: int, resamples: int) -> Interval:
    if len(parts) < 2:
        return Interval(float(parts[0, 0] / parts[0, 1]), math.nan, math.nan)
    return bootstrap_interval(parts, lambda sums: float(sums[0] / sums[1]), seed=seed, resamples=resamples)


def _some(counted: NDArray[np.bool_]) -> NDArray[np.bool_]:
    if not counted.any():
        raise ArrayError("no pixel counts, so there is nothing to measure")
    return counted


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
