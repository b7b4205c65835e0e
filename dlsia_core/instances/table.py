"""Table of instances, gathered slab by slab: size, place, bounding box, length end to end and direction."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dlsia_core.errors import ArrayError, SettingError

from .components import ReadSlab, slab_ranges
from .profiles import Profiles

# Pairs of axes whose products make the six different entries of a covariance.
_PAIRS = ((0, 0), (0, 1), (0, 2), (1, 1), (1, 2), (2, 2))


@dataclass(frozen=True, eq=False)
class InstanceTable:
    """A row per instance, in the order of their numbers `ids` (instance,).

    voxels      (instance,) int64
    lowest      (instance, 3) int64, first voxel of the bounding box, (z, y, x); `highest`: the last one, included
    centroid    (instance, 3) float64, mean of the voxel centers
    direction   (instance, 3) float64, unit vector of the longest principal axis; its first component that is not 0
                is above 0, because an axis has no sign; (0, 0, 0) for a single voxel
    length      (instance,) float64, end to end along `direction`: between the outermost places where the cross-section
                is half of what it is around the median voxel. Ends of a fibre that are tilted or rough count half;
                a sphere has a length of 0.7 diameters
    extent      (instance,) float64, of the voxel centers along `direction`, plus one voxel

    All are in voxels. With a voxel size, what ends in `_physical` is the same in its units (for a cubic voxel, the
    directions are equal); else it is None.
    """

    ids: NDArray[np.int64]
    voxels: NDArray[np.int64]
    lowest: NDArray[np.int64]
    highest: NDArray[np.int64]
    centroid: NDArray[np.float64]
    direction: NDArray[np.float64]
    length: NDArray[np.float64]
    extent: NDArray[np.float64]
    volume_physical: NDArray[np.float64] | None = None
    centroid_physical: NDArray[np.float64] | None = None
    direction_physical: NDArray[np.float64] | None = None
    length_physical: NDArray[np.float64] | None = None
    extent_physical: NDArray[np.float64] | None = None

    def __len__(self) -> int:
        return len(self.ids)


def instance_table(
    read: ReadSlab,
    n_slices: int,
    n_instances: int,
    slab: int = 32,
    voxel_size: float | tuple[float, float, float] | None = None,
) -> InstanceTable:
    """Measure the instances 1 to `n_instances` of a labelled volume that is read twice, `slab` slices at a time.

    read         gives slices start to stop - 1, integer (z, y, x); 0 is background
    voxel_size   edge of a voxel, or its edges (z, y, x), in any unit; None: not known

    Sums are of whole numbers, so that the result is the same to the bit for any `slab`.

    Raises ArrayError for a number above `n_instances` or one that never occurs, SettingError for a voxel size that is
    not positive.

    >>> labels = np.zeros((1, 3, 7), np.uint8); labels[0, 1, 1:6] = 1
    >>> table = instance_table(lambda a, b: labels[a:b], 1, 1, voxel_size=2.0)
    >>> table.length.tolist(), table.length_physical.tolist(), table.direction.tolist(), table.centroid.tolist()
    ([5.0], [10.0], [[0.0, 0.0, 1.0]], [[0.0, 1.0, 3.0]])
    """
    if slab < 1:
        raise SettingError(f"slab is {slab}; give the number of slices read at once, at least 1")
    size = _voxel_size(voxel_size)
    moments = _Moments(n_instances)
    for start, stop in slab_ranges(n_slices, slab):
        moments.add(np.asarray(read(start, stop)), start)
    moments.check()
    centroid, covariance = moments.centroid(), moments.covariance()
    directions = [main_directions(covariance)]
    cubic = size is None or bool((size == size[0]).all())
    if size is not None and not cubic:
        directions.append(main_directions(covariance * size[:, None] * size[None, :]))
    scales: list[NDArray[np.float64]] = [np.ones(3)]
    if size is not None and not cubic:
        scales.append(size)
    profiles = [
        Profiles(moments.lowest, moments.highest, centroid, *each) for each in zip(directions, scales, strict=True)
    ]
    for start, stop in slab_ranges(n_slices, slab):
        rows, coordinates = _foreground(np.asarray(read(start, stop)), start)
        for profile in profiles:
            profile.add(rows, coordinates)
    lengths = [profile.lengths() for profile in profiles]
    ids = np.arange(1, n_instances + 1, dtype=np.int64)
    table = (moments.voxels, moments.lowest, moments.highest, centroid, directions[0], *lengths[0])
    if size is None:
        return InstanceTable(ids, *table)
    length, extent = (lengths[0][0] * size[0], lengths[0][1] * size[0]) if cubic else lengths[1]
    volume = np.asarray(moments.voxels * size.prod(), dtype=np.float64)
    return InstanceTable(ids, *table, volume, centroid * size, directions[-1], length, extent)


def main_directions(covariance: NDArray[np.float64]) -> NDArray[np.float64]:
    """Longest principal axis (instance, 3) of covariances (instance, 3, 3), the sign chosen; 0 where all are 0.

    >>> main_directions(np.diag([1.0, 4.0, 2.0])[None]).tolist()
    [[0.0, 1.0, 0.0]]
    """
    if not len(covariance):
        return np.empty((0, 3))
    values, vectors = np.linalg.eigh(covariance)
    direction = vectors[:, :, -1]
    direction = np.where(np.abs(direction) < 1e-12, 0.0, direction)  # so that rounding never decides a sign
    leading = np.take_along_axis(direction, (direction != 0).argmax(axis=1)[:, None], axis=1)
    direction = direction * np.where(leading < 0, -1.0, 1.0) + 0.0  # + 0.0 turns -0.0 into 0.0
    return np.asarray(np.where(values[:, -1:] > 0, direction, 0.0))


def _voxel_size(voxel_size: float | tuple[float, float, float] | None) -> NDArray[np.float64] | None:
    if voxel_size is None:
        return None
    given = np.asarray(voxel_size, np.float64)
    size: NDArray[np.float64] = np.broadcast_to(given, (3,)) if given.size in (1, 3) else np.zeros(3)
    if not (np.isfinite(size).all() and (size > 0).all()):
        raise SettingError(f"voxel_size is {voxel_size}; give one positive number, or three for (z, y, x)")
    return size


def _foreground(labels: NDArray[np.integer[Any]], start: int) -> tuple[NDArray[np.intp], NDArray[np.float64]]:
    """Row (voxel,) of each labelled voxel, sorted, and its coordinates (voxel, 3)."""
    flat = np.flatnonzero(labels)
    own = labels.ravel()[flat].astype(np.intp) - 1
    order = np.argsort(own, kind="stable")
    coordinates = np.stack(np.unravel_index(flat[order], labels.shape), axis=1).astype(np.float64)
    coordinates[:, 0] += start
    return own[order], coordinates


class _Moments:
    """Sums over voxels of each instance; float64 holds them exactly up to 2^53."""

    def __init__(self, n_instances: int) -> None:
        self.n = n_instances
        self.voxels = np.zeros(n_instances, np.int64)
        self.lowest = np.full((n_instances, 3), np.iinfo(np.int64).max)
        self.highest = np.full((n_instances, 3), -1)
        self._sums = np.zeros((n_instances, 3))
        self._products = np.zeros((n_instances, len(_PAIRS)))

    def add(self, labels: NDArray[np.integer[Any]], start: int) -> None:
        rows, coordinates = _foreground(labels, start)
        if not rows.size:
            return
        if rows[-1] >= self.n:
            raise ArrayError(f"label {rows[-1] + 1} occurs from slice {start} on, but there are {self.n} instances")
        present, first = np.unique(rows, return_index=True)
        self.voxels += np.bincount(rows, minlength=self.n)
        whole = coordinates.astype(np.int64)
        self.lowest[present] = np.minimum(self.lowest[present], np.minimum.reduceat(whole, first, axis=0))
        self.highest[present] = np.maximum(self.highest[present], np.maximum.reduceat(whole, first, axis=0))
        for axis in range(3):
            self._sums[:, axis] += np.bincount(rows, coordinates[:, axis], self.n)
        for column, (one, other) in enumerate(_PAIRS):
            self._products[:, column] += np.bincount(rows, coordinates[:, one] * coordinates[:, other], self.n)

    def check(self) -> None:
        if len(missing := np.flatnonzero(self.voxels == 0)):
            raise ArrayError(
                f"{len(missing)} of {self.n} instances have no voxel, the first is {missing[0] + 1}; number instances "
                "from 1 without gaps"
            )

    def centroid(self) -> NDArray[np.float64]:
        return self._sums / self.voxels[:, None]

    def covariance(self) -> NDArray[np.float64]:
        centroid, result = self.centroid(), np.empty((self.n, 3, 3))
        for column, (one, other) in enumerate(_PAIRS):
            own = self._products[:, column] / self.voxels - centroid[:, one] * centroid[:, other]
            result[:, one, other] = result[:, other, one] = own
        return result
