"""What all stages share: places for results, commits per shard, and retries for what time can heal."""

import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any, ParamSpec, Protocol, TypeVar

import numpy as np
import numpy.typing as npt
from prefect import task
from prefect.cache_policies import NO_CACHE
from prefect.client.schemas.objects import State, TaskRun
from prefect.tasks import Task, exponential_backoff

from dlsia_core.training import TrainingError
from tasks.errors import PipelineError, StoreError
from tasks.settings.base import digest
from tasks.store import ArrayRef, ArraySpec, FrameRange, ScanRef, ScanStore, ShardFile, open_store, shard_lineage
from tasks.store.ledger import now
from tasks.store.scan_store import VARIANTS
from tasks.workers import Workers, run_over

P = ParamSpec("P")
R = TypeVar("R")
Values = npt.NDArray[Any]


class ReadableFrames(Protocol):
    """What the computation of a shard needs of a store: frames of its arrays, and what is attached to the scan."""

    def read(self, name: str, start: int, stop: int) -> Values:
        """Frames start to stop of an array, (frame, …)."""
        ...

    @property
    def attributes(self) -> dict[str, Any]: ...


def heals_with_time(_task: object, _run: TaskRun, state: State[Any]) -> bool:
    """True for failures of disk, network or memory; False for bad input, used up time and programming errors."""
    try:
        state.result()
    except (PipelineError, TrainingError):
        return False
    except (OSError, MemoryError):
        return True
    except Exception as error:
        return type(error).__name__ in {"OutOfMemoryError", "KilledWorker", "CommClosedError"}
    return False


def stage_task(name: str) -> Callable[[Callable[P, R]], Task[P, R]]:
    """Make a stage's function a Prefect task: retried where that helps, never cached: the store knows what is done."""
    return task(
        name=name,
        retries=3,
        retry_delay_seconds=exponential_backoff(backoff_factor=2),
        retry_jitter_factor=0.5,
        retry_condition_fn=heals_with_time,
        cache_policy=NO_CACHE,
        persist_result=False,
    )


@dataclass(frozen=True)
class StageRun:
    """What one task run of a stage did."""

    stage: str
    frames: FrameRange
    computed_frames: int
    seconds: float
    bytes_written: int


def noted(scan: ScanRef, run: StageRun) -> StageRun:
    """Write down in the scan's ledger what the run did, for those who count; returns the run."""
    if run.computed_frames:
        facts = {"frames": run.computed_frames, "seconds": round(run.seconds, 3), "bytes": run.bytes_written}
        open_store(scan).work.append([{"stage": run.stage, **facts, "at": now()}])
    return run


@dataclass(frozen=True)
class RunPlan:
    """Where a run writes results that differ in their settings from what the store already holds."""

    scan: ScanRef
    settings: dict[str, Any]

    @property
    def variant(self) -> str:
        """Name of the group beside the first results."""
        return f"{VARIANTS}{digest(self.settings)[:8]}"


def locate(plan: RunPlan, name: str, stage: dict[str, Any], inputs: Sequence[ArrayRef]) -> tuple[str, dict[str, Any]]:
    """Where an array of a stage belongs: '', the top of the store, or a group of other settings, as in 'settings-…/'.

    `stage` holds name, version and settings. Also returns what the array's attributes must say of its origin.
    """
    store = open_store(plan.scan)
    origin = {**stage, "inputs": [array.lineage for array in inputs]}
    lineage = digest(origin)
    group = _group_of(store, name, lineage, plan)
    if group:
        store.describe_group(group.rstrip("/"), {"settings": plan.settings})
    return group, {"origin": origin, "lineage": lineage}


def place(
    plan: RunPlan, specs: Sequence[ArraySpec], stage: dict[str, Any], inputs: Sequence[ArrayRef]
) -> list[ArrayRef]:
    """Find or make the arrays of a stage: at the top of the store for the first settings, beside them for others."""
    store = open_store(plan.scan)
    group, origin = locate(plan, specs[0].name, stage, inputs)
    shard_frames = min(spec.shard_frames(store.shard_frames) for spec in specs)
    for spec in specs:
        store.require_array(group + spec.name, replace(spec, attributes={**spec.attributes, **origin}), shard_frames)
    return [ArrayRef(plan.scan, group + spec.name, origin["lineage"]) for spec in specs]


def _group_of(store: ScanStore, name: str, lineage: str, plan: RunPlan) -> str:
    same_name = {path: array for path, array in store.frame_arrays().items() if path.split("/")[-1] == name}
    for path, array in same_name.items():
        if array.attrs.get("lineage") == lineage:
            return path.removesuffix(name)
    return f"{plan.variant}/" if name in same_name else ""


