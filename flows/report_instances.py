"""Flow: describe the instances of a segmented volume as a whole: lengths, directions, autocorrelation on a sphere."""

from pathlib import Path

from prefect.artifacts import create_markdown_artifact, create_table_artifact
from pydantic import Field

from flows.embedded_server import served_flow
from flows.results import completed
from tasks.errors import StoreError
from tasks.report_instances import TRUTH_COLUMN, read_truth
from tasks.segmenting.describe import describe_instances
from tasks.segmenting.slabs import SlabArray
from tasks.settings import Settings, confine
from tasks.store import VolumeStore


class DescribedInstances(Settings):
    """What instances are like as a whole."""

    store: str
    sentence: str = Field(description="The result in one line.")
    figures: dict[str, str | float] = Field(description="What the report tells in numbers.")
    report: str = Field(description="The HTML report.")


@served_flow(name="report-instances", flow_run_name="instances of {store}")
def report_instances(
    store: str, array: str = "instance", radius: int = 30, truth: str | None = None, truth_column: str = TRUTH_COLUMN
) -> DescribedInstances:
    """Describe what segment_volume found, against a truth where there is one.

    Args:
        store: Store made by segment_volume.
        array: Array of instances in it; others than the first have the name of their settings' group before theirs.
        radius: Radius of the sphere on which the autocorrelation is shown, in voxels.
        truth: CSV file with known lengths in voxels, like fibres.csv of a simulated volume. Empty: none are known.
        truth_column: Column of that file.
    """
    known = None if truth is None else str(confine(truth, "source"))
    if known is not None:
        read_truth(Path(known), truth_column)  # what is wrong with it shows before minutes of work
    described = describe_instances(_finished(confine(store, "store"), array), radius, known, truth_column)
    figures = {row["figure"]: row["value"] for row in described.figures}
    create_markdown_artifact(f"# {described.verdict}\n", key="instances-summary", description=f"Instances of {store}")
    create_table_artifact(list(described.figures), key="instances-table", description=f"Instances of {store}")
    return completed(
        DescribedInstances(store=store, sentence=described.verdict, figures=figures, report=described.report)
    )


def _finished(path: Path, array: str) -> SlabArray:
    store = VolumeStore(path)
    if array not in store or "instances" not in store.array(array).attrs:
        raise StoreError(
            f"{path} has no array of instances named {array!r}; it holds {', '.join(store.arrays()) or 'none'}; run "
            "segment_volume with instances.enabled first"
        )
    records = [store.slabs.get(array, slab) for slab, _, _ in store.slab_ranges()]
    if missing := sum(record is None or not record.sha256 for record in records):
        raise StoreError(
            f"{missing} of {len(records)} slabs of {array!r} in {path} are missing; let segment_volume end first"
        )
    return SlabArray(str(path), array, str(store.array(array).attrs["lineage"]))
