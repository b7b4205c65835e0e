"""Slabs of a volume store: where results belong, and the commit of what was computed."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tasks.settings.base import digest
from tasks.stage import StageRun
from tasks.store import FrameRange, VolumeArray, VolumeStore
from tasks.store.scan_store import VARIANTS, ShardFile
from tasks.workers import Workers, run_over

Values = NDArray[Any]
Compute = Callable[[VolumeStore, int, int], Sequence[Values]]
Slab = tuple[int, int, int]


@dataclass(frozen=True)
class SlabArray:
    """An array of a volume store, and the digest of all that it is computed from but the volume itself."""

    store: str
    path: str
    lineage: str


def place(
    store: VolumeStore,
    specs: Sequence[VolumeArray],
    stage: dict[str, Any],
    inputs: Sequence[SlabArray],
    settings: dict[str, Any],
) -> list[SlabArray]:
    """Find or make the arrays of a stage: at the top of the store for the first settings, beside them for others."""
    origin = {**stage, "inputs": [array.lineage for array in inputs]}
    lineage = digest(origin)
    placed = []
    for spec in specs:
        group = _group_of(store, spec.name, lineage, settings)
        if group:
            store.describe({"settings": settings}, group.rstrip("/"))
        attributes = {**spec.attributes, "origin": origin, "lineage": lineage}
        store.require_array(group + spec.name, replace(spec, attributes=attributes))
        placed.append(SlabArray(str(store.path), group + spec.name, lineage))
    return placed


def _group_of(store: VolumeStore, name: str, lineage: str, settings: dict[str, Any]) -> str:
    same_name = {path: array for path, array in store.arrays().items() if path.split("/")[-1] == name}
    for path, array in same_name.items():
        if array.attrs["lineage"] == lineage:
            return path.removesuffix(name)
    return f"{VARIANTS}{digest(settings)[:8]}/" if name in same_name else ""


def committed_content(store: VolumeStore, arrays: Sequence[SlabArray], slab: int) -> list[str]:
    """Hashes of a slab of some arrays, as committed: what another array's slab is computed from."""
    records = [store.slabs.get(array.path, slab) for array in arrays]
    return ["" if record is None else record.sha256 for record in records]


def missing_slabs(store: VolumeStore, outputs: Sequence[SlabArray], content: Sequence[Any]) -> list[Slab]:
    """Slabs that are not committed; content: what each slab is computed from, besides its array's lineage."""
    return [
        slab
        for slab in store.slab_ranges()
        if not all(store.is_committed(array.path, slab[0], _lineage(array, content[slab[0]])) for array in outputs)
    ]


def _lineage(array: SlabArray, content: Any) -> str:
    return digest([array.lineage, content])


def run_slabs(
    outputs: Sequence[SlabArray],
    content: Sequence[Any],
    slabs: Sequence[Slab],
    compute: Compute,
    workers: Workers,
    done: Callable[[int], None] = lambda _: None,
) -> StageRun:
    """Compute and commit those of the slabs that are not committed yet; `compute(store, start, stop)`.

    content: as for `missing_slabs`. done: called with the number of slices of each slab that is committed.
    """
    started, store = time.monotonic(), VolumeStore(Path(outputs[0].store))
    missing = [slab for slab in missing_slabs(store, outputs, content) if slab in set(slabs)]
    for number, _, _ in missing:
        for array in outputs:
            store.void(array.path, number)
    written = []

    def commit(item: Slab, files: list[ShardFile]) -> None:
        for array, file in zip(outputs, files, strict=True):
            store.commit(array.path, item[0], _lineage(array, content[item[0]]), file)
            written.append(file.size_bytes)
        done(item[2] - item[1])

    run_over(_ComputeSlab(outputs, compute), missing, commit, workers, outputs[0].store)
    stage = str(store.array(outputs[0].path).attrs["origin"]["stage"])  # type: ignore[index, call-overload]
    frames = FrameRange(slabs[0][1], slabs[-1][2]) if slabs else FrameRange(0, 0)
    computed = sum(stop - start for _, start, stop in missing)
    return StageRun(stage, frames, computed, time.monotonic() - started, sum(written))


@dataclass(frozen=True)
class _ComputeSlab:
    """Computes one slab and writes it; may run on another machine, so it opens the store by itself."""

    outputs: Sequence[SlabArray]
    compute: Compute

    def __call__(self, item: Slab) -> list[ShardFile]:
        store = VolumeStore(Path(self.outputs[0].store))
        arrays = self.compute(store, item[1], item[2])
        return [
            store.write_slab(array.path, item[0], np.ascontiguousarray(values))
            for array, values in zip(self.outputs, arrays, strict=True)
        ]
