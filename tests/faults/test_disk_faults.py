"""Disks that are full or read-only, and two runs that want one store: a clear word, and no harm."""

import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from flows.ingest_scan import ingest_scan
from tasks.errors import StoreError
from tasks.store import ScanStore
from tasks.verify import verify_store

pytestmark = [pytest.mark.server, pytest.mark.timeout(900)]

N_FRAMES = 24


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory, write_scan: Callable[..., list[Path]]) -> Path:
    return write_scan(tmp_path_factory.mktemp("source"), range(N_FRAMES))[0].parent


@pytest.fixture(scope="module")
def settings(small: Callable[..., dict[str, Any]]) -> dict[str, Any]:
    return small(train={"epochs": 1}, encode={"epochs": 1})


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory, flow_runs: Any, source: Path, settings: Any) -> Path:
    store = tmp_path_factory.mktemp("undisturbed") / "scan.zarr"
    assert flow_runs(source=source, store=store, **settings)["status"] == 0
    return store


def size_kib(folder: Path) -> int:
    return sum(-(-file.stat().st_size // 4096) * 4 for file in folder.rglob("*") if file.is_file())


def remount(folder: Path, options: str) -> None:
    subprocess.run(["mount", "-o", f"remount,{options}", str(folder)], check=True)


def assert_undisturbed(store: Path, reference: Path, tree: Callable[[Path], dict[str, bytes]]) -> None:
    files, wanted = tree(store), tree(reference)
    assert sorted(files) == sorted(wanted)
    assert [name for name in files if files[name] != wanted[name]] == []
    assert ScanStore(store).frames.all() == ScanStore(reference).frames.all()
    assert verify_store(store, deep=True).is_green


def test_a_full_disk_is_named_and_the_run_goes_on_when_there_is_room(
    small_disk, flow_runs, source, settings, undisturbed, tree, tally, chance
):
    """Filled up anywhere between the first file of the store and the last one."""
    for share in (0.0, *sorted(chance.uniform(0.02, 0.9) for _ in range(3))):
        disk = small_disk(max(16, int(share * size_kib(undisturbed))))
        store = disk / "scan.zarr"
        ended = flow_runs(source=source, store=store, **settings)
        assert ended.get("error") == "StoreError", ended
        assert "its disk is full" in ended["message"]
        assert "start the same command again: finished shards are kept" in ended["message"]
        if (store / "zarr.json").exists():
            assert not verify_store(store).wrong
        remount(disk, "size=256m")
        assert "error" not in flow_runs(source=source, store=store, **settings)
        assert_undisturbed(store, undisturbed, tree)
        tally.add("full disk", identical=1)


def test_a_read_only_store_is_named_and_the_run_goes_on_when_it_is_writable(
    small_disk, flow_runs, source, settings, undisturbed, tree, tally, lives
):
    disk = small_disk(256 * 1024)
    remount(disk, "ro")
    refused = flow_runs(source=source, store=disk / "scan.zarr", **settings)
    assert refused.get("error") == "StoreError", refused
    assert "its disk is read-only" in refused["message"]
    remount(disk, "rw")
    assert flow_runs("ingest_scan", source=source, store=disk / "scan.zarr", ingest=settings["ingest"])["status"] == 0
    remount(disk, "ro")
    refused = flow_runs(source=source, store=disk / "scan.zarr", **settings)
    assert refused.get("error") == "StoreError", refused
    assert "Make it writable, or give a store on another disk" in refused["message"]
    remount(disk, "rw")
    assert "error" not in flow_runs(source=source, store=disk / "scan.zarr", **settings)
    assert_undisturbed(disk / "scan.zarr", undisturbed, tree)
    tally.add("read-only store", trials=2, identical=1)


def test_two_runs_at_once_on_one_store(
    tmp_path, flow_runs, source, settings, undisturbed, tree, tally, chance, monkeypatch
):
    """The one that comes second is refused, whichever it is, and names the other one."""
    monkeypatch.setenv("DLSIA_FLOWS_HOME", str(flow_runs.home))
    refused = 0
    for trial in range(4):
        store = tmp_path / f"scan{trial}.zarr"
        flow_runs.start(source=source, store=store, **settings)
        time.sleep(chance.uniform(0, 0.6) ** 2)
        problem = ""
        try:
            ingest_scan(source=source, store=store, ingest=settings["ingest"])
        except StoreError as error:
            problem = str(error)
            refused += 1
        assert not problem or "is being written by another run" in problem
        ended = flow_runs.ended()
        if "error" in ended:
            assert "is being written by another run" in ended["message"], ended
            refused += 1
            assert "error" not in flow_runs(source=source, store=store, **settings)
        assert_undisturbed(store, undisturbed, tree)
        tally.add("two runs on one store", identical=1)
    assert refused, "the runs never met: choose another seed"
