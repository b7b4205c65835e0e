"""Second exposures of a source: detector files, ingested as they are, or a store that holds them."""

from dataclasses import dataclass
from pathlib import Path

from flows.batches import ingested_batches
from flows.opening import refuse_if_nothing_was_ingested, survey, writable_scan
from tasks.settings import confine
from tasks.settings.ingest import IngestSettings
from tasks.store import ScanRef, ScanStore
from tasks.survey import Survey
from tasks.validity import refuse_other_rule
from tasks.workers import Workers

STORE = "second.zarr"
"""Name of the store, in the output folder, that second exposures are ingested into."""


@dataclass(frozen=True)
class ExposureSource:
    """Second exposures that have been looked at; nothing is written before `scan` is called.

    shape: (y, x) of the frames, None where the store is still empty and no new frame is readable.
    """

    source: str
    shape: tuple[int, int] | None
    ingest: IngestSettings
    found: Survey | None
    path: Path

    @property
    def warnings(self) -> tuple[str, ...]:
        return self.found.warnings if self.found else ()

    def scan(self, workers: Workers) -> ScanRef:
        """The store that holds the frames; detector files are ingested first, as far as is left to do."""
        if self.found is None:
            return ScanRef(str(self.path))
        with writable_scan(self.path, self.found, self.source, self.ingest) as scan:
            for _ in ingested_batches(scan, self.ingest, workers):
                pass
            refuse_if_nothing_was_ingested(scan)
            return scan


def exposure_source(source: str, folder: Path, ingest: IngestSettings) -> ExposureSource:
    """Look at second exposures: a store with `counts` and `valid`, or detector files. Raises `SourceError`."""
    path = confine(source, "source")
    if (path / "zarr.json").exists():
        held = ScanStore(path).attributes.get("frame_shape")
        return ExposureSource(source, tuple(held) if held else None, ingest, None, path)
    refuse_other_rule(folder / STORE, ingest)
    store, found = survey(source, str(folder / STORE), ingest)
    return ExposureSource(source, found.shape, ingest, found, store)
