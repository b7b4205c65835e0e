"""Flow: watch beamtime folders, announce each complete scan by an event, and make its run of process-scan.

The trigger in `deployments/prefect.yaml` answers to the event as well, some seconds later; the run is made once all
the same, because it is named by scan and digest. Each way covers for the other, and a scan whose run is not seen after
a while is announced again.
"""

import hashlib
import logging
import re
import time
from contextlib import ExitStack
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
from flows.live_runs import GROWTHS, LiveRuns
from tasks.errors import PipelineError, SettingsError
from tasks.readers import file_format, peek_file
from tasks.settings import confine
from tasks.store.lock import writer_lock
from tasks.wakeup import WakeUp
from tasks.watching import Announced, Beamtime, CompleteScan, ScanFolder

EVENT = "beamline.scan.complete"
RESOURCE = "beamline.scan"
ANNOUNCE_AGAIN_S = 60.0

Logger = logging.Logger | logging.LoggerAdapter[logging.Logger]


@served_flow(name="watch-beamtime", flow_run_name="watch {folder}")
def watch_beamtime(
    folder: Path | list[Path],
    stores: Path,
    poll_s: Annotated[float, Field(gt=0)] = 1.0,
    quiet_s: Annotated[float, Field(ge=0)] = 2.0,
    give_up_s: Annotated[float, Field(ge=0)] = 30.0,
    run_for_s: Annotated[float | None, Field(ge=0)] = None,
    start_runs: bool = True,
    follow: bool = False,
) -> dict[str, int]:
    """Announce each scan of one or more beamtime folders when it is complete, and again when it has grown.

    Returns how many scans were announced and how many complete ones were seen. Raises `SourceError` if a folder is
    not there, `StoreError` if another watcher follows it with the same results folder.

    Args:
        folder: Beamtime folder, or a list of them; each folder in it that holds frames is a scan.
        stores: Folder for the results, one Zarr group per scan; with several beamtime folders one folder for each.
        poll_s: Seconds between two looks; the file system may tell of changes earlier.
        quiet_s: Seconds without any change after which a scan of complete files is complete; longer by itself where
            the frames come more slowly.
        give_up_s: Seconds without any change after which unreadable files hold up their scan no more.
        run_for_s: Seconds to watch. Empty: until cancelled. 0: one sweep of what is there.
        start_runs: Make runs of process-scan at once. Off: only announce scans, for your own triggers to answer.
        follow: Make runs of follow-scan for scans that grow: frames are ingested, normalized and shown on a live map
            as they come. process-scan takes over when the scan is complete.
    """
    logger = get_run_logger()
    results = confine(stores, "store")
    folders = [confine(one, "source") for one in (folder if isinstance(folder, list) else [folder])]
    with ExitStack() as held:
        watchers = []
        for one, place in zip(folders, _places(folders, results, isinstance(folder, list)), strict=True):
            beamtime = Beamtime(one, _is_frame_file, peek_file, quiet_s, give_up_s)
            memory = results / f".watch-{_short(str(one))}"
            held.enter_context(writer_lock(memory / "lock"))
            live = LiveRuns(max(3.0, 2 * quiet_s), time.monotonic) if follow else None
            watchers.append(_Watcher(beamtime, place, Announced(memory / "announced.json"), logger, start_runs, live))
            logger.info("Watching %s every %g s; results go to %s", one, poll_s, place)
        wake_up = WakeUp(folders, logger)
        held.callback(wake_up.close)
        return _watch(watchers, wake_up, poll_s, quiet_s + poll_s if run_for_s == 0 else run_for_s)


def _places(folders: list[Path], results: Path, one_each: bool) -> list[Path]:
    """Where the results of each beamtime folder go. Raises `SettingsError` where two would share a folder."""
    if not one_each:
        return [results]
    names = [folder.name for folder in folders]
    if not folders or len(set(names)) < len(names):
        raise SettingsError(
            f"results are sorted by the names of the beamtime folders, which are {names}; give at least one, and no "
            "two of the same name: start another watcher, with another results folder, for the second"
        )
    return [results / name for name in names]


def _watch(watchers: "list[_Watcher]", wake_up: WakeUp, poll_s: float, run_for_s: float | None) -> dict[str, int]:
    """Look again and again: every `poll_s`, when a scan is due, and when the file system tells of a change."""
    end = None if run_for_s is None else time.monotonic() + run_for_s
    while True:
        started = time.monotonic()
        complete = sum(watcher.look() for watcher in watchers)
        if end is not None and time.monotonic() >= end:
            return {"announced": sum(watcher.count for watcher in watchers), "complete": complete}
        due = min([started + poll_s, *(scan.due_at or 0.0 for watcher in watchers for scan in watcher.growing)])
        wake_up.wait(max(0.0, due - time.monotonic()), poll_s)


class _Watcher:
    """What is done about the scans of one `Beamtime`: events, runs, log."""

    def __init__(
        self,
        beamtime: Beamtime,
        results: Path,
        announced: Announced,
        logger: Logger,
        start_runs: bool,
        live: LiveRuns | None,
    ) -> None:
        self.beamtime = beamtime
        self.results = results
        self.announced = announced
        self.logger = logger
        self.start_runs = start_runs
        self.live = live
        self.count = 0
        self._ask_at: dict[str, float] = {}
        self._wait_s: dict[str, float] = {}

    @property
    def growing(self) -> list[ScanFolder]:
        return self.beamtime.growing(time.monotonic())

    def look(self) -> int:
        """Look once; announce what is complete, follow what grows. Returns how many scans are complete."""
        complete = self.beamtime.poll(time.monotonic())
        for scan in complete:
            if scan.key not in self.announced and not self._is_followed(scan):
                self._announce(scan)
        self._repeat_unanswered({scan.key: scan for scan in complete})
        if self.live is not None:
            for grown in self.growing:
                self._follow(self.live, grown)
        return len(complete)

    def _follow(self, live: LiveRuns, scan: ScanFolder) -> None:
        """Make a run that follows a scan; what was announced once is left to process-scan."""
        if scan.growths < GROWTHS or self.announced.knows(scan.folder):
            return
        try:
            run = live.follow(scan.folder, self._store(scan.name))
        except (OSError, HTTPError, PrefectException) as error:
            self.logger.warning("Scan %s grows, and no run could be made to follow it: %s", scan.name, error)
        else:
            if run is not None:
                self.logger.info("Scan %s grows: flow run %s follows it", scan.name, run.name)

    def _is_followed(self, scan: CompleteScan) -> bool:
        """True while a run that follows the scan has its store: process-scan waits for its end."""
        if self.live is None or self.announced.knows(scan.folder):
            return False
        try:
            return self.live.is_under_way(scan.folder)
        except (OSError, HTTPError, PrefectException) as error:
            self.logger.warning("Scan %s is complete; whether it is followed nobody says: %s", scan.name, error)
            return True

    def _store(self, name: str) -> Path:
        return self.results / f"{name}.zarr"

    def _announce(self, scan: CompleteScan) -> None:
        complete = ScanComplete(
            scan=scan.name,
            source=str(scan.folder),
            store=str(self._store(scan.name)),
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
