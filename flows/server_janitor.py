"""Gives a final state to task runs of flow runs that have ended: nobody else would, once their process was killed."""

import time
from contextlib import suppress
from datetime import UTC, datetime, timedelta

from flows.server_api import Api

SETTLE_S = 15.0
"""Records of task runs come some seconds after what they report; then this long has passed since the flow run's end."""
LOOK_EVERY_S = 5.0
ENDED_EARLY = ["CRASHED", "FAILED", "CANCELLED"]
UNFINISHED = ["RUNNING", "PENDING"]


class Janitor:
    """Looks at the server now and then; a server that does not answer is asked again later."""

    def __init__(self, api: Api) -> None:
        self.api = api
        self._look_at = 0.0

    def look(self) -> None:
        """Settle what is left over, if it is time for it."""
        if time.monotonic() < self._look_at:
            return
        with suppress(OSError, ValueError):
            self.settle_task_runs()
        self._look_at = time.monotonic() + LOOK_EVERY_S

    def settle_task_runs(self) -> None:
        """Mark as Crashed what is still Running, or about to, although its flow run ended a while ago."""
        ended = (datetime.now(UTC) - timedelta(seconds=SETTLE_S)).isoformat()
        wanted = {
            "flow_runs": {"state": {"type": {"any_": ENDED_EARLY}}, "end_time": {"before_": ended}},
            "task_runs": {"state": {"type": {"any_": UNFINISHED}}},
        }
        for run in self.api.call("/task_runs/filter", wanted):
            message = "Its flow run ended before it did. Start the flow again: finished shards are kept."
            state = {"type": "CRASHED", "message": message}
            self.api.call(f"/task_runs/{run['id']}/set_state", {"state": state, "force": True})
