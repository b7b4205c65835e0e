"""What is pruned can be made again to the bit; what cannot be proven to be stays."""

import os
import shutil
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest
import xarray

from tasks.errors import StoreError
from tasks.explain import explain
from tasks.prune import PruneSettings, prune_store
from tasks.restore import main as restore
from tasks.source_copies import Copies
from tasks.store import ScanStore
from tasks.store.pruning import proofs
from tasks.verify import verify_store

N_FRAMES = 20
NOW = PruneSettings(older_than_days=0)
RAW = PruneSettings(older_than_days=0, raw=True)
KILLED = """
import os, sys
from pathlib import Path
from tasks.prune import PruneSettings, prune_store
from tasks.restore import restore_counts
from tasks.source_copies import Copies

left = int(sys.argv[2])

def deadly(call):
    def count(*arguments, **named):
        global left
        left -= 1
        if not left:
            os.kill(os.getpid(), 9)
        return call(*arguments, **named)
    return count

os.unlink, os.fsync = deadly(os.unlink), deadly(os.fsync)
if sys.argv[3] == "restore":
    restore_counts(Path(sys.argv[1]), Copies())
else:
    done = prune_store(Path(sys.argv[1]), PruneSettings(older_than_days=0, raw=True), Copies(), dry_run=False)
    assert done.arrays, done.kept
"""
"""Killed when it is about to make the n-th change that outlives it."""


@pytest.fixture(scope="module")
def original(tmp_path_factory, write_scan, run_stages, small, trained):
    folder = tmp_path_factory.mktemp("kept")
    write_scan(folder / "raw", range(N_FRAMES))
    run_stages(folder / "raw", folder / "scan.zarr", small(), model=trained, until="stitch")
    return folder


@pytest.fixture
def scan(original, tmp_path):
    """A store that may be pruned, and its source."""
    shutil.copytree(original / "scan.zarr", tmp_path / "scan.zarr")
    return original / "raw", tmp_path / "scan.zarr"


def shards(store: Path) -> dict[str, bytes]:
    """All shards but those that may be pruned."""
    kept = [folder for folder in store.iterdir() if folder.name not in ("tiles", "predictions", "counts")]
    files = [file for folder in kept for file in folder.glob("c/**/*") if file.is_file()]
    return {str(file.relative_to(store)): file.read_bytes() for file in files}


def bytes_of(store: Path, *arrays: str) -> int:
    return sum(file.stat().st_size for array in arrays for file in (store / array / "c").rglob("*") if file.is_file())


def test_a_dry_run_proves_and_deletes_nothing(scan, tree):
    _, store = scan
    before, ledger = tree(store), (store / "ledger" / "shards.jsonl").read_bytes()
    planned = prune_store(store, NOW, Copies())
    assert planned.arrays == {name: bytes_of(store, name) for name in ("tiles", "predictions")}
    assert not planned.proof
    assert tree(store) == before
    assert (store / "ledger" / "shards.jsonl").read_bytes() == ledger


def test_scratch_arrays_go_and_the_store_can_still_be_verified(scan, capsys):
    _, store = scan
    before, size = shards(store), bytes_of(store, "tiles", "predictions")
    pruned = prune_store(store, NOW, Copies(), dry_run=False)
    assert pruned.size_bytes == size > 0
    assert shards(store) == before
    assert bytes_of(store, "tiles", "predictions") == 0
    verdict = verify_store(store, deep=True)
    assert verdict.is_green
    assert [line.split(":")[0] for line in verdict.pruned] == ["predictions", "tiles"]
    assert pruned.proof in verdict.pruned[0]
    assert str(datetime.now(UTC).date()) in verdict.pruned[0]
    (proof,) = proofs(ScanStore(store))
    assert proof["id"] == pruned.proof
    assert proof["second_copy"]["files"] == proof["derived"]["inpainted"] == N_FRAMES
    with xarray.open_zarr(store, consolidated=False) as opened:
        assert bool(np.isnan(opened.tiles).all())
    with pytest.raises(StoreError, match=r"predictions was pruned on .* python -m tasks.restore"):
        ScanStore(store).read("predictions", 0, 1)
    assert prune_store(store, NOW, Copies(), dry_run=False).kept == "there is nothing to prune"
    assert explain(store, 3)["source"]["row"] == 3


