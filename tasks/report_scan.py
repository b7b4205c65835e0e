"""Report: collect from the store what a person wants to see of a scan, and write it as one HTML file."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from dlsia_core.resize import AreaResizer
from tasks.logs import logger_of
from tasks.model_trust import uncertainty_of
from tasks.models import ModelRef, network_of
from tasks.report import (
    FramePair,
    LatentMap,
    LossCurve,
    QuarantinedFrame,
    ReportContent,
    StageFacts,
    Sureness,
    frames_with_thumbnail,
    summary_markdown,
    throughput_rows,
    write_report,
)
from tasks.stage import RunPlan, StageRun, stage_task
from tasks.store import ArrayRef, FrameState, ScanStore, open_store
from tasks.survey import Survey

PACKAGES = ("dlsia-flows", "prefect", "dask", "zarr", "torch", "numpy", "fabio", "umap-learn", "scikit-learn")
PAIRS_SHOWN = 4
THUMBNAIL = (48, 48)


@dataclass(frozen=True)
class ScanResults:
    """The arrays and models of one run, and what was done for them."""

    normalized: ArrayRef
    inpainted: ArrayRef
    provenance: ArrayRef
    latent_map: tuple[ArrayRef, ArrayRef] | None
    models: tuple[ModelRef, ...]
    runs: tuple[StageRun, ...]
    left_out: tuple[tuple[str, str], ...]
    inpainting: str = ""
    """The model that filled the gaps, and why it was taken."""
    warnings: tuple[str, ...] = ()
    uncertainty: ArrayRef | None = None
    unfamiliar: int = 0
    """Frames unlike those that the model knows."""


@dataclass(frozen=True)
class WrittenReport:
    """The report's path, and the same facts in short for Prefect artifacts."""

    path: str
    summary: str
    throughput: list[dict[str, Any]]


@stage_task("report")
def write_scan_report(plan: RunPlan, source: str, results: ScanResults, survey: Survey) -> WrittenReport:
    """Write the report beside the store."""
    content = collect(plan, source, results, survey)
    path = report_path(plan, results.inpainted)
    write_report(content, path)
    logger_of(__name__).info("report: %s", path)
    return WrittenReport(str(path), summary_markdown(content), throughput_rows(content))


def report_path(plan: RunPlan, inpainted: ArrayRef) -> Path:
    """`scan.report.html` beside `scan.zarr`; results of other settings have the group's name in it."""
    store = Path(plan.scan.path)
    group = inpainted.path.removesuffix("inpainted").rstrip("/")
    return store.with_name(".".join(filter(None, [store.name.removesuffix(".zarr"), group, "report.html"])))


def collect(plan: RunPlan, source: str, results: ScanResults, survey: Survey) -> ReportContent:
    """Everything that the report shows, read from the store."""
    store = open_store(plan.scan)
    doubles = [f"{r.file} is left out: {r.reason}" for r in store.frames.in_state(FrameState.DOUBLE)]
    return ReportContent(
        scan_name=store.path.name.removesuffix(".zarr"),
        source=source,
        store_path=str(store.path),
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        versions={package: version(package) for package in PACKAGES},
        settings={"ingest": store.attributes.get("ingest", {}), **_by_stage(plan.settings)},
        stages=stage_facts(results.runs, results.left_out),
        frames=store.frames.counts_by_state,
        quarantined=[
            QuarantinedFrame(record.file, record.reason, record.size_bytes)
            for record in store.frames.in_state(FrameState.QUARANTINED)
        ],
        warnings=[*survey.warnings, *results.warnings, *doubles],
        inpainting=results.inpainting,
        numbering_holes=numbering_holes([int(number) for number in store.read("frame_number", 0, store.n_frames)]),
        pictures=_pictures(store, results),
        curves=[curve for model in results.models for curve in _curves(model)],
        inpainting_quality=[
            {"method": row["method"], **row}
            for model in results.models
            for row in network_of(model)[1].get("quality", [])
        ],
        sureness=_sureness(results),
        unfamiliar=results.unfamiliar,
        latent=_latent_map(store, results),
        left_out=results.left_out,
        group=results.inpainted.path.removesuffix("inpainted").rstrip("/"),
    )


