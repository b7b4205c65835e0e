"""Instances of a volume: components without dust, touching fibres split, numbered the same for any slab."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from dlsia_core.errors import SettingError

from .components import Components, Connectivity, ReadSlab, find_components, slab_ranges
from .fibre_splitting import FibreLines, SplitSettings, split_fibres


@dataclass(frozen=True, eq=False)
class InstancePlan:
    """Which instance each voxel belongs to, in a form that is small and answers for any slab on its own.

    `instance_of` (component,) int64 gives the instance of each component, 0 for background and dust; what is split has
    its lines in `lines` and the instances of these in `parts`. `n_instances` are numbered from 1 by their first voxel
    in the order z, y, x. `n_dust` components were too small, and `unsplit` (component,) were too large to look at.
    """

    components: Components
    instance_of: NDArray[np.int64]
    lines: dict[int, FibreLines]
    parts: dict[int, NDArray[np.int64]]
    n_instances: int
    n_dust: int
    unsplit: tuple[int, ...]

    @property
    def n_slabs(self) -> int:
        """Number of slabs."""
        return len(self.components.offsets) - 1

    def label(self, read: ReadSlab, index: int) -> NDArray[np.uint32]:
        """Instance numbers (z, y, x) of slab `index`, 0 elsewhere; slabs may be asked for in any order."""
        components = self.components.label(read, index)
        labels = self.instance_of[components].astype(np.uint32)
        for component, coordinates in _voxels_of(components, np.array(sorted(self.lines), np.int64)):
            z, y, x = coordinates.T
            absolute = coordinates + np.array([index * self.components.slab, 0, 0])
            labels[z, y, x] = self.parts[component][self.lines[component].nearest(absolute)]
        return labels


def plan_instances(
    read: ReadSlab,
    n_slices: int,
    slab: int = 32,
    connectivity: Connectivity = 26,
    min_voxels: int = 1,
    split: SplitSettings | None = None,
) -> InstancePlan:
    """Find the instances of a volume that is read twice (once, if nothing is split), `slab` slices at a time.

    read         gives slices start to stop - 1, (z, y, x); True or above 0 is foreground
    connectivity neighbors of a voxel: 6 across faces, 18 also across edges, 26 also across corners
    min_voxels   smaller components are dust, and no part of a component that is split is smaller
    split        how touching fibres are told apart; None: a component is an instance

    The result is the same for any `slab`. Raises SettingError and ArrayError as `find_components` does.

    >>> volume = np.array([[[1, 1, 0, 1, 0, 1, 1]]], bool)
    >>> plan = plan_instances(lambda a, b: volume[a:b], 1, min_voxels=2)
    >>> plan.label(lambda a, b: volume[a:b], 0).tolist(), plan.n_dust
    ([[[1, 1, 0, 0, 0, 2, 2]]], 1)
    """
    if min_voxels < 1:
        raise SettingError(f"min_voxels is {min_voxels}; give 1 to keep every component, or more")
    components = find_components(read, n_slices, slab, connectivity)
    kept = components.voxels >= min_voxels
    kept[0] = False
    lines: dict[int, FibreLines] = {}
    firsts: dict[int, NDArray[np.int64]] = {}
    unsplit = np.zeros(len(components.voxels), bool)
    if split is not None:
        unsplit = kept & (components.voxels > split.max_voxels)
        for component, coordinates in gathered(components, read, kept & ~unsplit):
            if np.prod(np.ptp(coordinates, axis=0) + 3) > split.max_box:  # with a voxel around it
                unsplit[component] = True
                continue
            found = split_fibres(coordinates, split, min_voxels)
            if found is not None:
                lines[component] = found
                firsts[component] = _first_voxels(found.nearest(coordinates), coordinates, components.shape)
                kept[component] = False
    numbers, parts, n_instances = _numbered(components, kept, firsts)
    n_dust = int((components.voxels[1:] < min_voxels).sum())
    return InstancePlan(
        components, numbers, lines, parts, n_instances, n_dust, tuple(map(int, np.flatnonzero(unsplit)))
    )


def label_slabs(
    read: ReadSlab,
    n_slices: int,
    slab: int = 32,
    connectivity: Connectivity = 26,
    min_voxels: int = 1,
    split: SplitSettings | None = None,
) -> Iterator[tuple[int, NDArray[np.uint32]]]:
    """Yield each slab's first slice and its instance numbers (z, y, x); arguments as for `plan_instances`.

    >>> volume = np.ones((3, 2, 2), bool); volume[1] = False
    >>> [(start, labels.max(axis=(1, 2)).tolist()) for start, labels in label_slabs(lambda a, b: volume[a:b], 3, 2)]
    [(0, [1, 0]), (2, [2])]
    """
    plan = plan_instances(read, n_slices, slab, connectivity, min_voxels, split)
    for index, (start, _) in enumerate(slab_ranges(n_slices, slab)):
        yield start, plan.label(read, index)


def gathered(
    components: Components, read: ReadSlab, wanted: NDArray[np.bool_]
) -> Iterator[tuple[int, NDArray[np.int64]]]:
    """Yield wanted components with the coordinates (voxel, 3) of all their voxels, in the order z, y, x.

    A component is held from the slab it begins in to the one in which its last voxel is met, no longer.
    """
    held: dict[int, list[NDArray[np.int64]]] = {}
    missing = components.voxels.copy()
    numbers = np.flatnonzero(wanted)
    for index, (start, _) in enumerate(slab_ranges(components.shape[0], components.slab)):
        for component, coordinates in _voxels_of(components.label(read, index), numbers):
            held.setdefault(component, []).append(coordinates + np.array([start, 0, 0]))
            missing[component] -= len(coordinates)
            if missing[component] == 0:
                yield component, np.concatenate(held.pop(component))


def _voxels_of(labels: NDArray[np.int64], numbers: NDArray[np.int64]) -> Iterator[tuple[int, NDArray[np.int64]]]:
    """Yield each of the numbers that occurs, with its coordinates (voxel, 3) in the order z, y, x."""
    if not numbers.size:
        return
    lookup = np.zeros(max(int(labels.max()), int(numbers.max())) + 1, bool)
    lookup[numbers] = True
    flat = np.flatnonzero(lookup[labels])
    if not flat.size:
        return
    own = labels.ravel()[flat]
    order = np.argsort(own, kind="stable")
    flat, own = flat[order], own[order]
    present, starts = np.unique(own, return_index=True)
    for number, part in zip(present, np.split(flat, starts[1:]), strict=True):
        yield int(number), np.stack(np.unravel_index(part, labels.shape), axis=1)


def _first_voxels(
    owner: NDArray[np.intp], coordinates: NDArray[np.int64], shape: tuple[int, int, int]
) -> NDArray[np.int64]:
    _, first = np.unique(owner, return_index=True)  # every line owns a voxel: `split_fibres` sees to it
    return np.asarray(np.ravel_multi_index(tuple(coordinates[first].T), shape), dtype=np.int64)


def _numbered(
    components: Components, kept: NDArray[np.bool_], firsts: dict[int, NDArray[np.int64]]
) -> tuple[NDArray[np.int64], dict[int, NDArray[np.int64]], int]:
    """Instance of each component, instances of the parts of those that are split, and how many there are."""
    whole = np.flatnonzero(kept)
    all_firsts = np.concatenate([components.first[whole], *firsts.values()])
    number = np.empty(len(all_firsts), np.int64)
    number[np.argsort(all_firsts, kind="stable")] = np.arange(1, len(all_firsts) + 1)
    instance_of = np.zeros(len(components.voxels), np.int64)
    instance_of[whole] = number[: len(whole)]
    parts, start = {}, len(whole)
    for component, first in firsts.items():
        parts[component] = number[start : start + len(first)]
        start += len(first)
    return instance_of, parts, len(all_firsts)
