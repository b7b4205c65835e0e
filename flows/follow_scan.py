"""Flow: follow a scan while it grows, then process it to its end."""

import glob
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

from prefect.task_runners import ThreadPoolTaskRunner
from pydantic import Field

from flows.batches import ingested_batches
from flows.embedded_server import served_flow
from flows.live_artifact import LiveArtifact
from flows.opening import refuse_if_nothing_was_ingested, result_of, survey, writable_scan
from flows.process_scan import process_scan
from flows.results import ScanResult, completed
from tasks.errors import SourceError
from tasks.follow import Follower, Latency, follow_batch
from tasks.following import Arrived, GrowingScan, present_files
from tasks.ingest import counts_ref, valid_ref
from tasks.live_inpainting import LiveInpainting
from tasks.live_view import LiveView
from tasks.model_registry import named_model
from tasks.normalize import normalize_batch, place_normalized
from tasks.planning import StageSettings, check_settings
from tasks.readers import check_rule, peek_file
from tasks.report.document import write_document
from tasks.report.live_page import ended_page
from tasks.settings import Settings, confine
from tasks.settings.follow import FollowSettings
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
from tasks.stage import RunPlan
from tasks.store import FrameRecord, FrameState, ScanRef, ScanStore
from tasks.survey import Survey
from tasks.workers import Workers


class FollowResult(Settings):
    """What became of a scan that was followed, and how far behind the detector the run was."""

    scan: ScanResult
    followed_frames: int = Field(description="Frames that were taken while the scan grew.")
    seconds: float
    largest_backlog: int = Field(description="Most frames that were complete, and not in the store.")
    late_frames: int = Field(description="Files that came after one of a higher number was taken; they are last.")
    in_store: dict[str, float] | None = Field(description="Seconds from last byte to store: median and worst.")
    on_map: dict[str, float] | None = Field(description="Seconds from last byte to the live map: median and worst.")
    live_page: str

    @property
    def sentence(self) -> str:
        """The result in one line."""
        said = [self.scan.sentence, f"{self.followed_frames} taken while the scan grew"]
        if self.in_store:
            said.append(f"in the store after {self.in_store['median_s']:.1f} s, at most {self.in_store['worst_s']:.1f}")
        return "; ".join(said)


@served_flow(name="follow-scan", flow_run_name="follow {source}", task_runner=ThreadPoolTaskRunner(max_workers=4))
def follow_scan(
    source: str,
    store: str,
    model: str | None = None,
    follow: FollowSettings = FollowSettings(),
    process: bool = True,
    ingest: IngestSettings = IngestSettings(),
    normalize: NormalizeSettings = NormalizeSettings(),
    tile: TileSettings = TileSettings(),
    train: TrainSettings = TrainSettings(),
    infer: InferSettings = InferSettings(),
    stitch: StitchSettings = StitchSettings(),
    encode: EncodeSettings = EncodeSettings(),
    cluster: ClusterSettings = ClusterSettings(),
    workers: Workers = Workers(),
) -> FollowResult:
    """Take the frames of a scan while it grows; the store ends as if process_scan had run on the finished scan.

    Args:
        source: Folder or glob that detector files are being written to; the folder must be there, files may come.
        store: Folder of the scan store, as in /data/results/scan.zarr; made if it is not there.
        model: Trained inpainting model, as for process_scan. Given: frames are inpainted while the scan grows, too.
        follow: When frames are taken, and when the scan has ended.
        process: Process the scan to its end when it has ended: model, inpainting, map, report. Off: only ingest and
            normalize, where process_scan comes later anyway.
        ingest: How detector files become counts and valid.
        normalize: How counts are resized and scaled.
        tile: How frames are cut into tiles.
        train: How a model is trained where none is given.
        infer: How tiles go through the network.
        stitch: How predictions become frames again.
        encode: How frames become latent vectors.
        cluster: How latent vectors become a map and clusters.
        workers: Where shards are computed.
    """
    started = time.monotonic()
    stages = StageSettings(normalize, tile, train, infer, stitch, encode, cluster)
    path, growing, first = _first_frames(source, store, follow, ingest)
    check_settings(stages, path, first.found, None if model is None else named_model(model).folder)
    with writable_scan(path, first.found, source, ingest) as scan:
        with _following(scan, growing, model, stages, ingest, follow, workers) as follower:
            follower.wait_for(first.arrived)
            taken_before = follower.n_frames
            while not follow_batch(follower, ingest.batch_frames).has_ended:
                pass
        followed_frames = follower.n_frames - taken_before
    if process:
        result = process_scan(
            source, store, model, ingest, normalize, tile, train, infer, stitch, encode, cluster, workers
        )
        _lead_to_report(path, result)
    else:
        result = _take_the_rest(path, source, ingest, normalize, workers)
    in_store, on_map = Latency.of(follower.in_store_s), Latency.of(follower.on_map_s)
    return completed(
        FollowResult(
            scan=result,
            followed_frames=followed_frames,
            seconds=round(time.monotonic() - started, 3),
            largest_backlog=follower.largest_backlog,
            late_frames=growing.late,
            in_store=in_store and asdict(in_store),
            on_map=on_map and asdict(on_map),
            live_page=str(_live_page(path)),
        )
    )


