"""Training, validation and test items: drawn from a seed, in exact numbers, groups kept together."""

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction

import numpy as np
from numpy.typing import NDArray

from dlsia_core.errors import ArrayError, SettingError

SETS = ("training", "validation", "test")
Fractions = tuple[float, float, float]
"""Shares of training, validation and test; they add up to 1, and 0 = no such set."""
DRAWS = 64  # of the order of the groups, of which the best is kept


@dataclass(frozen=True)
class ItemSplit:
    """Indices of the items in each set, (item,) int64, rising; every item is in exactly one set."""

    training: NDArray[np.int64]
    validation: NDArray[np.int64]
    test: NDArray[np.int64]


def set_sizes(count: int, fractions: Fractions) -> tuple[int, int, int]:
    """How many of `count` items go to each set: rounded so that they add up (largest remainder), none asked for empty.

    Raises SettingError for fractions that are negative or do not add up to 1, ArrayError for fewer items than sets.

    >>> set_sizes(10, (0.8, 0.1, 0.1)), set_sizes(7, (0.8, 0.2, 0.0)), set_sizes(3, (0.8, 0.1, 0.1))
    ((8, 1, 1), (6, 1, 0), (1, 1, 1))
    """
    # Exactly the decimals that were written: as floats 0.7 + 0.2 + 0.1 is below 1.
    shares = [Fraction(str(float(fraction))) for fraction in fractions]
    if len(shares) != 3 or any(share < 0 for share in shares) or abs(float(sum(shares)) - 1) > 1e-9:
        raise SettingError(f"fractions are {fractions}; wanted those of training, validation, test, with the sum 1")
    wanted = [k for k in range(3) if shares[k] > 0]
    if count < len(wanted):
        raise ArrayError(f"{count} items cannot fill {len(wanted)} sets; give more, or the fraction 0 to a set")
    sizes = [int(count * share) for share in shares]
    by_remainder = sorted(wanted, key=lambda k: (sizes[k] - count * shares[k], k))
    for k in by_remainder[: count - sum(sizes)]:
        sizes[k] += 1
    for k in wanted:
        if not sizes[k]:
            sizes[sizes.index(max(sizes))] -= 1
            sizes[k] = 1
    return sizes[0], sizes[1], sizes[2]


def split_items(count: int, fractions: Fractions, *, seed: int) -> ItemSplit:
    """Items 0 .. count - 1 at random, in the numbers of `set_sizes`.

    For items that are independent of each other. Frames of one scan or sample are not: see `split_groups`.

    >>> split = split_items(5, (0.6, 0.2, 0.2), seed=0)
    >>> len(split.training), sorted([*split.training, *split.validation, *split.test]) == [0, 1, 2, 3, 4]
    (3, True)
    """
    order = np.random.default_rng(seed).permutation(count)
    first, second, _ = np.cumsum(set_sizes(count, fractions))
    return ItemSplit(np.sort(order[:first]), np.sort(order[first:second]), np.sort(order[second:]))


def split_groups(groups: Sequence[object] | NDArray[np.generic], fractions: Fractions, *, seed: int) -> ItemSplit:
    """Items at random such that those of one group (scan, sample, detector position) are all in the same set.

    groups: the group of each item, numbers or names. The sets come as close to the fractions of the items as the best
    of 64 orders of the groups allows; no set that was asked for is empty.
    Raises ArrayError for fewer groups than sets, SettingError for strange fractions.

    >>> groups = ["a", "a", "b", "b", "c", "c", "c", "c"]
    >>> split = split_groups(groups, (0.5, 0.25, 0.25), seed=0)
    >>> split.training.tolist(), len(split.validation), len(split.test)
    ([4, 5, 6, 7], 2, 2)
    """
    _, group_of_item, items = np.unique(np.asarray(groups), return_inverse=True, return_counts=True)
    used = [k for k, size in enumerate(set_sizes(max(len(items), 1), fractions)) if size]
    rng = np.random.default_rng(seed)
    best_miss, best = float("inf"), np.zeros(len(items), dtype=np.int64)
    for _ in range(DRAWS):
        order = rng.permutation(len(items))
        set_of_group = np.empty(len(items), dtype=np.int64)
        set_of_group[order] = _cut(items[order], [fractions[k] for k in used], used)
        shares = np.bincount(set_of_group, weights=items, minlength=3) / items.sum()
        miss = float(np.abs(shares - np.asarray(fractions)).sum())
        if miss < best_miss - 1e-12:
            best_miss, best = miss, set_of_group
    set_of_item = best[group_of_item]
    training, validation, test = (np.flatnonzero(set_of_item == k) for k in range(3))
    return ItemSplit(training, validation, test)


def _cut(items: NDArray[np.int64], shares: list[float], used: list[int]) -> NDArray[np.int64]:
    """Set of each group in order: cut where the running number of items is nearest to the shares, no set empty."""
    running = np.cumsum(items)
    cuts = [0]
    for number, target in enumerate(np.cumsum(shares)[:-1] * running[-1], start=1):
        last = len(items) - (len(used) - number)  # one group must be left for each set to come
        options = np.arange(cuts[-1] + 1, last + 1)
        cuts.append(int(options[np.argmin(np.abs(running[options - 1] - target))]))
    return np.repeat(used, np.diff([*cuts, len(items)]))
