"""Flow: a volume, or slices, through a trained ensemble: probabilities, classes, sets, instances and their table."""

from pathlib import Path

from prefect.artifacts import create_markdown_artifact
from prefect.task_runners import ThreadPoolTaskRunner

from flows.batches import Progress
from flows.embedded_server import served_flow
from flows.results import LeftOut, SegmentedVolume, completed
from tasks.segmentation_model import segmentation_of
from tasks.segmenting.decide import label_slabs, place_label, place_sets, set_slabs
from tasks.segmenting.finish import class_shares, describe_store, opened_store
from tasks.segmenting.infer import infer_slabs, place_probabilities, seen_slices
from tasks.segmenting.measure import measure_instances
from tasks.segmenting.number import number_slabs, numbered_of, place_instances
from tasks.segmenting.plan import SegmentPlan, plan_segmentation
from tasks.segmenting.slabs import Slab, SlabArray, missing_slabs
from tasks.segmenting.survey import survey_volume
from tasks.settings.segment_volume import InstanceSettings, RuleSettings, SegmentSettings
from tasks.store import VolumeStore
from tasks.workers import Workers

MOST_TASK_RUNS = 200


@served_flow(name="segment-volume", flow_run_name="segment {source}", task_runner=ThreadPoolTaskRunner(max_workers=4))
def segment_volume(
    source: str,
    model: str,
    store: str,
    segment: SegmentSettings = SegmentSettings(),
    rule: RuleSettings = RuleSettings(),
    instances: InstanceSettings = InstanceSettings(),
    workers: Workers = Workers(),
) -> SegmentedVolume:
    """Segment a volume that may be larger than memory; run again, it goes on where it was, and computes nothing twice.

    Args:
        source: TIFF stack, folder or glob of slices, Zarr or HDF5 array, or a store made by process_scan.
        model: Model made by train_segmentation: a registered name (its newest version), name:version, or a folder, with
            a slash in it.
        store: Folder of the results, as in /data/results/volume.zarr; made if it is not there. `instances.csv` is
            written beside it.
        segment: How the volume is read, and how the network looks at it.
        rule: When a class counts.
        instances: What an instance is.
        workers: Where slabs are computed.
    """
    plan = plan_segmentation(source, model, store, segment, rule, instances)
    digests = survey_volume(plan, workers)
    with VolumeStore.writing(Path(plan.path)):
        held = opened_store(plan, digests)
        probabilities = place_probabilities(plan, held, digests)
        _infer(plan, held, probabilities, digests, workers)
        label = place_label(plan, held, probabilities)
        label_slabs(plan, probabilities, label, workers)
        sets = _conformal_sets(plan, held, probabilities[0], workers)
        instance, table = _instances(plan, held, label, workers)
        return completed(_result(plan, held, label, sets, instance, table))


def _infer(
    plan: SegmentPlan, store: VolumeStore, outputs: list[SlabArray], digests: tuple[str, ...], workers: Workers
) -> None:
    """The slabs that are missing, some in each task run; the time left counts these only."""
    missing = missing_slabs(store, outputs, seen_slices(plan, digests))
    progress = Progress("segment", sum(stop - start for _, start, stop in missing), "slices")
    for batch in _batches(missing):
        infer_slabs(plan, outputs, digests, batch, workers, progress.advance)


def _batches(slabs: list[Slab]) -> list[list[Slab]]:
    size = max(1, -(-len(slabs) // MOST_TASK_RUNS))
    return [slabs[k : k + size] for k in range(0, len(slabs), size)]


def _conformal_sets(plan: SegmentPlan, store: VolumeStore, mean: SlabArray, workers: Workers) -> SlabArray | None:
    if not plan.has_sets:
        return None
    sets = place_sets(plan, store, mean)
    set_slabs(plan, mean, sets, workers)
    return sets


def _instances(
    plan: SegmentPlan, store: VolumeStore, label: SlabArray, workers: Workers
) -> tuple[SlabArray | None, str | None]:
    if not plan.instances.enabled:
        return None, None
    instance = place_instances(plan, store, label)
    number_slabs(plan, label, instance, workers)
    return instance, measure_instances(plan, instance)


def _result(
    plan: SegmentPlan,
    store: VolumeStore,
    label: SlabArray,
    sets: SlabArray | None,
    instance: SlabArray | None,
    table: str | None,
) -> SegmentedVolume:
    numbered = None if instance is None else numbered_of(instance)
    left_out = []
    if sets is None:
        left_out.append(LeftOut(what="conformal_set", why=segmentation_of(plan.model).no_calibration))
    if numbered is None:
        left_out.append(LeftOut(what="instance", why="instances.enabled is off"))
    warnings = []
    if numbered is not None and any(numbered.unsplit):
        warnings.append(
            f"{sum(numbered.unsplit)} components are larger than instances.split.max_voxels and were left whole"
        )
    if plan.rings is None and plan.segment.rings.remove is None and segmentation_of(plan.model).ring_width:
        warnings.append(
            "the model learned from images without rings; none stand out here about an axis near the middle, and none "
            "were taken out"
        )
    result = SegmentedVolume(
        store=plan.path,
        model=plan.label,
        shape=plan.shape,
        arrays={array.path.split("/")[-1]: array.path for array in (label, sets, instance) if array is not None},
        class_shares=class_shares(plan, store, label),
        n_instances=None if numbered is None else numbered.total,
        instances=table,
        left_out=tuple(left_out),
        warnings=tuple(warnings),
    )
    describe_store(plan, store, finished=True)
    create_markdown_artifact(result.markdown, key="volume-summary", description=f"Segmentation of {plan.source}")
    return result
