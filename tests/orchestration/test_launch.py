"""`make serve` and `make run` with small flows in the place of the real ones: server, worker, trigger, signals."""

import os
import re
import shutil
import signal
import subprocess
import sys
import time
import tomllib
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import fabio.cbfimage
import numpy as np
import pytest
import yaml

from flows.server_api import Api

pytestmark = pytest.mark.server

PREFECT = str(Path(sys.executable).with_name("prefect"))
SEND = """
import sys
from prefect.events import emit_event
for _ in range(int(sys.argv[2])):
    emit_event("beamline.scan.complete", resource={"prefect.resource.id": "beamline.scan.seven"},
               payload={"scan": "seven", "source": "/data/seven", "store": sys.argv[1], "digest": "d1"})
"""
ASK_AT_ONCE = """
import sys
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from threading import Barrier
from flows.dispatch_scan import ScanComplete, make_run
from flows.live_runs import LiveRuns
n = int(sys.argv[2])
event = ScanComplete(scan="one", source="/data/one", store=sys.argv[1], digest="d")
barrier = Barrier(n)
def ask(_):
    barrier.wait()
    return str(make_run(event).id)
with ThreadPoolExecutor(n) as pool:
    runs = set(pool.map(ask, range(n)))
def follow(_):
    run = LiveRuns(3, lambda: 0.0).follow("/data/two", sys.argv[1] + ".live")
    return run and str(run.id)
with ThreadPoolExecutor(10) as pool:
    followed = set(pool.map(follow, range(10))) - {None}
print(len(runs), len(followed))
"""
WATCH_TWO = """
import sys
from pathlib import Path
from flows import watch_beamtime as watching
first = watching.Beamtime.poll
def poll(self, now):
    if self.folder.name.endswith("-a"):
        print("ready", flush=True)
    return first(self, now)
watching.Beamtime.poll = poll
watching.watch_beamtime(folder=[Path(sys.argv[1]), Path(sys.argv[2])], stores=Path(sys.argv[3]), poll_s=0.4,
                        quiet_s=1.0, run_for_s=300, follow=True)
"""
COUNT_LIMITS = """
from prefect import get_client
with get_client(sync_client=True) as client:
    print(client.read_global_concurrency_limit_by_name("gpu").limit, len(client.read_automations()))
"""


