"""Runs of follow-scan for scans that grow while they are watched: one for each scan, another only if one has died.

Nothing is remembered here but when to ask again: the server knows the runs by their keys, so that a watcher that was
killed and started again makes none twice.
"""

from collections.abc import Callable
from pathlib import Path
from typing import cast

from prefect import get_client
from prefect.client.schemas.filters import FlowRunFilter, FlowRunFilterIdempotencyKey
from prefect.client.schemas.objects import FlowRun, StateType
from prefect.deployments import run_deployment
from prefect.states import Cancelled

FOLLOW_SCAN = "follow-scan/follow-scan"
GROWTHS = 3
"""Looks with new files that show a growing scan; one that was there at once, or takes a second, is not followed."""
ATTEMPTS = 3
ASK_EVERY_S = 5.0
DIED = (StateType.CRASHED, StateType.FAILED)


class LiveRuns:
    """Makes and asks for the runs that follow scans. `clock`: seconds of one steadily growing clock."""

    def __init__(self, quiet_s: float, clock: Callable[[], float]) -> None:
        self._quiet_s, self._clock = quiet_s, clock
        self._ask_at: dict[Path, float] = {}

    def follow(self, folder: Path, store: Path) -> FlowRun | None:
        """Make a run that follows the scan, unless there is one, or was one that ended well; None if none was made."""
        if self._clock() < self._ask_at.get(folder, 0.0):
            return None
        self._ask_at[folder] = self._clock() + ASK_EVERY_S
        runs = _runs_of(folder)
        if len(runs) >= ATTEMPTS or any(_state(run) not in DIED for run in runs):
            return None
        made = run_deployment(
            FOLLOW_SCAN,
            parameters={
                "source": str(folder), "store": str(store), "process": False, "follow": {"quiet_s": self._quiet_s},
            },
            idempotency_key=_key(folder, len(runs)),
            timeout=0,
            as_subflow=False,
        )  # fmt: skip
        return cast(FlowRun, made)

    def is_under_way(self, folder: Path) -> bool:
        """True while a run has the scan's store; one that has not begun is called off, because the scan is complete."""
        under_way = False
        for run in _runs_of(folder):
            if _state(run) is StateType.SCHEDULED:
                with get_client(sync_client=True) as client:
                    why = "The scan was complete before the run began; process-scan takes all of it."
                    client.set_flow_run_state(run.id, Cancelled(message=why))
            elif run.state is not None and not run.state.is_final():
                under_way = True
        return under_way


def _key(folder: Path, attempt: int) -> str:
    return f"follow:{folder}:{attempt}"


def _state(run: FlowRun) -> StateType | None:
    return None if run.state is None else run.state.type


def _runs_of(folder: Path) -> list[FlowRun]:
    keys = [_key(folder, attempt) for attempt in range(ATTEMPTS)]
    with get_client(sync_client=True) as client:
        wanted = FlowRunFilter(idempotency_key=FlowRunFilterIdempotencyKey(any_=keys))
        return client.read_flow_runs(flow_run_filter=wanted)
