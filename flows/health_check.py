"""Flow: look after server, workers, disk, frames and runs; fails loudly, and says what to do."""

import os
import shutil
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Annotated

from prefect import get_client, get_run_logger
from prefect.artifacts import create_table_artifact
from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.filters import (
    FlowRunFilter,
    FlowRunFilterState,
    FlowRunFilterStateType,
)
from prefect.client.schemas.objects import FlowRun, StateType
from prefect.exceptions import ObjectNotFound
from pydantic import Field

from flows.embedded_server import served_flow
from flows.results import completed
from tasks.errors import HealthError
from tasks.readers import file_format
from tasks.settings import Settings, confine
from tasks.shift import stores_below
from tasks.watching import newest_file

HEARTBEAT_LOST = timedelta(seconds=90)
WAITING = timedelta(minutes=10)
GB = 1e9
LASTING = "watch "
"""Begins the names of runs that are meant to last."""


class HealthResult(Settings):
    """What was looked at; all of it was well."""

    checks: dict[str, str]

    @property
    def sentence(self) -> str:
        return "; ".join(f"{name}: {found}" for name, found in self.checks.items())


@dataclass(frozen=True)
class Check:
    """What was found; `advice` says what to do, and is empty where all is well."""

    name: str
    found: str
    advice: str = ""


@served_flow(name="health-check")
def health_check(
    results: Path,
    beamtime: Path | None = None,
    work_pool: str = "local-process",
    min_free_gb: Annotated[float, Field(ge=0)] = 50.0,
    max_behind_min: Annotated[float, Field(gt=0)] = 15.0,
    max_idle_min: Annotated[float | None, Field(gt=0)] = None,
    stuck_after_h: Annotated[float, Field(gt=0)] = 12.0,
) -> HealthResult:
    """Check what an unattended beamtime needs; a problem makes the run fail, with what to do in its message.

    Raises `HealthError` for any problem.

    Args:
        results: Folder that runs write their stores to.
        beamtime: Beamtime folder that is watched. Empty: the age of frames is not looked at.
        work_pool: Work pool whose workers carry out the runs.
        min_free_gb: Least space on the disk of the results, in GB.
        max_behind_min: Minutes that the newest frame on disk may be without anything being ingested.
        max_idle_min: Minutes without a new frame on disk after which somebody should look. Empty: any.
        stuck_after_h: Hours after which a run, but for watchers, has lasted too long.
    """
    folder = confine(results, "store")
    now = datetime.now(UTC)
    with get_client(sync_client=True) as client:
        checks = [_server(client), _workers(client, work_pool, now), _disk(folder, min_free_gb)]
        checks += _runs(client, now, timedelta(hours=stuck_after_h))
    if beamtime is not None:
        watched = confine(beamtime, "source")
        checks += _frames(watched, folder, now, timedelta(minutes=max_behind_min), max_idle_min)
    rows = [{"check": one.name, "found": one.found, "what to do": one.advice or "nothing"} for one in checks]
    create_table_artifact(rows, key="health", description=f"Health at {now:%Y-%m-%d %H:%M:%S} UTC")
    if problems := [one for one in checks if one.advice]:
        lines = [f"{one.name}: {one.found}; {one.advice}" for one in problems]
        for line in lines:
            get_run_logger().error(line)
        raise HealthError(f"{len(problems)} of {len(checks)} checks found a problem:\n" + "\n".join(lines))
    return completed(HealthResult(checks={one.name: one.found for one in checks}))


def _server(client: SyncPrefectClient) -> Check:
    """The run itself shows that the server answers; a question about runs shows that its database does."""
    return Check("server", f"Prefect {client.api_version()}, {client.count_flow_runs()} runs in its database")


def _workers(client: SyncPrefectClient, work_pool: str, now: datetime) -> Check:
    advice = f"start one: `make serve`, or `prefect worker start --pool {work_pool}` on the machine that computes"
    try:
        client.read_work_pool(work_pool)
    except ObjectNotFound:
        return Check("workers", f"there is no work pool {work_pool!r}", "run `make serve` once, which makes it")
    workers = client.read_workers_for_work_pool(work_pool)
    beats = [worker.last_heartbeat_time for worker in workers if worker.last_heartbeat_time]
    alive = [beat for beat in beats if now - beat < HEARTBEAT_LOST]
    if alive:
        return Check("workers", f"{len(alive)} alive")
    last = f"the last sign of life was {_ago(now - max(beats))} ago" if beats else "there was never one"
    return Check("workers", f"none alive in pool {work_pool!r}, {last}", advice)


