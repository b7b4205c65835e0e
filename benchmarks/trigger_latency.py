"""Seconds from the last byte of a scan to its run: `python benchmarks/trigger_latency.py [--scans 50]`.

`make serve WATCH=…` is started in an empty folder. Scans of one small frame without gaps are written one after the
other, each when the run before has ended, at a random time after it. Told are the seconds until the run was made and
until it was running.
"""

import argparse
import os
import random
import signal
import statistics
import subprocess
import sys
import tempfile
import time
import tomllib
from datetime import datetime
from pathlib import Path
from typing import Any

import fabio.cbfimage
import numpy as np

from flows.server_api import Api

PATIENCE_S = 300.0


def wait_for(condition: Any, what: str) -> Any:
    """Ask ten times a second until there is an answer."""
    deadline = time.monotonic() + PATIENCE_S
    while not (found := condition()):
        if time.monotonic() > deadline:
            raise SystemExit(f"not within {PATIENCE_S:g} s: {what}")
        time.sleep(0.1)
    return found


def write_scan(folder: Path, number: int) -> float:
    """Write a scan; return when its last byte was on disk."""
    folder.mkdir()
    counts = np.random.default_rng(number).poisson(9, (64, 64)).astype(np.int32)
    fabio.cbfimage.CbfImage(data=counts).write(str(folder / "scan_00000.cbf"))
    return time.time()


def run_of(api: Api, source: Path) -> dict[str, Any] | None:
    """The run of process-scan for a source, if there is one."""
    wanted = {"flows": {"name": {"any_": ["process-scan"]}}, "sort": "EXPECTED_START_TIME_DESC", "limit": 5}
    runs = [run for run in api.call("/flow_runs/filter", wanted) if run["parameters"].get("source") == str(source)]
    return runs[0] if runs else None


def ended_run(api: Api, source: Path) -> dict[str, Any]:
    """Wait for the end of the run for a source."""

    def ended() -> dict[str, Any] | None:
        run = run_of(api, source)
        return run if run and run["state_type"] in ("COMPLETED", "FAILED", "CRASHED") else None

    return dict(wait_for(ended, f"the end of a run for {source}"))


def seconds(stamp: str) -> float:
    return datetime.fromisoformat(stamp).timestamp()


def measure(api: Api, beamtime: Path, n_scans: int) -> list[tuple[float, float]]:
    """Seconds until each run was made, and until it was running."""
    measured = []
    for number in range(n_scans):
        time.sleep(1 + random.random() * 2)  # the watcher is at any point between two looks
        source = beamtime / f"scan{number:03d}"
        written = write_scan(source, number)
        run = ended_run(api, source)
        measured.append((seconds(run["created"]) - written, seconds(run["start_time"]) - written))
        print(f"{number:4d}  made {measured[-1][0]:5.2f} s  running {measured[-1][1]:5.2f} s  {run['state_name']}")
        sys.stdout.flush()
    return measured


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--scans", type=int, default=50)
    parser.add_argument("--keep", type=Path, help="folder to leave logs and stores in; default: none is kept")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        here = (options.keep or Path(name)).resolve()
        (here / "beamtime").mkdir(parents=True)
        environment = os.environ | {
            "DLSIA_FLOWS_HOME": str(here / "home"),
            "DLSIA_FLOWS_PORT": "0",
            "PYTHONPATH": str(Path(__file__).resolve().parents[1]),
        }
        if options.keep:
            environment["PREFECT_LOGGING_LEVEL"] = "DEBUG"  # says what a client waits for, and how long
        command = [sys.executable, "-W", "ignore", "-m", "deployments.launch", "serve"]
        command += ["--watch", str(here / "beamtime")]
        with (here / "serve.log").open("wb") as log:
            serve = subprocess.Popen(command, cwd=here, env=environment, stdout=log, stderr=log)
        try:
            wait_for(lambda: "Watching" in (here / "serve.log").read_text(), "deployments are served")
            api = Api(tomllib.loads((here / "prefect.toml").read_text())["api"]["url"])
            wanted = {
                "flows": {"name": {"any_": ["watch-beamtime"]}},
                "flow_runs": {"state": {"name": {"any_": ["Running"]}}},
            }
            wait_for(lambda: api.call("/flow_runs/count", wanted), "the watcher is running")
            measured = measure(api, here / "beamtime", options.scans)
        finally:
            serve.send_signal(signal.SIGTERM)
            serve.wait(60)
    for what, column in (("run made", 0), ("run running", 1)):
        values = [row[column] for row in measured]
        print(
            f"last byte to {what}: median {statistics.median(values):.2f} s, worst {max(values):.2f} of {len(values)}"
        )


if __name__ == "__main__":
    main()
