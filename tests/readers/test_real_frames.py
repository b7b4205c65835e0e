"""Published detector frames: every file value for value as fabio, tifffile and h5py read it."""

import gzip
import io
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import h5py
import hdf5plugin  # noqa: F401  (registers the filters of the EIGER file)
import numpy as np
import pytest
import tifffile
from numpy.typing import NDArray
from skimage.io import imread

from tasks.readers import ValidityRule, find_files, frame_number, header_facts, open_file, peek_file, valid_pixels

FORMATS = ["cbf", "edf", "tiff", "hdf5"]


@pytest.mark.parametrize("name", FORMATS)
def test_every_real_file_is_read_value_for_value(
    real_frames: Path, fabio_frames: Callable[[Path], list[NDArray[np.generic]]], name: str
) -> None:
    files = find_files(f"{real_frames / name}/**/*")
    assert files
    for path in files:
        with open_file(path) as file:
            assert file.peek == peek_file(path)
            frames = [file.read(index) for index in range(file.peek.n_frames)]
        expected = fabio_frames(path) if name in ("cbf", "edf") else _reference(path)
        assert len(frames) == len(expected), path
        for frame, counts in zip(frames, expected, strict=True):
            np.testing.assert_array_equal(frame.counts, counts, err_msg=str(path))
            assert frame.counts.dtype == counts.dtype
            assert json.loads(json.dumps(frame.header)) == frame.header


def _reference(path: Path) -> list[NDArray[np.generic]]:
    if path.suffix == ".h5":
        with h5py.File(path) as file:
            return list(file["entry/data/data"][()])
    content = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
    return [tifffile.imread(io.BytesIO(content))]


def test_holes_in_the_numbering_of_a_time_scan(real_frames: Path) -> None:
    files = find_files(str(real_frames / "cbf/p03_gisaxs"))
    assert [frame_number(file) for file in files] == [5, 6, 7, 10, 15, 20, 25, 30, 35, 40]


def _first(path: Path) -> tuple[NDArray[np.generic], NDArray[np.bool_]]:
    with open_file(path) as file:
        frame = file.read(0)
    return frame.counts, valid_pixels(frame.counts, header_facts(frame.header), ValidityRule())


def test_gaps_of_p03_frames_are_those_of_the_published_mask(real_frames: Path) -> None:
    published = imread(real_frames / "detector_masks/Dectris__Pilatus2M_gaps-mask.png")
    gap = published.reshape(*published.shape[:2], -1)[..., 0] == 0  # black = not measured
    counts, valid = _first(find_files(str(real_frames / "cbf/p03_gisaxs"))[0])
    assert int(gap.sum()) == 197_365
    np.testing.assert_array_equal(gap, counts == -1)
    assert not valid[gap].any()
    np.testing.assert_array_equal(valid, (counts >= 0) & (counts <= 1_382_835))
    assert int((counts == 4_194_300).sum()) > 0


def test_gaps_of_als_frames_hold_zero(real_frames: Path) -> None:
    counts, valid = _first(real_frames / "edf/als733/AgB_10s_hi_1m.edf")
    assert int((~valid).sum()) == 73_533
    assert not counts[~valid].any()


def test_markers_of_eiger_and_16_bit_frames(real_frames: Path) -> None:
    counts, valid = _first(real_frames / "hdf5/eiger_vac_007_data_000001.h5")
    np.testing.assert_array_equal(valid, counts != 2**32 - 1)
    counts, valid = _first(real_frames / "tiff/awkward/n4_glass_0cl_air_0_vd_00001-0000.tif")
    np.testing.assert_array_equal(valid, counts != 65535)


def test_true_negative_values_stay_valid(real_frames: Path) -> None:
    counts, valid = _first(real_frames / "edf/float/sinogram.edf")
    assert float(counts.min()) < 0
    assert valid.all()


def test_facts_of_real_headers(real_frames: Path) -> None:
    with open_file(find_files(str(real_frames / "cbf/p03_gisaxs"))[0]) as file:
        p03 = header_facts(file.read(0).header)
    assert (p03.exposure_time_s, p03.count_cutoff, p03.timestamp) == (0.995, 1_382_835, "2024-10-26T01:38:05.208")
    assert (p03.detector, p03.pixel_size_m) == ("PILATUS 2M, S/N 24-0104, EMBL", (172e-6, 172e-6))
    with open_file(real_frames / "edf/als733/AgB_10s_hi_1m.edf") as file:
        header = file.read(0).header
    als = header_facts(header)
    assert (als.exposure_time_s, als.timestamp) == (10.0, "2013-07-19T00:42:22")
    assert (header["sidecar.1"], header["sidecar.X"]) == ("1455563.000", "-80.998")


def test_readers_load_no_orchestration_and_no_storage() -> None:
    """Nor pyFAI, which takes a second, before somebody asks for gaps."""
    code = "import sys, tasks.readers; print([m for m in ('prefect', 'zarr', 'dask', 'pyFAI') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout.strip() == "[]"
