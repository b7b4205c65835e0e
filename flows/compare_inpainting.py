"""Flow: how well methods fill gaps, on frames whose truth is known; Table 1 of Chavez et al. 2022 on any frames."""

from collections.abc import Sequence
from typing import Any

from prefect.artifacts import create_markdown_artifact, create_table_artifact
from prefect.futures import PrefectFuture
from prefect.task_runners import ThreadPoolTaskRunner
from pydantic import Field

from flows.batches import Progress, batches_of, gather
from flows.embedded_server import served_flow
from flows.results import completed
from flows.second_exposures import ExposureSource, exposure_source
from flows.sources import FrameSource, frame_source
from tasks.compare import compare_batch
from tasks.compare_book import LOCK
from tasks.compare_plan import (
    ComparedModel,
    Comparison,
    check_second_shape,
    compared_models,
    planned_comparison,
)
from tasks.compare_results import findings
from tasks.normalized_frames import NormalizedFrames
from tasks.report_comparison import write_comparison
from tasks.settings import Settings, confine
from tasks.settings.comparison import CompareSettings
from tasks.settings.ingest import IngestSettings
from tasks.settings.stages import NormalizeSettings
from tasks.stage import StageRun
from tasks.store.lock import writer_lock
from tasks.workers import Workers


class ComparedMethods(Settings):
    """What a comparison found."""

    output: str
    n_frames: int = Field(description="Frames on which the methods were judged.")
    verdict: str
    table: tuple[dict[str, Any], ...] = Field(description="The rows of results.csv.")
    refused_pairs: tuple[str, ...] = Field(description="Pairs of exposures that were refused, and why.")
    warnings: tuple[str, ...] = ()
    results: str = Field(description="results.csv.")
    report: str = Field(description="The HTML report.")

    @property
    def sentence(self) -> str:
        """The result in one line."""
        refused = f"; {len(self.refused_pairs)} pairs of exposures refused" if self.refused_pairs else ""
        return f"{self.verdict}; {self.n_frames} frames{refused}"


@served_flow(
    name="compare-inpainting", flow_run_name="compare on {source}", task_runner=ThreadPoolTaskRunner(max_workers=2)
)
def compare_inpainting(
    source: str,
    output: str,
    models: Sequence[str] = (),
    second_exposure: str | None = None,
    compare: CompareSettings = CompareSettings(),
    ingest: IngestSettings = IngestSettings(),
    normalize: NormalizeSettings | None = None,
    workers: Workers = Workers(),
) -> ComparedMethods:
    """Compare methods that fill gaps; run again, it goes on where it was, and adds models without repeating others.

    Args:
        source: Folder, file or glob of detector files, or a store made by process_scan, whose `normalized` is used.
        output: Folder for results.csv, report.html and what else the comparison writes.
        models: Trained models: a name, name:version, or a folder, with a slash in it. None: classical methods only.
        second_exposure: The same frames taken with the detector moved, as files or a store; they hold the truth of
            horizontal gaps. Empty: artificial vertical gaps only.
        compare: What is compared, on which frames, and how sure the figures are to be.
        ingest: How detector files become counts and valid.
        normalize: How counts are resized and scaled. Empty: the store's first, or the defaults for detector files.
        workers: Where frames are computed.
    """
    folder = confine(output, "store")
    found = frame_source(source, folder, ingest, normalize)
    second = exposure_source(second_exposure, folder, ingest) if second_exposure else None
    checked = check_models(found, second, models, compare)
    with writer_lock(folder / LOCK):
        frames = found.frames(workers)
        exposures = second.scan(workers) if second else None
        plan, notes = planned_comparison(folder, source, frames, exposures, checked, compare)
        runs = _compare(plan, workers)
        scores = findings(plan)
        warnings = (*found.warnings, *(second.warnings if second else ()))
        settings = {"compare": compare.model_dump(mode="json"), "normalize": frames.facts["normalize"]}
        written = write_comparison(scores, source, second_exposure, notes, warnings, runs, settings)
    create_markdown_artifact(written.summary, key="comparison-summary", description=f"Comparison in {folder}")
    create_table_artifact(written.table, key="comparison-table", description=f"Table 1 on {source}")
    return completed(
        ComparedMethods(
            output=str(folder),
            n_frames=len(plan.rows),
            verdict=written.verdict,
            table=tuple(written.table),
            refused_pairs=tuple(f"{p.frame} and {p.second}: {p.refused}" for p in scores.pairs if p.refused),
            warnings=(*notes, *warnings),
            results=written.results,
            report=written.report,
        )
    )


def check_models(
    found: FrameSource, second: ExposureSource | None, models: Sequence[str], compare: CompareSettings
) -> tuple[ComparedModel, ...]:
    """Refuse, before anything is written, what cannot work."""
    if isinstance(found.found, NormalizedFrames):
        scale, (rows, columns) = found.found.facts["scale"], found.found.facts["detector"]["frame_shape"]
        frame_shape: tuple[int, int] | None = (rows, columns)
    else:
        scale, frame_shape = found.normalize.intensity_scale().to_dict(), found.found.shape
    if second and second.shape and frame_shape:
        check_second_shape(frame_shape, second.shape)
    return compared_models(models, scale, found.shape, compare)


def _compare(plan: Comparison, workers: Workers) -> list[StageRun]:
    """Score the frames in batches; two are under way, so that networks wait for no classical method."""
    progress = Progress("compare", len(plan.rows))
    submitted: list[PrefectFuture[StageRun]] = [
        compare_batch.submit(places, plan, workers) for places in batches_of(len(plan.rows), plan.settings.batch_frames)
    ]
    return gather(submitted, progress)
