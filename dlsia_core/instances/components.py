"""Connected components of volumes larger than memory: slab by slab, joined over the planes where slabs meet."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Literal

import cc3d
import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from dlsia_core.errors import ArrayError, SettingError

Connectivity = Literal[6, 18, 26]
ReadSlab = Callable[[int, int], NDArray[Any]]
"""Gives slices start to stop - 1 of a volume, (z, y, x); above 0 or True is foreground."""

# In-plane steps (dy, dx) that, with a step of one slice, lead to a neighbor; by the number of neighbors of a voxel.
_PLANE_STEPS: dict[int, tuple[tuple[int, int], ...]] = {
    6: ((0, 0),),
    18: ((0, 0), (-1, 0), (1, 0), (0, -1), (0, 1)),
    26: tuple((dy, dx) for dy in (-1, 0, 1) for dx in (-1, 0, 1)),
}


@dataclass(frozen=True, eq=False)
class Components:
    """Connected components of a volume, numbered from 1 by their first voxel in the order z, y, x.

    `voxels` (component,) int64 and `first` (component,) int64, the flat index of the first voxel, begin with an entry
    for the background, as do `component_of` (piece,), which component each slab's own piece belongs to. The pieces of
    slab s are numbered from `offsets[s]` + 1.
    """

    shape: tuple[int, int, int]
    slab: int
    connectivity: Connectivity
    voxels: NDArray[np.int64]
    first: NDArray[np.int64]
    component_of: NDArray[np.int64]
    offsets: tuple[int, ...]

    def __len__(self) -> int:
        return len(self.voxels) - 1

    def label(self, read: ReadSlab, index: int) -> NDArray[np.int64]:
        """Component numbers (z, y, x) of slab `index`, which holds slices index * slab and on."""
        pieces, _ = label_pieces(read_slab(read, self.shape, self.slab, index), self.connectivity)
        offset = self.offsets[index]
        stop = self.offsets[index + 1]
        lookup = np.concatenate([np.zeros(1, np.int64), self.component_of[offset + 1 : stop + 1]])
        return np.asarray(lookup[pieces])


def find_components(read: ReadSlab, n_slices: int, slab: int = 32, connectivity: Connectivity = 26) -> Components:
    """Find the connected components of a volume that is read once, `slab` slices at a time.

    connectivity   neighbors of a voxel: 6 across faces, 18 also across edges, 26 also across corners

    The result is the same for any `slab`. What stays in memory, besides one slab, is one plane of labels and a few
    numbers per piece of a component.

    Raises SettingError for a slab or connectivity that is not allowed, ArrayError for a slab of the wrong shape.

    >>> volume = np.zeros((3, 3, 3), bool); volume[0, 0, 0] = volume[1, 1, 1] = volume[2, 0, 0] = True
    >>> [len(find_components(lambda a, b: volume[a:b], 3, slab=1, connectivity=c)) for c in (6, 18, 26)]
    [3, 3, 1]
    """
    check_slabs(n_slices, slab, connectivity)
    shape = _shape(read, n_slices)
    offsets, counts, firsts, edges = [0], [np.zeros(1, np.int64)], [np.zeros(1, np.int64)], []
    above: NDArray[np.int64] | None = None
    for index in range(-(-n_slices // slab)):
        pieces, n_pieces = label_pieces(read_slab(read, shape, slab, index), connectivity)
        flat = pieces.ravel()
        inside = np.flatnonzero(flat)
        first = np.zeros(n_pieces + 1, np.int64)
        first[flat[inside[::-1]]] = inside[::-1] + index * slab * shape[1] * shape[2]  # the last one written is first
        counts.append(np.bincount(flat, minlength=n_pieces + 1)[1:])
        firsts.append(first[1:])
        top = _numbered(pieces[0], offsets[-1])
        if above is not None:
            edges.append(touching_pairs(above, top, connectivity))
        above = _numbered(pieces[-1], offsets[-1])
        offsets.append(offsets[-1] + n_pieces)
    joined = np.concatenate([np.empty((0, 2), np.int64), *edges])
    found = _joined(np.concatenate(counts), np.concatenate(firsts), joined)
    return Components(shape, slab, connectivity, *found, tuple(offsets))


def check_slabs(n_slices: int, slab: int, connectivity: int) -> None:
    """Raise SettingError for numbers that no volume can be labelled with."""
    if n_slices < 1 or slab < 1:
        raise SettingError(f"n_slices is {n_slices} and slab {slab}; both must be at least 1")
    if connectivity not in _PLANE_STEPS:
        raise SettingError(f"connectivity is {connectivity}; allowed are 6 (faces), 18 (edges) and 26 (corners)")


def slab_ranges(n_slices: int, slab: int) -> Iterator[tuple[int, int]]:
    """First slice, and the slice behind the last one, of each slab.

    >>> list(slab_ranges(5, 2))
    [(0, 2), (2, 4), (4, 5)]
    """
    for start in range(0, n_slices, slab):
        yield start, min(start + slab, n_slices)


def read_slab(read: ReadSlab, shape: tuple[int, int, int], slab: int, index: int) -> NDArray[Any]:
    """Slab `index` of a volume, its shape checked."""
    start, stop = index * slab, min((index + 1) * slab, shape[0])
    values = np.asarray(read(start, stop))
    if values.shape != (stop - start, *shape[1:]):
        raise ArrayError(
            f"slices {start} to {stop - 1} have the shape {values.shape}, not {(stop - start, *shape[1:])}"
        )
    return values


def label_pieces(values: NDArray[Any], connectivity: Connectivity) -> tuple[NDArray[np.integer[Any]], int]:
    """Components (z, y, x) of one slab alone, numbered from 1, and how many there are."""
    # As integers: for truth values cc3d 4.1.1 takes a path of its own, which fails where only one row or column is.
    foreground = np.ascontiguousarray(values > 0).view(np.uint8)
    labels, count = cc3d.connected_components(foreground, connectivity=connectivity, return_N=True)
    return labels, int(count)


def touching_pairs(above: NDArray[np.int64], below: NDArray[np.int64], connectivity: Connectivity) -> NDArray[np.int64]:
    """Pairs (pair, 2) of labels that are neighbors between two adjoining planes (y, x); 0 is background.

    >>> touching_pairs(np.array([[1, 0, 0]]), np.array([[0, 2, 3]]), 18).tolist()
    [[1, 2]]
    """
    pairs = [np.empty((0, 2), np.int64)]
    height, width = above.shape
    for dy, dx in _PLANE_STEPS[connectivity]:
        one = above[max(0, -dy) : height - max(0, dy), max(0, -dx) : width - max(0, dx)]
        other = below[max(0, dy) : height - max(0, -dy), max(0, dx) : width - max(0, -dx)]
        both = (one > 0) & (other > 0)
        pairs.append(np.unique(np.stack([one[both], other[both]], axis=1), axis=0))
    return np.unique(np.concatenate(pairs), axis=0)


def _shape(read: ReadSlab, n_slices: int) -> tuple[int, int, int]:
    first = np.asarray(read(0, 1))
    if first.ndim != 3 or first.shape[0] != 1:
        raise ArrayError(f"slice 0 has the shape {first.shape}; a slab must be (z, y, x), here with one slice")
    return n_slices, first.shape[1], first.shape[2]


def _numbered(plane: NDArray[np.integer[Any]], offset: int) -> NDArray[np.int64]:
    wide = plane.astype(np.int64)
    return np.where(wide > 0, wide + offset, 0)


def _joined(
    counts: NDArray[np.int64], firsts: NDArray[np.int64], edges: NDArray[np.int64]
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    """Voxels and first voxel per component, and the component of each piece; all begin with the background."""
    n_pieces = len(counts)
    graph = coo_array((np.ones(len(edges), bool), (edges[:, 0], edges[:, 1])), shape=(n_pieces, n_pieces))
    n_groups, group = connected_components(graph, directed=False)
    first = np.full(n_groups, np.iinfo(np.int64).max)
    np.minimum.at(first, group[1:], firsts[1:])
    first[group[0]] = -1  # piece 0 is the background and touches nothing
    order = np.argsort(first, kind="stable")
    number = np.empty(n_groups, np.int64)
    number[order] = np.arange(n_groups)
    component_of = number[group]
    voxels = np.zeros(n_groups, np.int64)
    np.add.at(voxels, component_of, counts)
    return voxels, first[order], component_of
