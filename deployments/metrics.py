"""Counters for Prometheus: `python -m deployments.metrics RESULTS [--port 9180]`, to be scraped at /metrics.

Frames and stages are counted from the ledgers of all stores under the results folders, so that they are right however
often workers, servers or this process were killed; runs come from the Prefect server. Listens on 127.0.0.1 unless told.
"""

import argparse
import os
import shutil
import signal
import sys
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from threading import Lock
from typing import Any

from prometheus_client import CollectorRegistry, start_http_server
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from flows.server_api import Api
from flows.server_home import HOST, home_folder, server_address
from tasks.errors import PipelineError
from tasks.store import FrameState
from tasks.store.finding import stores_in
from tasks.store.journal import Journal
from tasks.store.ledger import FrameLedger

PREFIX = "dlsia_flows"
PORT = 9180
LARGEST_PAGE = 200
"""Runs that Prefect's API gives at once."""


@dataclass
class Work:
    """What one stage has done for a scan."""

    frames: int = 0
    seconds: float = 0.0
    stored_bytes: int = 0


@dataclass
class FollowedScan:
    """The counts of one store; each look reads only what was appended since the last one."""

    path: Path
    work: dict[str, Work] = field(default_factory=dict)
    last_frame: float | None = None
    """Seconds since the epoch at which the last frame was entered."""
    _offset: int = 0

    @cached_property
    def frames(self) -> FrameLedger:
        return FrameLedger(self.path / "ledger" / "frames.jsonl")

    def refresh(self) -> None:
        """Read on. Raises `StoreError` for a damaged ledger."""
        self.frames.refresh()
        if self.frames.ingested and self.frames.ingested[-1].at:
            self.last_frame = datetime.fromisoformat(self.frames.ingested[-1].at).timestamp()
        for line, offset in Journal(self.path / "ledger" / "work.jsonl").read_lines(self._offset):
            self._offset = offset
            stage = self.work.setdefault(line["stage"], Work())
            stage.frames += line["frames"]
            stage.seconds += line["seconds"]
            stage.stored_bytes += line["bytes"]


class Exporter(Collector):
    """Looks at the stores and the server whenever it is scraped.

    roots: results folders. newest: stores that are counted one by one; older ones are added up as `scan="(older)"`, so
    that a long beamtime does not make a series of each scan.
    """

    def __init__(self, roots: Sequence[Path], newest: int = 100) -> None:
        self.roots, self.newest = roots, newest
        self._scans: dict[Path, FollowedScan] = {}
        self.unreadable = 0
        self._looking = Lock()  # two scrapers may come at once

    def collect(self) -> Iterable[Metric]:
        """All metrics as of now."""
        with self._looking:
            yield from self._of_scans(list(self._named_scans()))
            text = "Stores whose ledger cannot be read"
            yield GaugeMetricFamily(f"{PREFIX}_unreadable_stores", text, value=self.unreadable)
        yield from _of_runs()
        free = GaugeMetricFamily(f"{PREFIX}_results_free_bytes", "Free disk under a results folder", labels=["folder"])
        for root in self.roots:
            free.add_metric([str(root)], shutil.disk_usage(root).free)
        yield free

    def _named_scans(self) -> Iterator[tuple[str, FollowedScan]]:
        found = {path: root for root in self.roots for path in stores_in(root)}
        self._scans = {path: self._scans.get(path) or FollowedScan(path) for path in found}
        by_age = sorted(self._readable(), key=lambda scan: scan.last_frame or time.time(), reverse=True)
        for place, scan in enumerate(by_age):
            name = str(scan.path.relative_to(found[scan.path]))
            yield name if place < self.newest else "(older)", scan

    def _readable(self) -> Iterator[FollowedScan]:
        self.unreadable = 0
        for scan in self._scans.values():
            try:
                scan.refresh()
            except (PipelineError, OSError) as error:
                self.unreadable += 1
                sys.stderr.write(f"{scan.path} is left out: {error}\n")
            else:
                yield scan

    def _of_scans(self, scans: Sequence[tuple[str, FollowedScan]]) -> Iterator[Metric]:
        frames = GaugeMetricFamily(f"{PREFIX}_frames", "Source frames by state", labels=["scan", "state"])
        age = GaugeMetricFamily(f"{PREFIX}_last_frame_age_seconds", "Since a frame was ingested", labels=["scan"])
        done = {
            what: CounterMetricFamily(f"{PREFIX}_stage_{what}", text, labels=["scan", "stage"])
            for what, text in (
                ("seconds", "Time that a stage's task runs took"),
                ("frames", "Frames that a stage computed"),
                ("stored_bytes", "What a stage wrote"),
            )
        }
        for name in dict.fromkeys(name for name, _ in scans):
            members = [scan for other, scan in scans if other == name]
            for state in FrameState:
                frames.add_metric([name, state], sum(scan.frames.counts_by_state[state] for scan in members))
            entered = [scan.last_frame for scan in members if scan.last_frame is not None]
            if entered:
                age.add_metric([name], max(0.0, time.time() - max(entered)))
            for stage in sorted({stage for scan in members for stage in scan.work}):
                parts = [scan.work[stage] for scan in members if stage in scan.work]
                for what, metric in done.items():
                    metric.add_metric([name, stage], sum(getattr(part, what) for part in parts))
        yield from (frames, age, *done.values())