@pytest.mark.parametrize(
    ("what", "why"),
    [
        ("source is gone", "1 of 20 source files are not there with the SHA-256 of the ledger"),
        ("source has other bytes", "1 of 20 source files are not there with the SHA-256"),
        ("only a namesake is left", "1 of 20 source files are not there with the SHA-256"),
        ("bit flip in a result", "the store is not whole, 1 faults; the first: inpainted shard 0"),
        ("frame is pending", "the store is not whole"),
        ("written to a moment ago", "less than 30"),
        ("being written", "is being written by another run"),
    ],
)
def test_without_proof_all_is_kept(original, tmp_path, write_scan, run_stages, small, trained, what, why):
    source, store = tmp_path / "raw", tmp_path / "scan.zarr"
    files = write_scan(source, range(N_FRAMES))
    run_stages(source, store, small(), model=trained, until="stitch")
    copies = Copies([tmp_path / "copies"])
    settings = PruneSettings() if what == "written to a moment ago" else NOW
    (tmp_path / "copies").mkdir()
    if what == "source is gone":
        files[3].unlink()
    elif what == "source has other bytes":
        shutil.copy(files[4], files[3])
    elif what == "only a namesake is left":
        shutil.copy(files[4], tmp_path / "copies" / files[3].name)
        files[3].unlink()
    elif what == "bit flip in a result":
        shard = next(file for file in sorted((store / "inpainted" / "c").rglob("*")) if file.is_file())
        content = bytearray(shard.read_bytes())
        content[40] ^= 1
        shard.write_bytes(content)
    elif what == "frame is pending":
        write_scan(source, [N_FRAMES])
    size = bytes_of(store, "tiles", "predictions", "counts")
    if what == "being written":
        with ScanStore.writing(store):
            kept = prune_store(store, settings, copies, dry_run=False)
    else:
        kept = prune_store(store, settings, copies, dry_run=False)
    assert why in kept.kept
    assert bytes_of(store, "tiles", "predictions", "counts") == size
    assert not proofs(ScanStore(store))


def test_tiles_of_a_scan_that_was_not_inpainted_stay(tmp_path, write_scan, run_stages, small):
    write_scan(tmp_path / "raw", range(3))
    run_stages(tmp_path / "raw", tmp_path / "scan.zarr", small(), until="tile")
    assert prune_store(tmp_path / "scan.zarr", RAW, Copies(), dry_run=False).kept == "there is nothing to prune"


def test_copies_are_found_by_what_they_hold(scan, tmp_path):
    source, store = scan
    shutil.copytree(source, tmp_path / "archive" / "2026")
    moved = source.rename(source.with_name("elsewhere"))
    try:
        assert "source files are not there" in prune_store(store, NOW, Copies()).kept
        found = prune_store(store, NOW, Copies([tmp_path / "archive"]), dry_run=False)
        assert found.size_bytes > 0
        (proof,) = proofs(ScanStore(store))
        assert proof["second_copy"]["folders"] == {str(tmp_path / "archive" / "2026"): N_FRAMES}
    finally:
        moved.rename(source)


def test_running_again_computes_nothing_and_leaves_pruned_what_nobody_needs(scan, run_stages, small, trained):
    source, store = scan
    prune_store(store, RAW, Copies(), dry_run=False)
    before = shards(store)
    again = run_stages(source, store, small(), model=trained, until="stitch")
    assert sum(run.computed_frames for run in again.runs) == 0
    assert shards(store) == before
    assert bytes_of(store, "tiles", "predictions") == 0
    assert again.store.n_frames == N_FRAMES
    assert verify_store(store, deep=True).is_green


def test_other_settings_and_new_frames_make_again_what_they_need(tmp_path, write_scan, run_stages, small, trained):
    source, store = tmp_path / "raw", tmp_path / "scan.zarr"
    write_scan(source, range(N_FRAMES))
    run_stages(source, store, small(), model=trained, until="stitch")
    shutil.copytree(store, tmp_path / "untouched.zarr")
    prune_store(store, NOW, Copies(), dry_run=False)
    write_scan(source, range(N_FRAMES, N_FRAMES + 4))
    for settings in (small(), small(stitch={"window": "hann"})):
        ours = run_stages(source, store, settings, model=trained, until="stitch")
        theirs = run_stages(source, tmp_path / "untouched.zarr", settings, model=trained, until="stitch")
        for array in ("inpainted", "provenance"):
            path = getattr(ours, array).path
            assert path == getattr(theirs, array).path
            np.testing.assert_array_equal(
                ours.store.read(path, 0, N_FRAMES + 4), theirs.store.read(path, 0, N_FRAMES + 4)
            )
    assert verify_store(store, deep=True).is_green
    assert not ScanStore(store).shards.pruned("predictions")


