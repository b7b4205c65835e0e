"""How good a segmentation is on held-out labels: scores with intervals over blocks, sets and their coverage."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dlsia_core.conformal import SetCalibration, SetSettings, calibrate_sets, log_probabilities, measure_sets
from dlsia_core.conformal.quantile import fewest_units
from dlsia_core.metrics.bootstrap import Interval, bootstrap_interval
from dlsia_core.metrics.confusion import SCORES, confusion_matrix, scores_per_class

FOLDS = 10


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
    """Thresholds by class from held-out pixels, each block left out in turn; all pixels count the same.

    Sets may be empty: where a network is right more often than promised, a pixel that is unusual for every class has
    none, and so the promise is met rather than exceeded.
    """
    settings = SetSettings(coverage, per_class=True, nonempty=False, pooled=True, seed=seed)
    return calibrate_sets(_logits(pixels), pixels.truth[None], settings, units=pixels.unit[None])


def left_out_coverage(pixels: JudgedPixels, coverage: float, names: tuple[str, ...], seed: int = 0) -> dict[str, Any]:
    """What is found of the promise where a tenth of the blocks is left out, the others calibrate, and so on in turn.

    Coverage by class with 95 % intervals by bootstrap over blocks, and sizes of the sets. Thresholds of all blocks are
    nearly these, on a tenth more of them. None of it where a class would be left in too few blocks for a threshold.
    Blocks of different tenths may touch, and are then a little more alike than those of new images.
    """
    fold, sets = _folds(pixels, seed), np.zeros((pixels.classes, len(pixels.truth)), np.bool_)
    if min(_blocks_by_class(pixels.part(fold != number)).min() for number in range(FOLDS)) < fewest_units(coverage):
        return {}
    for number in range(FOLDS):
        here = fold == number
        calibration = calibrated_sets(pixels.part(~here), coverage, seed)
        sets[:, here] = calibration.sets(_logits(pixels.part(here)))[0]
    return _measured(sets, pixels, names) | {"promised": coverage}


def fewest_blocks(pixels: JudgedPixels) -> tuple[int, int]:
    """The class that is in the fewest blocks, and in how many it is."""
    blocks = _blocks_by_class(pixels)
    return int(blocks.argmin()), int(blocks.min())


def _blocks_by_class(pixels: JudgedPixels) -> NDArray[np.int64]:
    pairs = np.unique(np.stack([pixels.truth.astype(np.int64), pixels.unit]), axis=1)
    return np.bincount(pairs[0], minlength=pixels.classes)


def _folds(pixels: JudgedPixels, seed: int) -> NDArray[np.int64]:
    """Number of the tenth of each pixel (pixel,); blocks of each class are spread over all tenths, the rarest first."""
    units, place = np.unique(pixels.unit, return_inverse=True)
    there = np.zeros((pixels.classes, len(units)), np.bool_)
    there[pixels.truth, place] = True
    by_rarity = there[np.argsort(there.sum(axis=1), kind="stable")]
    order = np.lexsort((np.random.default_rng(seed).random(len(units)), *~by_rarity[::-1]))
    fold = np.empty(len(units), np.int64)
    fold[order] = np.arange(len(units)) % FOLDS
    return fold[place]


def _measured(sets: NDArray[np.bool_], pixels: JudgedPixels, names: tuple[str, ...]) -> dict[str, Any]:
    """sets: (class, pixel)."""
    measured = measure_sets(sets[None], pixels.truth[None], units=pixels.unit[None])
    hit = sets.T[np.arange(len(pixels.truth)), pixels.truth]
    rows = []
    for number, name in enumerate(names):
        here = pixels.truth == number
        units, place = np.unique(pixels.unit[here], return_inverse=True)
        parts = np.stack([np.bincount(place, hit[here], len(units)), np.bincount(place, minlength=len(units))], axis=1)
        share = bootstrap_interval(parts, lambda sums: float(sums[0] / sums[1]), seed=0)
        rows.append(
            {"class": name, "coverage": share.estimate, "low": share.low, "high": share.high, "blocks": len(units)}
        )
    return {
        "classes": rows,
        "mean_size": measured.mean_size,
        "size_shares": list(measured.size_shares),
        "pixels": measured.pixels,
        "blocks": measured.units,
    }


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
