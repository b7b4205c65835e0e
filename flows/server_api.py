"""The few calls of Prefect's API that are made without Prefect: quick, and with nothing to import."""

import base64
import json
import os
import urllib.error
import urllib.request
from contextlib import suppress
from typing import Any

from flows.server_home import auth_string


class Api:
    """The few calls of Prefect's API that are needed, with its CSRF token and the optional auth string."""

    def __init__(self, url: str) -> None:
        self.url = url
        # No proxy: the server is on this machine.
        self._open = urllib.request.build_opener(urllib.request.ProxyHandler({})).open
        self._headers = {"Content-Type": "application/json"}
        if auth := auth_string():
            self._headers["Authorization"] = f"Basic {base64.b64encode(auth.encode()).decode()}"

    def call(self, path: str, body: dict[str, Any] | None = None, timeout_s: float = 10.0) -> Any:
        """GET, or POST if there is a body; raises `OSError` (urllib's errors are)."""
        headers = dict(self._headers)
        if body is not None:
            client = f"supervisor-{os.getpid()}"
            headers["Prefect-Csrf-Client"] = client
            with suppress(urllib.error.HTTPError):  # 422: protection is off
                headers["Prefect-Csrf-Token"] = self.call(f"/csrf-token?client={client}")["token"]
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(self.url + path, data=data, headers=headers)
        with self._open(request, timeout=timeout_s) as response:
            return json.loads(response.read() or b"null")

    def is_healthy(self) -> bool:
        """Tell whether the server answers."""
        try:
            return bool(self.call("/health", timeout_s=2.0))
        except (OSError, ValueError):
            return False

    def runs_named(self, name: str) -> list[str]:
        """Return the identifiers of the flow runs with this name."""
        return [run["id"] for run in self.call("/flow_runs/filter", {"flow_runs": {"name": {"any_": [name]}}})]

    def mark_crashed(self, flow_run_id: str, message: str) -> None:
        """Set a flow run that has no final state to Crashed; a run that is unknown is left alone."""
        final = ("COMPLETED", "FAILED", "CANCELLED", "CRASHED")
        with suppress(urllib.error.HTTPError):
            if self.call(f"/flow_runs/{flow_run_id}")["state_type"] not in final:
                state = {"type": "CRASHED", "message": message}
                self.call(f"/flow_runs/{flow_run_id}/set_state", {"state": state, "force": True})
