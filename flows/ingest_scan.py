"""Flow: detector files into Zarr, verified, and nothing else."""

from flows.batches import ingested_batches
from flows.embedded_server import served_flow
from flows.opening import refuse_if_nothing_was_ingested, result_of, survey, writable_scan
from flows.results import ScanResult, completed
from tasks.ingest import counts_ref
from tasks.settings.ingest import IngestSettings
from tasks.stage import RunPlan
from tasks.validity import other_rule, place_valid, validity_batch
from tasks.workers import Workers


@served_flow(name="ingest-scan", flow_run_name="ingest {source}")
def ingest_scan(
    source: str,
    store: str,
    ingest: IngestSettings = IngestSettings(),
    workers: Workers = Workers(),
) -> ScanResult:
    """Write the frames of a scan to `counts` and `valid` of a Zarr store; run again, it adds what is new.

    Args:
        source: Folder, file or glob of detector files: CBF, TIFF, EDF (also .gz and .bz2), EIGER or NeXus HDF5.
        store: Folder of the scan store, as in /data/results/scan.zarr; made if it is not there.
        ingest: How files become arrays.
        workers: Where shards are computed.
    """
    path, found = survey(source, store, ingest)
    with writable_scan(path, found, source, ingest) as scan:
        plan = RunPlan(scan, other_rule(scan, ingest))
        counts = counts_ref(scan)
        valid = place_valid(plan, counts, ingest)
        for run in ingested_batches(scan, ingest, workers):
            if plan.settings:
                validity_batch(run.frames, counts, valid, ingest.validity, workers)
        refuse_if_nothing_was_ingested(scan)
        return completed(result_of(scan, found))
