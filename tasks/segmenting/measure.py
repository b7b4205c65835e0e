"""Measure: the table of instances, `instances.csv` beside the store."""

import csv
import io
from pathlib import Path
from typing import Any

import numpy as np

from dlsia_core.instances import InstanceTable, instance_table
from dlsia_core.networks.storage import write_atomically
from tasks.segmenting.number import numbered_of
from tasks.segmenting.plan import SegmentPlan
from tasks.segmenting.slabs import SlabArray
from tasks.stage import stage_task
from tasks.store import VolumeStore

NAME = "instances.csv"


@stage_task("measure-instances")
def measure_instances(plan: SegmentPlan, instance: SlabArray) -> str:
    """Write the table; returns its path. The same numbers, whatever the slabs."""
    store = VolumeStore(Path(instance.store))
    found, (size, unit) = numbered_of(instance), voxel_of(store)
    table = instance_table(
        lambda start, stop: store.read(instance.path, start, stop), plan.shape[0], found.total, store.slab_slices, size
    )
    classes = [name for name, count in zip(found.classes, found.instances, strict=True) for _ in range(count)]
    path = _path(store, instance)
    write_atomically(path, _csv(table, classes, unit).encode())
    return str(path)


def voxel_of(store: VolumeStore) -> tuple[tuple[float, float, float] | None, str]:
    """Edges (z, y, x) of a voxel, None where nobody said, and their unit."""
    attributes = store.attributes
    size = attributes.get("voxel_size")
    return (None if size is None else (size[0], size[1], size[2])), str(attributes.get("voxel_unit", ""))


def _path(store: VolumeStore, instance: SlabArray) -> Path:
    """`instances.csv` beside the store, with more before it where the file is another store's, or of other settings."""
    key = f"table of {instance.path}"
    name = store.attributes.get(key)
    if name is None:
        stem, _, group = store.path.name.removesuffix(".zarr"), *instance.path.rpartition("/")[::-1][1:]
        longer = ".".join(filter(None, [stem, group, NAME]))
        name = NAME if not group and not (store.path.parent / NAME).exists() else longer
        store.describe({key: name})  # before the file is written, so that a run that is killed finds its own again
    return store.path.parent / str(name)


def _csv(table: InstanceTable, classes: list[str], unit: str) -> str:
    columns = _columns(table, classes, unit.replace("µ", "u").replace("μ", "u"))
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(columns)
    writer.writerows(zip(*columns.values(), strict=True))
    return text.getvalue()


def _columns(table: InstanceTable, classes: list[str], unit: str) -> dict[str, list[Any]]:
    """Values of each column; lengths, places and directions also in units where the voxel size is known."""
    direction = table.direction if table.direction_physical is None else table.direction_physical
    columns: dict[str, list[Any]] = {
        "instance": table.ids.tolist(),
        "class": classes,
        "voxels": table.voxels.tolist(),
        "length_px": _rounded(table.length),
        **{f"{axis}_px": _rounded(table.centroid[:, k]) for k, axis in enumerate("zyx")},
        **{f"{axis}_first": table.lowest[:, k].tolist() for k, axis in enumerate("zyx")},
        **{f"{axis}_last": table.highest[:, k].tolist() for k, axis in enumerate("zyx")},
        **{f"direction_{axis}": _rounded(direction[:, k]) for k, axis in enumerate("zyx")},
        "angle_to_z_deg": _rounded(np.rad2deg(np.arccos(np.clip(np.abs(direction[:, 0]), 0, 1)))),
        "azimuth_deg": _rounded(np.rad2deg(np.arctan2(direction[:, 1], direction[:, 2]))),
    }
    if table.length_physical is not None and table.volume_physical is not None and table.centroid_physical is not None:
        columns[f"length_{unit}"] = _rounded(table.length_physical)
        columns[f"volume_{unit}3"] = _rounded(table.volume_physical)
        columns |= {f"{axis}_{unit}": _rounded(table.centroid_physical[:, k]) for k, axis in enumerate("zyx")}
    return columns


def _rounded(values: Any) -> list[float]:
    return [float(f"{value:.7g}") for value in np.asarray(values).tolist()]