def _by_stage(settings: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return {key: value if isinstance(value, dict) else {"folder": value} for key, value in settings.items()}


def stage_facts(runs: Sequence[StageRun], left_out: Sequence[tuple[str, str]]) -> list[StageFacts]:
    """Sum up the task runs of each stage, in the order in which stages first ran."""
    facts = []
    for name in dict.fromkeys(run.stage for run in runs):
        mine = [run for run in runs if run.stage == name]
        computed, seconds = sum(run.computed_frames for run in mine), sum(run.seconds for run in mine)
        facts.append(
            StageFacts(
                name=name,
                state="done" if computed else "reused",
                n_frames=sum(len(run.frames) for run in mine),
                seconds=seconds,
                frames_per_second=computed / seconds if computed and seconds else None,
                bytes_written=sum(run.bytes_written for run in mine),
                reason="" if computed else "found finished in the store",
            )
        )
    return facts + [StageFacts(name=name, state="left out", n_frames=0, reason=why) for name, why in left_out]


def numbering_holes(numbers: Sequence[int]) -> str:
    """Say which numbers are missing between the first and the last.

    >>> numbering_holes([5, 6, 10, 9])
    'numbers 7-8 are missing between 5 and 10'
    >>> numbering_holes([1, 2, 3]), numbering_holes([-1, -1])
    ('', '')
    """
    known = sorted({number for number in numbers if number >= 0})
    holes = [(a + 1, b - 1) for a, b in pairwise(known) if b - a > 1]
    if not holes:
        return ""
    listed = ", ".join(str(a) if a == b else f"{a}-{b}" for a, b in holes[:20])
    more = f" and {len(holes) - 20} more ranges" if len(holes) > 20 else ""
    return f"numbers {listed}{more} are missing between {known[0]} and {known[-1]}"


def _pictures(store: ScanStore, results: ScanResults) -> list[FramePair]:
    rows = np.unique(np.linspace(0, store.n_frames - 1, PAIRS_SHOWN).round().astype(int))
    names = store.array("frame_name")
    refs = [results.normalized, results.inpainted, results.provenance, results.uncertainty]
    return [
        FramePair(
            str(names[int(row)]), *(store.read(ref.path, int(row), int(row) + 1)[0] for ref in refs if ref is not None)
        )
        for row in rows
    ]


def _sureness(results: ScanResults) -> Sureness | None:
    """What is known of the errors; nothing where nothing was filled in."""
    known = [uncertainty_of(model) for model in results.models if "uncertainty" in network_of(model)[1]]
    if not known:
        return None
    found = known[0]
    measured = None if found.measured is None else asdict(found.measured)
    return Sureness(found.coverage, found.frames, measured, found.reason)


def _curves(model: ModelRef) -> list[LossCurve]:
    curve = network_of(model)[1].get("curve")
    return [LossCurve(**curve)] if curve else []


def _latent_map(store: ScanStore, results: ScanResults) -> LatentMap | None:
    if results.latent_map is None:
        return None
    coordinates, cluster = (store.read(ref.path, 0, store.n_frames) for ref in results.latent_map)
    shown = frames_with_thumbnail(store.n_frames)
    return LatentMap(
        coordinates=coordinates,
        cluster=cluster,
        frame_names=[str(name) for name in store.read("frame_name", 0, store.n_frames)],
        frame_numbers=store.read("frame_number", 0, store.n_frames),
        thumbnails=np.stack([_thumbnail(store, results.inpainted.path, int(row)) for row in shown]),
        thumbnail_of=shown,
    )


def _thumbnail(store: ScanStore, path: str, row: int) -> npt.NDArray[np.float32]:
    frame = store.read(path, row, row + 1)[0]
    shape = (min(THUMBNAIL[0], frame.shape[0]), min(THUMBNAIL[1], frame.shape[1]))
    values, _ = AreaResizer(frame.shape, shape, 0.1).resize(np.nan_to_num(frame), np.isfinite(frame))
    return values