def _disk(results: Path, min_free_gb: float) -> Check:
    if not results.is_dir():
        return Check("disk", f"{results} is not there", "mount the disk, or make the folder")
    free_gb = shutil.disk_usage(results).free / GB
    status = os.statvfs(results)
    found = f"{free_gb:,.0f} GB free for {results}"
    if status.f_flag & os.ST_RDONLY or not os.access(results, os.W_OK):
        return Check("disk", f"{results} cannot be written to", "mount it for writing, or correct its permissions")
    if status.f_files and not status.f_favail:
        return Check("disk", f"no file can be made in {results}: its file system has no inode left", "delete files")
    if free_gb < min_free_gb:
        return Check("disk", found, f"less than {min_free_gb:g} GB: move finished stores away, or prune them")
    return Check("disk", found)


def _runs(client: SyncPrefectClient, now: datetime, stuck_after: timedelta) -> list[Check]:
    types = [StateType.RUNNING, StateType.PENDING, StateType.SCHEDULED]
    wanted = FlowRunFilter(state=FlowRunFilterState(type=FlowRunFilterStateType(any_=types)))
    runs = client.read_flow_runs(flow_run_filter=wanted, limit=200)
    stuck = [run for run in runs if _lasts_too_long(run, now, stuck_after)]
    late = [run for run in runs if _waits_too_long(run, now)]
    running = sum(run.state is not None and run.state.is_running() for run in runs)
    return [
        Check(
            "runs under way",
            f"{running} running" if not stuck else f"for more than {_ago(stuck_after)}: {_names(stuck)}",
            "" if not stuck else "look at their logs in the UI; cancel and run again: finished shards are kept",
        ),
        Check(
            "runs that wait",
            "none for long" if not late else f"for more than {_ago(WAITING)}: {_names(late)}",
            "" if not late else "start a worker, or another one; see the check of workers",
        ),
    ]


def _lasts_too_long(run: FlowRun, now: datetime, stuck_after: timedelta) -> bool:
    started = run.start_time if run.state is not None and run.state.is_running() else None
    return started is not None and now - started > stuck_after and not run.name.startswith(LASTING)


def _waits_too_long(run: FlowRun, now: datetime) -> bool:
    """True for runs that no worker takes; one that waits for its turn (a concurrency limit) is well."""
    if run.state is None or run.state.is_running() or run.state.name == "AwaitingConcurrencySlot":
        return False
    since = run.expected_start_time if run.state.is_scheduled() else run.state.timestamp
    return since is not None and now - since > WAITING


def _frames(
    beamtime: Path, results: Path, now: datetime, max_behind: timedelta, max_idle_min: float | None
) -> Iterable[Check]:
    """Whether frames come, and whether what comes is ingested."""
    newest = newest_file(beamtime, lambda path: file_format(path) is not None)
    if newest is None:
        yield Check("frames on disk", f"none in {beamtime}")
        return
    idle = now - newest
    found = f"the newest is {_ago(idle)} old"
    has_stopped = max_idle_min is not None and idle > timedelta(minutes=max_idle_min)
    yield Check("frames on disk", found, "look at detector, shutter and mounts" if has_stopped else "")
    ledgers = [store / "ledger" / "frames.jsonl" for store in (stores_below(results) if results.is_dir() else [])]
    written = [datetime.fromtimestamp(ledger.stat().st_mtime, UTC) for ledger in ledgers]
    is_behind = idle > max_behind and (not written or max(written) < newest)
    yield Check(
        "frames in stores",
        "nothing was ingested since the newest frame came" if is_behind else "up to date, or under way",
        "see that the watcher runs (deployment watch-beamtime), and what its runs say" if is_behind else "",
    )


def _names(runs: list[FlowRun]) -> str:
    names = [run.name for run in runs[:5]]
    return ", ".join(names) + (f" and {len(runs) - 5} more" if len(runs) > 5 else "")


def _ago(time: timedelta) -> str:
    """Write a time.

    >>> _ago(timedelta(seconds=80)), _ago(timedelta(hours=30))
    ('80 s', '30.0 h')
    """
    seconds = time.total_seconds()
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"