def test_counts_go_whole_and_come_back_from_the_source(scan, write_scan, run_stages, small, trained, capsys, tree):
    source, store = scan
    before = tree(store)
    assert prune_store(store, RAW, Copies(), dry_run=False).arrays["counts"] > 0
    assert verify_store(store, deep=True).is_green
    with xarray.open_zarr(store, consolidated=False) as opened:
        assert "counts" not in opened
    extra = write_scan(source, [N_FRAMES])
    try:
        with pytest.raises(StoreError, match=r"counts was pruned on .*; make it again .*: python -m tasks.restore"):
            run_stages(source, store, small(), model=trained, until="stitch")
    finally:
        extra[0].unlink()
    assert restore([str(store)]) == 0
    assert "2 shards of counts restored" in capsys.readouterr().out
    after = tree(store)
    scratch = ("tiles/c", "predictions/c")
    assert after == {name: content for name, content in before.items() if not name.startswith(scratch)}
    assert restore([str(store)]) == 1
    assert "nothing to restore" in capsys.readouterr().err


def test_counts_do_not_come_back_from_other_files(scan, tmp_path, capsys):
    source, store = scan
    prune_store(store, RAW, Copies(), dry_run=False)
    moved = source.rename(source.with_name("elsewhere"))
    try:
        assert restore([str(store)]) == 1
        assert "source files are not there" in capsys.readouterr().err
        assert not (store / "counts" / "zarr.json").exists()
        assert restore([str(store), "--copies", str(moved)]) == 0
        assert verify_store(store, deep=True).is_green
    finally:
        moved.rename(source)


def run_and_kill(store: Path, change: int, what: str) -> int:
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parents[2]), "PREFECT_LOGGING_LEVEL": "ERROR"}
    command = [sys.executable, "-W", "ignore", "-c", KILLED, str(store), str(change), what]
    return subprocess.run(command, env=environment, capture_output=True, check=False).returncode


@pytest.mark.parametrize("change", [1, 2, 3, 5, 8])
def test_kill_9_at_any_moment_loses_nothing(scan, tree, run_stages, small, trained, change):
    source, store = scan
    before = tree(store)
    assert run_and_kill(store, change, "prune") == -9
    verdict = verify_store(store, deep=True)
    assert not verdict.wrong
    again = run_stages(source, store, small(), model=trained, until="stitch")  # works on what was left
    assert sum(run.computed_frames for run in again.runs if run.stage in ("ingest", "normalize", "stitch")) == 0
    done = prune_store(store, RAW, Copies(), dry_run=False)
    assert verify_store(store, deep=True).is_green
    assert bytes_of(store, "tiles", "predictions", "counts") == 0, done
    assert restore([str(store)]) == 0
    after = tree(store)
    assert {name: after[name] for name in after} == {name: before[name] for name in after}
    assert verify_store(store, deep=True).is_green


@pytest.mark.parametrize("change", [1, 3, 4])
def test_kill_9_of_a_restoration(scan, tree, run_stages, small, trained, change):
    source, store = scan
    before = tree(store)
    prune_store(store, RAW, Copies(), dry_run=False)
    assert run_and_kill(store, change, "restore") == -9
    run_stages(source, store, small(), model=trained, until="stitch")
    with xarray.open_zarr(store, consolidated=False) as opened:
        assert "counts" not in opened or not ScanStore(store).shards.pruned("counts")
    restore([str(store)])  # nothing is left to do if only its publication was missing
    assert verify_store(store, deep=True).is_green
    assert tree(store)["counts/c/0/0/0"] == before["counts/c/0/0/0"]


@pytest.mark.server
def test_the_flow_looks_at_all_stores_and_is_dry_unless_told(scan, flow_runs, tmp_path):
    _, store = scan
    shutil.copytree(store, tmp_path / "deeper" / "other.zarr")
    size = bytes_of(store, "tiles", "predictions")
    ended = flow_runs("prune_scans", results=tmp_path, prune={"older_than_days": 0})
    assert ended["status"] == 0, ended
    assert (ended["result"]["dry_run"], ended["result"]["size_bytes"]) == (True, 2 * size)
    assert bytes_of(store, "tiles", "predictions") == size
    ended = flow_runs("prune_scans", results=tmp_path, prune={"older_than_days": 0}, dry_run=False)
    assert [row["store"] for row in ended["result"]["table"]] == [str(tmp_path / "deeper" / "other.zarr"), str(store)]
    assert ended["result"]["size_bytes"] == 2 * size
    assert bytes_of(store, "tiles", "predictions") == 0
    assert verify_store(store).is_green
