"""Flow: all scans of a beamtime folder in one run, each into a store of its own.

A run costs about 0.2 s, more than ingesting ten frames takes; here many short scans share one. A scan that cannot be
processed stops no other.
"""

import contextvars
import logging
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor, as_completed
from pathlib import Path
from typing import Annotated, Literal

from prefect import get_run_logger
from prefect.artifacts import create_table_artifact
from prefect.task_runners import ThreadPoolTaskRunner
from pydantic import Field

from flows.batches import Progress
from flows.embedded_server import served_flow
from flows.ingest_scan import ingest_scan
from flows.process_scan import process_scan
from flows.results import BeamtimeScan, ProcessedBeamtime, ScanResult, completed
from tasks.errors import PipelineError, ScansFailedError, SourceError
from tasks.readers import file_format
from tasks.readers.names import ALLOWED
from tasks.settings import confine
from tasks.settings.ingest import IngestSettings
from tasks.settings.stages import (
    ClusterSettings,
    EncodeSettings,
    InferSettings,
    NormalizeSettings,
    StitchSettings,
    TileSettings,
    TrainSettings,
)
from tasks.watching import scans_below
from tasks.workers import Workers


@served_flow(
    name="process-beamtime", flow_run_name="beamtime {folder}", task_runner=ThreadPoolTaskRunner(max_workers=8)
)
def process_beamtime(
    folder: str,
    stores: str,
    until: Literal["ingest", "report"] = "report",
    model: str | None = None,
    ingest: IngestSettings = IngestSettings(),
    normalize: NormalizeSettings = NormalizeSettings(),
    tile: TileSettings = TileSettings(),
    train: TrainSettings = TrainSettings(),
    infer: InferSettings = InferSettings(),
    stitch: StitchSettings = StitchSettings(),
    encode: EncodeSettings = EncodeSettings(),
    cluster: ClusterSettings = ClusterSettings(),
    workers: Workers = Workers(),
    at_once: Annotated[int, Field(ge=1, le=64)] = 2,
) -> ProcessedBeamtime:
    """Process every scan of a beamtime; run again, it adds what is new and tries again what failed.

    Raises `SourceError` if there is no scan in the folder, and `ScansFailedError`, once all others are done, if a scan
    could not be processed; it lists each with its reason.

    Args:
        folder: Beamtime folder; it, and each folder in it that holds detector files, is a scan, as for watch_beamtime.
        stores: Folder for the results, one Zarr group per scan: a/b in the folder becomes a/b.zarr.
        until: 'report': everything that process_scan does. 'ingest': only frames, verified, in Zarr.
        model: As for process_scan, for all scans.
        ingest: As for process_scan, for all scans.
        normalize: As for process_scan, for all scans.
        tile: As for process_scan, for all scans.
        train: As for process_scan, for all scans.
        infer: As for process_scan, for all scans.
        stitch: As for process_scan, for all scans.
        encode: As for process_scan, for all scans.
        cluster: As for process_scan, for all scans.
        workers: As for process_scan, for all scans.
        at_once: Scans that are worked on at the same time, on the same threads: while one is opened or closed, the
            other computes. More pay where a file system is slow to answer.
    """
    results = confine(stores, "store")
    scans = scans_below(confine(folder, "source"), lambda path: file_format(path) is not None)
    if not scans:
        raise SourceError(f"no detector files in {folder!r}, nor in the folders in it. Allowed are {ALLOWED}.")

    def process(source: Path, store: Path) -> ScanResult:
        if until == "ingest":
            return ingest_scan.fn(str(source), str(store), ingest, workers)
        stages = (normalize, tile, train, infer, stitch, encode, cluster)
        return process_scan.fn(str(source), str(store), model, ingest, *stages, workers)

    places = {name: (source, results / f"{name}.zarr") for name, source in scans.items()}
    found = _processed(places, process, at_once)
    result = ProcessedBeamtime(folder=folder, stores=str(results), scans=tuple(found[name] for name in places))
    create_table_artifact(result.table, key="beamtime-scans", description=f"Scans of {folder}")
    if result.failed:
        reasons = "\n".join(f"  {scan.scan}: {scan.error}" for scan in result.failed)
        raise ScansFailedError(f"{result.sentence}. Mend the cause and run again; the others are kept:\n{reasons}")
    return completed(result)


def _processed(
    places: dict[str, tuple[Path, Path]], process: Callable[[Path, Path], ScanResult], at_once: int
) -> dict[str, BeamtimeScan]:
    """What became of each scan; a failed one is logged and stops no other."""
    progress, logger = Progress("beamtime", len(places), "scans"), get_run_logger()
    found: dict[str, BeamtimeScan] = {}
    with ThreadPoolExecutor(at_once) as pool:
        pending: dict[Future[ScanResult], str] = {
            # Each in the run's own context, in which tasks find the flow run that they belong to.
            pool.submit(contextvars.copy_context().run, process, source, store): name
            for name, (source, store) in places.items()
        }
        for future in as_completed(pending):
            name = pending[future]
            found[name] = _outcome(name, str(places[name][1]), future, logger)
            progress.advance(1)
    return found


def _outcome(
    name: str, store: str, future: Future[ScanResult], logger: "logging.Logger | logging.LoggerAdapter[logging.Logger]"
) -> BeamtimeScan:
    try:
        # A flow's function returns its final state, which holds the result.
        result = future.result().data  # type: ignore[attr-defined]
    except PipelineError as error:
        logger.error("Scan %s: %s", name, error)
        return BeamtimeScan(scan=name, store=store, error=str(error))
    except Exception as error:  # whatever it is, the scans behind it must not wait for somebody to look
        logger.exception("Scan %s could not be processed", name)
        return BeamtimeScan(scan=name, store=store, error=f"{type(error).__name__}: {error}")
    return BeamtimeScan(scan=name, store=store, frames_by_state=result.frames_by_state, report=result.report)
