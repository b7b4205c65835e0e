"""The opening of every scan flow: look at the source, refuse what cannot work, hold the store."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from flows.results import LeftOut, RefusedFrame, ScanResult
from tasks.errors import SourceError
from tasks.ingest import enter_frames, prepare_ingest
from tasks.settings import confine
from tasks.settings.ingest import IngestSettings
from tasks.store import FrameState, ScanRef, ScanStore, open_store
from tasks.survey import NOTHING_NEW, Survey, survey_source


def survey(source: str, store: str, settings: IngestSettings) -> tuple[Path, Survey]:
    """Survey the source against what the store holds, if anything. Writes nothing.

    The store itself as source adds no frames: what it holds is processed, though the files may be gone.
    """
    path = confine(store, "store")
    if Path(source).expanduser().resolve() == path and (path / "zarr.json").exists():
        return path, NOTHING_NEW
    held = ScanStore(path).frames if (path / "zarr.json").exists() else None
    return path, survey_source(source, held, settings.validity)


@contextmanager
def writable_scan(path: Path, found: Survey, source: str, settings: IngestSettings) -> Iterator[ScanRef]:
    """Make or open the store, hold its lock, and enter the surveyed frames.

    Raises `SourceError` where no frame can be ingested, as does `refuse_if_nothing_was_ingested` once more.
    """
    with ScanStore.writing(path):
        scan = prepare_ingest(path, found, settings)
        open_store(scan).recover()
        if found is not NOTHING_NEW:
            enter_frames(scan, found, source)
        refuse_if_nothing_was_ingested(scan)
        yield scan


def refuse_if_nothing_was_ingested(scan: ScanRef) -> None:
    """Raise `SourceError` where no frame of the source could be read, and none is left to be."""
    frames = open_store(scan).frames
    if not frames.ingested and not frames.in_state(FrameState.PENDING):
        refused = frames.in_state(FrameState.QUARANTINED)
        reasons = "\n".join(f"  {record.reason}" for record in refused[:5])
        raise SourceError(f"none of the {len(refused)} frames could be read; the first reasons:\n{reasons}")


def result_of(
    scan: ScanRef,
    found: Survey,
    left_out: tuple[LeftOut, ...] = (),
    report: str | None = None,
    inpainting: str = "",
    warnings: tuple[str, ...] = (),
    uncertainty: str = "",
) -> ScanResult:
    """What the ledger says about the scan, and what the run says besides."""
    frames = open_store(scan).frames
    refused = [*frames.in_state(FrameState.QUARANTINED), *frames.in_state(FrameState.DOUBLE)]
    return ScanResult(
        store=scan.path,
        n_frames=len(frames.ingested),
        frames_by_state=frames.counts_by_state,
        refused=tuple(RefusedFrame(file=r.file, index=r.index, state=r.state, reason=r.reason) for r in refused),
        left_out=left_out,
        warnings=(*found.warnings, *warnings),
        report=report,
        inpainting=inpainting,
        uncertainty=uncertainty,
    )
