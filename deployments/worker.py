"""The worker that carries out deployment runs on this machine, as a child of the launcher."""

import fcntl
import os
import shlex
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from prefect import get_client
from prefect.settings import temporary_settings
from prefect.states import Cancelling

from deployments.kept_worker import KeptWorker
from deployments.orphans import active_runs, mark_crashed, settle_orphans
from deployments.registration import WORK_POOL
from flows.server_home import ServerError, client_environment

START_PREPARED = Path(__file__).with_name("start_prepared.py")
CANCEL_TIMEOUT_S = 20.0
STOP_TIMEOUT_S = 10.0
STOPPED = "The launcher was stopped. Run it again: finished shards are kept."


@contextmanager
def running_worker(home: Path, url: str) -> Iterator["KeptWorker"]:
    """Run a worker, another one where it dies, while the context is open; then cancel the runs that are not over.

    Raises `ServerError` if another launcher has its worker on this server.
    """
    with _only_launcher(home), temporary_settings({"api.url": url}):
        mark_crashed(active_runs(WORK_POOL), "The launcher before was killed. Run it again: finished shards are kept.")
        worker = KeptWorker(lambda: _start(home, url), lambda: settle_orphans(WORK_POOL))
        try:
            yield worker
        finally:
            _cancel_runs()
            worker.stop(_stop)
            mark_crashed(active_runs(WORK_POOL), STOPPED)


@contextmanager
def prepared_start(home: Path, url: str) -> Iterator[str]:
    """Yield a command that starts a run as a copy of a process that has imported the flows.

    Until that process is ready, a few seconds, and wherever it does not fit, the command starts Python anew.
    """
    # Not in the home folder: the address of a socket has room for about a hundred characters.
    with tempfile.TemporaryDirectory(prefix="dlsia-flows-") as folder:
        address = Path(folder) / "prepared"
        prepared = subprocess.Popen(
            [sys.executable, "-m", "deployments.prepared", str(address)],
            stdin=subprocess.PIPE,
            env=client_environment(home, url),
            start_new_session=True,
        )
        try:
            yield shlex.join([sys.executable, "-S", str(START_PREPARED), str(address), "prefect.engine"])
        finally:
            prepared.kill()
            prepared.communicate()


@contextmanager
def _only_launcher(home: Path) -> Iterator[None]:
    with (home / "launcher.lock").open("a+") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            file.seek(0)
            raise ServerError(
                f"another `make serve` or `make run` is at work (pid {file.read()}, home {home}); start runs there "
                f"with `prefect deployment run`, or stop it first"
            ) from error
        file.truncate(0)
        file.write(str(os.getpid()))
        file.flush()
        yield


def _start(home: Path, url: str) -> "subprocess.Popen[bytes]":
    start = ["worker", "start", "--pool", WORK_POOL, "--type", "process", "--name", f"launcher-{os.getpid()}"]
    # A session of its own: Ctrl-C reaches the launcher alone, which then stops runs and worker in this order.
    return subprocess.Popen(
        [sys.executable, "-m", "flows.lifeline", "prefect", *start],
        stdin=subprocess.PIPE,
        env=client_environment(home, url),
        start_new_session=True,
    )


def _stop(worker: "subprocess.Popen[bytes]") -> None:
    if worker.poll() is None:
        worker.send_signal(signal.SIGINT)
        with suppress(subprocess.TimeoutExpired):
            worker.wait(STOP_TIMEOUT_S)
    with suppress(ProcessLookupError):
        os.killpg(worker.pid, signal.SIGKILL)  # the worker, if it did not listen, and flow runs it left behind
    worker.wait()


def _cancel_runs() -> None:
    runs = active_runs(WORK_POOL)
    with get_client(sync_client=True) as client:
        for run in runs:
            client.set_flow_run_state(run.id, Cancelling(message=STOPPED))
    deadline = time.monotonic() + CANCEL_TIMEOUT_S
    while runs and time.monotonic() < deadline:
        time.sleep(0.5)
        runs = active_runs(WORK_POOL)
