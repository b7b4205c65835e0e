"""Incomplete and corrupt files: refused, or read as what they were; never anything in between."""

import bz2
import gzip
import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from tasks.errors import FrameReadError
from tasks.readers import open_file, peek_file

Make = Callable[[str, NDArray[np.generic]], Path]
NAMES = ["a.cbf", "a.edf", "a.tif", "a_zlib.tif", "a.h5"]
PACKED = ["a.cbf.gz", "a.cbf.bz2", "a.edf.gz", "a.edf.bz2", "a.tif.gz", "a.tif.bz2"]


def _frames(n_frames: int) -> NDArray[np.int32]:
    """Frames (frame, 40, 30) without a single 0, so that missing pixels filled with 0 cannot pass for data."""
    return np.random.default_rng(11).integers(1, 100_000, (n_frames, 40, 30), np.int32)


def _read_all(path: Path) -> NDArray[np.generic]:
    peek_file(path)
    with open_file(path) as file:
        return np.stack([file.read(index).counts for index in range(file.peek.n_frames)])


@pytest.mark.parametrize("name", [*NAMES, *PACKED])
def test_a_cut_file_is_never_data(make_file: Make, name: str) -> None:
    """24 cuts per format: 264 in all. A cut behind the last pixel may pass, with every value right."""
    frames = _frames(1)
    path = make_file(name, frames)
    content = path.read_bytes()
    rng = np.random.default_rng(3)
    ends = [0, 1, 7, 100, len(content) // 2, len(content) - 8, len(content) - 1]
    refused = 0
    for cut in [*ends, *rng.integers(1, len(content), 17).tolist()]:
        path.write_bytes(content[:cut])
        try:
            np.testing.assert_array_equal(_read_all(path), frames)
        except FrameReadError:
            refused += 1
    assert refused >= (24 if name in PACKED else 22)


@pytest.mark.parametrize("name", ["stack.edf", "stack.tif", "stack.h5", "stack.edf.gz", "stack.tif.bz2"])
def test_a_cut_stack_is_refused_as_a_whole(make_file: Make, name: str) -> None:
    """fabio reports fewer frames for a cut EDF file, the last one partly zero."""
    path = make_file(name, _frames(5))
    content = path.read_bytes()
    # Not at the end of a frame, where what is left is a file in its own right.
    for cut in np.random.default_rng(5).integers(600, len(content) - 40, 12).tolist():
        path.write_bytes(content[:cut])
        with pytest.raises(FrameReadError, match=re.escape(name)):
            _read_all(path)


@pytest.mark.parametrize("name", ["a.cbf", "a.edf", "a.tif", "a.h5"])
def test_what_is_visibly_too_short_is_refused_by_the_header_alone(make_file: Make, name: str) -> None:
    path = make_file(name, _frames(1))
    content = path.read_bytes()
    path.write_bytes(content[: len(content) * 6 // 10])
    with pytest.raises(FrameReadError, match="truncated"):
        peek_file(path)


@pytest.mark.parametrize("name", ["a.cbf.gz", "a.edf.gz", "a.tif.gz"])
def test_a_short_file_packed_whole_is_refused_by_the_header_alone(make_file: Make, name: str) -> None:
    """The packing is intact: only the length of its content tells."""
    path = make_file(name, _frames(1))
    content = gzip.decompress(path.read_bytes())
    path.write_bytes(gzip.compress(content[: len(content) * 6 // 10]))
    with pytest.raises(FrameReadError, match="truncated"):
        peek_file(path)


def test_every_flipped_bit_in_the_pixels_of_a_cbf_is_noticed(make_file: Make) -> None:
    """fabio reads on: one flipped byte changed 978,365 pixels of a 2M frame without an error."""
    path = make_file("a.cbf", _frames(1))
    content = path.read_bytes()
    start, size = content.index(b"\x0c\x1a\x04\xd5") + 4, int(re.search(rb"X-Binary-Size: (\d+)", content)[1])
    rng = np.random.default_rng(17)
    for place in [start, start + size - 1, *rng.integers(start, start + size, 40).tolist()]:
        damaged = bytearray(content)
        damaged[place] ^= 1 << int(rng.integers(8))
        path.write_bytes(damaged)
        with pytest.raises(FrameReadError, match="Content-MD5"):
            _read_all(path)


def test_a_cbf_without_checksum_must_still_decode_to_its_last_byte(
    tmp_path: Path, cbf_bytes: Callable[..., bytes]
) -> None:
    """Streams of one element too few or too many, and one that ends inside a longer step."""
    frame = np.arange(12, dtype=np.int32).reshape(3, 4)
    content, path = cbf_bytes(frame), tmp_path / "a.cbf"
    stream = bytes([0, *[1] * 11])
    assert content.count(stream) == 1
    for wrong in (stream[:-1] + b"\x80", stream[:-3] + b"\x80\x05\x00", stream[:-2] + b"\x80\x00"):
        path.write_bytes(content.replace(stream, wrong))
        with (
            open_file(path) as file,
            pytest.raises(FrameReadError, match="elements in the compressed stream, 12 declared"),
        ):
            file.read(0)
    path.write_bytes(content.replace(b"Second-Dimension: 3", b"Second-Dimension: 2"))
    with open_file(path) as file, pytest.raises(FrameReadError, match="8 declared"):
        file.read(0)


@pytest.mark.parametrize("name", PACKED)
def test_flipped_bits_in_packed_files_are_noticed(make_file: Make, name: str) -> None:
    """gzip and bzip2 carry checksums of their content."""
    frames = _frames(1)
    path = make_file(name, frames)
    content = path.read_bytes()
    rng = np.random.default_rng(23)
    for place in rng.integers(20, len(content) - 20, 10).tolist():
        damaged = bytearray(content)
        damaged[place] ^= 1 << int(rng.integers(8))
        path.write_bytes(damaged)
        with pytest.raises(FrameReadError):
            _read_all(path)


@pytest.mark.parametrize("name", ["a.cbf", "a.edf", "a.tif", "a_zlib.tif"])
def test_damaged_headers_raise_the_projects_own_error_or_none(make_file: Make, name: str) -> None:
    """60 overwritten bytes per format, most of them in the header: no foreign exception, no frame of another shape."""
    path = make_file(name, _frames(1))
    content = path.read_bytes()
    rng = np.random.default_rng(29)
    for _ in range(60):
        damaged = bytearray(content)
        edge = min(1200, len(content))
        place = int(rng.integers(edge)) if rng.random() < 0.7 else -1 - int(rng.integers(edge))
        damaged[place] = int(rng.integers(256))
        path.write_bytes(damaged)
        try:
            with open_file(path) as file:
                assert file.read(0).counts.shape == file.peek.shape
        except FrameReadError:
            continue


@pytest.mark.parametrize("name", ["a.tif", "big.tif", "a.edf"])
def test_a_flipped_bit_of_a_header_gives_no_frame_of_other_values(make_file: Make, name: str) -> None:
    """A moved strip read 150 wrong pixels, a damaged width or Dim_2 cut the frame, and all of it passed for data."""
    frames = _frames(1)
    path = make_file(name, frames)
    content = path.read_bytes()
    head = content.index(frames[0, 0, :8].astype(">i4" if "big" in name else "<i4").tobytes())
    rng = np.random.default_rng(31)
    for place, bit in zip(rng.integers(head, size=250).tolist(), rng.integers(8, size=250).tolist(), strict=True):
        damaged = bytearray(content)
        damaged[place] ^= 1 << bit
        path.write_bytes(damaged)
        try:
            found = _read_all(path)
        except FrameReadError:
            continue
        # Of the type alone (SampleFormat) nothing else in a file tells; the other files of a scan do.
        assert found.shape == frames.shape
        assert found.dtype != frames.dtype or (found == frames).all()


@pytest.mark.parametrize("offset", [0, 1, 2])
def test_an_hdf5_file_with_a_flipped_bit_in_its_shape_costs_no_memory(make_file: Make, offset: int) -> None:
    """One frame became 2**40 frames, each of them a line in the ledger, or a frame of terabytes."""
    path = make_file("a.h5", _frames(1))
    content = path.read_bytes()
    shape = b"".join(size.to_bytes(8, "little") for size in (1, 40, 30))
    damaged = bytearray(content)
    damaged[content.index(shape) + 8 * offset + 5] ^= 1
    path.write_bytes(damaged)
    with pytest.raises(FrameReadError, match=r"a\.h5"):
        peek_file(path)


def test_a_compressed_tiff_with_a_flipped_bit_in_its_width_costs_no_memory(make_file: Make) -> None:
    path = make_file("a_zlib.tif", _frames(1))
    content = bytearray(path.read_bytes())
    width = content.index(bytes([0, 1, 4, 0, 1, 0, 0, 0, 30, 0, 0, 0]))
    content[width + 11] ^= 1
    path.write_bytes(content)
    with pytest.raises(FrameReadError, match=r"which no compression achieves|header is damaged"):
        peek_file(path)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.cbf", b"{\nHeaderID = EH:1 ;\n}\n"),
        ("a.edf", b"II*\0\x08\0\0\0"),
        ("a.edf", b"{\n}\n"),
        ("a.tif", b"###CBF: VERSION 1.5"),
        ("a.tif", b"II*\0\0\0\0\0"),
        ("a.h5", b"not HDF5"),
        ("a.cbf.gz", b"not gzip"),
        ("a.edf.bz2", b"not bzip2"),
        ("a.cbf.gz", gzip.compress(b"", mtime=0)),
        ("a.edf.bz2", bz2.compress(b" \n")),
    ],
)
def test_files_that_are_something_else_are_refused(tmp_path: Path, name: str, content: bytes) -> None:
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(FrameReadError, match=re.escape(str(path))):
        _read_all(path)


def test_nothing_reaches_standard_output(make_file: Make, capfd: pytest.CaptureFixture[str]) -> None:
    """fabio prints a line for every gzipped TIFF; tifffile logs complaints, which Python prints if nobody listens."""
    path = make_file("a.tif.gz", _frames(1))
    _read_all(path)
    plain = make_file("b.tif", _frames(3))
    plain.write_bytes(plain.read_bytes()[:-200])
    with pytest.raises(FrameReadError):
        _read_all(plain)
    assert capfd.readouterr() == ("", "")
