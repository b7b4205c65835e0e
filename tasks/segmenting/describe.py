"""Describe: what the instances of a store are like as a whole, a page beside the store."""

from pathlib import Path

from dlsia_core.errors import ArrayError
from dlsia_core.instances import autocorrelation, instance_table
from tasks.report_instances import InstanceFacts, WrittenInstances, read_truth, write_instance_report
from tasks.segmenting.measure import voxel_of
from tasks.segmenting.number import numbered_of
from tasks.segmenting.slabs import SlabArray
from tasks.stage import stage_task
from tasks.store import VolumeStore

PAGE = "instances.html"


@stage_task("describe-instances")
def describe_instances(
    instance: SlabArray, radius: int, truth: str | None = None, truth_column: str = "length_end_to_end_px"
) -> WrittenInstances:
    """Write the page; the volume is read three times, a slab at a time.

    radius: of the sphere of the autocorrelation, in voxels. truth: CSV file with known lengths in voxels.
    """
    known = None if truth is None else read_truth(Path(truth), truth_column)
    store = VolumeStore(Path(instance.store))
    found, (size, unit), slab = numbered_of(instance), voxel_of(store), store.slab_slices
    table = instance_table(
        lambda start, stop: store.read(instance.path, start, stop), store.shape[0], found.total, slab, size
    )
    try:
        alike = autocorrelation(
            lambda start, stop: store.read(instance.path, start, stop) > 0, store.shape[0], radius, slab
        )
        why = ""
    except ArrayError as error:
        alike, why = None, str(error)  # a thin volume has lengths and directions all the same
    remarks = [
        f"{count} components of class {name} were too large to be split and are one instance each."
        for name, count in zip(found.classes, found.unsplit, strict=True)
        if count
    ]
    facts = InstanceFacts(
        f"{store.path}, array {instance.path}", table, unit, alike, why, known, remarks=tuple(remarks)
    )
    return write_instance_report(facts, page_of(instance))


def page_of(instance: SlabArray) -> Path:
    """Where the page is: beside the store, under its name, with the group of other settings in between."""
    store = Path(instance.store)
    group = instance.path.rpartition("/")[0].replace("/", "-")
    return store.parent / ".".join(filter(None, [store.name.removesuffix(".zarr"), group, PAGE]))
