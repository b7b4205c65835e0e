"""Flow: one scan, from detector files to inpainted frames, a latent map and a report."""

from dataclasses import dataclass

from prefect.artifacts import create_markdown_artifact, create_table_artifact
from prefect.futures import PrefectFuture
from prefect.task_runners import ThreadPoolTaskRunner

from flows.batches import Progress, gather, ingested_batches
from flows.embedded_server import served_flow
from flows.opening import refuse_if_nothing_was_ingested, result_of, survey, writable_scan
from flows.results import LeftOut, ScanResult, completed
from tasks.cluster import cluster_frames
from tasks.encode import MIN_FRAMES_TO_ENCODE, encode_batch, place_latent, train_encoder
from tasks.familiarity import familiarity_batch, place_familiarity, strangers
from tasks.infer import infer_batch, place_predictions
from tasks.ingest import counts_ref
from tasks.model_registry import NamedModel, named_model
from tasks.model_trust import uncertainty_of
from tasks.models import ModelRef
from tasks.normalize import normalize_batch, place_normalized
from tasks.planning import StageSettings, check_settings
from tasks.ready import choose_model
from tasks.report_scan import ScanResults, write_scan_report
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
from tasks.stage import RunPlan, StageRun
from tasks.stitch import place_stitched, stitch_batch
from tasks.store import ArrayRef, FrameRange
from tasks.tile import grid_of, place_tiles, tile_batch
from tasks.train import nothing_to_inpaint, train_on_scan
from tasks.uncertainty import place_uncertainty, uncertainty_batch
from tasks.validity import other_rule, place_valid, validity_batch
from tasks.workers import Workers


