"""Decide: stored probabilities become `label` (z, y, x) uint8 and `conformal_set`, a bit for each class."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dlsia_core.segmentation import pack_sets, set_dtype, sure_label
from tasks.models import ModelRef
from tasks.segmentation_model import segmentation_of
from tasks.segmenting.plan import SegmentPlan
from tasks.segmenting.slabs import SlabArray, committed_content, place, run_slabs
from tasks.stage import StageRun, stage_task
from tasks.store import VolumeStore
from tasks.workers import Workers

LABEL_VERSION, SETS_VERSION = 1, 1
MOST_AT_ONCE = 4
"""Slabs in memory; each is up to 64 MiB of float16."""


def place_label(plan: SegmentPlan, store: VolumeStore, probabilities: Sequence[SlabArray]) -> SlabArray:
    """Find or make the array; its lineage holds the rule."""
    rule = {"k": plan.rule.k, "threshold": plan.rule.threshold, "background": plan.background}
    stage = {"stage": "label-volume", "version": LABEL_VERSION, "rule": rule}
    return place(store, [plan.arrays["label"]], stage, probabilities, plan.settings)[0]


def place_sets(plan: SegmentPlan, store: VolumeStore, mean: SlabArray) -> SlabArray:
    """Find or make the array; the calibration belongs to the model, which the probabilities' lineage holds."""
    stage = {"stage": "conformal-sets", "version": SETS_VERSION}
    return place(store, [plan.arrays["conformal_set"]], stage, [mean], plan.settings)[0]


@stage_task("label-volume")
def label_slabs(plan: SegmentPlan, probabilities: Sequence[SlabArray], label: SlabArray, workers: Workers) -> StageRun:
    """Decide on the slabs that are not done yet."""
    mean, std = probabilities
    compute = LabelSlab(mean.path, std.path, plan.rule.k, plan.rule.threshold, plan.background)
    return _run(label, probabilities, compute, workers)


@stage_task("conformal-sets")
def set_slabs(plan: SegmentPlan, mean: SlabArray, sets: SlabArray, workers: Workers) -> StageRun:
    """Make the conformal sets of the slabs that are not done yet."""
    return _run(sets, [mean], SetSlab(mean.path, plan.model), workers)


def _run(output: SlabArray, inputs: Sequence[SlabArray], compute: Any, workers: Workers) -> StageRun:
    store = VolumeStore(Path(output.store))
    slabs = store.slab_ranges()
    content = [committed_content(store, inputs, slab) for slab, _, _ in slabs]
    return run_slabs([output], content, slabs, compute, few_at_once(workers))


def few_at_once(workers: Workers) -> Workers:
    """The same workers, but no more slabs at once than memory is planned for."""
    return workers.model_copy(update={"threads": min(workers.n_threads, MOST_AT_ONCE)})


@dataclass(frozen=True)
class LabelSlab:
    """Computes `label`."""

    mean: str
    std: str
    k: float
    threshold: float
    background: int

    def __call__(self, store: VolumeStore, start: int, stop: int) -> list[NDArray[np.uint8]]:
        mean, std = store.read(self.mean, start, stop), store.read(self.std, start, stop)
        label = np.empty(mean.shape[1:], np.uint8)
        for number in range(stop - start):  # slice by slice: float32 of a whole slab would take twice its room
            label[number] = sure_label(mean[:, number], std[:, number], self.k, self.threshold, self.background)
        return [label]


@dataclass(frozen=True)
class SetSlab:
    """Computes `conformal_set`."""

    mean: str
    model: ModelRef

    def __call__(self, store: VolumeStore, start: int, stop: int) -> list[NDArray[Any]]:
        model, mean = segmentation_of(self.model), store.read(self.mean, start, stop)
        packed = np.empty(mean.shape[1:], set_dtype(len(mean)))
        for number in range(stop - start):
            packed[number] = pack_sets(model.sets(mean[:, number].astype(np.float32)))
        return [packed]