@dataclass(frozen=True)
class _First:
    """The first files of a scan, as a survey of the source; nothing where the store knows the scan already."""

    found: Survey
    arrived: list[Arrived]


def _first_frames(
    source: str, store: str, follow: FollowSettings, ingest: IngestSettings
) -> tuple[Path, GrowingScan, _First]:
    """Wait for the first complete frame. Raises `SourceError` where none comes."""
    check_rule(ingest.validity)
    path = confine(store, "store")
    _refuse_missing(source)
    held = ScanStore(path) if (path / "zarr.json").exists() else None
    # Refused ones too: if they have changed since, the survey at the end tries them again.
    known = [Path(record.file) for record in held.frames.all()] if held else []
    growing = GrowingScan(lambda: present_files(source), peek_file, known, follow)
    arrived: list[Arrived] = []
    if held is None or "frame_shape" not in held.attributes:
        give_up_at = time.monotonic() + follow.first_frame_s
        while not (arrived := growing.look(time.monotonic())):
            if time.monotonic() > give_up_at:
                raise SourceError(
                    f"no complete frame in {source!r} for {follow.first_frame_s:g} s (follow.first_frame_s); "
                    "give the folder that the detector writes to, or wait longer"
                )
            time.sleep(follow.poll_s)
    return path, growing, _First(_survey_of(arrived[:1], ingest), arrived[1:])


def _refuse_missing(source: str) -> None:
    confine(source, "source")
    if not glob.has_magic(source) and not Path(source).expanduser().exists():
        raise SourceError(f"no such folder: {source!r}; make it before it is followed, or give a quoted glob")


def _survey_of(arrived: list[Arrived], ingest: IngestSettings) -> Survey:
    """What a survey says of files that have been looked at; the ledger gets its first frames from it."""
    if not arrived:
        return Survey((), None, None, 0)
    peek = arrived[0].peek
    check_rule(ingest.validity, peek.shape)
    new = [
        FrameRecord(str(peek.path), index, FrameState.PENDING, peek.size_bytes, peek.mtime_ns)
        for index in range(peek.n_frames)
    ]
    return Survey(new, peek.shape, peek.dtype, 1, (peek.detector,) if peek.detector else ())


@contextmanager
def _following(
    scan: ScanRef,
    growing: GrowingScan,
    model: str | None,
    stages: StageSettings,
    ingest: IngestSettings,
    follow: FollowSettings,
    workers: Workers,
) -> Iterator[Follower]:
    """What takes the frames, draws the map and, with a given model, inpaints; the last picture is drawn at the end."""
    given = None if model is None else named_model(model)
    plan = RunPlan(scan, {"model": given and given.label, **stages.to_dict()})
    normalized = place_normalized(plan, counts_ref(scan), valid_ref(scan, ingest), stages.normalize)
    shown = LiveArtifact("live-map", f"Live map of {scan.path}")
    view = LiveView(normalized, _live_page(Path(scan.path)), follow, stages.cluster, shown.show)
    inpainting = None if given is None else LiveInpainting(plan, normalized, stages, given, workers)
    follower = Follower(growing, normalized, (follow, ingest, stages.normalize), workers, view, inpainting)
    try:
        yield follower
    finally:
        follower.close()


def _live_page(store: Path) -> Path:
    """`scan.live.html` beside `scan.zarr`."""
    return store.with_name(f"{store.name.removesuffix('.zarr')}.live.html")


def _lead_to_report(path: Path, result: ScanResult) -> None:
    """The live page gives way to the report."""
    if result.report is not None:
        write_document(ended_page(path.name.removesuffix(".zarr"), Path(result.report).name), _live_page(path))


def _take_the_rest(
    path: Path, source: str, ingest: IngestSettings, normalize: NormalizeSettings, workers: Workers
) -> ScanResult:
    """Survey the finished scan: enter what was refused or came double, take what is left."""
    path, found = survey(source, str(path), ingest)
    with writable_scan(path, found, source, ingest) as scan:
        plan = RunPlan(scan, {"normalize": normalize.model_dump(mode="json")})
        counts, valid = counts_ref(scan), valid_ref(scan, ingest)
        normalized = place_normalized(plan, counts, valid, normalize)
        for run in ingested_batches(scan, ingest, workers):
            normalize_batch(run.frames, counts, valid, normalized, normalize, workers)
        refuse_if_nothing_was_ingested(scan)
        return result_of(scan, found)
