"""Infer: slices of a volume become `probability_mean` and `probability_std`, (class, z, y, x) float16."""

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from dlsia_core.networks.inference import to_device
from dlsia_core.rings import RingFilter
from dlsia_core.segmentation import Layer, SegmentationRecipe, Window, answer_tiles, layers, layers_of
from tasks.devices import device_slot
from tasks.errors import SourceError
from tasks.models import ModelRef
from tasks.segmentation_model import segmentation_of
from tasks.segmenting.plan import SegmentPlan, volume_of
from tasks.segmenting.slabs import Slab, SlabArray, place, run_slabs
from tasks.segmenting.survey import slice_digest, source_digest
from tasks.stage import StageRun, stage_task
from tasks.store import VolumeStore
from tasks.workers import Workers

VERSION = 2
VOXEL_BYTES = 2048
"""Of a tile, while a network answers: 30 nodes of 8 float32 channels, were they all held at once, and as much again."""
Answers = tuple[NDArray[np.float16], NDArray[np.float16]]
_last: dict[tuple[Any, ...], Answers] = {}
"""The layer of tiles that was answered for last: where tiles are thicker than slabs, the next slab needs it, too."""


def place_probabilities(plan: SegmentPlan, store: VolumeStore, digests: tuple[str, ...]) -> list[SlabArray]:
    """Find or make the arrays; their lineage holds the volume, the model's weights, and the tiles."""
    stage = {
        "stage": "infer-volume",
        "version": VERSION,
        "model": plan.model.digest,
        "tile_shape": list(plan.recipe.tile_shape),
        "source": source_digest(digests),
        **plan.ring_facts,
    }
    specs = [plan.arrays["probability_mean"], plan.arrays["probability_std"]]
    return place(store, specs, stage, [], plan.settings)


def seen_slices(plan: SegmentPlan, digests: tuple[str, ...]) -> list[list[str]]:
    """What each slab is computed from: the digests of all slices that its tiles look at."""
    found = layers(plan.recipe.windows(plan.shape))
    slabs = range(0, plan.shape[0], plan.slab_slices)
    ranges = [_outer(layers_of(found, start, start + plan.slab_slices)) for start in slabs]
    return [list(digests[first:last]) for first, last in ranges]


@stage_task("infer-volume")
def infer_slabs(
    plan: SegmentPlan,
    outputs: Sequence[SlabArray],
    digests: tuple[str, ...],
    slabs: Sequence[Slab],
    workers: Workers,
    done: Callable[[int], None] = lambda _: None,
) -> StageRun:
    """Ask the network about the slabs that are not done yet."""
    with device_slot(plan.segment.device) as device:
        compute = InferSlab(
            plan.source, plan.dataset, plan.rings, digests, plan.model, plan.recipe, str(device),
            plan.segment.batch_size, workers.n_threads, plan.segment.memory_gib,
        )  # fmt: skip
        # The tiles of a slab are computed side by side, so that one slab at a time is in memory.
        one = workers if workers.scheduler != "threads" else Workers(threads=1)
        return run_slabs(outputs, seen_slices(plan, digests), slabs, compute, one, done)


