"""Intervals that contain the true value of a pixel as often as promised."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dlsia_core.conformal.quantile import (
    Threshold,
    Units,
    draw_from_units,
    fewest_units,
    hierarchical_threshold,
    unit_of_pixels,
)
from dlsia_core.errors import ArrayError, SettingError

logger = logging.getLogger(__name__)
FloatArray = NDArray[np.float64]


@dataclass(frozen=True)
class Band:
    """What the network says before calibration: [lower - t scale, upper + t scale] with t still to be found.

    lower, upper, scale: float64 of one shape (frame, ...), scale > 0.

    >>> Band.around(np.array([[3.0]])).lower.tolist()
    [[3.0]]
    """

    lower: FloatArray
    upper: FloatArray
    scale: FloatArray

    @classmethod
    def around(cls, prediction: NDArray[np.floating], scale: NDArray[np.floating] | None = None) -> "Band":
        """A prediction +- t (absolute residual), or +- t scale where the error is not the same everywhere.

        scale: of the error, e.g. the standard deviation of an ensemble's members, above 0 everywhere: give it a floor,
        np.maximum(std, floor), since members that agree exactly would promise no error at all.
        """
        center = np.asarray(prediction, dtype=np.float64)
        return cls(center, center, _ones(center.shape) if scale is None else np.asarray(scale, dtype=np.float64))

    @classmethod
    def between(cls, lower: NDArray[np.floating], upper: NDArray[np.floating]) -> "Band":
        """Two predicted quantiles, widened or narrowed by t (conformalized quantile regression, Romano, Patterson &
        Candès 2019, arXiv:1905.03222)."""
        return cls(np.asarray(lower, np.float64), np.asarray(upper, np.float64), _ones(np.shape(lower)))

    def __post_init__(self) -> None:
        if not self.lower.shape == self.upper.shape == self.scale.shape:
            shapes = self.lower.shape, self.upper.shape, self.scale.shape
            raise ArrayError(f"lower, upper and scale have shapes {shapes}; they must be the same")
        if bad := int((~((self.scale > 0) & np.isfinite(self.scale))).sum()):
            raise ArrayError(
                f"scale is 0, negative or not finite at {bad} pixels; give it a floor: np.maximum(scale, floor)"
            )

    def scores(self, truth: FloatArray) -> FloatArray:
        """How far outside the band the truth is, in scales; negative inside."""
        return np.asarray(np.maximum(self.lower - truth, truth - self.upper) / self.scale)


@dataclass(frozen=True)
class IntervalCalibration:
    """Thresholds, with all that is needed to make intervals; kept as JSON beside the network.

    groups, thresholds: those groups of pixels that have a threshold of their own.
    pooled: for all other pixels; for all where the calibration was not `grouped`.
    """

    coverage: float
    grouped: bool
    groups: tuple[int, ...]
    thresholds: tuple[Threshold, ...]
    pooled: Threshold

    def interval(self, band: Band, group: NDArray[np.integer] | None = None) -> tuple[FloatArray, FloatArray]:
        """Lower and upper end for each pixel, float64 of the band's shape, ends included; -+inf where nothing is known.

        group: as at the calibration, where there was one. Ends are rounded outward, so that a truth that lies exactly
        on an end is inside. Quantiles that a negative t would make cross give their middle.
        Raises ArrayError where group is given to a calibration without groups, or is missing.
        """
        if (group is None) == self.grouped:
            asked = "with" if self.grouped else "without"
            raise ArrayError(f"the calibration was made {asked} groups; give `interval` the same")
        limit = np.full(band.lower.shape, self.pooled.value)
        if group is not None:
            group = np.broadcast_to(group, limit.shape)
            for number, threshold in zip(self.groups, self.thresholds, strict=True):
                limit[group == number] = threshold.value
        finite = np.isfinite(limit)
        # The score was rounded twice and t scale is once more: 4 units in the last place cover that.
        grown = np.where(finite, limit + 4 * np.finfo(np.float64).eps * np.abs(limit), np.inf) * band.scale
        lower, upper = band.lower - grown, band.upper + grown
        crossed = lower > upper
        middle = np.where(crossed, (band.lower + band.upper) / 2, 0)
        return np.where(crossed, middle, lower), np.where(crossed, middle, upper)

    @property
    def statement(self) -> str:
        """What is promised, on what grounds, and where it says nothing; one sentence for each."""
        needed = fewest_units(self.coverage)
        lines = [
            f"Intervals contain the true value of a random pixel of a new unit with a probability of at least "
            f"{self.coverage:g}{', for each group' if self.grouped else ''}, on average over calibrations."
        ]
        named = [*zip((f"group {g}" for g in self.groups), self.thresholds, strict=True)]
        for name, threshold in [*named, ("all other groups together" if self.grouped else "all pixels", self.pooled)]:
            grounds = f"{name}: calibrated on {threshold.pixels} pixels of {threshold.units} units"
            if threshold.units < needed:
                grounds += f", fewer than the {needed} units this needs, so the intervals are infinite"
            lines.append(grounds + ".")
        return " ".join(lines)

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON, e.g. for the metadata of `save_network`."""
        thresholds = [t.to_dict() for t in self.thresholds]
        facts = {"coverage": self.coverage, "grouped": self.grouped, "groups": list(self.groups)}
        return {"kind": "intervals", **facts, "thresholds": thresholds, "pooled": self.pooled.to_dict()}

    @classmethod
    def from_dict(cls, facts: dict[str, Any]) -> "IntervalCalibration":
        """The inverse of `to_dict`. Raises SettingError for a dictionary of another kind."""
        if facts.get("kind") != "intervals":
            raise SettingError(f"this is a calibration of kind {facts.get('kind')!r}; wanted 'intervals'")
        thresholds = tuple(Threshold.from_dict(t) for t in facts["thresholds"])
        pooled = Threshold.from_dict(facts["pooled"])
        return cls(facts["coverage"], facts["grouped"], tuple(facts["groups"]), thresholds, pooled)


