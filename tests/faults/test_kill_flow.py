"""`kill -9` of the process that runs a flow, at random points of all stages; then the same command once more."""

import json
import os
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from flows.server_api import Api
from tasks.store import ScanStore
from tasks.verify import verify_store

pytestmark = [pytest.mark.server, pytest.mark.timeout(1200)]

N_FRAMES = 24
DAMAGED = (3, 17)
STAGES = (
    *("survey", "ingest", "normalize", "tile", "train", "familiarity", "infer", "stitch", "uncertainty"),
    *("train-encoder", "encode", "cluster", "report"),
)
KILLS = 6


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory, write_scan: Callable[..., list[Path]]) -> Path:
    """Frames, two of them damaged so that only reading them tells."""
    paths = write_scan(tmp_path_factory.mktemp("source"), range(N_FRAMES))
    for number in DAMAGED:
        content = bytearray(paths[number].read_bytes())
        content[content.index(b"\x0c\x1a\x04\xd5") + 4 + number] ^= 0x10
        paths[number].write_bytes(content)
    return paths[0].parent


@pytest.fixture(scope="module")
def settings(small: Callable[..., dict[str, Any]]) -> dict[str, Any]:
    return small(train={"epochs": 2}, encode={"epochs": 2})


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory, flow_runs: Any, source: Path, settings: Any) -> Path:
    store = tmp_path_factory.mktemp("undisturbed") / "scan.zarr"
    assert flow_runs(source=source, store=store, **settings)["status"] == 0
    return store


def wait_for(stage: str, log: Path, process: int, lives: Callable[[int], bool]) -> None:
    sign = {
        "survey": "",
        "ingest": "Executing task 'normalize'",  # it runs in the flow's own thread, without a word at its begin
        "train": "inpainting network: epoch 1",
        "train-encoder": "autoencoder: epoch 1",
    }.get(stage, f"Executing task '{stage}'")
    while lives(process) and sign not in log.read_text():
        time.sleep(0.0005)


def frames_lost_and_doubled(store: Path, reference: Path) -> tuple[int, int]:
    """Rows of the undisturbed run that are missing, and rows that hold a frame that another row holds."""
    found = [record.key for record in ScanStore(store).frames.ingested]
    wanted = [record.key for record in ScanStore(reference).frames.ingested]
    return len(set(wanted) - set(found)), len(found) - len(set(found))


def assert_undisturbed(store: Path, reference: Path, tree: Callable[[Path], dict[str, bytes]]) -> None:
    files, wanted = tree(store), tree(reference)
    assert sorted(files) == sorted(wanted), "a killed run left something behind, or lost something"
    assert [name for name in files if files[name] != wanted[name]] == []
    assert ScanStore(store).frames.all() == ScanStore(reference).frames.all()
    verdict = verify_store(store, deep=True)
    assert verdict.is_green, verdict


class Chains:
    """A part of the chains of kills, and then a look at the server that all their runs had."""

    part: int

    def test_a_flow_that_is_killed_and_run_again(
        self, tmp_path, flow_runs, source, settings, undisturbed, tree, tally, chance, lives, chain
    ):
        """Each run again is killed in its turn, in the same stage or in a later one; the last one is left to end."""
        store, hit = tmp_path / "scan.zarr", []
        for stage in sorted(chance.choices(STAGES, k=KILLS), key=STAGES.index):
            process = flow_runs.start(source=source, store=store, **settings)
            wait_for(stage, flow_runs.log, process, lives)
            time.sleep(chance.uniform(0, 0.7 if stage in ("survey", "ingest") else 0.5) ** 2)
            if lives(process):
                os.kill(process, signal.SIGKILL)
            ended = flow_runs.ended()
            assert "error" not in ended, ended
            if ended["status"] == -signal.SIGKILL:
                hit.append(stage)
            if (store / "zarr.json").exists():
                assert not verify_store(store).wrong, "what a kill leaves is unfinished, not wrong"
        assert flow_runs(source=source, store=store, **settings)["status"] == 0
        lost, doubled = frames_lost_and_doubled(store, undisturbed)
        assert_undisturbed(store, undisturbed, tree)
        for stage in hit:
            tally.add(f"kill -9 flow in {stage}", lost=lost, doubled=doubled, identical=1, quarantined=len(DAMAGED))

    @pytest.mark.usefixtures("undisturbed")
    def test_no_run_of_a_killed_process_stays_running(self, flow_runs, tally, within):
        """Last in its class: flow runs and task runs of all processes that were killed before."""
        api = Api(_address(flow_runs.home))

        def unfinished(kind: str) -> list[dict[str, Any]]:
            active = {"state": {"type": {"any_": ["RUNNING", "PENDING", "CANCELLING", "SCHEDULED"]}}}
            return list(api.call(f"/{kind}/filter", {kind: active}))

        within(30, lambda: not unfinished("flow_runs"), "all flow runs are in a final state")
        within(30, lambda: not unfinished("task_runs"), "all task runs are in a final state")
        crashed = api.call("/flow_runs/filter", {"flow_runs": {"state": {"type": {"any_": ["CRASHED"]}}}})
        assert crashed
        assert all("Start it again: finished shards are kept." in run["state"]["message"] for run in crashed)
        tally.add("runs of killed processes", trials=len(crashed), stuck=0)


class TestFirstChains(Chains):
    part = 0


class TestSecondChains(Chains):
    part = 1


def _address(home: Path) -> str:
    return str(json.loads((home / "server.json").read_text())["url"])
