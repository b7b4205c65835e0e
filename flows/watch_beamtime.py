"""Flow: follow a beamtime folder, announce each complete scan by an event, and make its run of process-scan.

The trigger in `deployments/prefect.yaml` answers to the event as well, some seconds later; the run is made once all
the same, because it is named by scan and digest. Each way covers for the other, and a scan whose run is not seen after
a while is announced again.
"""

import hashlib
import logging
import re
import time
from pathlib import Path
from typing import Annotated

from httpx import HTTPError
from prefect import get_client, get_run_logger
from prefect.client.schemas.filters import FlowRunFilter, FlowRunFilterIdempotencyKey
from prefect.events import emit_event
from prefect.exceptions import PrefectException
from pydantic import Field

from flows.dispatch_scan import ScanComplete, make_run
from flows.embedded_server import served_flow
from tasks.errors import PipelineError
from tasks.readers import file_format, peek_file
from tasks.settings import confine
from tasks.store.lock import writer_lock
from tasks.watching import Announced, Beamtime, CompleteScan

EVENT = "beamline.scan.complete"
RESOURCE = "beamline.scan"
ANNOUNCE_AGAIN_S = 60.0

Logger = logging.Logger | logging.LoggerAdapter[logging.Logger]


@served_flow(name="watch-beamtime", flow_run_name="watch {folder}")
def watch_beamtime(
    folder: Path,
    stores: Path,
    poll_s: Annotated[float, Field(gt=0)] = 1.0,
    quiet_s: Annotated[float, Field(ge=0)] = 2.0,
    give_up_s: Annotated[float, Field(ge=0)] = 30.0,
    run_for_s: Annotated[float | None, Field(ge=0)] = None,
    start_runs: bool = True,
) -> dict[str, int]:
    """Announce each scan of a beamtime folder when it is complete, and again when it has grown.

    Returns how many scans were announced and how many complete ones were seen. Raises `SourceError` if the folder is
    not there, `StoreError` if another watcher follows it with the same results folder.

    Args:
        folder: Beamtime folder; each folder in it that holds frames is a scan.
        stores: Folder for the results, one Zarr group per scan.
        poll_s: Seconds between two looks.
        quiet_s: Seconds without any change after which a scan of complete files is complete; longer by itself where
            the frames come more slowly.
        give_up_s: Seconds without any change after which unreadable files hold up their scan no more.
        run_for_s: Seconds to watch. Empty: until cancelled. 0: one sweep of what is there.
        start_runs: Make runs of process-scan at once. Off: only announce scans, for your own triggers to answer.
    """
    logger = get_run_logger()
    beamtime = Beamtime(confine(folder, "source"), _is_frame_file, peek_file, quiet_s, give_up_s)
    results = confine(stores, "store")
    memory = results / f".watch-{_short(str(beamtime.folder))}"
    with writer_lock(memory / "lock"):
        watcher = _Watcher(beamtime, results, Announced(memory / "announced.json"), logger, start_runs)
        logger.info("Watching %s every %g s; results go to %s", beamtime.folder, poll_s, results)
        return watcher.watch(poll_s, quiet_s + poll_s if run_for_s == 0 else run_for_s)


class _Watcher:
    """The loop around `Beamtime`: clock, events, log."""

    def __init__(
        self, beamtime: Beamtime, results: Path, announced: Announced, logger: Logger, start_runs: bool
    ) -> None:
        self.beamtime = beamtime
        self.results = results
        self.announced = announced
        self.logger = logger
        self.start_runs = start_runs
        self.count = 0
        self._ask_at: dict[str, float] = {}
        self._wait_s: dict[str, float] = {}

    def watch(self, poll_s: float, run_for_s: float | None) -> dict[str, int]:
        end = None if run_for_s is None else time.monotonic() + run_for_s
        while True:
            started = time.monotonic()
            complete = self.beamtime.poll(started)
            for scan in complete:
                if scan.key not in self.announced:
                    self._announce(scan)
            self._repeat_unanswered({scan.key: scan for scan in complete})
            if end is not None and time.monotonic() >= end:
                return {"announced": self.count, "complete": len(complete)}
            time.sleep(max(0.0, started + poll_s - time.monotonic()))

    def _announce(self, scan: CompleteScan) -> None:
        complete = ScanComplete(
            scan=scan.name,
            source=str(scan.folder),
            store=str(self.results / f"{scan.name}.zarr"),
            digest=scan.digest,
        )
        emit_event(
            event=EVENT,
            resource={
                "prefect.resource.id": f"{RESOURCE}.{_slug(scan.name)}.{_short(str(scan.folder))}",
                "prefect.resource.name": scan.name,
            },
            payload=complete.model_dump(exclude={"parameters"}),
        )
        if self.start_runs:
            self._start(complete)
        self._wait_s[scan.key] = 2 * self._wait_s.get(scan.key, ANNOUNCE_AGAIN_S / 2)
        self._ask_at[scan.key] = time.monotonic() + self._wait_s[scan.key]
        self.announced.note(scan.key)
        self.count += 1
        self.logger.info(
            "Scan %s is complete: %d files, %.1f MB, last change %s; %d not readable",
            scan.name,
            scan.files,
            scan.size_bytes / 1e6,
            scan.last_write.isoformat(timespec="seconds"),
            scan.unreadable,
        )

    def _start(self, complete: ScanComplete) -> None:
        """Make the run; where that fails, the trigger may succeed, and the scan is announced again in any case."""
        try:
            run = make_run(complete)
        except (OSError, HTTPError, PrefectException, PipelineError) as error:
            self.logger.warning(
                "No run could be made for scan %s (%s); it is left to the trigger", complete.scan, error
            )
        else:
            self.logger.info("Scan %s: flow run %s", complete.scan, run.name)

    def _repeat_unanswered(self, complete: dict[str, CompleteScan]) -> None:
        """Announce again what has no run although it was announced a while ago, also by an earlier watcher."""
        for key in self.announced.unconfirmed():
            if key not in complete or time.monotonic() < self._ask_at.get(key, 0.0):
                continue  # a scan that has grown since has another key, under which it is announced
            if _has_run(key):
                self.announced.note(key, confirmed=True)
            else:
                self.logger.warning("No run for scan %s yet; announcing it again", complete[key].name)
                self._announce(complete[key])


def _is_frame_file(path: Path) -> bool:
    return file_format(path) is not None


def _has_run(key: str) -> bool:
    with get_client(sync_client=True) as client:
        wanted = FlowRunFilter(idempotency_key=FlowRunFilterIdempotencyKey(any_=[key]))
        return bool(client.read_flow_runs(flow_run_filter=wanted, limit=1))


def _short(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:8]


def _slug(name: str) -> str:
    return re.sub(r"[^A-Za-z0-9_-]+", "-", name).strip("-") or "scan"
