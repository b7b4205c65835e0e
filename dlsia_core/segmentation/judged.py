"""How good a segmentation is on held-out labels: scores with intervals over blocks, sets and their coverage."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dlsia_core.conformal import SetCalibration, SetSettings, calibrate_sets, log_probabilities, measure_sets
from dlsia_core.metrics.bootstrap import Interval, bootstrap_interval
from dlsia_core.metrics.confusion import SCORES, confusion_matrix, scores_per_class


@dataclass(frozen=True)
class JudgedPixels:
    """Labelled pixels that a network was not trained on.

    probability: (pixel, class) float32, the mean over members; std: the spread of each; truth: (pixel,) class; unit:
    (pixel,) int64, the block of each.
    """

    probability: NDArray[np.float32]
    std: NDArray[np.float32]
    truth: NDArray[np.uint8]
    unit: NDArray[np.int64]

    def part(self, chosen: NDArray[np.bool_]) -> "JudgedPixels":
        """Some of the pixels."""
        return JudgedPixels(self.probability[chosen], self.std[chosen], self.truth[chosen], self.unit[chosen])

    @property
    def classes(self) -> int:
        return int(self.probability.shape[1])

    @property
    def answer(self) -> NDArray[np.uint8]:
        """The most probable class."""
        return np.asarray(self.probability.argmax(axis=1), np.uint8)


def class_scores(pixels: JudgedPixels, names: tuple[str, ...], seed: int = 0) -> list[dict[str, Any]]:
    """F1, IoU, precision and recall of each class, with 95 % intervals by bootstrap over blocks; None where undefined.

    The last row, "mean", has the means over classes.
    """
    classes, units = pixels.classes, np.unique(pixels.unit)
    place = np.searchsorted(units, pixels.unit)
    cell = (place * classes + pixels.truth) * classes + pixels.answer
    parts = np.bincount(cell, minlength=len(units) * classes**2).reshape(len(units), classes, classes)
    counts = np.bincount(pixels.truth, minlength=classes)
    rows = []
    for number, name in enumerate((*names, "mean")):
        chosen = slice(None) if name == "mean" and number == classes else slice(number, number + 1)
        row: dict[str, Any] = {"class": name, "pixels": int(counts[chosen].sum()), "blocks": len(units)}
        for score in SCORES:
            interval = _interval(parts, score, chosen, seed)
            row |= {score: _plain(interval.estimate), f"{score}_low": _plain(interval.low)}
            row |= {f"{score}_high": _plain(interval.high)}
        rows.append(row)
    return rows


def matrix_of(pixels: JudgedPixels) -> NDArray[np.int64]:
    """Confusion matrix, rows = truth."""
    return confusion_matrix(pixels.truth, pixels.answer, pixels.classes)


def calibrated_sets(pixels: JudgedPixels, coverage: float, seed: int = 0) -> SetCalibration:
    """Thresholds by class from calibration pixels, each block left out in turn; all pixels count the same.

    Sets may be empty: where a network is right more often than promised, a pixel that is unusual for every class has
    none, and so the promise is met rather than exceeded.
    """
    settings = SetSettings(coverage, per_class=True, nonempty=False, pooled=True, seed=seed)
    return calibrate_sets(_logits(pixels), pixels.truth[None], settings, units=pixels.unit[None])


def set_coverage(calibration: SetCalibration, pixels: JudgedPixels, names: tuple[str, ...]) -> dict[str, Any]:
    """What was found of the promise on other pixels: coverage by class with intervals over blocks, sizes of sets."""
    sets = calibration.sets(_logits(pixels))
    measured = measure_sets(sets, pixels.truth[None], units=pixels.unit[None])
    hit = sets[0].T[np.arange(len(pixels.truth)), pixels.truth]
    rows = []
    for number, name in enumerate(names):
        here = pixels.truth == number
        units, place = np.unique(pixels.unit[here], return_inverse=True)
        parts = np.stack([np.bincount(place, hit[here], len(units)), np.bincount(place, minlength=len(units))], axis=1)
        share = bootstrap_interval(parts, lambda sums: float(sums[0] / sums[1]), seed=0) if len(units) > 1 else None
        found = float(hit[here].mean()) if here.any() else None
        low, high = (None, None) if share is None else (_plain(share.low), _plain(share.high))
        rows.append({"class": name, "coverage": found, "low": low, "high": high, "blocks": len(units)})
    return {
        "promised": calibration.settings.coverage,
        "classes": rows,
        "mean_size": measured.mean_size,
        "size_shares": list(measured.size_shares),
        "pixels": measured.pixels,
        "blocks": measured.units,
    }


def exchanged_coverage(
    first: JudgedPixels, second: JudgedPixels, coverage: float, seed: int = 0, times: int = 20
) -> list[dict[str, Any]]:
    """Coverage of each class where half of all blocks calibrate and the others are measured, many times over.

    One measurement on a few dozen blocks is off by a few percent by chance; this tells what to expect of the next.
    mean, deviation: over the exchanges; None for a class that was in too few blocks to calibrate.
    """
    joined = JudgedPixels(
        np.concatenate([first.probability, second.probability]),
        np.concatenate([first.std, second.std]),
        np.concatenate([first.truth, second.truth]),
        np.concatenate([first.unit, second.unit]),
    )
    units, rng = np.unique(joined.unit), np.random.default_rng(seed)
    found = np.full((times, joined.classes), np.nan)
    for number in range(times):
        chosen = np.isin(joined.unit, rng.permutation(units)[: len(units) // 2])
        shown, other = joined.part(chosen), joined.part(~chosen)
        calibration = calibrated_sets(shown, coverage, seed)
        sets = calibration.sets(_logits(other))[0]
        for name, threshold in enumerate(calibration.thresholds):
            here = other.truth == name
            if here.any() and np.isfinite(threshold.value):
                found[number, name] = sets[name][here].mean()
    return [
        {"mean": _plain(column.mean()), "deviation": _plain(column.std())}  # NaN in any exchange: not known
        for column in found.T
    ]


def _logits(pixels: JudgedPixels) -> list[NDArray[np.float64]]:
    return [log_probabilities(pixels.probability.T, axis=0)]


def _interval(parts: NDArray[np.int64], score: str, chosen: slice, seed: int) -> Interval:
    def statistic(total: NDArray[np.float64]) -> float:
        values = scores_per_class(total)[score][chosen]
        return float(values.mean())

    if len(parts) < 2:
        return Interval(statistic(parts.sum(axis=0).astype(np.float64)), float("nan"), float("nan"), 0)
    return bootstrap_interval(parts, statistic, seed=seed)


def _plain(value: float) -> float | None:
    return None if np.isnan(value) else float(value)
