"""Files that a store writes without zarr: they must be those that zarr writes."""

from pathlib import Path

import numpy as np
import pytest
import zarr
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.dtypes import StringDType

from tasks.errors import StoreError
from tasks.store import ScanStore
from tasks.store.small_files import describe_group, write_chunk, write_file

VALUES = {
    "numbers": np.arange(7),
    "floats": np.array([0.5, np.nan, -0.0, np.inf]),
    "negative zeros": np.full(3, -0.0),
    "nothing but the fill value": np.zeros(5, "int64"),
    "flags": np.array([True, False]),
    "texts": np.array(["", "frame_00001.cbf", "ä 頁"], dtype=StringDType()),
    "empty texts": np.array(["", ""], dtype=StringDType()),
}


def files_of(folder: Path) -> dict[str, bytes]:
    return {str(file.relative_to(folder)): file.read_bytes() for file in folder.rglob("*") if file.is_file()}


def made(folder: Path, values: np.ndarray, empty: bool = False) -> zarr.Array:
    dtype, size = "string" if values.dtype.kind == "T" else values.dtype, (len(values),)
    config = {"write_empty_chunks": empty}
    return zarr.create_array(folder, shape=size, chunks=size, dtype=dtype, zarr_format=3, config=config)


@pytest.mark.parametrize("empty", [False, True], ids=["without empty chunks", "with empty chunks"])
@pytest.mark.parametrize("name", VALUES)
def test_a_chunk_has_the_bytes_that_zarr_writes(tmp_path, name, empty):
    values = VALUES[name]
    made(tmp_path / "theirs", values, empty)[...] = values
    write_chunk(made(tmp_path / "ours", values, empty), 0, values)
    assert files_of(tmp_path / "ours") == files_of(tmp_path / "theirs")


def test_fill_values_take_away_what_was_there(tmp_path):
    array = made(tmp_path, np.arange(4))
    write_chunk(array, 0, np.arange(4))
    write_chunk(array, 0, np.zeros(4, "int64"))
    assert list(files_of(tmp_path)) == ["zarr.json"]
    assert array[...].tolist() == [0] * 4


def test_a_group_has_the_bytes_that_zarr_writes(tmp_path):
    attributes = {"format": "ä", "n": 3, "nested": {"a": [1.5, None]}}
    zarr.create_group(tmp_path / "theirs", zarr_format=3, attributes=attributes)
    describe_group(tmp_path / "ours", attributes)
    assert files_of(tmp_path / "ours") == files_of(tmp_path / "theirs")


@settings(max_examples=25, deadline=None)
@given(parts=st.lists(st.integers(1, 9), min_size=1, max_size=5))
def test_a_small_array_reads_as_it_was_written_and_written_again(tmp_path_factory, parts):
    store = ScanStore.create(tmp_path_factory.mktemp("scan") / "scan.zarr")
    for size in parts:
        store.write_whole("axis", np.arange(size), ("axis",), {"units": "pixel"})
        assert store.array("axis")[...].tolist() == list(range(size))
        assert zarr.open_group(store.path)["axis"].attrs.asdict() == {"units": "pixel"}


def test_a_file_that_cannot_be_written_leaves_the_old_one(tmp_path):
    file = tmp_path / "zarr.json"
    write_file(file, b"old")
    with pytest.raises(TypeError):
        write_file(file, "no bytes")  # type: ignore[arg-type]
    assert file.read_bytes() == b"old"


@pytest.mark.parametrize("found", ["{}", '{"attributes": {"format": "of another program"}}'])
def test_a_folder_of_something_else_is_no_scan_store(tmp_path, found):
    (tmp_path / "zarr.json").write_text(found)
    with pytest.raises(StoreError, match="give a scan store"):
        ScanStore(tmp_path)
    with pytest.raises(StoreError, match="give a scan store"), ScanStore.writing(tmp_path):
        pass


def test_a_damaged_description_is_named(tmp_path):
    store = ScanStore.create(tmp_path / "scan.zarr")
    (store.path / "zarr.json").write_bytes((store.path / "zarr.json").read_bytes()[:40])
    with pytest.raises(StoreError, match=r"scan.zarr/zarr.json is damaged: .*restore it from a copy"):
        ScanStore(store.path)


def test_a_store_tells_when_its_path_holds_another_scan(tmp_path):
    store = ScanStore.create(tmp_path / "scan.zarr")
    assert store.is_same_scan()
    (store.path / "zarr.json").write_text('{"attributes": {"format": "of another program"}}')
    assert not store.is_same_scan()
    (store.path / "zarr.json").unlink()
    assert not store.is_same_scan()
