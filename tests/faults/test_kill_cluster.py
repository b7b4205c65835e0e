"""`kill -9` of Dask workers while they compute the shards of a scan, and of the process that they compute them for."""

import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from distributed import Client

from tasks.store import ScanStore
from tasks.verify import verify_store
from tasks.workers import Workers, run_over

pytestmark = [pytest.mark.server, pytest.mark.timeout(1200)]

N_FRAMES = 40
KILLS = 8
SLOW = """
import sys, time
from pathlib import Path

def write(item):
    out, seconds = item
    out = Path(out)
    (out / "begun").touch()
    time.sleep(seconds)
    (out / "written").write_text(out.name)
"""
ORPHAN = "import slow; from tasks.workers import *; from sys import argv; " + (
    "run_over(slow.write, [(argv[2], 3.0)], print, Workers(scheduler=argv[1]), 'a store')"
)


class Cluster:
    """A scheduler and two workers, each a process of its own, as on several machines; dead workers are replaced."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.environment = folder, os.environ | {"PYTHONPATH": f"{Path(__file__).parents[2]}:{folder}"}
        (folder / "slow.py").write_text(SLOW)
        self.scheduler = self._start("scheduler", "--host", "127.0.0.1", "--port", "0", "--no-dashboard",
                                     "--scheduler-file", str(folder / "scheduler.json"))  # fmt: skip
        while not (folder / "scheduler.json").exists():
            time.sleep(0.1)
        with Client(scheduler_file=str(folder / "scheduler.json"), set_as_default=False) as client:
            self.address = client.scheduler.address
        self.workers = [self._worker(), self._worker()]

    def _start(self, *words: str) -> "subprocess.Popen[bytes]":
        command = [sys.executable, "-W", "ignore", "-m", "distributed.cli.dask_" + words[0], *words[1:]]
        with (self.folder / "cluster.log").open("ab") as log:
            return subprocess.Popen(command, cwd=self.folder, env=self.environment, stdout=log, stderr=log)

    def _worker(self) -> "subprocess.Popen[bytes]":
        # Without a nanny the process that is killed is the one that computes.
        return self._start("worker", self.address, "--no-nanny", "--nthreads", "1", "--no-dashboard",
                           "--local-directory", str(self.folder))  # fmt: skip

    def kill_one(self, chance: random.Random) -> None:
        victim = chance.randrange(len(self.workers))
        self.workers[victim].kill()
        self.workers[victim].wait()
        self.workers[victim] = self._worker()

    def stop(self) -> None:
        for process in (*self.workers, self.scheduler):
            process.kill()
            process.wait()


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    cluster = Cluster(tmp_path_factory.mktemp("cluster"))
    yield cluster
    cluster.stop()


def test_workers_that_are_killed_cost_no_frame(
    tmp_path: Path,
    cluster: Cluster,
    flow_runs: Any,
    write_scan: Any,
    small: Any,
    tree: Any,
    tally: Any,
    chance: random.Random,
    lives: Callable[[int], bool],
) -> None:
    """Nobody runs anything again: the shards of a dead worker are computed by another one."""
    source = tmp_path / "raw"
    source.mkdir()
    write_scan(source, range(N_FRAMES))
    settings = small(train={"epochs": 1}, encode={"epochs": 1})
    assert flow_runs(source=source, store=tmp_path / "undisturbed.zarr", **settings)["status"] == 0

    kills = trial = 0
    while kills < KILLS:
        store, workers = tmp_path / f"scan{trial}.zarr", {"scheduler": cluster.address, "window": 2}
        process = flow_runs.start(source=source, store=store, workers=workers, **settings)
        while lives(process):
            time.sleep(chance.uniform(0.2, 1.5))
            if lives(process) and kills < KILLS:
                cluster.kill_one(chance)
                kills += 1
                tally.add("kill -9 Dask worker", identical=1)  # asserted below
        ended = flow_runs.ended()
        assert ended["status"] == 0, ended
        assert "error" not in ended, ended
        assert tree(store) == tree(tmp_path / "undisturbed.zarr")
        assert ScanStore(store).n_frames == N_FRAMES
        assert verify_store(store, deep=True).is_green
        trial += 1


def begun_by_another(
    cluster: Cluster, folder: Path, within: Callable[..., None]
) -> tuple[Path, Path, "subprocess.Popen[bytes]"]:
    """A process for which a worker has begun to write into the first of two folders, which takes it 3 s."""
    first, second = folder / "first", folder / "second"
    first.mkdir()
    second.mkdir()
    command = [sys.executable, "-W", "ignore", "-c", ORPHAN, cluster.address, str(first)]
    process = subprocess.Popen(command, cwd=folder, env=cluster.environment)
    within(60, (first / "begun").exists, "a worker has begun")
    return first, second, process


def test_what_a_killed_process_left_its_workers_is_waited_for(
    tmp_path: Path, cluster: Cluster, within: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else a worker would write a shard of the dead run over the one of the run that came after it."""
    first, second, killed = begun_by_another(cluster, tmp_path, within)
    os.kill(killed.pid, signal.SIGKILL)
    killed.wait()
    assert not (first / "written").exists()

    monkeypatch.syspath_prepend(str(cluster.folder))
    import slow  # type: ignore[import-not-found]

    def check(_item: object, _result: object) -> None:
        assert (first / "written").exists()
        assert (first / "written").stat().st_mtime_ns <= (second / "begun").stat().st_mtime_ns

    run_over(slow.write, [(str(second), 0.0)], check, Workers(scheduler=cluster.address), "a store")
    assert (second / "written").exists()


def test_another_store_is_not_waited_for(
    tmp_path: Path, cluster: Cluster, within: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second, busy = begun_by_another(cluster, tmp_path, within)
    monkeypatch.syspath_prepend(str(cluster.folder))
    import slow

    run_over(slow.write, [(str(second), 0.0)], lambda _i, _r: None, Workers(scheduler=cluster.address), "another")
    assert not (first / "written").exists()
    assert busy.wait(60) == 0
