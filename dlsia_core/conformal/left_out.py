"""A quantile level by leave-one-unit-out: what to ask of thresholds so that a new unit is covered as promised."""

import math

import numpy as np
from numpy.typing import NDArray

from dlsia_core.conformal.quantile import Threshold, fewest_units

FloatArray = NDArray[np.float64]


def left_out_level(
    scores: FloatArray, unit: NDArray[np.int64], group: NDArray[np.int64], coverage: float
) -> float | None:
    """The quantile of the other units' scores up to which those of a left out unit lie as often as promised.

    scores: (pixel,); unit: (pixel,), the frame of each; group: (pixel,), its kind: scores are compared within kinds, or
    with all, for kinds in too few units. Every unit counts the same, however many pixels it has. None where no level
    will do: too many scores lie above all scores of the other units.
    For few units the threshold that holds for any units (`hierarchical_threshold`) covers far more than promised. This
    level covers as promised on average over the units at hand; its bias is that of one fitted number, of order
    1 / units. Where all units are alike it is the promise itself, and above it where they differ.
    Source: recalibration of levels as in Kuleshov, Fenner & Ermon 2018 (arXiv:1807.00263), with left out units.

    >>> scores = np.random.default_rng(0).exponential(size=8000)
    >>> unit, group = np.arange(8000) % 4, np.zeros(8000, dtype=np.int64)
    >>> alike, unlike = (left_out_level(scores * factor, unit, group, 0.9) for factor in (1, 1 + unit / 4))
    >>> round(alike, 2), bool(unlike > 0.9)
    (0.9, True)
    """
    n_units = len(np.unique(unit))
    fewest = min(n_units, fewest_units(coverage * n_units / (n_units + 1)))
    rank = _rank_among_others(scores, unit)
    for number in np.unique(group[units_of_kind(group, unit) >= fewest]):
        here = group == number
        rank[here] = _rank_among_others(scores[here], unit[here])
    _, inverse, counts = np.unique(unit, return_inverse=True, return_counts=True)
    order = np.argsort(rank, kind="stable")
    share = np.cumsum(1 / counts[inverse[order]]) / n_units
    level = float(rank[order[np.searchsorted(share, coverage * (1 - 1e-9))]])
    return None if level >= 1 - 1e-6 else level + 1e-6  # a score is covered if its rank is below the level


def pooled_threshold(scores: FloatArray, unit: NDArray[np.int64], coverage: float) -> Threshold:
    """The score up to which pixels of left out units lie as often as promised, all pixels counting the same.

    scores: (pixel,); unit: (pixel,). `hierarchical_threshold` holds for any units, and lets a unit with three pixels of
    a class count as much as one with thousands: in images the three lie at a border, where networks err, so that far
    more pixels than promised are covered. This one is the promise on average over pixels of units like these; it
    guarantees nothing, as `left_out_level` does not. Infinite for fewer than `fewest_units`.

    >>> scores = np.random.default_rng(0).exponential(size=8000)
    >>> round(pooled_threshold(scores, np.arange(8000) % 40, 0.9).value, 1)  # -log(0.1) = 2.3
    2.3
    """
    numbers, inverse, counts = np.unique(unit, return_inverse=True, return_counts=True)
    if len(numbers) < fewest_units(coverage):
        return Threshold(math.inf, len(numbers), len(scores))
    order = np.argsort(inverse, kind="stable")
    in_order = np.sort(scores)
    ranks = []
    for own in np.split(scores[order], np.cumsum(counts)[:-1]):
        own = np.sort(own)
        smaller = np.searchsorted(in_order, own) - np.searchsorted(own, own)
        ranks.append(smaller / (len(scores) - len(own)))
    left_out = np.sort(np.concatenate(ranks))
    level = left_out[min(math.ceil(coverage * len(scores) * (1 - 1e-9)), len(scores)) - 1]
    # Covered is what has a rank below the level, or at it: the score at that place, or the next one.
    place = math.floor(level * len(scores) * (1 + 1e-9))
    value = math.inf if level >= 1 else float(in_order[min(place, len(scores) - 1)])
    return Threshold(value, len(numbers), len(scores))


def units_of_kind(group: NDArray[np.int64], unit: NDArray[np.int64]) -> NDArray[np.int64]:
    """In how many units the kind of each pixel occurs, (pixel,).

    >>> units_of_kind(np.array([7, 7, 7, 9]), np.array([0, 0, 1, 0])).tolist()
    [2, 2, 2, 1]
    """
    pairs = np.unique(np.stack([group, unit]), axis=1)
    kinds, units = np.unique(pairs[0], return_counts=True)
    return np.asarray(units[np.searchsorted(kinds, group)])


def _rank_among_others(scores: FloatArray, unit: NDArray[np.int64]) -> FloatArray:
    """Share of the scores of the other units, each unit with the same weight, that are smaller than each score."""
    numbers, inverse, counts = np.unique(unit, return_inverse=True, return_counts=True)
    order = np.argsort(scores, kind="stable")
    running = np.concatenate([[0.0], np.cumsum(1 / counts[inverse[order]])])
    smaller = running[np.searchsorted(scores[order], scores, side="left")]
    for place in range(len(numbers)):
        here = inverse == place
        own = np.sort(scores[here])
        smaller[here] -= np.searchsorted(own, scores[here], side="left") / counts[place]
    return np.asarray(np.clip(smaller / max(len(numbers) - 1, 1), 0, 1))
