"""A scan that is packed after it was ingested, or unpacked: no frame comes twice."""

import gzip

import numpy as np
import pytest


def pack(path):
    packed = path.with_name(path.name + ".gz")
    packed.write_bytes(gzip.compress(path.read_bytes()))
    return packed


@pytest.mark.parametrize("original_stays", [True, False])
def test_frames_that_were_packed_after_ingest_are_doubles(tmp_path, write_frames, ingest_all, expected, original_stays):
    files = write_frames(tmp_path / "raw", range(3))
    ingest_all(tmp_path / "raw", tmp_path / "scan.zarr")
    for file in files:
        pack(file)
        if not original_stays:
            file.unlink()
    write_frames(tmp_path / "raw", [3])
    store = ingest_all(tmp_path / "raw", tmp_path / "scan.zarr")
    assert store.frames.counts_by_state == {"ingested": 4, "quarantined": 0, "double": 3, "pending": 0}
    np.testing.assert_array_equal(store.read("counts", 0, 4), expected(range(4)))
    assert {record.reason for record in store.frames.all() if record.state == "double"} == {
        f"the same frame as scan_{number}.cbf, packed otherwise" for number in range(3)
    }


def test_frames_that_were_ingested_packed_are_not_taken_again_unpacked(tmp_path, write_frames, ingest_all, expected):
    for file in write_frames(tmp_path / "raw", range(3)):
        pack(file)
        file.unlink()
    ingest_all(tmp_path / "raw", tmp_path / "scan.zarr")
    write_frames(tmp_path / "raw", range(3))
    for _ in range(2):
        store = ingest_all(tmp_path / "raw", tmp_path / "scan.zarr")
        assert store.frames.counts_by_state == {"ingested": 3, "quarantined": 0, "double": 3, "pending": 0}
    np.testing.assert_array_equal(store.read("counts", 0, 3), expected(range(3)))
