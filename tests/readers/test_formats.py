"""Every format and packing gives back what was written: values, dtype, header, digest."""

import gzip
import hashlib
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from tasks.errors import FrameReadError
from tasks.readers import header_facts, open_file, peek_file

Make = Callable[[str, NDArray[np.generic]], Path]
Cbf = Callable[..., bytes]
INTEGERS = ["int8", "uint8", "int16", "uint16", "int32", "uint32", "int64", "uint64"]
NAMES = [
    "a.cbf",
    "a.cbf.gz",
    "a.cbf.bz2",
    "a.edf",
    "a.edf.gz",
    "a.edf.bz2",
    "a.tif",
    "a.tif.gz",
    "a_zlib.tif.bz2",
    "a.h5",
]


def _random(dtype: str, n_frames: int = 1) -> NDArray[np.generic]:
    """Frames (frame, 23, 17) over the whole range of the type, both ends included."""
    rng = np.random.default_rng(7)
    if dtype.startswith("float"):
        return rng.normal(0, 1e6, (n_frames, 23, 17)).astype(dtype)
    limits = np.iinfo(dtype)
    frames = rng.integers(limits.min, limits.max, (n_frames, 23, 17), dtype, endpoint=True)
    frames[:, 0, :2] = limits.min, limits.max
    return frames


@pytest.mark.parametrize("name", NAMES)
def test_every_format_and_packing_gives_back_what_was_written(make_file: Make, name: str) -> None:
    frames = _random("int32") // 4  # fabio's own encoder fails where a step is exactly -2**31
    path = make_file(name, frames)
    with open_file(path) as file:
        frame = file.read(0)
        assert file.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()
        assert file.peek == peek_file(path)
    assert file.peek.n_frames == 1
    assert (file.peek.shape, file.peek.dtype) == ((23, 17), "int32")
    assert (file.peek.size_bytes, file.peek.mtime_ns) == (path.stat().st_size, path.stat().st_mtime_ns)
    assert frame.counts.dtype == np.int32
    assert frame.counts.dtype.isnative
    assert not frame.counts.flags.writeable
    np.testing.assert_array_equal(frame.counts, frames[0])
    assert json.loads(json.dumps(frame.header)) == frame.header


@pytest.mark.parametrize("dtype", [*INTEGERS, "float32", "float64"])
@pytest.mark.parametrize("name", ["a.edf", "a.tif", "a_big.tif", "a_zlib.tif", "a.h5"])
def test_types_survive(make_file: Make, name: str, dtype: str) -> None:
    frames = _random(dtype, 3)
    with open_file(make_file(name, frames)) as file:
        read = [file.read(index).counts for index in range(file.peek.n_frames)]
    assert {counts.dtype.name for counts in read} == {dtype}
    np.testing.assert_array_equal(np.stack(read), frames)


@pytest.mark.parametrize("dtype", INTEGERS)
def test_cbf_of_every_element_type(tmp_path: Path, cbf_bytes: Cbf, dtype: str) -> None:
    """Steps between the ends of int32 and uint32 need differences of 64 bits, which fabio's 32-bit decoder lacks."""
    frame = _random(dtype)[0]
    if "64" in dtype:
        frame = frame // 4  # no code for steps of more than 64 bits
    path = tmp_path / "a.cbf"
    path.write_bytes(cbf_bytes(frame))
    with open_file(path) as file:
        counts = file.read(0).counts
    assert counts.dtype.name == dtype
    np.testing.assert_array_equal(counts, frame)


def test_big_endian_edf_becomes_native(tmp_path: Path) -> None:
    frame = _random("int32")[0]
    entries = "ByteOrder = HighByteFirst ;\nDataType = SignedInteger ;\nDim_1 = 17 ;\nDim_2 = 23 ;\n"
    path = tmp_path / "a.edf"
    path.write_bytes(f"{{\n{entries}}}\n".encode() + frame.astype(">i4").tobytes())
    with open_file(path) as file:
        counts = file.read(0).counts
    assert counts.dtype.isnative
    np.testing.assert_array_equal(counts, frame)


@pytest.mark.parametrize("name", ["a.edf", "a.edf.gz", "a.tif", "a.tif.gz", "a.h5"])
def test_frames_of_a_stack_are_read_in_any_order(make_file: Make, name: str) -> None:
    frames = _random("uint16", 5)
    with open_file(make_file(name, frames)) as file:
        assert file.peek.n_frames == 5
        for index in (4, 0, 2):
            np.testing.assert_array_equal(file.read(index).counts, frames[index])
        with pytest.raises(IndexError, match="frames 0 to 4, not 5"):
            file.read(5)
        with pytest.raises(IndexError):
            file.read(-1)


def test_pilatus_text_reaches_the_header(make_file: Make) -> None:
    for name in ("a.cbf", "a.tif"):
        with open_file(make_file(name, _random("int32"))) as file:
            header = file.read(0).header
        facts = header_facts(header)
        assert header["Detector"] == "PILATUS 300K, S/N 3-0140"
        assert (facts.exposure_time_s, facts.count_cutoff) == (0.995, 1382835)
        assert facts.timestamp == "2024-10-26T01:38:05.208"


