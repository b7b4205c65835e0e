"""Runs whose worker is gone: those that a process still carries out are left to it, the others are settled."""

import os
from pathlib import Path
from uuid import UUID

from prefect import get_client
from prefect.client.schemas.filters import (
    FlowRunFilter,
    FlowRunFilterState,
    FlowRunFilterStateType,
    WorkPoolFilter,
    WorkPoolFilterName,
)
from prefect.client.schemas.objects import FlowRun, StateType
from prefect.states import Crashed, Scheduled

ORPHANED = "The worker was killed, and the run with it. Run it again: finished shards are kept."
RUN_ID = b"PREFECT__FLOW_RUN_ID="


def active_runs(pool: str) -> list[FlowRun]:
    """Return runs of the pool that a process has in hand; late and scheduled ones wait for the next worker."""
    active = [StateType.RUNNING, StateType.PENDING, StateType.CANCELLING]
    with get_client(sync_client=True) as client:
        return client.read_flow_runs(
            flow_run_filter=FlowRunFilter(state=FlowRunFilterState(type=FlowRunFilterStateType(any_=active))),
            work_pool_filter=WorkPoolFilter(name=WorkPoolFilterName(any_=[pool])),
        )


def mark_crashed(runs: list[FlowRun], message: str) -> None:
    """Give a final state to runs that no process has in hand any more."""
    with get_client(sync_client=True) as client:
        for run in runs:
            client.set_flow_run_state(run.id, Crashed(message=message), force=True)


def settle_orphans(pool: str) -> None:
    """Put runs that had not begun back in line, and mark as Crashed those whose process is gone."""
    # In this order: what begins in between is not lost.
    active, held = active_runs(pool), carried_out()
    lost = [run for run in active if run.id not in held]
    waiting = [run for run in lost if run.state_type is StateType.PENDING]
    with get_client(sync_client=True) as client:
        for run in waiting:
            client.set_flow_run_state(run.id, Scheduled(message="Its worker was killed before it began"), force=True)
    mark_crashed([run for run in lost if run not in waiting], ORPHANED)


def carried_out() -> set[UUID]:
    """Identifiers of the runs that processes of this user and machine carry out, as their environment says."""
    found = set()
    for folder in Path("/proc").iterdir():
        if folder.name.isdecimal() and folder.name != str(os.getpid()):
            try:
                variables = (folder / "environ").read_bytes().split(b"\0")
            except OSError:
                continue  # it has just ended, or belongs to somebody else
            found |= {UUID(one.removeprefix(RUN_ID).decode()) for one in variables if one.startswith(RUN_ID)}
    return found
