"""Where the frames of a study come from: detector files, to be ingested and normalized, or a store that has them."""

from dataclasses import dataclass
from pathlib import Path

from prefect.futures import PrefectFuture

from flows.batches import gather, ingested_batches
from flows.opening import refuse_if_nothing_was_ingested, survey, writable_scan
from tasks.errors import SettingsError
from tasks.ingest import counts_ref, valid_ref
from tasks.normalize import normalize_batch, place_normalized
from tasks.normalized_frames import NormalizedFrames, frames_of_store
from tasks.settings import confine
from tasks.settings.ingest import IngestSettings
from tasks.settings.stages import NormalizeSettings
from tasks.stage import RunPlan, StageRun
from tasks.store import ScanRef, ScanStore
from tasks.survey import Survey
from tasks.validity import refuse_other_rule
from tasks.workers import Workers

STORE = "frames.zarr"
"""Name of the store, in the output folder, that detector files are ingested into."""


@dataclass(frozen=True)
class FrameSource:
    """A source that has been looked at; nothing is written before `frames` is called.

    shape: rows and columns of a normalized frame, None where only the files that are still to be read tell.
    warnings: what the survey of detector files found.
    """

    source: str
    shape: tuple[int, int] | None
    ingest: IngestSettings
    normalize: NormalizeSettings
    found: Survey | NormalizedFrames
    path: Path

    @property
    def warnings(self) -> tuple[str, ...]:
        return self.found.warnings if isinstance(self.found, Survey) else ()

    def frames(self, workers: Workers) -> NormalizedFrames:
        """The normalized frames; those of detector files are ingested and normalized first, as far as is left to do."""
        if isinstance(self.found, NormalizedFrames):
            return self.found
        with writable_scan(self.path, self.found, self.source, self.ingest) as scan:
            plan = RunPlan(scan, {"normalize": self.normalize.model_dump(mode="json")})
            counts, valid = counts_ref(scan), valid_ref(scan, self.ingest)
            normalized = place_normalized(plan, counts, valid, self.normalize)
            submitted: list[PrefectFuture[StageRun]] = []
            try:
                for run in ingested_batches(scan, self.ingest, workers):
                    batch = (run.frames, counts, valid, normalized, self.normalize, workers)
                    submitted.append(normalize_batch.submit(*batch))
            finally:
                gather(submitted)
            refuse_if_nothing_was_ingested(scan)
            return frames_of_store(scan, self.normalize)


def frame_source(source: str, folder: Path, ingest: IngestSettings, normalize: NormalizeSettings | None) -> FrameSource:
    """Look at a source: a store made by process_scan, or detector files, to be ingested into a store in `folder`.

    normalize: None = what the store's first normalized frames are, or the defaults for detector files.
    Raises `SourceError` for files that cannot be used, `SettingsError` for a store without such normalized frames.
    """
    path = confine(source, "source")
    if (path / "zarr.json").exists():
        if ingest != IngestSettings():
            raise SettingsError(f"ingest is given, and {source!r} is a store, whose frames are ingested; leave it out")
        ScanStore(path)  # refuses what is no scan
        held = frames_of_store(ScanRef(str(path)), normalize)
        return FrameSource(source, held.shape, ingest, normalize or NormalizeSettings(), held, path)
    normalize = normalize or NormalizeSettings()
    refuse_other_rule(folder / STORE, ingest)
    store, found = survey(source, str(folder / STORE), ingest)
    return FrameSource(source, normalize.shape or found.shape, ingest, normalize, found, store)