def test_full_imgcif_with_loops_is_read(tmp_path: Path, cbf_bytes: Cbf) -> None:
    """fabio keeps the loops of a full imgCIF file as nested objects with keys in bytes, which JSON cannot hold."""
    frame = _random("int32")[0]
    text = (
        "###CBF: VERSION 1.5\n# a comment\ndata_image_1\n\n_diffrn.id DS1\nloop_\n_axis.id\n_axis.type\n"
        "GONIOMETER_PHI rotation\n'DETECTOR Z' translation\n_diffrn.details\n;\ntwo\nlines\n;\n"
    )
    path = tmp_path / "a.cbf"
    path.write_bytes(text.encode() + cbf_bytes(frame))
    with open_file(path) as file:
        read = file.read(0)
    np.testing.assert_array_equal(read.counts, frame)
    assert read.header["_axis.id"] == "GONIOMETER_PHI, DETECTOR Z"
    assert read.header["_diffrn.details"] == "two\nlines"
    assert json.loads(json.dumps(read.header)) == read.header


@pytest.mark.parametrize(("old", "new"), [(b"x-CBF_BYTE_OFFSET", b"x-CBF_PACKED"), (b"LITTLE_ENDIAN", b"BIG_ENDIAN")])
def test_cbf_of_another_coding_is_refused_with_its_name(tmp_path: Path, cbf_bytes: Cbf, old: bytes, new: bytes) -> None:
    path = tmp_path / "a.cbf"
    path.write_bytes(cbf_bytes(_random("int32")[0]).replace(old, new))
    with pytest.raises(FrameReadError, match=new.decode()):
        peek_file(path)


def test_several_images_in_one_cbf_are_refused(tmp_path: Path, cbf_bytes: Cbf) -> None:
    path = tmp_path / "a.cbf"
    path.write_bytes(2 * cbf_bytes(_random("int32")[0]))
    with open_file(path) as file, pytest.raises(FrameReadError, match="several images"):
        file.read(0)


def test_sidecar_of_an_edf_joins_its_header(make_file: Make) -> None:
    for name in ("b.edf", "c.edf.gz"):
        path = make_file(name, _random("int32"))
        path.with_name(name[0] + ".txt").write_text("1455563.000\n365821.000\nX=-80.998\nM1 Pitch: 131.75\n")
        with open_file(path) as file:
            header = file.read(0).header
        assert header["sidecar.1"] == "1455563.000"
        assert (header["sidecar.X"], header["sidecar.M1 Pitch"]) == ("-80.998", "131.75")


def test_variances_and_general_blocks_of_an_edf_are_no_frames(tmp_path: Path) -> None:
    frame = _random("float32")[0]
    path = tmp_path / "a.edf"
    content = b"{\nEDF_DataFormatVersion = 2.40 ;\nEDF_BinarySize = 0 ;\n}\n"
    for block in ("1.Image.Psd", "1.Image.Error"):
        entries = f"EDF_DataBlockID = {block} ;\nByteOrder = LowByteFirst ;\nDataType = FloatValue ;\n"
        content += f"{{\n{entries}Dim_1 = 17 ;\nDim_2 = 23 ;\n}}\n".encode() + frame.tobytes()
    path.write_bytes(content)
    assert peek_file(path).n_frames == 1


def test_color_tiff_and_mixed_stack_are_refused(tmp_path: Path) -> None:
    import tifffile

    color, mixed = tmp_path / "color.tif", tmp_path / "mixed.tif"
    tifffile.imwrite(color, np.zeros((8, 8, 3), np.uint8), photometric="rgb")
    with tifffile.TiffWriter(mixed) as writer:
        writer.write(np.ones((8, 8), np.uint8))
        writer.write(np.ones((8, 9), np.uint8))
    with pytest.raises(FrameReadError, match="color"):
        peek_file(color)
    with pytest.raises(FrameReadError, match="several kinds"):
        peek_file(mixed)


def test_a_gzip_file_of_several_members_is_whole(make_file: Make) -> None:
    """Its last four bytes give the length of the last member only, so the file looks too short."""
    path = make_file("a.cbf", _random("int32") // 4)
    content = path.read_bytes()
    packed = path.with_name("a.cbf.gz")
    packed.write_bytes(gzip.compress(content[:700]) + gzip.compress(content[700:]))
    assert peek_file(packed).shape == (23, 17)
    with open_file(packed) as file:
        np.testing.assert_array_equal(file.read(0).counts, _random("int32")[0] // 4)


def test_gzip_files_joined_into_one_hold_all_their_frames(make_file: Make) -> None:
    """The length at the end is that of the last member: one frame, as if it were the only one."""
    frames = _random("uint16", 3)
    joined = b"".join(make_file(f"{i}.edf.gz", frames[i : i + 1]).read_bytes() for i in range(3))
    path = make_file("all.edf.gz", frames)
    path.write_bytes(joined)
    assert peek_file(path).n_frames == 3
    with open_file(path) as file:
        assert file.peek == peek_file(path)
        np.testing.assert_array_equal(np.stack([file.read(i).counts for i in range(3)]), frames)


def test_unknown_suffix_empty_and_missing_files_are_refused(tmp_path: Path) -> None:
    (tmp_path / "empty.cbf").touch()
    (tmp_path / "folder.edf").mkdir()
    for name in ("a.jpg", "empty.cbf", "missing.tif", "missing.h5", "folder.edf"):
        with pytest.raises(FrameReadError, match=name):
            peek_file(tmp_path / name)
        with pytest.raises(FrameReadError, match=name), open_file(tmp_path / name):
            pass