def run_shards(
    outputs: Sequence[ArrayRef],
    frames: FrameRange,
    compute: Callable[[ScanStore, int, int], Sequence[Values]],
    workers: Workers,
    spared: Callable[[int, int], bool] = lambda _start, _stop: False,
) -> StageRun:
    """Compute and commit each shard of the outputs that is not committed yet; `compute(store, start, stop)`.

    Shards that were pruned are computed again, unless `spared(start, stop)` says that nobody needs them.
    A shard is what one call computes, one writer owns and one commit covers, so that a run that is killed at any
    moment and started again ends with the same bytes as an undisturbed one.
    """
    started = time.monotonic()
    scan, paths = outputs[0].scan, [output.path for output in outputs]
    store = open_store(scan)
    shards = list(frames.shards(store.array(paths[0]).shards[0]))  # type: ignore[index]
    lineages = {shard: shard_lineage(outputs[0], store.frames.ingested[start:stop]) for shard, start, stop in shards}
    written = []

    def is_missing(shard: int, start: int, stop: int) -> bool:
        if all(store.is_committed(path, shard, stop, lineages[shard]) for path in paths):
            return False
        return not (all(store.is_pruned(path, shard, stop, lineages[shard]) for path in paths) and spared(start, stop))

    def commit(item: tuple[int, int, int], files: list[ShardFile]) -> None:
        for path, file in zip(paths, files, strict=True):
            store.commit(path, item[0], item[2], lineages[item[0]], file)
            written.append(file.size_bytes)

    with _sole_writer(scan, paths, frames, [shard for shard, _, _ in shards]):
        missing = [item for item in shards if is_missing(*item)]
        _void_rewrites(store, paths, missing)
        run_over(_ComputeShard(scan, paths, compute), missing, commit, workers, scan.path)
    computed = sum(stop - start for _, start, stop in missing)
    stage = str(store.array(paths[0]).attrs["origin"]["stage"])  # type: ignore[index, call-overload]
    return noted(scan, StageRun(stage, frames, computed, time.monotonic() - started, sum(written)))


_being_written: set[tuple[str, str, int]] = set()
_entering = threading.Lock()


@contextmanager
def _sole_writer(scan: ScanRef, paths: Sequence[str], frames: FrameRange, shards: Sequence[int]) -> Iterator[None]:
    """Hold shards as this call's own. Raises `StoreError` if another call of this process holds one of them.

    Two writers of one shard would overwrite each other's frames without a word; other processes the store's lock keeps
    out, and workers of a cluster write what this call gives them.
    """
    mine = {(scan.path, path, shard) for path in paths for shard in shards}
    with _entering:
        if both := sorted(mine & _being_written):
            path, shard = both[0][1:]
            raise StoreError(
                f"frames {frames.start} to {frames.stop - 1} share shard {shard} of {scan.path}/{path} with "
                "frames that are being written; parts that are written at once must end where shards end"
            )
        _being_written.update(mine)
    try:
        yield
    finally:
        with _entering:
            _being_written.difference_update(mine)


def has_committed(arrays: Sequence[ArrayRef], start: int, stop: int) -> bool:
    """Whether frames start to stop of all the arrays are there, computed from just their lineages."""
    store = open_store(arrays[0].scan)
    ingested = store.frames.ingested
    for array in arrays:
        frames = store.array(array.path).shards[0]  # type: ignore[index]
        for shard in range(start // frames, -(-stop // frames)):
            part = ingested[shard * frames : (shard + 1) * frames]
            end = shard * frames + len(part)
            if not store.is_committed(array.path, shard, end, shard_lineage(array, part)):
                return False
    return True


def _void_rewrites(store: ScanStore, paths: Sequence[str], missing: Sequence[tuple[int, int, int]]) -> None:
    records = [store.shards.get(path, shard) for path in paths for shard, _, _ in missing]
    rewritten = [record for record in records if record is not None and record.sha256]
    if rewritten:
        store.shards.void(rewritten)


@dataclass(frozen=True)
class _ComputeShard:
    """Computes one shard and writes it; may run on another machine, so it opens the store by itself."""

    scan: ScanRef
    paths: Sequence[str]
    compute: Callable[[ScanStore, int, int], Sequence[Values]]

    def __call__(self, item: tuple[int, int, int]) -> list[ShardFile]:
        shard, start, stop = item
        store = open_store(self.scan)
        arrays = self.compute(store, start, stop)
        return [
            store.write_shard(path, shard, np.ascontiguousarray(values))
            for path, values in zip(self.paths, arrays, strict=True)
        ]


def total(runs: Sequence[StageRun]) -> Mapping[str, float]:
    """Sum up the task runs of a stage."""
    return {
        "frames": sum(len(run.frames) for run in runs),
        "computed_frames": sum(run.computed_frames for run in runs),
        "seconds": sum(run.seconds for run in runs),
        "bytes_written": sum(run.bytes_written for run in runs),
    }
