"""Number: voxels of `label` become `instance` (z, y, x) uint32, 0 where there is none, the same for any slab."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dlsia_core.instances import InstancePlan, plan_instances
from tasks.errors import SettingsError
from tasks.logs import logger_of
from tasks.segmenting.decide import few_at_once
from tasks.segmenting.plan import NOT_NUMBERED, SegmentPlan
from tasks.segmenting.slabs import SlabArray, committed_content, missing_slabs, place, run_slabs
from tasks.settings.base import Settings
from tasks.stage import StageRun, stage_task
from tasks.store import VolumeStore
from tasks.workers import Workers

VERSION = 1


class Numbered(Settings):
    """What was found: instances of each counted class, in the order of their numbers; what was left out or whole."""

    classes: tuple[str, ...]
    instances: tuple[int, ...]
    dust: tuple[int, ...]
    unsplit: tuple[int, ...]

    @property
    def total(self) -> int:
        return sum(self.instances)


def place_instances(plan: SegmentPlan, store: VolumeStore, label: SlabArray) -> SlabArray:
    """Find or make the array; its lineage holds what an instance is."""
    wanted = plan.instances.model_dump(mode="json", exclude={"enabled", "classes"})
    stage = {"stage": "number-instances", "version": VERSION, "counted": list(plan.counted), "instances": wanted}
    return place(store, [plan.arrays["instance"]], stage, [label], plan.settings)[0]


@stage_task("number-instances")
def number_slabs(plan: SegmentPlan, label: SlabArray, output: SlabArray, workers: Workers) -> StageRun:
    """Number the instances of the whole volume, unless that is done; what was found is in the array's attributes.

    What an instance is called depends on the whole volume, so that a run that was killed in between finds all of them
    again, which takes minutes, and writes what is missing.
    """
    store = VolumeStore(Path(output.store))
    slabs = store.slab_ranges()
    whole = [committed_content(store, [label], slab) for slab, _, _ in slabs]
    content = [whole] * len(slabs)
    plans: list[InstancePlan] = []
    if missing_slabs(store, [output], content):
        plans = [_planned(plan, store, label, number) for number in plan.counted]
        found = _numbered(plan, plans)
        if found.total >= NOT_NUMBERED:
            raise SettingsError(f"{found.total} instances are more than 32 bits can number; raise instances.min_voxels")
        store.array(output.path).attrs.update(found.model_dump(mode="json"))
    logger_of(__name__).info("instances: %s", numbered_of(output))
    compute = NumberSlab(label.path, plan.counted, plans, store.slab_slices)
    return run_slabs([output], content, slabs, compute, few_at_once(workers))


def numbered_of(output: SlabArray) -> Numbered:
    """What was found, as the array's attributes have it."""
    attributes: Any = VolumeStore(Path(output.store)).array(output.path).attrs
    return Numbered(**{name: tuple(attributes[name]) for name in Numbered.model_fields})


def _planned(plan: SegmentPlan, store: VolumeStore, label: SlabArray, number: int) -> InstancePlan:
    settings = plan.instances
    return plan_instances(
        lambda start, stop: store.read(label.path, start, stop) == number,
        plan.shape[0],
        store.slab_slices,
        settings.connectivity,
        settings.min_voxels,
        settings.split.core if settings.split else None,
    )


def _numbered(plan: SegmentPlan, plans: Sequence[InstancePlan]) -> Numbered:
    return Numbered(
        classes=tuple(plan.recipe.classes[number] for number in plan.counted),
        instances=tuple(found.n_instances for found in plans),
        dust=tuple(found.n_dust for found in plans),
        unsplit=tuple(len(found.unsplit) for found in plans),
    )


@dataclass(frozen=True)
class NumberSlab:
    """Computes `instance`: those of one class after those of the other."""

    label: str
    counted: tuple[int, ...]
    plans: Sequence[InstancePlan]
    slab: int

    def __call__(self, store: VolumeStore, start: int, stop: int) -> list[NDArray[np.uint32]]:
        label = store.read(self.label, start, stop)
        instance, before = np.zeros(label.shape, np.uint32), 0
        for number, plan in zip(self.counted, self.plans, strict=True):
            own = plan.label(lambda _start, _stop, number=number: label == number, start // self.slab)  # type: ignore[misc]
            instance[own > 0] = own[own > 0] + np.uint32(before)
            before += plan.n_instances
        return [instance]