def calibrate_intervals(
    band: Band,
    truth: NDArray[np.floating],
    coverage: float = 0.9,
    *,
    valid: NDArray[np.bool_] | None = None,
    units: Units = "frame",
    group: NDArray[np.integer] | None = None,
    smallest_group: int | None = None,
    pixels_per_unit: int | None = None,
    seed: int = 0,
) -> IntervalCalibration:
    """Find how far to widen the band, on frames that the network was not trained on (split conformal estimation).

    band: `Band.around(prediction)`, `Band.around(prediction, scale)` or `Band.between(lower, upper)`, (frame, ...).
    truth: of the same shape; valid: True where it was measured; elsewhere it may be NaN.
    units: what is exchangeable, see `unit_of_pixels` and `block_units`; the promise is for a pixel drawn at random from
        a new unit (see `hierarchical_threshold`).
    group: number of the kind of each pixel (e.g. by `bin_groups`: distance from the gap's edge, intensity), which must
        not depend on the truth; then the promise is for each group (Mondrian, Vovk et al. 2005, §4.5).
    smallest_group: groups in fewer units are pooled, together with all that do not occur here; None = `fewest_units`,
        with fewer of which nothing is finite. For pooled groups the promise is for all of them together only, and up to
        the fact that which are pooled depends on the numbers of pixels (never on their errors).
    pixels_per_unit, seed: calibrate on so many random pixels of each unit (and group) only.
    Raises ArrayError for shapes that do not fit, and numbers that count but are not finite.

    >>> truth = np.random.default_rng(0).normal(size=(40, 50))
    >>> calibration = calibrate_intervals(Band.around(np.zeros((40, 50))), truth, 0.9)
    >>> lower, upper = calibration.interval(Band.around(np.zeros((1, 1))))
    >>> lower.round(1).tolist(), upper.round(1).tolist()
    ([[-1.7]], [[1.7]])
    """
    counted = np.ones(truth.shape, np.bool_) if valid is None else valid
    for name, array in (("band", band.lower), ("valid", counted), *(() if group is None else (("group", group),))):
        if array.shape != truth.shape:
            raise ArrayError(f"{name} has shape {array.shape} and truth {truth.shape}; they must be the same")
    if counted.dtype != np.bool_ or (group is not None and not np.issubdtype(group.dtype, np.integer)):
        raise ArrayError("valid must be bool and group whole numbers")
    part = Band(band.lower[counted], band.upper[counted], band.scale[counted])
    scores = part.scores(truth[counted].astype(np.float64))
    if not np.isfinite(scores).all():
        raise ArrayError("band or truth holds numbers that are not finite on valid pixels")
    unit = unit_of_pixels(units, truth.shape)[counted]
    kind = np.zeros(len(unit), np.int64) if group is None else group[counted].astype(np.int64)
    kinds, code = np.unique(kind, return_inverse=True)
    chosen = draw_from_units(unit * len(kinds) + code, pixels_per_unit, seed)
    fewest = fewest_units(coverage) if smallest_group is None else smallest_group
    return _by_group(scores[chosen], unit[chosen], kind[chosen], coverage, None if group is None else fewest)


def bin_groups(*values_and_edges: tuple[NDArray[np.floating], Sequence[float]]) -> NDArray[np.int64]:
    """One number for each pixel from the bins that several quantities fall into; -1 where any of them is NaN.

    values_and_edges: pairs of an array and rising inner edges; n edges make n + 1 bins, a value on an edge belongs to
    the upper one. All arrays spread over one shape.

    >>> distance, intensity = np.array([0.5, 3.0, 9.0, 9.0]), np.array([1.0, 1.0, 1.0, 50.0])
    >>> bin_groups((distance, [1, 5]), (intensity, [10])).tolist()
    [0, 2, 4, 5]
    """
    number: NDArray[np.int64] = np.zeros((), np.int64)
    known: NDArray[np.bool_] = np.ones((), np.bool_)
    for values, edges in values_and_edges:
        if np.any(np.diff(edges) <= 0) or not np.isfinite(edges).all():
            raise SettingError(f"edges are {list(edges)}; they must be finite and rise")
        number = number * (len(edges) + 1) + np.digitize(values, edges)
        known = known & ~np.isnan(values)
    return np.where(known, number, -1)


def _ones(shape: tuple[int, ...]) -> FloatArray:
    return np.broadcast_to(np.float64(1), shape)  # a view, since a scale of 1 needs no memory


def _by_group(
    scores: FloatArray, unit: NDArray[np.int64], kind: NDArray[np.int64], coverage: float, fewest: int | None
) -> IntervalCalibration:
    groups, thresholds, left = [], [], np.ones(len(kind), np.bool_)
    for number in np.unique(kind).tolist():
        here = kind == number
        if fewest is not None and len(np.unique(unit[here])) >= fewest:
            groups.append(number)
            thresholds.append(hierarchical_threshold(scores[here], unit[here], coverage))
            left &= ~here
    pooled = hierarchical_threshold(scores[left], unit[left], coverage)
    calibration = IntervalCalibration(coverage, fewest is not None, tuple(groups), tuple(thresholds), pooled)
    if min(t.units for t in [*thresholds, pooled]) < fewest_units(coverage) and (pooled.units or not groups):
        logger.warning("%s", calibration.statement)
    return calibration
