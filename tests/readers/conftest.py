"""Detector files written by other libraries, as the readers will meet them.

make_file   writes frames (frame, y, x) into a file of the format that the name says, `.gz` and `.bz2` included
"""

import bz2
import gzip
from collections.abc import Callable
from pathlib import Path

import fabio
import h5py
import hdf5plugin
import numpy as np
import pytest
import tifffile
from fabio.cbfimage import CbfImage
from fabio.edfimage import EdfImage
from numpy.typing import NDArray

Frames = NDArray[np.generic]
PILATUS_TEXT = """
# Detector: PILATUS 300K, S/N 3-0140
# 2024-10-26T01:38:05.208
# Pixel_size 172e-6 m x 172e-6 m
# Exposure_time 0.9950000 s
# Count_cutoff 1382835 counts
"""


def _write_cbf(path: Path, frames: Frames) -> None:
    image = CbfImage(data=frames[0])
    image.header["_array_data.header_convention"] = "PILATUS_1.2"
    image.header["_array_data.header_contents"] = PILATUS_TEXT
    image.write(str(path))


def _write_edf(path: Path, frames: Frames) -> None:
    image = EdfImage(data=frames[0], header={"count_time": "2.5", "Dummy": "-7", "DDummy": "0.5"})
    for frame in frames[1:]:
        image.append_frame(data=frame)
    image.write(str(path))


def _write_tiff(path: Path, frames: Frames) -> None:
    compression = "zlib" if "zlib" in path.name else None
    with tifffile.TiffWriter(path, byteorder=">" if "big" in path.name else "<") as writer:
        for frame in frames:
            writer.write(
                frame,
                description=PILATUS_TEXT,
                metadata=None,
                contiguous=False,
                rowsperstrip=5,
                compression=compression,
                photometric="minisblack",
            )


def _write_hdf5(path: Path, frames: Frames) -> None:
    with h5py.File(path, "w") as file:
        group = file.create_group("entry/data")
        group.attrs["NX_class"] = "NXdata"
        group.create_dataset("data", data=frames, chunks=(1, *frames.shape[1:]), **hdf5plugin.Bitshuffle())
        file["entry/instrument/detector/count_time"] = 0.5
        file["entry/instrument/detector/count_time"].attrs["units"] = "s"


_WRITERS = {".cbf": _write_cbf, ".edf": _write_edf, ".tif": _write_tiff, ".h5": _write_hdf5}


@pytest.fixture
def make_file(tmp_path: Path) -> Callable[[str, Frames], Path]:
    def make(name: str, frames: Frames) -> Path:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        packed = path.suffix in (".gz", ".bz2")
        bare = path.with_suffix("") if packed else path
        _WRITERS[bare.suffix](bare, np.asarray(frames))
        if packed:
            pack = gzip.compress if path.suffix == ".gz" else bz2.compress
            path.write_bytes(pack(bare.read_bytes()))
            bare.unlink()
        return path

    return make


def _byte_offset(frame: Frames) -> bytes:
    """The compression as the International Tables define it, one pixel after the other."""
    stream, last = bytearray(), 0
    for value in frame.ravel().tolist():
        step, last = value - last, value
        for width in (1, 2, 4, 8):
            most = 2 ** (8 * width - 1)
            if -most < step < most:
                stream += step.to_bytes(width, "little", signed=True)
                break
            stream += (-most).to_bytes(width, "little", signed=True)
    return bytes(stream)


@pytest.fixture(scope="session")
def cbf_bytes() -> Callable[..., bytes]:
    """A CBF file without checksum, for a frame (y, x) of any integer type."""

    def build(frame: Frames) -> bytes:
        stream = _byte_offset(frame)
        sign = "signed" if frame.dtype.kind == "i" else "unsigned"
        lines = [
            "_array_data.data",
            ";",
            "--CIF-BINARY-FORMAT-SECTION--",
            "Content-Type: application/octet-stream;",
            '     conversions="x-CBF_BYTE_OFFSET"',
            f"X-Binary-Size: {len(stream)}",
            f'X-Binary-Element-Type: "{sign} {8 * frame.dtype.itemsize}-bit integer"',
            "X-Binary-Element-Byte-Order: LITTLE_ENDIAN",
            f"X-Binary-Size-Fastest-Dimension: {frame.shape[1]}",
            f"X-Binary-Size-Second-Dimension: {frame.shape[0]}",
            "",
            "",
        ]
        closing = b"\r\n--CIF-BINARY-FORMAT-SECTION----\r\n;\r\n"
        return "\r\n".join(lines).encode() + b"\x0c\x1a\x04\xd5" + stream + closing

    return build


@pytest.fixture(scope="session")
def fabio_frames() -> Callable[[Path], list[Frames]]:
    """What fabio reads, as the independent answer."""

    def read(path: Path) -> list[Frames]:
        with fabio.open(str(path)) as image:
            return [image.get_frame(index).data for index in range(image.nframes)]

    return read
