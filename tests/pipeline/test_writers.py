"""Parts that are written at once never share a shard; those that would are refused."""

import threading
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from flows.batches import batches_of
from tasks.errors import StoreError
from tasks.stage import RunPlan, place, run_shards
from tasks.store import ArrayRef, ArraySpec, FrameRange, ScanRef
from tasks.verify import verify_store
from tasks.workers import Workers

STAGE = {"stage": "double", "version": 1, "settings": {}}


@pytest.fixture
def doubled(tmp_path, write_frames, ingest_all) -> ArrayRef:
    write_frames(tmp_path / "raw", range(40))
    store = ingest_all(tmp_path / "raw", tmp_path / "scan.zarr")
    plan = RunPlan(ScanRef(str(store.path)), {})
    spec = ArraySpec("doubled", store.array("counts").shape[1:], ("row", "column"), "int32", 0)
    return place(plan, [spec], STAGE, [])[0]


def double(store: Any, start: int, stop: int) -> list[np.ndarray]:
    return [2 * store.read("counts", start, stop)]


def test_two_writers_of_one_shard_are_refused_and_the_first_ends_well(doubled):
    begun, refused = threading.Event(), threading.Event()

    def slowly(store: Any, start: int, stop: int) -> list[np.ndarray]:
        begun.set()
        assert refused.wait(60)
        return double(store, start, stop)

    first = threading.Thread(target=run_shards, args=([doubled], FrameRange(0, 20), slowly, Workers(threads=1)))
    first.start()
    try:
        assert begun.wait(60)
        with pytest.raises(StoreError, match=r"frames 20 to 39 share shard 1 of .*doubled.* must end where shards end"):
            run_shards([doubled], FrameRange(20, 40), double, Workers(threads=1))
        # On threads of its own: those of the first wait.
        run_shards([doubled], FrameRange(32, 40), double, Workers(threads=2))
    finally:
        refused.set()
        first.join()
    run_shards([doubled], FrameRange(0, 40), double, Workers(threads=1))
    verdict = verify_store(doubled.scan.path)
    assert verdict.is_green, verdict


def test_a_writer_that_failed_leaves_the_shard_to_the_next(doubled):
    def fail(_store: Any, _start: int, _stop: int) -> list[np.ndarray]:
        raise OSError("disk")

    with pytest.raises(OSError, match="disk"):
        run_shards([doubled], FrameRange(0, 40), fail, Workers(threads=1))
    assert run_shards([doubled], FrameRange(0, 40), double, Workers(threads=1)).computed_frames == 40


@given(st.integers(0, 700), st.integers(1, 16), st.sampled_from([1, 2, 4, 8, 16]))
def test_batches_end_where_shards_end(n_frames, batch_shards, shard_frames):
    batches = batches_of(n_frames, 16 * batch_shards)
    touched = [shard for batch in batches for shard, _, _ in batch.shards(shard_frames)]
    assert touched == sorted(set(touched))
