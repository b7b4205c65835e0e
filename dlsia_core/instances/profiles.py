"""How long instances are: their cross-section along a direction, gathered slab by slab."""

import numpy as np
from numpy.typing import NDArray

_UNIT = 2.0**-20  # shares of a voxel are whole multiples of this, so that sums do not depend on their order


class Profiles:
    """Cross-section of each instance at nodes one step apart along its direction; a voxel is shared by two nodes.

    lowest, highest   (instance, 3) int64, first and last voxel of the bounding boxes
    centroid          (instance, 3) float64, in voxels
    direction         (instance, 3) float64, unit vectors in scaled space; (0, 0, 0) where there is none
    scale             (3,) float64, edges of a voxel; 1 for lengths in voxels

    A step is the extent of a voxel along the direction, so that a bar of n voxels along an axis has the length n.

    >>> bar = np.array([[0.0, 0.0, x] for x in range(4)])
    >>> ends = np.array([[0, 0, 0]]), np.array([[0, 0, 3]])
    >>> profiles = Profiles(*ends, np.array([[0, 0, 1.5]]), np.array([[0.0, 0.0, 1.0]]), np.ones(3))
    >>> profiles.add(np.zeros(4, np.intp), bar)
    >>> [values.tolist() for values in profiles.lengths()]
    [[4.0], [4.0]]
    """

    def __init__(
        self,
        lowest: NDArray[np.int64],
        highest: NDArray[np.int64],
        centroid: NDArray[np.float64],
        direction: NDArray[np.float64],
        scale: NDArray[np.float64],
    ) -> None:
        self._centroid, self._direction = centroid, direction * scale
        self._step = np.sqrt((self._direction**2).sum(axis=1))
        self._single = self._step == 0
        self._step[self._single] = float(scale.max())
        self._direction /= self._step[:, None]
        to_low, to_high = (lowest - centroid) * self._direction, (highest - centroid) * self._direction
        first = np.floor(np.minimum(to_low, to_high).sum(axis=1) - 1e-6).astype(np.int64) - 1
        last = np.ceil(np.maximum(to_low, to_high).sum(axis=1) + 1e-6).astype(np.int64) + 1
        self._starts = np.concatenate([np.zeros(1, np.int64), np.cumsum(last - first + 1)])
        self._zero = self._starts[:-1] - first  # where node 0 of each instance lies
        self._sections = np.zeros(int(self._starts[-1]))
        self._lowest = np.full(len(centroid), np.inf)
        self._highest = np.full(len(centroid), -np.inf)

    def add(self, rows: NDArray[np.intp], coordinates: NDArray[np.float64]) -> None:
        """Add voxels (voxel, 3) of instances `rows` (voxel,), counted from 0 and sorted."""
        if not rows.size:
            return
        place = np.zeros(len(rows))
        for axis in range(3):
            place += (coordinates[:, axis] - self._centroid[rows, axis]) * self._direction[rows, axis]
        present, first = np.unique(rows, return_index=True)
        self._lowest[present] = np.minimum(self._lowest[present], np.minimum.reduceat(place, first))
        self._highest[present] = np.maximum(self._highest[present], np.maximum.reduceat(place, first))
        below = np.floor(place)
        share = np.rint((place - below) / _UNIT) * _UNIT
        node = self._zero[rows] + below.astype(np.int64)
        size = len(self._sections)
        self._sections += np.bincount(node, 1 - share, size) + np.bincount(node + 1, share, size)

    def lengths(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Length between the half cross-sections and extent of the voxels, both (instance,); one voxel: its edge."""
        pairs = zip(self._starts[:-1], self._starts[1:], strict=True)
        lengths = np.array([half_length(self._sections[start:stop]) for start, stop in pairs])
        lengths[self._single] = 1.0
        return lengths * self._step, (self._highest - self._lowest + 1) * self._step


def half_length(sections: NDArray[np.float64]) -> float:
    """Distance, in nodes, between the outermost places where a cross-section (node,) is half that of the median voxel.

    >>> half_length(np.array([0.0, 2.0, 4.0, 4.0, 4.0, 0.0]))  # from node 1 to halfway between nodes 4 and 5
    3.5
    """
    ordered = np.sort(sections)
    total = np.cumsum(ordered)
    level = ordered[np.searchsorted(total, total[-1] / 2, side="right")] / 2
    inside = np.flatnonzero(sections >= level)
    first, last = int(inside[0]), int(inside[-1])
    before, behind = sections[first - 1], sections[last + 1]  # the outermost nodes are empty
    rise = (sections[first] - level) / (sections[first] - before)
    fall = (sections[last] - level) / (sections[last] - behind)
    return float(last + fall - (first - rise))
