"""What instances are like as a whole: how two samples of lengths differ, and which way fibres lie."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dlsia_core.errors import ArrayError


def ks_distance(one: NDArray[np.floating[Any]], other: NDArray[np.floating[Any]]) -> float:
    """Largest difference of the two samples' cumulative distributions, 0 to 1 (Kolmogorov 1933, Smirnov 1939).

    Raises ArrayError for an empty sample or values that are no numbers.

    >>> ks_distance(np.array([1.0, 2.0, 3.0, 4.0]), np.array([3.0, 4.0, 5.0, 6.0]))
    0.5
    """
    for name, values in (("first", one), ("second", other)):
        if values.ndim != 1 or not values.size or not np.isfinite(values).all():
            raise ArrayError(f"the {name} sample has shape {values.shape}; wanted (value,), finite, at least one")
    places = np.concatenate([one, other])
    shares = [np.searchsorted(np.sort(values), places, side="right") / len(values) for values in (one, other)]
    return float(np.abs(shares[0] - shares[1]).max())


@dataclass(frozen=True)
class Orientations:
    """Which way axes lie, from the mean of n n^T (Advani & Tucker 1987, doi:10.1122/1.549945).

    mean     direction (z, y, x) that they prefer, a unit vector; an axis has no sign
    shares   eigenvalues, the largest first; their sum is 1, 1/3 each: no preference
    order    (3 * largest share - 1) / 2: 0 = no preference, 1 = all parallel
    """

    mean: tuple[float, float, float]
    shares: tuple[float, float, float]
    order: float


def orientations(directions: NDArray[np.float64]) -> Orientations:
    """Summary of unit vectors (instance, 3); those that are (0, 0, 0), of instances without an axis, are left out.

    Raises ArrayError where none is left.

    >>> found = orientations(np.array([[0.0, 0.0, 1.0], [0.0, 0.0, -1.0], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0]]))
    >>> found.mean, found.shares, found.order
    ((0.0, 0.0, 1.0), (0.75, 0.25, 0.0), 0.625)
    """
    known = directions[directions.any(axis=1)]
    if not len(known):
        raise ArrayError(f"none of {len(directions)} instances has a direction")
    shares, axes = np.linalg.eigh(known.T @ known / len(known))
    mean = axes[:, -1] * (-1 if tuple(axes[:, -1]) < (0, 0, 0) else 1)
    z, y, x = (float(value) + 0.0 for value in mean)
    large, middle, small = (max(0.0, float(value)) for value in shares[::-1])
    return Orientations((z, y, x), (large, middle, small), (3 * large - 1) / 2)