@served_flow(name="process-scan", flow_run_name="process {source}", task_runner=ThreadPoolTaskRunner(max_workers=4))
def process_scan(
    source: str,
    store: str,
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
) -> ScanResult:
    """Process a scan; run again, it adds what is new and computes nothing twice.

    Args:
        source: Folder, file or glob of detector files: CBF, TIFF, EDF (also .gz and .bz2), EIGER or NeXus HDF5. Or the
            store itself, to process what it holds under other settings, though the files may be gone.
        store: Folder of the scan store, as in /data/results/scan.zarr; made if it is not there.
        model: Trained inpainting model: a registered name (its newest version) or name:version, or a folder, with a
            slash in it. Empty: a model that comes with the project where one fits, else a small one is trained on the
            scan's measured pixels.
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
    stages = StageSettings(normalize, tile, train, infer, stitch, encode, cluster)
    path, found = survey(source, store, ingest)
    given = None if model is None else named_model(model)
    check_settings(stages, path, found, None if given is None else given.folder)
    with writable_scan(path, found, source, ingest) as scan:
        plan = RunPlan(scan, {"model": given and given.label, **stages.to_dict(), **other_rule(scan, ingest)})
        taken = _ingest_normalize_tile(plan, ingest, stages, workers)
        refuse_if_nothing_was_ingested(scan)
        chosen = _choose(plan, taken, stages, given)
        compared = _compare(plan, taken, chosen, workers)
        filled = _inpaint(plan, taken, chosen, stages, workers)
        sure = _find_errors(plan, filled, chosen, workers)
        mapped = _encode_and_cluster(plan, filled, stages)
        results = _results(taken, chosen, compared, filled, sure, mapped)
        report = write_scan_report(plan, source, results, found)
        create_markdown_artifact(report.summary, key="scan-summary", description=f"Summary of {scan.path}")
        create_table_artifact(report.throughput, key="scan-throughput", description=f"Throughput of {scan.path}")
        left_out = tuple(LeftOut(what=what, why=why) for what, why in results.left_out)
        return completed(result_of(scan, found, left_out, report.path, chosen.why, results.warnings, sure.statement))


@dataclass(frozen=True)
class _Taken:
    """A scan ingested, normalized and tiled."""

    batches: tuple[FrameRange, ...]
    normalized: ArrayRef
    tiles: ArrayRef
    runs: tuple[StageRun, ...]


@dataclass(frozen=True)
class _Chosen:
    """The inpainting model, None where there is nothing to fill; its name; why it was taken; what one should know."""

    model: ModelRef | None
    label: str
    why: str
    runs: tuple[StageRun, ...] = ()
    left_out: tuple[LeftOut, ...] = ()
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True)
class _Compared:
    """How many frames are unlike those that the model knows, and what one should know of that."""

    unfamiliar: int = 0
    warnings: tuple[str, ...] = ()
    runs: tuple[StageRun, ...] = ()
    left_out: tuple[LeftOut, ...] = ()


@dataclass(frozen=True)
class _Filled:
    """A scan without gaps."""

    batches: tuple[FrameRange, ...]
    normalized: ArrayRef
    inpainted: ArrayRef
    provenance: ArrayRef
    runs: tuple[StageRun, ...]


@dataclass(frozen=True)
class _Sure:
    """How wrong the inpainted values may be, where that is known."""

    uncertainty: ArrayRef | None = None
    statement: str = ""
    runs: tuple[StageRun, ...] = ()
    left_out: tuple[LeftOut, ...] = ()


@dataclass(frozen=True)
class _Mapped:
    """Latent vectors and, where the scan is long enough, a map."""

    latent_map: tuple[ArrayRef, ArrayRef] | None = None
    encoder: ModelRef | None = None
    runs: tuple[StageRun, ...] = ()
    left_out: tuple[LeftOut, ...] = ()


def _ingest_normalize_tile(plan: RunPlan, ingest: IngestSettings, stages: StageSettings, workers: Workers) -> _Taken:
    """Each batch is normalized and tiled while the next one is ingested."""
    counts = counts_ref(plan.scan)
    valid, beside = place_valid(plan, counts, ingest), bool(other_rule(plan.scan, ingest))
    normalized = place_normalized(plan, counts, valid, stages.normalize)
    grid = grid_of(normalized, stages.tile)
    tiles = place_tiles(plan, normalized, grid, stages.tile)
    ingested: list[StageRun] = []
    submitted: list[PrefectFuture[StageRun]] = []
    try:
        for run in ingested_batches(plan.scan, ingest, workers):
            ingested.append(run)
            ruled = [validity_batch.submit(run.frames, counts, valid, ingest.validity, workers)] if beside else []
            arrays = (counts, valid, normalized)
            ready = normalize_batch.submit(
                run.frames, *arrays, stages.normalize, workers, return_state=False, wait_for=ruled
            )
            cut = tile_batch.submit(run.frames, normalized, tiles, grid, workers, return_state=False, wait_for=[ready])
            submitted += [*ruled, ready, cut]
    finally:
        runs = gather(submitted)
    return _Taken(tuple(run.frames for run in ingested), normalized, tiles, (*ingested, *runs))


def _choose(plan: RunPlan, taken: _Taken, stages: StageSettings, given: NamedModel | None) -> _Chosen:
    """The given model, one that comes with the project and fits, or one that is trained on the scan."""
    if why_not := nothing_to_inpaint(taken.normalized):
        return _Chosen(
            None,
            "",
            f"nothing: {why_not}",
            left_out=tuple(LeftOut(what=stage, why=why_not) for stage in ("train", "infer")),
        )
    choice = choose_model(plan, taken.normalized, taken.tiles, stages, given)
    if choice.model is not None:
        left_out = (LeftOut(what="train", why=choice.why),)
        label = choice.model.folder if given is None else given.label
        return _Chosen(choice.model, label, choice.why, left_out=left_out, warnings=choice.warnings)
    trained, model = train_on_scan(plan, taken.normalized, taken.tiles, stages)
    why = "; ".join(filter(None, ["a model that was trained on the scan itself", choice.why]))
    return _Chosen(model, model.folder, why, (trained,), warnings=choice.warnings)


def _compare(plan: RunPlan, taken: _Taken, chosen: _Chosen, workers: Workers) -> _Compared:
    """Mark the frames that are unlike those that the model knows."""
    if chosen.model is None:
        return _Compared()
    outputs, why_not = place_familiarity(plan, taken.normalized, chosen.model)
    if outputs is None:
        return _Compared(left_out=(LeftOut(what="familiarity", why=why_not),))
    progress = Progress("familiarity", taken.batches[-1].stop)
    submitted = [
        familiarity_batch.submit(batch, taken.normalized, outputs, chosen.model, workers) for batch in taken.batches
    ]
    runs = gather(submitted, progress)
    found = strangers(outputs, chosen.label)
    return _Compared(found.n_frames, found.warnings, tuple(runs))


def _inpaint(plan: RunPlan, taken: _Taken, chosen: _Chosen, stages: StageSettings, workers: Workers) -> _Filled:
    """Fill the gaps with the model; without one nothing is filled."""
    model, predictions = chosen.model, None
    if model is not None:
        predictions = place_predictions(plan, taken.tiles, model)
    inpainted, provenance = place_stitched(plan, taken.normalized, predictions, stages.stitch)
    grid = grid_of(taken.normalized, stages.tile)
    progress = Progress("stitch", sum(len(batch) for batch in taken.batches))
    inferred, stitched = [], []
    outputs = (inpainted, provenance)
    for batch in taken.batches:
        ready = []
        if model is not None and predictions is not None:
            ready = [infer_batch.submit(batch, taken.tiles, predictions, model, stages.infer, outputs)]
        stitched.append(
            stitch_batch.submit(
                batch,
                taken.normalized,
                predictions,
                outputs,
                grid,
                stages.stitch,
                workers,
                return_state=False,
                wait_for=ready,
            )
        )
        inferred += ready
    runs = gather(inferred) + gather(stitched, progress)
    return _Filled(taken.batches, taken.normalized, inpainted, provenance, tuple(runs))


def _find_errors(plan: RunPlan, filled: _Filled, chosen: _Chosen, workers: Workers) -> _Sure:
    """Say how wrong each inpainted value may be, if the model brings a calibration with it."""
    if chosen.model is None:
        return _Sure()
    statement = uncertainty_of(chosen.model).statement
    uncertainty, why_not = place_uncertainty(plan, filled.inpainted, chosen.model)
    if uncertainty is None:
        return _Sure(None, statement, left_out=(LeftOut(what="uncertainty", why=why_not),))
    arrays = (filled.inpainted, filled.provenance, uncertainty)
    progress = Progress("uncertainty", filled.batches[-1].stop)
    runs = gather(
        [uncertainty_batch.submit(batch, *arrays, chosen.model, workers) for batch in filled.batches], progress
    )
    return _Sure(uncertainty, statement, tuple(runs))


def _encode_and_cluster(plan: RunPlan, filled: _Filled, stages: StageSettings) -> _Mapped:
    """Latent vectors for scans of at least two frames, a map for longer ones."""
    n_frames = filled.batches[-1].stop
    if n_frames < MIN_FRAMES_TO_ENCODE:
        why = f"{n_frames} frame has nothing to be compared with"
        return _Mapped(left_out=tuple(LeftOut(what=stage, why=why) for stage in ("encode", "cluster")))
    trained, encoder = train_encoder(plan, filled.inpainted, stages.encode, stages.infer.device)
    latent = place_latent(plan, filled.inpainted, encoder, stages.encode)
    progress = Progress("encode", n_frames)
    submitted = [
        encode_batch.submit(batch, filled.inpainted, latent, encoder, stages.infer.device) for batch in filled.batches
    ]
    runs = gather(submitted, progress)
    if n_frames < stages.cluster.min_frames:
        why = f"{n_frames} frames make no map; it needs {stages.cluster.min_frames} (cluster.min_frames)"
        return _Mapped(None, encoder, (trained, *runs), (LeftOut(what="cluster", why=why),))
    clustered, coordinates, cluster = cluster_frames(plan, latent, stages.cluster)
    return _Mapped((coordinates, cluster), encoder, (trained, *runs, clustered))


def _results(
    taken: _Taken, chosen: _Chosen, compared: _Compared, filled: _Filled, sure: _Sure, mapped: _Mapped
) -> ScanResults:
    parts = (taken, chosen, compared, filled, sure, mapped)
    return ScanResults(
        normalized=filled.normalized,
        inpainted=filled.inpainted,
        provenance=filled.provenance,
        latent_map=mapped.latent_map,
        models=tuple(model for model in (chosen.model, mapped.encoder) if model is not None),
        runs=tuple(run for part in parts for run in part.runs),
        left_out=tuple((one.what, one.why) for part in (chosen, compared, sure, mapped) for one in part.left_out),
        inpainting=chosen.why,
        warnings=(*chosen.warnings, *compared.warnings),
        uncertainty=sure.uncertainty,
        unfamiliar=compared.unfamiliar,
    )
