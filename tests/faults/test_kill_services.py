"""`kill -9` of server, supervisor, worker, watcher, flow under `make serve`: a scan is run once, and every run ends."""

import itertools
import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import fabio.cbfimage
import numpy as np
import pytest
import yaml
from numpy.typing import NDArray

from flows.server_api import Api
from tasks.store import ScanStore
from tasks.verify import verify_store

pytestmark = [pytest.mark.server, pytest.mark.timeout(3000)]

SHARE = 0.2
VICTIMS = ("worker", "server", "watcher", "flow", "supervisor")
N_FRAMES = 48
SHAPE = (48, 64)
CHEAP_FLOW = """
from flows.embedded_server import served_flow
from flows.ingest_scan import ingest_scan
from tasks.settings.ingest import IngestSettings


@served_flow(name="process-scan", flow_run_name="process {source}")
def process_scan(source: str, store: str) -> None:
    ingest_scan.fn(source, store, ingest=IngestSettings(batch_frames=16))
"""
ACTIVE = ["RUNNING", "PENDING", "CANCELLING", "SCHEDULED"]


def frame_of(number: int) -> NDArray[np.int32]:
    return np.random.default_rng(number).poisson(20.0, SHAPE).astype("int32")


class Served:
    """`make serve WATCH=…` with the real watcher, dispatch and ingest."""

    def __init__(self, folder: Path, process: "subprocess.Popen[bytes]") -> None:
        self.folder, self.process = folder, process
        self.beamtime, self.results = folder / "beamtime", folder / "run" / "results"

    @property
    def api(self) -> Api:
        return Api(json.loads((self.folder / "home" / "server.json").read_text())["url"])

    def runs(self, flow: str, states: list[str] | None = None) -> list[dict[str, Any]]:
        wanted: dict[str, Any] = {"flows": {"name": {"any_": [flow]}}, "sort": "START_TIME_DESC"}
        if states:
            wanted["flow_runs"] = {"state": {"type": {"any_": states}}}
        try:
            return list(self.api.call("/flow_runs/filter", wanted))
        except (OSError, ValueError):
            return [{"name": "the server does not answer"}] if states else []

    def start(self, flow: str, parameters: dict[str, Any]) -> str:
        found = self.api.call(f"/deployments/name/{flow}/{flow}")
        run = self.api.call(f"/deployments/{found['id']}/create_flow_run", {"parameters": parameters})
        return str(run["id"])

    def process_of(self, victim: str) -> int | None:
        """The process to be killed, if it is there at the moment."""
        if victim in ("server", "supervisor"):
            facts = json.loads((self.folder / "home" / "server.json").read_text())
            return int(facts["pid" if victim == "server" else "supervisor"])
        if victim == "worker":
            return next(iter(pids(lambda words, _: "worker" in words and "flows.lifeline" in words, self.folder)), None)
        flow = {"watcher": "watch-beamtime", "flow": "process-scan"}[victim]
        held = {run["id"] for run in self.runs(flow, ["RUNNING", "PENDING"]) if "id" in run}
        return next(iter(pids(lambda _, run: run in held, self.folder)), None)


def pids(matches: Callable[[list[str], str], bool], folder: Path) -> Iterator[int]:
    """Processes below the folder's launcher that match by their command line and by the run that they carry out."""
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal():
            try:
                words = (entry / "cmdline").read_bytes().decode().split("\0")
                variables = (entry / "environ").read_bytes().decode(errors="replace").split("\0")
            except OSError:
                continue
            if f"DLSIA_FLOWS_HOME={folder / 'home'}" in variables:
                run = next((one.partition("=")[2] for one in variables if one.startswith("PREFECT__FLOW_RUN_ID=")), "")
                if matches(words, run):
                    yield int(entry.name)


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory, within: Callable[..., None]) -> Iterator[Served]:
    folder, root = tmp_path_factory.mktemp("served"), Path(__file__).parents[2]
    (folder / "cheap_flow.py").write_text(CHEAP_FLOW)
    facts = yaml.safe_load((root / "deployments" / "prefect.yaml").read_text())
    kept = ("process-scan", "watch-beamtime", "dispatch-scan")
    facts["deployments"] = [one for one in facts["deployments"] if one["name"] in kept]
    for one in facts["deployments"]:
        if one["name"] == "process-scan":
            one["entrypoint"] = "cheap_flow.process_scan"
    (folder / "prefect.yaml").write_text(yaml.safe_dump(facts))
    (folder / "beamtime").mkdir()
    environment = {key: value for key, value in os.environ.items() if not key.startswith(("PREFECT_", "DLSIA_FLOWS_"))}
    environment |= {"DLSIA_FLOWS_HOME": str(folder / "home"), "DLSIA_FLOWS_PORT": "0", "CI": "true"}
    environment["PYTHONPATH"] = os.pathsep.join([str(root), str(folder)])
    command = ["-m", "deployments.launch", "--prefect-file", str(folder / "prefect.yaml"), "serve"]
    log = folder / "serve.log"
    with log.open("wb") as sink:
        process = subprocess.Popen(
            [sys.executable, "-W", "ignore", *command, "--watch", str(folder / "beamtime")],
            cwd=folder,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=sink,
            stderr=sink,
        )
    try:
        within(1000, lambda: "Watching" in log.read_text() or process.poll() is not None, "deployments are served")
        assert process.poll() is None, log.read_text()
        yield Served(folder, process)
    finally:
        process.send_signal(signal.SIGINT)
        process.wait(120)