@pytest.fixture(scope="module")
def here(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("launch")


@pytest.fixture(scope="module")
def environment(here: Path, isolated: dict[str, str]) -> dict[str, str]:
    return isolated | {"DLSIA_FLOWS_HOME": str(here / "home"), "CI": "true"}


@pytest.fixture(scope="module")
def launch(here: Path, standins: Path, environment: dict[str, str], python: list[str]) -> Callable[..., list[str]]:
    return lambda *words: [
        *python, "-m", "deployments.launch", "--prefect-file", str(standins / "prefect.yaml"), *words
    ]  # fmt: skip


@pytest.fixture(scope="module")
def served(
    here: Path, launch: Callable[..., list[str]], environment: dict[str, str], until: Callable[..., None]
) -> Iterator["subprocess.Popen[bytes]"]:
    log = here / "serve.log"
    with log.open("wb") as sink:
        process = subprocess.Popen(
            launch("serve"), cwd=here, env=environment, stdin=subprocess.DEVNULL, stdout=sink, stderr=sink
        )
    try:
        until(
            lambda: "Stop with Ctrl-C" in log.read_text() or process.poll() is not None, 300, "deployments are served"
        )
        assert process.poll() is None, log.read_text()
        yield process
    finally:
        if process.poll() is None:
            process.send_signal(signal.SIGTERM)
            process.wait(60)


@pytest.fixture
def prefect(here: Path, environment: dict[str, str]) -> Callable[..., "subprocess.CompletedProcess[str]"]:
    """Prefect's own command line, with no flag or variable that says where the server is."""

    def run(*words: str) -> "subprocess.CompletedProcess[str]":
        plain = {key: value for key, value in environment.items() if not key.startswith("DLSIA_FLOWS_")}
        return subprocess.run(
            [PREFECT, *words],
            cwd=here,
            env=plain,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=120,
        )

    return run


def runs_in(store: Path) -> list[str]:
    return (store / "runs").read_text().splitlines() if (store / "runs").exists() else []


def test_every_deployment_names_its_flow_by_module_and_flow() -> None:
    """A file entry point would put flows/ first on sys.path, where a flows/zarr.py would hide zarr."""
    facts = yaml.safe_load((Path(__file__).parents[2] / "deployments" / "prefect.yaml").read_text())
    entries = {deployment["name"]: deployment["entrypoint"] for deployment in facts["deployments"]}
    assert entries == {
        name: f"flows.{name.replace('-', '_')}.{name.replace('-', '_')}"
        for name in (
            "process-scan",
            "ingest-scan",
            "plan-scan",
            "train-inpainting",
            "compare-inpainting",
            "sweep-inpainting",
            "study-latent-space",
            "train-segmentation",
            "propose-labels",
            "process-beamtime",
            "segment-volume",
            "report-instances",
            "cluster-shapes",
            "prune-scans",
            "follow-scan",
            "watch-beamtime",
            "health-check",
            "shift-report",
            "dispatch-scan",
        )
    }


@pytest.mark.usefixtures("served")
def test_the_command_line_finds_the_server_and_a_run_completes(
    here: Path, prefect: Callable[..., "subprocess.CompletedProcess[str]"]
) -> None:
    store = here / "by-hand.zarr"
    words = ["deployment", "run", "process-scan/process-scan", "-p", "source=/data", "-p", f"store={store}", "--watch"]
    done = prefect(*words)
    assert done.returncode == 0, done.stdout + done.stderr
    assert len(runs_in(store)) == 1


def api(here: Path) -> Api:
    return Api(tomllib.loads((here / "prefect.toml").read_text())["api"]["url"])


@pytest.mark.usefixtures("served")
@pytest.mark.parametrize("events", [3, pytest.param(50, marks=[pytest.mark.faults, pytest.mark.timeout(1200)])])
def test_events_for_one_scan_give_one_run_however_many_come_at_once(
    here: Path, python: list[str], environment: dict[str, str], until: Callable[..., None], events: int
) -> None:
    store = here / f"by-{events}-events.zarr"
    wanted = {"flows": {"name": {"any_": ["dispatch-scan"]}}, "flow_runs": {"state": {"name": {"any_": ["Completed"]}}}}

    def answered() -> int:
        with suppress(OSError):  # a server that is asked so much may be slow to tell
            return int(api(here).call("/flow_runs/count", wanted))
        return -1

    before = answered()
    assert before >= 0
    subprocess.run([*python, "-c", SEND, str(store), str(events)], cwd=here, env=environment, check=True, timeout=60)
    until(lambda: runs_in(store), 8 * events + 60, "the trigger's run has ended")
    until(lambda: answered() == before + events, 8 * events + 60, "all were answered")
    assert len(runs_in(store)) == 1


@pytest.mark.usefixtures("served")
@pytest.mark.slow
def test_fifty_that_ask_for_the_run_at_once_get_the_same_one(
    here: Path, python: list[str], environment: dict[str, str], until: Callable[..., None]
) -> None:
    """Watcher, triggers and a person may ask in the same instant."""
    store = here / "by-fifty.zarr"
    command = [*python, "-c", ASK_AT_ONCE, str(store), "50"]
    done = subprocess.run(command, cwd=here, env=environment, capture_output=True, text=True, timeout=200)
    assert done.stdout.split() == ["1", "1"], done.stderr
    until(lambda: runs_in(store), 120, "the run has ended")
    assert len(runs_in(store)) == 1


@pytest.mark.usefixtures("served")
@pytest.mark.skipif(shutil.which("curl") is None, reason="there is no curl")
def test_the_way_by_http_that_the_readme_shows_starts_a_run(here: Path, until: Callable[..., None]) -> None:
    readme = (Path(__file__).parents[2] / "README.md").read_text()
    script = re.search(r"```bash\n(API=.*?)```", readme, re.DOTALL)
    assert script, "README no longer shows how to send the event with curl"
    store = here / "by-http.zarr"
    shown = script[1].replace("http://127.0.0.1:4200/api", api(here).url).replace("/results/scan1.zarr", str(store))
    plain = {key: value for key, value in os.environ.items() if "proxy" not in key.lower()}
    done = subprocess.run(["bash", "-euc", shown], cwd=here, env=plain, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stdout + done.stderr
    until(lambda: runs_in(store), 120, "the trigger's run has ended")
    assert runs_in(store)[0].endswith("/data/scan1")


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.usefixtures("served")
def test_a_watcher_that_is_killed_again_and_again_fires_once_for_each_scan(
    here: Path, python: list[str], environment: dict[str, str], until: Callable[..., None]
) -> None:
    """Two beamtimes, and a scan that grows; kill -9 before, while and after scans are announced."""
    stores, beamtimes, frame = here / "watched", [here / "beamtime-a", here / "beamtime-b"], here / "frame.cbf"
    fabio.cbfimage.CbfImage(data=np.ones((8, 9), np.int32)).write(str(frame))
    expected = []
    for number, pause_s in enumerate((0.0, 2.0, 4.0)):
        for beamtime in beamtimes:
            (beamtime / f"scan{number}").mkdir(parents=True)
            shutil.copy(frame, beamtime / f"scan{number}" / "a.cbf")
            expected.append(stores / beamtime.name / f"scan{number}.zarr")
        command = [*python, "-c", WATCH_TWO, *map(str, beamtimes), str(stores)]
        with (
            (here / "watch.log").open("ab") as log,
            subprocess.Popen(command, cwd=here, env=environment, stdout=subprocess.PIPE, stderr=log) as watcher,
        ):
            assert watcher.stdout
            assert watcher.stdout.readline() == b"ready\n"
            time.sleep(pause_s)
            watcher.kill()
    growing = beamtimes[0] / "growing"
    growing.mkdir()
    with (
        (here / "watch.log").open("ab") as log,
        subprocess.Popen(command, cwd=here, env=environment, stdout=subprocess.PIPE, stderr=log) as watcher,
    ):
        try:
            for number in range(200):
                if (stores / "beamtime-a" / "growing.zarr" / "followed").exists():
                    break
                shutil.copy(frame, growing / f"{number}.cbf")
                time.sleep(0.5)
            expected.append(stores / "beamtime-a" / "growing.zarr")
            until(lambda: all(runs_in(store) for store in expected), 120, "every scan has a run")
        finally:
            watcher.kill()
    assert [len(runs_in(store)) for store in expected] == [1] * len(expected)
    (followed,) = (expected[-1] / "followed").read_text().splitlines()
    assert float(followed.split()[0]) + 2 <= float(runs_in(expected[-1])[0].split()[0]), "one after the other"


@pytest.mark.usefixtures("served")
def test_the_gpu_limit_and_the_automations_are_there_once(
    here: Path, python: list[str], environment: dict[str, str]
) -> None:
    done = subprocess.run(
        [*python, "-c", COUNT_LIMITS], cwd=here, env=environment, capture_output=True, text=True, timeout=60
    )
    # One automation against zombie runs, one for the trigger of dispatch-scan.
    assert done.stdout.split() == ["1", "2"], done.stderr


@pytest.mark.usefixtures("served")
def test_a_second_launcher_is_refused_and_told_what_to_do(
    here: Path, launch: Callable[..., list[str]], environment: dict[str, str]
) -> None:
    done = subprocess.run(launch("serve"), cwd=here, env=environment, capture_output=True, text=True, timeout=60)
    assert done.returncode == 2
    assert "another `make serve` or `make run` is at work" in done.stderr


@pytest.mark.parametrize(
    ("content", "message"),
    [(None, "no such file or folder"), ([], "nothing matches"), (["notes.txt"], "1 other files")],
)
def test_data_that_cannot_be_used_is_refused_before_anything_starts(
    tmp_path: Path,
    content: list[str] | None,
    message: str,
    launch: Callable[..., list[str]],
    environment: dict[str, str],
) -> None:
    if content is not None:
        (tmp_path / "data").mkdir()
        for name in content:
            (tmp_path / "data" / name).touch()
    fresh = environment | {"DLSIA_FLOWS_HOME": str(tmp_path / "home")}
    done = subprocess.run(
        launch("run", "--data", "data"), cwd=tmp_path, env=fresh, capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 2
    assert message in done.stderr
    assert not (tmp_path / "home").exists()


def test_ctrl_c_cancels_the_run_stops_the_worker_and_removes_the_pointer(
    here: Path,
    served: "subprocess.Popen[bytes]",
    prefect: Callable[..., "subprocess.CompletedProcess[str]"],
    until: Callable[..., None],
) -> None:
    words = ["-p", "source=/data", "-p", f"store={here / 'never.zarr'}", "-p", "sleep_s=600"]
    assert prefect("deployment", "run", "process-scan/process-scan", *words).returncode == 0
    until(lambda: len(children_of(served.pid)) > 2, 30, "the run has a process")
    time.sleep(3)  # let it come to its sleep
    before = children_of(served.pid)
    served.send_signal(signal.SIGINT)
    assert served.wait(40) == 0
    until(lambda: not any(map(is_alive, before - server_processes(here))), 10, "worker and run have ended")
    assert not (here / "prefect.toml").exists()
    assert runs_in(here / "never.zarr") == []


def children_of(pid: int) -> set[int]:
    """Pids of all descendants."""
    parents = {}
    for folder in Path("/proc").iterdir():
        if folder.name.isdecimal():
            try:
                parents[int(folder.name)] = int((folder / "stat").read_text().rpartition(")")[2].split()[1])
            except OSError:
                continue
    found = {pid}
    while more := {child for child, parent in parents.items() if parent in found} - found:
        found |= more
    return found - {pid}


def server_processes(here: Path) -> set[int]:
    """Pids that work in the home folder: supervisor and server, which stay for the grace time."""
    found = set()
    for folder in Path("/proc").iterdir():
        if folder.name.isdecimal():
            try:
                if (folder / "cwd").readlink() == here / "home":
                    found.add(int(folder.name))
            except OSError:
                continue
    return found


def is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True
