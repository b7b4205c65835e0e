"""A scan store shows only published frames, refuses misfits, and says who writes."""

import json

import numpy as np
import pytest
import xarray
from hypothesis import given
from hypothesis import strategies as st

from tasks.errors import StoreError
from tasks.store import ArraySpec, FrameRange, FrameRecord, FrameState, ScanRef, ScanStore, open_store, scan_store
from tasks.store.layout import LARGEST_SHARD_BYTES

SHAPE = (5, 7)


def counts_spec() -> ArraySpec:
    return ArraySpec("counts", SHAPE, ("y", "x"), "int32", 0, "zstd")


def make_store(path, n_frames=0) -> ScanStore:
    store = ScanStore.create(path)
    store.describe({"shard_frames": 4, "frame_shape": list(SHAPE), "dtype": "int32"})
    store.require_array("counts", counts_spec(), 4)
    if n_frames:
        ingest(store, 0, n_frames)
    return store


def frames_of(start, stop):
    return np.arange(start, stop, dtype="int32")[:, None, None] + np.zeros((1, *SHAPE), "int32") + 1


def ingest(store, start, stop):
    """Write frames start to stop, whole shards at a time, and enter them in the ledger; not yet published."""
    for shard, first, last in FrameRange(start, stop).shards(4):
        file = store.write_shard("counts", shard, frames_of(first, last))
        store.commit("counts", shard, last, "lineage", file)
    header = {"facts": {"frame_number": 3, "exposure_time_s": 0.5}, "header": {"Detector": "PILATUS"}}
    store.frames.write(
        [FrameRecord(f"/d/{i}.cbf", 0, FrameState.INGESTED, 1, 1, i, "ab", header=header) for i in range(start, stop)]
    )


def test_frames_are_invisible_until_published(tmp_path):
    store = make_store(tmp_path / "scan.zarr")
    ingest(store, 0, 6)
    assert ScanStore(store.path).n_frames == 0
    store.publish()
    assert ScanStore(store.path).n_frames == 6
    np.testing.assert_array_equal(ScanStore(store.path).read("counts", 0, 6), frames_of(0, 6))


def test_growth_rewrites_the_last_shard_and_keeps_what_was_there(tmp_path):
    grown, at_once = make_store(tmp_path / "grown.zarr"), make_store(tmp_path / "at_once.zarr")
    ingest(grown, 0, 6)
    grown.publish()
    ingest(grown, 6, 11)
    grown.publish()
    ingest(at_once, 0, 11)
    at_once.publish()
    np.testing.assert_array_equal(grown.read("counts", 0, 11), frames_of(0, 11))
    for shard in range(3):
        assert grown.shard_file("counts", shard) == at_once.shard_file("counts", shard)


def test_a_store_made_after_another_has_the_files_that_zarr_alone_would_write(tmp_path, monkeypatch):
    """Descriptions of arrays are used again in one process; of another length here, and with other attributes."""

    def files(name: str, n_frames: int) -> dict[str, bytes]:
        store = make_store(tmp_path / name, n_frames)
        store.publish()
        spec = ArraySpec("latent", (3,), ("component",), "float32", 0.0, attributes={"model": name.split("-")[0]})
        store.require_array("latent", spec, 4)
        store.require_axis("y", np.arange(5), {"units": "pixel"})
        found = {str(file.relative_to(store.path)): file for file in store.path.rglob("*") if file.is_file()}
        return {name: file.read_bytes() for name, file in found.items() if "ledger" not in name and name != "zarr.json"}

    monkeypatch.setattr(scan_store, "_descriptions", {})
    files("a-first", 11)
    described = [files(name, n_frames) for name, n_frames in (("a-again", 3), ("b-again", 3))]
    for name, found in zip("ab", described, strict=True):
        monkeypatch.setattr(scan_store, "_descriptions", {})
        assert found == files(f"{name}-alone", 3)
    assert described[0] != described[1]


def test_xarray_reads_named_dimensions_and_coordinates(tmp_path):
    store = make_store(tmp_path / "scan.zarr")
    ingest(store, 0, 6)
    store.publish()
    with xarray.open_zarr(store.path, consolidated=False) as scan:
        assert scan.counts.dims == ("frame", "y", "x")
        assert list(scan.frame_name.values) == [f"{i}.cbf" for i in range(6)]
        assert {"frame", "frame_name", "exposure_time", "header"} <= set(scan.coords)
        assert float(scan.exposure_time[2]) == 0.5
        assert json.loads(str(scan.header.values[0])) == {"Detector": "PILATUS"}


