"""Flow: answer to the event "a scan is complete" by making one run of process-scan, however often the event comes.

The trigger hands over the whole payload, because a key that is missing in a trigger's template fails silently.
"""

import time
from http import HTTPStatus
from typing import Any, cast

from prefect import get_run_logger
from prefect.client.schemas.objects import FlowRun
from prefect.deployments import run_deployment
from prefect.exceptions import PrefectHTTPStatusError
from pydantic import Field, ValidationError

from flows.embedded_server import served_flow
from tasks.errors import SettingsError
from tasks.settings import Settings, confine

PROCESS_SCAN = "process-scan/process-scan"
BUSY_PAUSES_S = (1.0, 3.0, 9.0)
"""Waits before a server is asked again whose database is busy, as when fifty ask at once; Prefect has tried before."""


class ScanComplete(Settings):
    """Payload of the event `beamline.scan.complete`; an acquisition system may send it, too."""

    scan: str = Field(min_length=1, description="Name of the scan.")
    source: str = Field(min_length=1, description="Folder, file or glob of the detector files.")
    store: str = Field(min_length=1, description="Path of the Zarr group for the results; ends in .zarr.")
    digest: str = Field(
        min_length=1, description="Changes when the scan's files do: one run is made for each source and digest."
    )
    parameters: dict[str, Any] = Field(
        default_factory=dict, description="Further parameters of the process-scan deployment."
    )

    @property
    def key(self) -> str:
        """Idempotency key of the run, the same as `CompleteScan.key`."""
        return f"{self.source}:{self.digest}"


@served_flow(name="dispatch-scan")
def dispatch_scan(payload: dict[str, Any]) -> str:
    """Make a run of process-scan for a complete scan, or find the one that was made before; returns its id.

    Raises `SettingsError` if the payload is not that of `ScanComplete`.

    Args:
        payload: Payload of the event, with the keys scan, source, store, digest and, if wanted, parameters.
    """
    event = _validated(payload)
    run = make_run(event)
    get_run_logger().info("Scan %s (digest %s): flow run %s", event.scan, event.digest, run.name)
    return str(run.id)


def make_run(event: ScanComplete) -> FlowRun:
    """Make the run of process-scan, or find it if it was made before, by whomever."""
    confine(event.source, "source")
    confine(event.store, "store")
    for pause_s in (*BUSY_PAUSES_S, None):
        try:
            run = run_deployment(
                PROCESS_SCAN,
                parameters={**event.parameters, "source": event.source, "store": event.store},
                idempotency_key=event.key,
                timeout=0,
                as_subflow=False,
            )
            return cast(FlowRun, run)
        except PrefectHTTPStatusError as error:
            if pause_s is None or error.response.status_code != HTTPStatus.SERVICE_UNAVAILABLE:
                raise
            time.sleep(pause_s)
    raise AssertionError("the last attempt returns or raises")


def _validated(payload: dict[str, Any]) -> ScanComplete:
    try:
        return ScanComplete.model_validate(payload)
    except ValidationError as error:
        problems = "; ".join(f"{'.'.join(map(str, e['loc'])) or 'payload'}: {e['msg']}" for e in error.errors())
        raise SettingsError(
            f"the event's payload cannot be used: {problems}; got {payload!r}; "
            f"allowed keys: {', '.join(ScanComplete.model_fields)}"
        ) from error
