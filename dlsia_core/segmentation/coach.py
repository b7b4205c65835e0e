"""Which tiles are worth labelling next: where the members of an ensemble disagree most, far from what is labelled."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from dlsia_core.errors import SettingError

FloatArray = NDArray[np.floating]


@dataclass(frozen=True)
class Proposal:
    """A tile of one slice: its first row and column, its side in px, and the mean disagreement in it."""

    z: int
    y: int
    x: int
    side: int
    disagreement: float

    def is_apart(self, other: "Proposal", distance: int, separate: bool) -> bool:
        """Whether more than `distance` px lie between the two along some axis; slices may have nothing in common."""
        if separate and self.z != other.z:
            return True
        room = self.side + distance
        return abs(self.z - other.z) > distance or abs(self.y - other.y) > room or abs(self.x - other.x) > room


def propose_tiles(
    disagreement: Mapping[int, FloatArray],
    labelled: NDArray[np.bool_],
    count: int,
    side: int,
    distance: int = 8,
    separate: bool = False,
) -> list[Proposal]:
    """The `count` tiles with the largest mean disagreement, the first one first; fewer where there is no room for more.

    disagreement: (y, x) of the slices that were looked at, by their number, such as the mean standard deviation of the
        members' probabilities. labelled: (z, y, x) of all slices.
    distance: px between tiles, and between a tile and labelled pixels; across slices, too, unless they are `separate`.
    Ties go to the first slice, row and column, so that the same input gives the same tiles.
    Raises SettingError for tiles that do not fit, and counts and distances below 1 and 0.

    >>> spread = np.zeros((8, 8))
    >>> spread[5:7, 1:3] = 1
    >>> [(p.z, p.y, p.x) for p in propose_tiles({0: spread}, np.zeros((1, 8, 8), bool), 1, 2, distance=0)]
    [(0, 5, 1)]
    """
    if count < 1 or distance < 0 or not 1 <= side <= min(labelled.shape[1:]):
        raise SettingError(
            f"count is {count}, side {side} and distance {distance}; wanted at least 1, 1 to "
            f"{min(labelled.shape[1:])} (the images' shorter side), and at least 0"
        )
    candidates = [
        candidate
        for z, values in sorted(disagreement.items())
        for candidate in _candidates(z, values, _near(labelled, z, distance, separate), side, distance)
    ]
    candidates.sort(key=lambda tile: (-tile.disagreement, tile.z, tile.y, tile.x))
    chosen: list[Proposal] = []
    for candidate in candidates:
        if all(candidate.is_apart(other, distance, separate) for other in chosen):
            chosen.append(candidate)
        if len(chosen) == count:
            break
    return chosen


def _near(labelled: NDArray[np.bool_], z: int, distance: int, separate: bool) -> NDArray[np.bool_]:
    """Labelled pixels (y, x) of the slices that are too near to one."""
    reach = 0 if separate else distance
    return np.asarray(labelled[max(z - reach, 0) : z + reach + 1].any(axis=0))


def _candidates(z: int, values: FloatArray, labelled: NDArray[np.bool_], side: int, distance: int) -> list[Proposal]:
    """Tiles every quarter of a side that hold, and have near them, no labelled pixel."""
    height, width = values.shape
    step = max(1, side // 4)
    rows, columns = (np.unique([*range(0, size - side + 1, step), size - side]) for size in (height, width))
    sums, taken = _running(values.astype(np.float64)), _running(labelled.astype(np.float64))
    top, left = (np.maximum(places - distance, 0) for places in (rows, columns))
    bottom, right = np.minimum(rows + side + distance, height), np.minimum(columns + side + distance, width)
    means = _box_sums(sums, rows, rows + side, columns, columns + side) / side**2
    free = _box_sums(taken, top, bottom, left, right) == 0
    return [Proposal(z, int(rows[i]), int(columns[j]), side, float(means[i, j])) for i, j in np.argwhere(free).tolist()]


def _running(values: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.pad(values.cumsum(axis=0).cumsum(axis=1), ((1, 0), (1, 0)))


def _box_sums(
    running: NDArray[np.float64],
    top: NDArray[np.int64],
    bottom: NDArray[np.int64],
    left: NDArray[np.int64],
    right: NDArray[np.int64],
) -> NDArray[np.float64]:
    """Sums over rows top to bottom and columns left to right, (row, column) of the boxes."""
    return (  # inclusion and exclusion of the four corners
        running[np.ix_(bottom, right)]
        - running[np.ix_(top, right)]
        - running[np.ix_(bottom, left)]
        + running[np.ix_(top, left)]
    )
