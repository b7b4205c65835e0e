"""Frames recorded at beamlines come back value for value, and only measured pixels are called valid."""

import gzip
import io
import shutil

import fabio
import h5py
import hdf5plugin  # noqa: F401 - registers the detector's compression
import numpy as np
import pytest
import tifffile

from tasks.errors import SourceError
from tasks.readers import find_files
from tasks.verify import verify_store

FOLDERS = [
    "cbf/p03_gisaxs",
    "edf/als733",
    "edf/esrf_bm26",
    "edf/esrf_id03",
    "edf/esrf_id16b",
    "edf/esrf_id19",
    "edf/float",
    "tiff/awkward",
    "tiff/pilatus_100k",
    "tiff/pilatus_300k",
    "hdf5",
]


def frames_by_other_means(path):
    """Every frame of a file, read by fabio, tifffile or h5py alone."""
    if path.suffix == ".h5":
        with h5py.File(path) as file:
            return list(file["entry/data/data"][()])
    if ".tif" in path.name:
        content = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
        return list(np.atleast_3d(tifffile.imread(io.BytesIO(content))[None]))
    with fabio.open(str(path)) as opened:
        return [opened.get_frame(index).data for index in range(opened.nframes)]


@pytest.mark.parametrize("folder", FOLDERS)
def test_every_frame_comes_back_value_for_value(folder, real_frames, tmp_path, ingest_all):
    source = real_frames / folder
    expected = [frame for file in find_files(str(source)) for frame in frames_by_other_means(file)]
    store = ingest_all(source, tmp_path / "scan.zarr")
    counts = store.read("counts", 0, len(expected) + 1)
    assert len(counts) == len(expected)
    for stored, frame in zip(counts, expected, strict=True):
        np.testing.assert_array_equal(stored, frame)
        assert stored.dtype == frame.dtype.newbyteorder("=")
    assert verify_store(store.path, deep=True).is_green


def test_pilatus_gaps_and_dead_pixels_are_not_valid(real_frames, tmp_path, ingest_all):
    store = ingest_all(real_frames / "cbf/p03_gisaxs", tmp_path / "scan.zarr")
    counts, valid = store.read("counts", 0, 10), store.read("valid", 0, 10)
    assert (counts == -1).sum(axis=(1, 2)).tolist() == [197_365] * 10
    assert not valid[counts < 0].any()
    cutoff = 1_382_835  # as the headers say
    np.testing.assert_array_equal(valid, (counts >= 0) & (counts <= cutoff))
    assert store.read("frame_number", 0, 10).tolist() == [5, 6, 7, 10, 15, 20, 25, 30, 35, 40]


def test_als_gaps_that_were_written_as_zero_are_not_valid(real_frames, tmp_path, ingest_all):
    store = ingest_all(real_frames / "edf/als733/AgB_10s_hi_1m.edf", tmp_path / "scan.zarr")
    [valid] = store.read("valid", 0, 1)
    assert not valid[195:212].any()  # the first gap between modules of 195 rows
    assert not valid[:, 487:494].any()
    assert valid[:195, :487].mean() > 0.99


def test_true_negative_values_stay_valid(real_frames, tmp_path, ingest_all):
    store = ingest_all(real_frames / "edf/float", tmp_path / "scan.zarr")
    assert (store.read("counts", 0, 1) < 0).any()
    assert store.read("valid", 0, 1).all()


def test_folders_of_mixed_frames_are_refused_with_a_source_for_each_group(real_frames, tmp_path, ingest_all):
    for name in ("edf/esrf_id19/ID19_D2H2T2_0000.edf", "edf/esrf_id03/medipix.edf"):
        shutil.copy(real_frames / name, tmp_path)
    with pytest.raises(SourceError, match="several shapes"):
        ingest_all(tmp_path, tmp_path / "scan.zarr")
    assert not (tmp_path / "scan.zarr").exists()
