"""EIGER and NeXus files: what is linked is followed, and what was never written is not read."""

import hashlib
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pytest
from numpy.typing import NDArray

from tasks.errors import FrameReadError
from tasks.readers import find_files, header_facts, open_file, peek_file

Frames = NDArray[np.uint32]


def _frames(n_frames: int) -> Frames:
    return np.random.default_rng(2).integers(1, 1000, (n_frames, 12, 10), np.uint32)


def _eiger(folder: Path, frames: Frames, per_file: int = 2) -> Path:
    """A master with links to `scan_data_000001.h5`, …, as an EIGER writes it."""
    master = folder / "scan_master.h5"
    with h5py.File(master, "w") as file:
        group = file.create_group("entry/data")
        group.attrs["NX_class"] = "NXdata"
        for i, start in enumerate(range(0, len(frames), per_file), 1):
            part = folder / f"scan_data_{i:06}.h5"
            with h5py.File(part, "w") as data:
                data.create_dataset("entry/data/data", data=frames[start : start + per_file], chunks=(1, 12, 10))
            group[f"data_{i:06}"] = h5py.ExternalLink(part.name, "/entry/data/data")
        detector = file.create_group("entry/instrument/detector")
        detector["description"] = "Dectris EIGER2 Si 9M"
        detector["count_time"] = 0.25
        detector["count_time"].attrs["units"] = "s"
        detector["x_pixel_size"], detector["y_pixel_size"] = 75e-6, 75e-6
        file["entry/instrument/beam/incident_wavelength"] = 0.9795
        file["entry/instrument/beam/incident_wavelength"].attrs["units"] = "angstrom"
        file["entry/sample/temperature"] = np.arange(len(frames)) + 20.5
        file["entry/sample/temperature"].attrs["units"] = "degC"
    return master


def _virtual(folder: Path, frames: Frames) -> Path:
    """A NeXus master whose default signal is a virtual dataset over one file per frame."""
    layout = h5py.VirtualLayout(frames.shape, frames.dtype)
    for i, frame in enumerate(frames):
        with h5py.File(folder / f"part_{i}.h5", "w") as part:
            part.create_dataset("images", data=frame[None], chunks=(1, 12, 10))
        layout[i] = h5py.VirtualSource(f"part_{i}.h5", "images", shape=(1, 12, 10))[0]
    master = folder / "scan.nxs"
    with h5py.File(master, "w") as file:
        file.attrs["default"] = "entry"
        file.create_group("entry").attrs["default"] = "plot"
        file.create_group("entry/plot").attrs["signal"] = "images"
        file["entry/plot"].create_virtual_dataset("images", layout)
    return master


def _read_all(path: Path) -> Frames:
    with open_file(path) as file:
        return np.stack([file.read(index).counts for index in range(file.peek.n_frames)])


@pytest.mark.parametrize("write", [_eiger, _virtual])
def test_a_master_gives_the_frames_of_its_files_in_order(tmp_path: Path, write: Callable[..., Path]) -> None:
    frames = _frames(5)
    master = write(tmp_path, frames)
    np.testing.assert_array_equal(_read_all(master), frames)
    assert peek_file(master).n_frames == 5


def test_header_holds_scalars_with_units_and_the_values_of_this_frame(tmp_path: Path) -> None:
    master = _eiger(tmp_path, _frames(3))
    with open_file(master) as file:
        header = file.read(2).header
        assert file.peek.detector == "Dectris EIGER2 Si 9M"
    assert header["entry/sample/temperature"] == "22.5 degC"
    facts = header_facts(header)
    assert (facts.exposure_time_s, facts.pixel_size_m) == (0.25, (75e-6, 75e-6))
    assert facts.wavelength_m == pytest.approx(0.9795e-10)


def test_digest_and_size_of_a_master_cover_its_files(tmp_path: Path) -> None:
    master = _eiger(tmp_path, _frames(4))
    files = [master, *sorted(tmp_path.glob("*_data_*.h5"))]
    with open_file(master) as file:
        assert file.sha256 == hashlib.sha256(b"".join(path.read_bytes() for path in files)).hexdigest()
    assert peek_file(master).size_bytes == sum(path.stat().st_size for path in files)


def test_a_folder_lists_masters_without_their_files(tmp_path: Path) -> None:
    """Otherwise every frame would be ingested twice."""
    eiger, virtual = _eiger(tmp_path, _frames(3)), _virtual(tmp_path, _frames(2))
    lone = tmp_path / "other_data_000001.h5"
    lone.write_bytes((tmp_path / "scan_data_000001.h5").read_bytes())
    assert find_files(str(tmp_path)) == (lone, virtual, eiger)
    assert len(find_files(str(tmp_path / "scan_data_*.h5"))) == 2


def test_a_damaged_eiger_master_keeps_its_files_to_itself(tmp_path: Path) -> None:
    """Ingested alone now, they would be doubles once the master is complete."""
    master = _eiger(tmp_path, _frames(3))
    master.write_bytes(master.read_bytes()[:500])
    assert find_files(str(tmp_path)) == (master,)


