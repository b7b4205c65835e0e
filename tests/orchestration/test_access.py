"""Who may talk to the server, and where anything listens: real servers, workers and runs."""

import os
import signal
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from flows.server_api import Api
from flows.server_home import client_environment, server_address, server_environment

PREFECT = str(Path(sys.executable).with_name("prefect"))
AUTH = "reader:secret"
LISTENING = "0A"
"""State of a socket in /proc/net/tcp."""
LOOPBACK = {"0100007F", "00000000000000000000000001000000"}


@pytest.fixture(params=["PREFECT_API_AUTH_STRING", "PREFECT_SERVER_API_AUTH_STRING"])
def variable(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def bare(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    for name in [name for name in os.environ if name.startswith(("PREFECT_", "DLSIA_FLOWS_"))]:
        monkeypatch.delenv(name)
    return monkeypatch


def test_either_name_of_the_auth_string_reaches_server_and_clients(
    tmp_path: Path, bare: pytest.MonkeyPatch, variable: str
) -> None:
    assert "PREFECT_SERVER_API_AUTH_STRING" not in server_environment(tmp_path, 1)
    bare.setenv(variable, AUTH)
    assert server_environment(tmp_path, 1)["PREFECT_SERVER_API_AUTH_STRING"] == AUTH
    assert client_environment(tmp_path, "http://x/api")["PREFECT_API_AUTH_STRING"] == AUTH


def test_runs_are_not_told_how_to_reach_the_database(tmp_path: Path, bare: pytest.MonkeyPatch) -> None:
    secret = "postgresql+asyncpg://prefect:hidden@db/prefect"
    bare.setenv("PREFECT_SERVER_DATABASE_CONNECTION_URL", secret)
    bare.setenv("PREFECT_API_DATABASE_CONNECTION_URL", secret)
    assert secret not in client_environment(tmp_path, "http://x/api").values()
    assert server_environment(tmp_path, 1)["PREFECT_SERVER_DATABASE_CONNECTION_URL"] == secret


def test_the_caller_may_be_more_or_less_patient(tmp_path: Path, bare: pytest.MonkeyPatch) -> None:
    assert client_environment(tmp_path, "http://x/api")["PREFECT_CLIENT_RETRY_EXTRA_CODES"] == "500"
    bare.setenv("PREFECT_CLIENT_MAX_RETRIES", "1")
    assert client_environment(tmp_path, "http://x/api")["PREFECT_CLIENT_MAX_RETRIES"] == "1"


def status_without_auth(url: str) -> int:
    try:
        with urllib.request.urlopen(f"{url}/deployments/name/a/b") as answer:
            return int(answer.status)
    except urllib.error.HTTPError as error:
        return error.code


@pytest.mark.slow
@pytest.mark.server
@pytest.mark.timeout(3000)
def test_serve_with_an_auth_string(
    tmp_path: Path, standins: Path, isolated: dict[str, str], python: list[str], until: Callable[..., None],
    monkeypatch: pytest.MonkeyPatch, variable: str,
) -> None:  # fmt: skip
    environment = isolated | {"DLSIA_FLOWS_HOME": str(tmp_path / "home"), "CI": "true", variable: AUTH}
    with serving(tmp_path, standins, environment, python, until) as process:
        url = str(server_address(tmp_path / "home"))
        assert status_without_auth(url) == 401
        words = ["deployment", "run", "process-scan/process-scan", "-p", "source=/data", "-p"]
        store = tmp_path / "by-hand.zarr"
        own = {"PREFECT_API_URL": url, "PREFECT_API_AUTH_STRING": AUTH, "PREFECT_HOME": str(tmp_path / "other")}
        done = subprocess.run(
            [PREFECT, *words, f"store={store}", "--watch"],
            cwd=tmp_path, env=isolated | own, capture_output=True, text=True, timeout=900,
        )  # fmt: skip
        assert done.returncode == 0, done.stdout + done.stderr
        assert (store / "runs").exists()
        code = "from standin_flows import add_up; print(add_up(4))"
        called = subprocess.run([*python, "-c", code], env=environment, capture_output=True, text=True, timeout=900)
        assert called.stdout.split() == ["6"], called.stderr
        monkeypatch.setenv(variable, AUTH)
        ended = Api(url).call("/flow_runs/filter", {"flow_runs": {"state": {"type": {"any_": ["COMPLETED"]}}}})
        assert len(ended) == 2
        assert listening(family_of(process.pid, tmp_path / "home")) <= LOOPBACK


@contextmanager
def serving(
    here: Path, standins: Path, environment: dict[str, str], python: list[str], until: Callable[..., None]
) -> Iterator["subprocess.Popen[bytes]"]:
    """`make serve` with small flows."""
    command = [*python, "-m", "deployments.launch", "--prefect-file", str(standins / "prefect.yaml"), "serve"]
    log = here / "serve.log"
    with log.open("wb") as sink:
        process = subprocess.Popen(
            command, cwd=here, env=environment, stdin=subprocess.DEVNULL, stdout=sink, stderr=sink
        )
    try:
        until(lambda: "Stop with Ctrl-C" in log.read_text() or process.poll() is not None, 900, "serving")
        assert process.poll() is None, log.read_text()
        yield process
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(60)


def family_of(pid: int, home: Path) -> set[int]:
    """Pids of the process, all its descendants, and the supervisor and server of the home folder."""
    parents, found = {}, {pid}
    for folder in Path("/proc").iterdir():
        if folder.name.isdecimal():
            try:
                parents[int(folder.name)] = int((folder / "stat").read_text().rpartition(")")[2].split()[1])
                if (folder / "cwd").readlink() == home:
                    found.add(int(folder.name))
            except OSError:
                continue
    while more := {child for child, parent in parents.items() if parent in found} - found:
        found |= more
    return found


def listening(pids: set[int]) -> set[str]:
    """Addresses, in hexadecimal as the kernel writes them, on which these processes listen for TCP."""
    sockets = set()
    for pid in pids:
        for link in Path(f"/proc/{pid}/fd").glob("*"):
            with suppress(OSError):
                sockets.add(str(link.readlink()))
    found = set()
    for table in ("/proc/net/tcp", "/proc/net/tcp6"):
        for line in Path(table).read_text().splitlines()[1:]:
            fields = line.split()
            if fields[3] == LISTENING and f"socket:[{fields[9]}]" in sockets:
                found.add(fields[1].split(":")[0])
    assert found, "nothing listens, not even the server"
    return found
