"""New files add their own frames and nothing else; the same command again computes nothing."""

import json

import numpy as np
import pytest

from tasks.store import ScanStore
from tasks.verify import verify_store

PER_FRAME = (
    *("counts", "valid", "normalized", "tiles", "familiarity", "unfamiliar", "predictions", "inpainted", "provenance"),
    *("uncertainty", "latent"),
)
FIRST, ADDED = 20, 7


def array_files(store):
    """Bytes and time of the last change of every file of every array."""
    files = [
        file for file in store.rglob("*") if file.is_file() and file.parent != store and "ledger" not in file.parts
    ]
    return {str(file.relative_to(store)): (file.read_bytes(), file.stat().st_mtime_ns) for file in files}


def shard_lines(store):
    """(array, shard, behind its last frame, void) of each line of the ledger of shards."""
    lines = (store / "ledger" / "shards.jsonl").read_text().splitlines()
    records = [json.loads(line) for line in lines]
    return [(record["array"], record["shard"], record["stop"], not record["sha256"]) for record in records]


@pytest.mark.server
def test_frames_that_are_added_are_computed_and_no_others(tmp_path, flow_runs, write_scan, run_stages, small, tree):
    store = tmp_path / "scan.zarr"
    arguments = {"source": tmp_path / "raw", "store": store, **small()}
    write_scan(tmp_path / "raw", range(FIRST))
    assert flow_runs(**arguments)["result"]["n_frames"] == FIRST
    before, lines = array_files(store), shard_lines(store)
    values = {name: ScanStore(store).read(name, 0, FIRST) for name in PER_FRAME}

    write_scan(tmp_path / "raw", range(FIRST, FIRST + ADDED))
    assert flow_runs(**arguments)["result"]["n_frames"] == FIRST + ADDED
    after = array_files(store)
    full_shards = [name for name in before if name.startswith(PER_FRAME) and "/c/0/" in f"{name}/"]
    assert len(full_shards) == len(PER_FRAME)
    kept = [name for name in before if name.startswith("models/")] + full_shards
    assert [name for name in kept if before[name] != after[name]] == []
    assert sorted(name for name in after if "models/" in name) == sorted(name for name in before if "models/" in name)
    new = shard_lines(store)[len(lines) :]
    shards = {(array, 1, FIRST + ADDED, False) for array in PER_FRAME}
    assert {line for line in new if not line[3]} == shards | {
        (a, 0, FIRST + ADDED, False) for a in ("coordinates", "cluster")
    }
    for name in PER_FRAME:
        np.testing.assert_array_equal(ScanStore(store).read(name, 0, FIRST), values[name])
    assert ScanStore(store).read("cluster", 0, FIRST + ADDED).min() >= -1
    assert verify_store(store, deep=True).is_green

    again = shard_lines(store)
    assert flow_runs(**arguments)["result"]["n_frames"] == FIRST + ADDED
    assert array_files(store) == after
    assert shard_lines(store) == again

    # What is not learned from the scan is the same for a scan that grew and one that was there at once.
    run_stages(tmp_path / "raw", tmp_path / "at_once.zarr", small(), until="tile")
    at_once, grown = tree(tmp_path / "at_once.zarr"), tree(store)
    assert {"counts/c/1/0/0", "valid/c/1/0/0", "normalized/c/1/0/0", "tiles/c/1/0/0/0"} <= set(at_once)
    assert [name for name in at_once if at_once[name] != grown[name]] == []


def test_stages_count_what_they_computed(tmp_path, write_scan, run_stages, small, trained):
    def computed() -> dict[str, int]:
        runs = run_stages(tmp_path / "raw", tmp_path / "scan.zarr", small(), model=trained, until="stitch").runs
        return {
            stage: sum(run.computed_frames for run in runs if run.stage == stage) for stage in [r.stage for r in runs]
        }

    write_scan(tmp_path / "raw", range(FIRST))
    assert list(computed().values()) == [FIRST] * 7
    write_scan(tmp_path / "raw", range(FIRST, FIRST + ADDED))
    assert list(computed().values()) == [ADDED] + [FIRST + ADDED - 16] * 6, "the partly filled shard and the new frames"
    assert list(computed().values()) == [0] * 6