@pytest.mark.parametrize("missing", ["scan_data_000002.h5", "part_1.h5"])
def test_dangling_links_are_refused_before_reading(tmp_path: Path, missing: str) -> None:
    """h5py reads such a virtual dataset as zeros."""
    master = _eiger(tmp_path, _frames(5)) if "scan" in missing else _virtual(tmp_path, _frames(3))
    (tmp_path / missing).unlink()
    for attempt in (peek_file, _read_all):
        with pytest.raises(FrameReadError, match=f"{missing}, which is not there"):
            attempt(master)


def test_a_virtual_source_that_is_too_small_is_refused(tmp_path: Path) -> None:
    master = _virtual(tmp_path, _frames(3))
    with h5py.File(tmp_path / "part_1.h5", "w") as part:
        part["images"] = np.ones((1, 6, 10), np.uint32)
    with pytest.raises(FrameReadError, match=r"part_1\.h5, which has \(1, 6, 10\)"):
        peek_file(master)


def test_a_virtual_dataset_with_holes_is_refused(tmp_path: Path) -> None:
    layout = h5py.VirtualLayout((3, 12, 10), np.uint32)
    with h5py.File(tmp_path / "part.h5", "w") as part:
        part["images"] = _frames(1)
    layout[1] = h5py.VirtualSource("part.h5", "images", shape=(1, 12, 10))[0]
    with h5py.File(tmp_path / "a.nxs", "w") as file:
        file.create_virtual_dataset("images", layout)
    with pytest.raises(FrameReadError, match="240 of 360 pixels of /images have no source"):
        peek_file(tmp_path / "a.nxs")


@pytest.mark.parametrize("chunks", [(1, 12, 10), (2, 5, 10)])
def test_frames_never_written_are_refused_one_by_one(tmp_path: Path, chunks: tuple[int, int, int]) -> None:
    """An aborted scan leaves a file of full shape; the missing frames would be read as zeros."""
    path = tmp_path / "a.h5"
    with h5py.File(path, "w") as file:
        data = file.create_dataset("entry/data/data", (6, 12, 10), np.uint32, chunks=chunks)
        data[:2] = _frames(2)
    with open_file(path) as file:
        np.testing.assert_array_equal(file.read(1).counts, _frames(2)[1])
        with pytest.raises(FrameReadError, match="was not written at"):
            file.read(2)


def test_frames_never_written_are_found_behind_a_virtual_dataset(tmp_path: Path) -> None:
    layout = h5py.VirtualLayout((4, 12, 10), np.uint32)
    with h5py.File(tmp_path / "part.h5", "w") as part:
        part.create_dataset("images", (4, 12, 10), np.uint32, chunks=(1, 12, 10))[:3] = _frames(3)
    layout[:] = h5py.VirtualSource("part.h5", "images", shape=(4, 12, 10))
    with h5py.File(tmp_path / "a.nxs", "w") as file:
        file.create_virtual_dataset("images", layout)
    with open_file(tmp_path / "a.nxs") as file:
        np.testing.assert_array_equal(file.read(2).counts, _frames(3)[2])
        with pytest.raises(FrameReadError, match=r"part\.h5 was not written at"):
            file.read(3)


def test_a_declared_but_empty_dataset_is_refused(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file.create_dataset("entry/data/data", (2, 12, 10), np.uint32)
    with open_file(tmp_path / "a.h5") as file, pytest.raises(FrameReadError, match="never written"):
        file.read(0)


def test_grid_scans_are_read_row_by_row(tmp_path: Path) -> None:
    frames = _frames(6)
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["measurement/map"] = frames.reshape(2, 3, 12, 10)
    np.testing.assert_array_equal(_read_all(tmp_path / "a.h5"), frames)


def test_several_stacks_without_a_default_are_refused_by_name(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["saxs/images"], file["waxs/images"] = _frames(2), _frames(2)
    with pytest.raises(FrameReadError, match="/saxs/images, /waxs/images"):
        peek_file(tmp_path / "a.h5")


def test_a_soft_link_to_the_images_is_followed(tmp_path: Path) -> None:
    frames = _frames(2)
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["entry/instrument/detector/data"] = frames
        group = file.create_group("entry/plot")
        group.attrs["NX_class"], group.attrs["signal"] = "NXdata", "data"
        group["data"] = h5py.SoftLink("/entry/instrument/detector/data")
    np.testing.assert_array_equal(_read_all(tmp_path / "a.h5"), frames)


def test_a_file_that_changes_while_it_is_read_is_refused(tmp_path: Path) -> None:
    master = _eiger(tmp_path, _frames(4))
    with open_file(master) as file:
        file.read(0)
        with (tmp_path / "scan_data_000002.h5").open("ab") as data:
            data.write(b"more")
        with pytest.raises(FrameReadError, match="changed while it was read"):
            file.read(1)