@dataclass(frozen=True)
class InferSlab:
    """Computes mean and standard deviation over the members for some slices, in tiles."""

    source: str
    dataset: str | None
    rings: RingFilter | None
    digests: tuple[str, ...]
    model: ModelRef
    recipe: SegmentationRecipe
    device: str
    batch_size: int
    threads: int
    memory_gib: float

    def __call__(self, _store: VolumeStore, start: int, stop: int) -> list[NDArray[np.float16]]:
        depth, height, width = volume_of(self.source, self.dataset).shape
        needed = layers_of(layers(self.recipe.windows((depth, height, width))), start, stop)
        mean, std = np.empty((2, len(self.recipe.classes), stop - start, height, width), np.float16)
        held = dict(_last)  # another run in this process may clear it meanwhile
        unknown = [layer for layer in needed if self._key(layer) not in held]
        for layer in needed:
            if layer not in unknown:
                _put((mean, std), start, layer, held[self._key(layer)])
        _last.clear()
        if unknown:
            self._answer(unknown, (mean, std), start, stop)
        return [mean, std]

    def _answer(self, needed: list[Layer], into: Answers, start: int, stop: int) -> None:
        """Answer for layers; those that reach beyond the slab are kept for the next one."""
        first, last = _outer(needed)
        slices, (height, width) = self._slices(first, last), into[0].shape[2:]
        targets = {}
        for layer in needed:
            inside = start <= layer.inner.start and layer.inner.stop <= stop
            depth = layer.inner.stop - layer.inner.start
            targets[layer.inner.start] = (
                tuple(part[:, layer.inner.start - start : layer.inner.stop - start] for part in into)
                if inside
                else tuple(np.empty((2, len(self.recipe.classes), depth, height, width), np.float16))
            )
        windows = [window for layer in needed for window in layer.windows]
        for window, answer in self._answers(windows, slices, first):
            for part, values in zip(targets[window.inner[0].start], answer, strict=True):
                part[:, :, window.inner[1], window.inner[2]] = values
        for layer in needed:
            if not (start <= layer.inner.start and layer.inner.stop <= stop):
                mean, std = targets[layer.inner.start]
                _put(into, start, layer, (mean, std))
                if layer.inner.stop > stop:
                    _last[self._key(layer)] = mean, std

    def _answers(self, windows: list[Window], slices: NDArray[Any], first: int) -> Iterator[tuple[Window, Answers]]:
        network = segmentation_of(self.model).network

        def ask(group: list[Window]) -> list[tuple[Window, Answers]]:
            tiles = np.stack([self.recipe.tile(slices[_moved(window.outer, first)], window) for window in group])
            found = answer_tiles(network, self.recipe, tiles, self.device)
            # Only the part that is answered for, in the type that is stored: the rest is freed with the tile.
            parts = [(slice(None), *self.recipe.answered(window)) for window in group]
            mean, std = (
                [v[k][part].astype(np.float16) for k, part in enumerate(parts)] for v in (found.mean, found.std)
            )
            return list(zip(group, zip(mean, std, strict=True), strict=True))

        if self.device != "cpu":
            for k in range(0, len(windows), self.batch_size):
                yield from ask(windows[k : k + self.batch_size])
            return
        to_device(network, torch.device("cpu"))  # once, before several threads use it
        _, height, width = windows[0].tile_shape
        voxels = self.recipe.spatial_tile[0] * height * width
        side_by_side = int(min(self.threads, max(1, self.memory_gib * 2**30 / (VOXEL_BYTES * voxels)), len(windows)))
        with (
            threads_of_torch(max(1, self.threads // side_by_side)) as prepare,
            ThreadPoolExecutor(side_by_side, initializer=prepare) as pool,
        ):
            for found in pool.map(ask, [[window] for window in windows]):
                yield from found

    def _slices(self, first: int, last: int) -> NDArray[Any]:
        slices = volume_of(self.source, self.dataset).read(first, last)
        for number, pixels in enumerate(slices, first):
            if slice_digest(pixels) != self.digests[number]:
                raise SourceError(
                    f"slice {number} of {self.source} has changed since the run began; start the run again when the "
                    "source is at rest"
                )
        if self.rings is None:
            return slices
        with ThreadPoolExecutor(self.threads) as pool:
            return np.stack(list(pool.map(self.rings.without_rings, slices)))

    def _key(self, layer: Layer) -> tuple[Any, ...]:
        seen = self.digests[layer.outer.start : layer.outer.stop]
        return (self.model, self.recipe, self.rings, self.device, layer.inner.start, seen)


@contextmanager
def threads_of_torch(threads: int) -> Iterator[Callable[[], None]]:
    """Yield what a thread has to call so that torch uses so many threads for each of its operations; undone at the end.

    Tiles side by side, one thread each, do not wait for each other as the threads of one operation do.
    """
    before = torch.get_num_threads()
    try:
        yield lambda: torch.set_num_threads(threads)
    finally:
        torch.set_num_threads(before)


def _put(into: Answers, start: int, layer: Layer, answers: Answers) -> None:
    """Copy what a layer says of the slices that begin with `start`."""
    depth = into[0].shape[1]
    low, high = max(layer.inner.start, start), min(layer.inner.stop, start + depth)
    for part, values in zip(into, answers, strict=True):
        part[:, low - start : high - start] = values[:, low - layer.inner.start : high - layer.inner.start]


def _outer(found: Sequence[Layer]) -> tuple[int, int]:
    return min(layer.outer.start for layer in found), max(layer.outer.stop for layer in found)


def _moved(outer: tuple[slice, slice, slice], first: int) -> tuple[slice, slice, slice]:
    return slice(outer[0].start - first, outer[0].stop - first), outer[1], outer[2]