def _of_runs() -> Iterator[Metric]:
    """Runs that wait or are under way, and for how long the oldest has been waiting for a worker."""
    up = GaugeMetricFamily(f"{PREFIX}_prefect_up", "1 if the Prefect server answers")
    runs = GaugeMetricFamily(f"{PREFIX}_runs", "Runs that have not ended, by state", labels=["state"])
    age = GaugeMetricFamily(f"{PREFIX}_queue_age_seconds", "How long the oldest run that is due has been waiting")
    try:
        waiting = _active_runs()
    except (OSError, ValueError):
        up.add_metric([], 0)
        yield up
        return
    up.add_metric([], 1)
    now = time.time()
    due = [_time(run["expected_start_time"]) for run in waiting if run["state_type"] in ("SCHEDULED", "PENDING")]
    age.add_metric([], max([0.0, *(now - time_due for time_due in due)]))
    for state in sorted({run["state_name"] for run in waiting}):
        runs.add_metric([state], sum(run["state_name"] == state for run in waiting))
    yield from (up, runs, age)


def _active_runs() -> list[dict[str, Any]]:
    """Runs that are due or under way, oldest first; planned ones of a schedule are not due yet."""
    url = os.environ.get("PREFECT_API_URL") or server_address(home_folder())
    if url is None:
        raise OSError("no server is named, and the embedded one is not running")
    api = Api(url)
    active = {"type": {"any_": ["SCHEDULED", "PENDING", "RUNNING", "PAUSED", "CANCELLING"]}}
    now = datetime.now(UTC).isoformat()
    found: list[dict[str, Any]] = []
    asked = {"flow_runs": {"state": active, "expected_start_time": {"before_": now}}, "sort": "EXPECTED_START_TIME_ASC"}
    while True:
        page = api.call("/flow_runs/filter", {**asked, "offset": len(found), "limit": LARGEST_PAGE})
        found += page
        if len(page) < LARGEST_PAGE:
            return found


def _time(text: str) -> float:
    return datetime.fromisoformat(text).timestamp()


def main(arguments: list[str] | None = None) -> int:
    """Serve the metrics until a signal comes."""
    parser = argparse.ArgumentParser(prog="python -m deployments.metrics", description=__doc__)
    parser.add_argument("results", type=Path, nargs="+", help="folders under which the stores lie")
    parser.add_argument("--port", type=int, default=PORT, help=f"default {PORT}; 0: any free one")
    parser.add_argument("--host", default=HOST, help=f"address to listen on; default {HOST}: this machine only")
    parser.add_argument("--newest", type=int, default=100, help="stores that are counted one by one")
    options = parser.parse_args(arguments)
    if missing := [str(folder) for folder in options.results if not folder.is_dir()]:
        sys.stderr.write(f"no such folder: {', '.join(missing)}; give folders that hold scan stores\n")
        return 1
    registry = CollectorRegistry(auto_describe=False)
    registry.register(Exporter([folder.resolve() for folder in options.results], options.newest))
    server, thread = start_http_server(options.port, options.host, registry)
    print(f"http://{options.host}:{server.server_port}/metrics", flush=True)
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.default_int_handler)
    try:
        signal.pause()
    except KeyboardInterrupt:
        server.shutdown()
        thread.join()
    return 0


if __name__ == "__main__":
    sys.exit(main())
