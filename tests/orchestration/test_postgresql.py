"""The server on a real PostgreSQL that is killed and started again while a scan is being ingested."""

import os
import pwd
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from flows.server_api import Api
from tasks.verify import verify_store

pytestmark = [pytest.mark.slow, pytest.mark.server, pytest.mark.timeout(1500)]

N_FRAMES = 48
DEBIAN = "/usr/lib/postgresql/*/bin"
INGEST = """
import sys
from flows.ingest_scan import ingest_scan
print(ingest_scan(source=sys.argv[1], store=sys.argv[2], ingest={"batch_frames": 16}).sentence)
"""
HOLD = """
import sys
from flows.embedded_server import running_server
with running_server() as url:
    print(url, flush=True)
    sys.stdin.read()
"""


class Postgres:
    """A cluster of databases of its own, in a folder of its own, on a free port of 127.0.0.1."""

    def __init__(self, programs: Path, folder: Path) -> None:
        self._programs, self._folder = programs, folder
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self._port = probe.getsockname()[1]
        self._call("initdb", "--auth=trust", "--username=prefect", "--no-sync", "--pgdata", str(folder / "data"))

    @property
    def url(self) -> str:
        return f"postgresql+asyncpg://prefect@127.0.0.1:{self._port}/postgres"

    def start(self) -> None:
        options = f"-p {self._port} -k {self._folder} -c listen_addresses=127.0.0.1 -c fsync=off"
        self._control("start", "-l", str(self._folder / "log"), "-o", options)

    def kill(self) -> None:
        """End it as a power cut does: every connection breaks, and it has to recover when it starts."""
        self._control("stop", "-m", "immediate")

    def _control(self, *words: str) -> None:
        self._call("pg_ctl", "--pgdata", str(self._folder / "data"), "-w", "-t", "300", *words)

    def _call(self, program: str, *words: str) -> None:
        # It refuses to run as root.
        user = {"user": "postgres"} if os.geteuid() == 0 else {}
        command = [str(self._programs / program), *words]
        subprocess.run(command, cwd=self._folder, check=True, stdout=subprocess.DEVNULL, **user)  # type: ignore[call-overload]


@pytest.fixture
def postgres() -> Iterator[Postgres]:
    found = shutil.which("initdb") or next(map(str, sorted(Path("/").glob(f"{DEBIAN[1:]}/initdb"))), None)
    if found is None:
        pytest.skip("no PostgreSQL server here; on Debian: apt-get install postgresql")
    with tempfile.TemporaryDirectory(prefix="dlsia-flows-", ignore_cleanup_errors=True) as folder:
        if os.geteuid() == 0:
            try:
                owner = pwd.getpwnam("postgres")
            except KeyError:
                pytest.skip("PostgreSQL does not run as root, and there is no user postgres")
            os.chown(folder, owner.pw_uid, owner.pw_gid)
        database = Postgres(Path(found).resolve().parent, Path(folder))
        database.start()
        yield database
        database.kill()


def test_a_run_outlives_its_database(
    tmp_path: Path, postgres: Postgres, isolated: dict[str, str], python: list[str], until: Callable[..., None]
) -> None:
    source, store, home = tmp_path / "raw", tmp_path / "scan.zarr", tmp_path / "home"
    words = ["-m", "deployments.simulated_beamtime", str(source), "--frames", str(N_FRAMES), "--seed", "0"]
    subprocess.run([*python, *words], env=isolated, check=True, stdout=subprocess.DEVNULL)
    environment = isolated | {
        "DLSIA_FLOWS_HOME": str(home),
        "PREFECT_LOGGING_LEVEL": "ERROR",
        "PREFECT_SERVER_DATABASE_CONNECTION_URL": postgres.url,
    }
    with holding_server(environment, python) as url:
        run_while_it_is_killed(source, store, postgres, environment, python, until)
        api = Api(url)
        (run,) = api.call("/flow_runs/filter", {"flows": {"name": {"any_": ["ingest-scan"]}}})
        assert run["state_type"] == "COMPLETED"
        task_runs = {"flow_runs": {"id": {"any_": [run["id"]]}}}

        def all_recorded() -> bool:
            states = [task["state_type"] for task in api.call("/task_runs/filter", task_runs)]
            return states == ["COMPLETED"] * (N_FRAMES // 16)

        until(all_recorded, 60, "no task run is stuck")
    assert not (home / "prefect" / "prefect.db").exists()


@contextmanager
def holding_server(environment: dict[str, str], python: list[str]) -> Iterator[str]:
    """The address of a server that stays until the end."""
    process = subprocess.Popen(
        [*python, "-c", HOLD], env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    with process:
        assert process.stdout
        yield process.stdout.readline().strip()
        process.communicate("")


def run_while_it_is_killed(
    source: Path,
    store: Path,
    postgres: Postgres,
    environment: dict[str, str],
    python: list[str],
    until: Callable[..., None],
) -> None:
    command = [*python, "-c", INGEST, str(source), str(store)]
    process = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    with process:
        committed = store / "ledger" / "shards.jsonl"
        until(lambda: committed.exists() or process.poll() is not None, 600, "the first shard is committed")
        postgres.kill()
        time.sleep(3)
        assert process.poll() is None, "the run ended before its database was gone"
        postgres.start()
        output, errors = process.communicate(timeout=900)
        assert process.returncode == 0, errors
        assert output.startswith(f"{N_FRAMES} of {N_FRAMES} frames")
        assert verify_store(store, deep=True).is_green