def write_scan_of(served: Served, number: int) -> Path:
    """A scan whose frames no other scan has."""
    folder = served.beamtime / f"scan_{number}"
    hidden = served.beamtime / f".scan_{number}"
    hidden.mkdir()
    for frame in range(N_FRAMES):
        fabio.cbfimage.CbfImage(data=frame_of(1000 * number + frame)).write(str(hidden / f"frame_{frame:03d}.cbf"))
    hidden.rename(folder)
    return folder


def assert_every_frame_once(store: Path, number: int) -> None:
    counts = ScanStore(store).read("counts", 0, N_FRAMES)
    assert ScanStore(store).n_frames == N_FRAMES
    assert all(np.array_equal(counts[frame], frame_of(1000 * number + frame)) for frame in range(N_FRAMES))
    assert verify_store(store, deep=True).is_green


def is_done(store: Path) -> bool:
    """Frames are entered when arrays are there already: a store of none agrees with its ledger, too."""
    there = (store / "counts" / "zarr.json").exists()
    return there and ScanStore(store).n_frames == N_FRAMES and verify_store(store).is_green


def test_services_that_are_killed(
    served: Served, trials: int, tally: Any, chance: random.Random, within: Callable[..., None]
) -> None:
    within(600, lambda: served.process_of("watcher"), "the watcher is at work")
    for number, victim in zip(range(round(trials * SHARE)), itertools.cycle(VICTIMS), strict=False):
        source = write_scan_of(served, number)
        store = served.results / f"scan_{number}.zarr"
        if victim == "flow":
            within(300, lambda: served.process_of("flow") or (store / "counts").exists(), "the scan's run has begun")  # noqa: B023
            time.sleep(chance.uniform(0, 1))
        else:
            time.sleep(chance.uniform(0, 8))
        process = served.process_of(victim)
        if process is None:
            continue  # the flow was faster
        os.kill(process, signal.SIGKILL)
        if victim == "watcher":
            within(300, lambda: served.process_of("watcher") not in (None, process), "another watcher")  # noqa: B023
            assert all(run["state"]["message"] for run in served.runs("watch-beamtime", ["CRASHED", "FAILED"]))
        within(600, lambda: served.runs("process-scan") and not served.runs("process-scan", ACTIVE), "all runs ended")
        if not is_done(store):
            ended = [run["state"]["message"] for run in served.runs("process-scan") if run["state_type"] != "COMPLETED"]
            if victim == "flow":
                assert ended
            # A watcher or worker that was killed before it told of the scan: the next one does. Else: run it again.
            if ended:
                within(300, served.api.is_healthy, "the server is back")
                served.start("process-scan", {"source": str(source), "store": str(store)})
            within(600, lambda: is_done(store), f"the scan is processed: {ended}")  # noqa: B023
        assert_every_frame_once(store, number)
        within(600, lambda: not served.runs("process-scan", ACTIVE), "no run stays Running")
        tally.add(f"kill -9 {victim}", identical=1)
    # One that was killed last, or lost its server, is started again, which takes some seconds.
    within(120, lambda: len(served.runs("watch-beamtime", ["RUNNING"])) == 1, "the watcher is at work again")


def test_a_scan_is_run_once_however_often_its_watcher_died(served: Served) -> None:
    """Besides runs that were started again by hand, there is one for each scan and digest."""
    keys = [run["idempotency_key"] for run in served.runs("process-scan") if run["idempotency_key"]]
    assert len(keys) == len(set(keys))
