"""A worker that was killed is replaced, and what it had in hand is told from what still runs."""

import os
import signal
import subprocess
import sys
import uuid
from collections.abc import Callable

from deployments.kept_worker import KeptWorker
from deployments.orphans import carried_out

Until = Callable[..., None]


def sleeper(**environment: str) -> "subprocess.Popen[bytes]":
    return subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"], env=os.environ | environment)


def end(process: "subprocess.Popen[bytes]") -> None:
    process.kill()
    process.wait()


def test_a_killed_worker_is_replaced_after_its_runs_are_settled(until: Until) -> None:
    """`make serve` stayed without a worker for the rest of the night, and runs waited for ever."""
    settled: list[int] = []
    worker = KeptWorker(sleeper, lambda: settled.append(worker.process.pid))
    first = worker.process.pid
    try:
        os.kill(first, signal.SIGKILL)
        until(lambda: worker.process.pid != first, 30, "another worker")
        assert settled == [first]
        assert worker.process.poll() is None
    finally:
        worker.stop(end)
    last = worker.process
    assert last.poll() == -signal.SIGKILL
    assert worker.process is last, "a stopped worker is not replaced"


def test_a_worker_is_replaced_later_where_the_server_is_away(until: Until) -> None:
    failures = [OSError("the server is away")]

    def settle() -> None:
        if failures:
            raise failures.pop()

    worker = KeptWorker(sleeper, settle)
    first = worker.process.pid
    try:
        os.kill(first, signal.SIGKILL)
        until(lambda: worker.process.pid != first, 60, "another worker")
    finally:
        worker.stop(end)
    assert not failures


def test_a_run_is_carried_out_as_long_as_a_process_has_its_name() -> None:
    run = uuid.uuid4()
    process = sleeper(PREFECT__FLOW_RUN_ID=str(run))
    try:
        assert run in carried_out()
    finally:
        end(process)
    assert run not in carried_out()
