"""What a volume store says of itself: facts, axes with units, classes, and whether it is finished."""

from collections import Counter
from pathlib import Path

import numpy as np

from tasks.segmenting.plan import SegmentPlan
from tasks.segmenting.slabs import SlabArray
from tasks.segmenting.survey import source_digest
from tasks.store import VolumeStore


def opened_store(plan: SegmentPlan, digests: tuple[str, ...]) -> VolumeStore:
    """Make or open the store under its lock, clear away what a killed run left, and write the axes."""
    facts = {
        "volume_shape": list(plan.shape),
        "slab_slices": plan.slab_slices,
        "source_digest": source_digest(digests),
    }
    store = VolumeStore.create(Path(plan.path), facts)
    store.recover()
    describe_store(plan, store, finished=False)
    size = store.attributes.get("voxel_size")
    for axis, length, edge in zip("zyx", plan.shape, size or (1, 1, 1), strict=True):
        unit = store.attributes["voxel_unit"] if size else "px"
        store.require_axis(axis, np.arange(length) * float(edge), {"units": unit, "long_name": "center of the voxel"})
    names = np.array(plan.recipe.classes, np.dtypes.StringDType())
    store.require_axis("class", names, {"long_name": "class; its place is its number in label, and its bit in sets"})
    return store


def describe_store(plan: SegmentPlan, store: VolumeStore, *, finished: bool) -> None:
    """Attach what people want to know. Other classes than the store's own belong to another model, and are refused."""
    segment = plan.segment
    if segment.voxel_size is not None:
        store.describe({"voxel_size": list(segment.voxel_size), "voxel_unit": segment.voxel_unit})
    store.require_facts({"classes": list(plan.recipe.classes)} if "classes" in store.attributes else {})
    store.describe(
        {
            "source": plan.source,
            "classes": list(plan.recipe.classes),
            "finished": finished,
        }
    )


def class_shares(plan: SegmentPlan, store: VolumeStore, label: SlabArray) -> dict[str, float]:
    """Share of the voxels of each class."""
    counts: Counter[int] = Counter()
    for _, start, stop in store.slab_ranges():
        for number, count in enumerate(np.bincount(store.read(label.path, start, stop).ravel())):
            counts[number] += int(count)
    total = sum(counts.values())
    return {name: counts[number] / total for number, name in enumerate(plan.recipe.classes)}
