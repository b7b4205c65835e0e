"""Flow: whether inpainting keeps frames neighbors in latent space that resemble each other; Fig. 10 of paper (b)."""

from collections.abc import Sequence
from typing import Any

from prefect.artifacts import create_markdown_artifact, create_table_artifact
from prefect.futures import PrefectFuture
from prefect.task_runners import ThreadPoolTaskRunner
from pydantic import Field

from flows.batches import Progress, batches_of, gather
from flows.compare_inpainting import check_models
from flows.embedded_server import served_flow
from flows.results import completed
from flows.second_exposures import exposure_source
from flows.sources import frame_source
from tasks.compare_plan import NO_SECOND_EXPOSURES, planned_comparison
from tasks.errors import SettingsError
from tasks.report_study import study_findings, write_study
from tasks.settings import Settings, confine
from tasks.settings.ingest import IngestSettings
from tasks.settings.stages import NormalizeSettings
from tasks.settings.study import StudySettings
from tasks.stage import StageRun
from tasks.store.lock import writer_lock
from tasks.study_frames import StudiedFrames, Study, studied_frames, study_batch
from tasks.study_space import study_space
from tasks.workers import Workers

LOCK = "study/lock"


class StudiedSpaces(Settings):
    """What a study found."""

    output: str
    n_frames: int
    neighbors: int = Field(description="Neighbors of each frame that were looked at.")
    verdict: str
    table: tuple[dict[str, Any], ...] = Field(description="The rows of neighbors.csv.")
    warnings: tuple[str, ...] = ()
    results: str = Field(description="neighbors.csv.")
    report: str = Field(description="The HTML report.")

    @property
    def sentence(self) -> str:
        """The result in one line."""
        return f"{self.verdict}; {self.n_frames} frames"


@served_flow(
    name="study-latent-space", flow_run_name="study of {source}", task_runner=ThreadPoolTaskRunner(max_workers=2)
)
def study_latent_space(
    source: str,
    output: str,
    models: Sequence[str] = (),
    second_exposure: str | None = None,
    study: StudySettings = StudySettings(),
    ingest: IngestSettings = IngestSettings(),
    normalize: NormalizeSettings | None = None,
    workers: Workers = Workers(),
) -> StudiedSpaces:
    """Compare the latent spaces of masked, true and inpainted frames; run again, it goes on where it was.

    Args:
        source: Folder, file or glob of detector files, or a store made by process_scan, whose `normalized` is used.
        output: Folder for neighbors.csv, report.html and what else the study writes; about 1 MiB for a frame.
        models: Trained models: a name, name:version, or a folder, with a slash in it. None: linear interpolation.
        second_exposure: The same frames taken with the detector moved, as files or a store; they show the truth in
            horizontal gaps. Empty: artificial gaps over measured pixels.
        study: Which frames are studied, the autoencoder, and how neighbors are counted.
        ingest: How detector files become counts and valid.
        normalize: How counts are resized and scaled. Empty: the store's first, or the defaults for detector files.
        workers: Where frames are computed.
    """
    folder = confine(output, "store")
    found = frame_source(source, folder, ingest, normalize)
    second = exposure_source(second_exposure, folder, ingest) if second_exposure else None
    checked = check_models(found, second, models, study.compare)
    with writer_lock(folder / LOCK):
        frames = found.frames(workers)
        exposures = second.scan(workers) if second else None
        comparison, notes = planned_comparison(folder, source, frames, exposures, checked, study.compare)
        plan = Study(comparison, study)
        kinds = _kinds(plan)
        latent = {space: study_space(plan, kinds, space) for space in plan.spaces}
        findings = study_findings(plan, kinds, latent)
        heard = [note for note in notes if note != NO_SECOND_EXPOSURES]  # the page says what a study does then
        warnings = (*_said(plan, kinds, findings.n_neighbors), *heard, *found.warnings)
        warnings += second.warnings if second else ()
        written = write_study(plan, source, kinds, findings, warnings)
    create_markdown_artifact(f"# {written.verdict}\n", key="study-summary", description=f"Latent spaces of {source}")
    create_table_artifact(list(written.table), key="study-table", description=f"Neighbors kept on {source}")
    return completed(
        StudiedSpaces(
            output=str(folder),
            n_frames=len(kinds.rows),
            neighbors=findings.n_neighbors,
            verdict=written.verdict,
            table=written.table,
            warnings=warnings,
            results=written.results,
            report=written.report,
        )
    )


def _kinds(plan: Study) -> StudiedFrames:
    """All frames in all kinds, made in batches as far as they are missing."""
    batches = batches_of(len(plan.rows), plan.settings.batch_frames)
    submitted: list[PrefectFuture[StageRun]] = [study_batch.submit(batch, plan) for batch in batches]
    gather(submitted, Progress("study-frames", len(plan.rows)))
    kinds = studied_frames(plan, batches) if batches else None
    if kinds is None or len(kinds.rows) < 3:
        raise SettingsError(
            f"{0 if kinds is None else len(kinds.rows)} frames of {plan.comparison.frames.normalized.scan.path} have a "
            "truth, and neighbors need at least 3; give more frames, or other second exposures"
        )
    return kinds


def _said(plan: Study, kinds: StudiedFrames, n_neighbors: int) -> tuple[str, ...]:
    """What people must know of frames and neighbors."""
    said = []
    if n_neighbors < plan.settings.neighbors:
        said.append(
            f"{n_neighbors} neighbors are looked at, not {plan.settings.neighbors} (study.neighbors): there are "
            f"{len(kinds.rows)} frames only."
        )
    if left_out := len(plan.comparison.rows) - len(kinds.rows):
        said.append(f"{left_out} of {len(plan.comparison.rows)} frames have no truth in their gaps and are left out.")
    return tuple(said)