def test_a_killed_run_between_commit_and_publication_is_finished_by_the_next_writer(tmp_path):
    store = make_store(tmp_path / "scan.zarr")
    ingest(store, 0, 6)
    later = ScanStore(store.path)
    with ScanStore.writing(store.path):
        later.recover()
        assert later.n_frames == 6


def test_every_frame_array_grows_together(tmp_path):
    store = make_store(tmp_path / "scan.zarr", 4)
    store.publish()
    store.require_array("normalized", ArraySpec("normalized", (2, 2), ("row", "column"), "float32", np.nan), 4)
    ingest(store, 4, 9)
    store.publish()
    assert {array.shape[0] for array in store.frame_arrays().values()} == {9}
    assert np.isnan(store.read("normalized", 0, 9)).all()


def test_two_writers_are_refused_and_the_message_names_the_first(tmp_path):
    store = make_store(tmp_path / "scan.zarr")
    refused = pytest.raises(StoreError, match=r'another run .*"pid"')
    with ScanStore.writing(store.path), refused, ScanStore.writing(store.path):
        pass
    with ScanStore.writing(store.path):
        pass


@pytest.mark.parametrize(
    "values",
    [np.zeros((4, 5, 6), "int32"), np.zeros((4, *SHAPE), "int64"), np.zeros((5, *SHAPE), "int32"), frames_of(0, 0)],
    ids=["other frame shape", "other dtype", "more than a shard", "nothing"],
)
def test_misfitting_shards_are_refused(tmp_path, values):
    store = make_store(tmp_path / "scan.zarr")
    with pytest.raises(StoreError, match="takes shards of up to 4 frames"):
        store.write_shard("counts", 0, values)


def test_a_folder_that_is_no_store_is_refused(tmp_path):
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(StoreError, match="no scan store"):
        ScanStore.create(tmp_path)
    with pytest.raises(StoreError, match="no scan store"), ScanStore.writing(tmp_path):
        pass
    assert [file.name for file in tmp_path.iterdir()] == ["notes.txt"]


def test_an_unknown_array_is_refused_with_the_known_ones(tmp_path):
    store = make_store(tmp_path / "scan.zarr")
    with pytest.raises(StoreError, match=r"no array 'tiles', only \['counts'"):
        store.array("tiles")


def test_a_path_that_holds_another_scan_by_now_is_opened_anew(tmp_path):
    path = tmp_path / "scan.zarr"
    make_store(path, 3).publish()
    assert open_store(ScanRef(str(path))).n_frames == 3
    path.rename(tmp_path / "old.zarr")
    make_store(path)
    assert open_store(ScanRef(str(path))).n_frames == 0


@given(start=st.integers(0, 50), length=st.integers(1, 50), frames=st.sampled_from([1, 2, 4, 8, 16]))
def test_shards_of_a_range_cover_it_once(start, length, frames):
    shards = list(FrameRange(start, start + length).shards(frames))
    covered = [frame for shard, first, stop in shards for frame in range(first, stop)]
    assert covered == list(range(start - start % frames, start + length))
    assert all(first == shard * frames and stop - first <= frames for shard, first, stop in shards)


@given(
    shape=st.tuples(st.integers(1, 9000), st.integers(1, 9000)),
    store_frames=st.sampled_from([1, 2, 4, 8, 16]),
)
def test_shards_divide_the_stores_and_stay_small(shape, store_frames):
    spec = ArraySpec("a", shape, ("y", "x"), "float32", 0.0)
    frames = spec.shard_frames(store_frames)
    assert store_frames % frames == 0
    assert frames == 1 or frames * spec.frame_bytes <= LARGEST_SHARD_BYTES


def test_a_folder_that_a_killed_run_left_empty_disturbs_nobody_and_is_cleared_away(tmp_path):
    store = make_store(tmp_path / "scan.zarr", 3)
    store.publish()
    (store.path / "normalized").mkdir()
    (store.path / "normalized" / "zarr.json.partial").write_text("{")
    assert "normalized" not in ScanStore(store.path).frame_arrays()
    with ScanStore.writing(store.path):
        store.recover()
    assert not (store.path / "normalized").exists()
    with xarray.open_zarr(store.path, consolidated=False) as scan:
        assert "normalized" not in scan
