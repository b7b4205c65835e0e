"""Writes keep to the borders of shards: in parallel, half a shard each lost 47 of 64 blocks."""

import numpy as np
import pytest
import zarr

from tasks.errors import StoreError
from tasks.store import ArraySpec, ScanStore


@pytest.fixture
def store(tmp_path) -> ScanStore:
    store = ScanStore.create(tmp_path / "scan.zarr")
    store.require_array("counts", ArraySpec("counts", (3, 4), ("y", "x"), "int32", 0), 8)
    return store


@pytest.mark.parametrize("rows", [slice(0, 4), slice(4, 12), slice(0, 8)])
def test_a_stored_array_is_not_written_to_past_the_store(store, rows):
    zarr.open_array(store.path / "counts", mode="r+").resize((16, 3, 4))
    with pytest.raises(ValueError, match="read-only"):
        store.array("counts")[rows] = 7
    with pytest.raises(ValueError, match="read-only"):
        store.array("counts").resize((4, 3, 4))


@pytest.mark.parametrize("n_frames", [0, 9, 16])
def test_a_shard_is_brought_whole_or_ends_the_scan(store, n_frames):
    with pytest.raises(StoreError, match="takes shards of up to 8 frames"):
        store.write_shard("counts", 0, np.ones((n_frames, 3, 4), "int32"))
