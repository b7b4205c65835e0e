"""Stacks that do not fit into memory, opened again for every few frames: what is read, hashed and held, how often."""

import errno
import gzip
import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import h5py
import numpy as np
import pytest
import tifffile
from numpy.typing import NDArray

from tasks.errors import FrameReadError
from tasks.readers import open_file, peek_file
from tasks.readers.content import LARGEST_IN_MEMORY
from tasks.readers.guard import reading
from tasks.readers.remembered import Remembered, stamp
from tasks.readers.stack import MOST_UNPACKED

pytestmark = pytest.mark.skipif(not Path("/proc/self/io").exists(), reason="counts bytes read by /proc/self/io")

Make = Callable[[str, NDArray[np.generic]], Path]
SHAPE = (1679, 1475)
BASE = np.random.default_rng(1).integers(0, 50, SHAPE, np.int32)
EDF_HEADER = b"{\nByteOrder = LowByteFirst ;\nDataType = SignedInteger ;\nDim_1 = 1475 ;\nDim_2 = 1679 ;\n}\n"
N_LARGE, N_SMALLEST = 40, LARGEST_IN_MEMORY // BASE.nbytes + 1


def _write(path: Path, n_frames: int) -> Path:
    """Frames BASE, BASE + 1, …; 9.9 MB each. In a packed file all are BASE."""
    if path.suffix == ".gz":
        path.write_bytes(gzip.compress(EDF_HEADER + BASE.tobytes(), 1) * n_frames)
    elif path.suffix == ".edf":
        with path.open("wb") as file:
            file.writelines(EDF_HEADER + (BASE + index).tobytes() for index in range(n_frames))
    else:
        with tifffile.TiffWriter(path, byteorder=">") as writer:
            for index in range(n_frames):
                writer.write(BASE + index, metadata=None, contiguous=False)
    return path


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Removed at once: pytest would keep the files of three runs."""
    path = tmp_path_factory.mktemp("large")
    yield path
    shutil.rmtree(path)


@pytest.fixture(scope="module")
def stacks(folder: Path) -> dict[str, Path]:
    """Two stacks of 396 MB, a packed one of that content, and one frame alone."""
    numbers = {"stack.edf": N_LARGE, "stack.tif": N_LARGE, "packed.edf.gz": N_LARGE, "lone.tif": 1}
    return {name: _write(folder / name, n_frames) for name, n_frames in numbers.items()}


@pytest.fixture(params=["a.edf", "a.tif"])
def barely_large(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Path]:
    path = _write(tmp_path / request.param, N_SMALLEST)
    assert path.stat().st_size > LARGEST_IN_MEMORY
    yield path
    path.unlink()


def _bytes_read() -> int:
    return int(re.search(r"rchar: (\d+)", Path("/proc/self/io").read_text())[1])


def _settle() -> None:
    """What changed within the last tick of the file system's clock is not remembered."""
    time.sleep(0.1)


MEASURE = """
import json, re, sys
from pathlib import Path
from tasks.readers import open_file, peek_file

def peak():
    return int(re.search(r"VmHWM:\\s+(\\d+) kB", Path("/proc/self/status").read_text())[1]) * 1024

found = {}
for name in sys.argv[1:]:
    Path("/proc/self/clear_refs").write_text("5")  # the peak starts again from what is held now
    before, sums = peak(), []
    n_frames = peek_file(Path(name)).n_frames
    for start in range(0, 40, 4):
        with open_file(Path(name)) as file:
            digest = file.sha256
            sums += [int(file.read(index % n_frames).counts.sum()) for index in range(start, start + 4)]
    found[Path(name).name] = [peak() - before, digest, sums]
print(json.dumps(found))
"""


@pytest.fixture(scope="module")
def measured(stacks: dict[str, Path]) -> dict[str, tuple[int, str, list[int]]]:
    """Peak of memory (bytes above the base), digest and sums of 40 frames, in a process of its own."""
    _settle()
    command = [sys.executable, "-c", MEASURE, *map(str, stacks.values())]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=120)
    return {name: tuple(values) for name, values in json.loads(done.stdout).items()}


@pytest.mark.parametrize("name", ["stack.edf", "stack.tif", "packed.edf.gz", "lone.tif"])
def test_memory_does_not_grow_with_the_stack_nor_with_the_number_of_opens(
    stacks: dict[str, Path], measured: dict[str, tuple[int, str, list[int]]], name: str
) -> None:
    """Read whole, each stack took 400 to 3900 MB; what TiffFile leaves behind held on to every lone frame."""
    peak, digest, sums = measured[name]
    assert peak < 120e6
    assert digest == hashlib.sha256(stacks[name].read_bytes()).hexdigest()
    step = BASE.size if name.startswith("stack") else 0
    assert sums == [int(BASE.sum()) + step * index for index in range(N_LARGE)]


def test_a_stack_is_hashed_once_for_many_opens(stacks: dict[str, Path]) -> None:
    _settle()
    path, before = stacks["stack.tif"], _bytes_read()
    digests = set()
    for index in range(10):
        with open_file(path) as file:
            digests.add(file.sha256)
            file.read(index)
    size = path.stat().st_size
    assert _bytes_read() - before < size + 11 * BASE.nbytes
    with path.open("rb") as file:
        assert digests == {hashlib.file_digest(file, "sha256").hexdigest()}


def test_threads_that_ask_at_once_hash_once(stacks: dict[str, Path]) -> None:
    _settle()
    before, digests = _bytes_read(), []
    together = threading.Barrier(4)

    def ask() -> None:
        with open_file(stacks["stack.edf"]) as file:
            together.wait(10)
            digests.append(file.sha256)

    threads = [threading.Thread(target=ask) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(digests) == 4
    assert len(set(digests)) == 1
    assert _bytes_read() - before < 1.1 * stacks["stack.edf"].stat().st_size


def test_a_master_and_its_files_are_hashed_once(tmp_path: Path) -> None:
    frames = np.random.default_rng(3).integers(0, 9, (4, 512, 512), np.uint32)
    with h5py.File(tmp_path / "s_master.h5", "w") as file:
        for i in (1, 2):
            with h5py.File(tmp_path / f"s_data_{i:06}.h5", "w") as data:
                data["entry/data/data"] = frames[2 * i - 2 : 2 * i]
            file[f"entry/data/data_{i:06}"] = h5py.ExternalLink(f"s_data_{i:06}.h5", "/entry/data/data")
    _settle()
    before, digests = _bytes_read(), set()
    for _ in range(10):
        with open_file(tmp_path / "s_master.h5") as master:
            digests.add(master.sha256)
    assert _bytes_read() - before < 1.5 * frames.nbytes
    names = ("s_master.h5", "s_data_000001.h5", "s_data_000002.h5")
    assert digests == {hashlib.sha256(b"".join((tmp_path / name).read_bytes() for name in names)).hexdigest()}


def test_what_is_asked_about_a_file_that_changed_just_now_is_not_remembered(tmp_path: Path) -> None:
    """Another change within the same tick of the clock would leave its stamp as it is."""
    path, answers = tmp_path / "a.edf", iter(range(9))
    path.write_bytes(b"1")
    remembered = Remembered[int](2)
    stamps = (stamp(path, path.stat()),)
    assert [remembered.get(stamps, lambda: next(answers)) for _ in range(2)] == [0, 1]
    _settle()
    assert [remembered.get(stamps, lambda: next(answers)) for _ in range(2)] == [2, 2]


@pytest.mark.parametrize("name", ["a.tif", "a.edf.gz"])
def test_a_rewritten_stack_is_read_and_hashed_anew(make_file: Make, name: str) -> None:
    """In place, of the same size, with its old time, and faster than the file system's clock ticks."""
    path = make_file(name, np.zeros((3, 8, 8), np.uint16))
    status = path.stat()
    kinds = [make_file(f"{value}{name}", np.full((3, 8, 8), value, np.uint16)).read_bytes() for value in (1, 2)]
    assert name.endswith(".gz") or len(kinds[0]) == len(kinds[1])
    for attempt in range(40):
        value = attempt % 2
        with path.open("r+b") as file:
            file.truncate(file.write(kinds[value]))
        os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
        with open_file(path) as file:
            assert file.sha256 == hashlib.sha256(kinds[value]).hexdigest()
            assert (file.read(2).counts == value + 1).all()


def test_frames_of_a_large_file_are_those_written_in_any_order(barely_large: Path) -> None:
    with open_file(barely_large) as file:
        assert file.peek == peek_file(barely_large)
        assert file.peek.n_frames == N_SMALLEST
        for index in (N_SMALLEST - 1, 0, 3):
            counts = file.read(index).counts
            assert counts.dtype == np.int32
            assert counts.dtype.isnative
            assert not counts.flags.writeable
            np.testing.assert_array_equal(counts, BASE + index)


def test_a_large_file_that_changes_while_it_is_read_is_refused(barely_large: Path) -> None:
    """A byte that is overwritten, and an end that is cut off, where a mapped file would end the process."""
    _settle()
    with open_file(barely_large) as file:
        file.read(0)
        with barely_large.open("r+b") as other:
            other.seek(-100, os.SEEK_END)
            other.write(b"\x07")
        for attempt in (lambda: file.read(0), lambda: file.sha256):
            with pytest.raises(FrameReadError, match="changed while it was read"):
                attempt()
    with open_file(barely_large) as file:
        os.truncate(barely_large, LARGEST_IN_MEMORY // 2)
        with pytest.raises(FrameReadError, match="changed while it was read"):
            file.read(N_SMALLEST - 1)


def test_a_cut_large_file_is_refused_as_a_whole(barely_large: Path) -> None:
    size = barely_large.stat().st_size
    for cut in (size - 500, size - BASE.nbytes // 2, LARGEST_IN_MEMORY + 1):
        os.truncate(barely_large, cut)
        for attempt in (lambda: peek_file(barely_large), lambda: open_file(barely_large).__enter__()):
            with pytest.raises(FrameReadError, match=re.escape(str(barely_large))):
                attempt()


def _unpacked_files(packed: Path) -> int:
    """Open files without a name, of the length of what this one holds."""
    n_bytes, n_files = len(gzip.decompress(packed.read_bytes())), 0
    for descriptor in os.listdir("/proc/self/fd"):  # noqa: PTH208  (the entries vanish while they are looked at)
        with suppress(OSError):
            status = os.fstat(int(descriptor))
            n_files += status.st_nlink == 0 and status.st_size == n_bytes
    return n_files


@pytest.mark.parametrize("name", ["a.edf.gz", "a.tif.bz2"])
def test_a_packed_stack_is_unpacked_once_for_many_opens(make_file: Make, name: str) -> None:
    frames = np.random.default_rng(4).integers(0, 2**16, (8, 256, 256), np.uint16, endpoint=False)
    path = make_file(name, frames)
    _settle()
    before = _bytes_read()
    for index in range(8):
        with open_file(path) as file:
            assert file.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()
            np.testing.assert_array_equal(file.read(index).counts, frames[index])
    # Once by the reader and eight times by this test, and each frame once.
    assert _bytes_read() - before < 9.5 * path.stat().st_size + frames.nbytes


def test_only_the_last_packed_stacks_stay_unpacked_and_open_ones_stay_readable(make_file: Make) -> None:
    frames = np.random.default_rng(5).integers(0, 9, (3, 8, 13), np.uint16)
    paths = [make_file(f"{number}.tif.gz", frames + number) for number in range(3 * MOST_UNPACKED)]
    _settle()
    with open_file(paths[0]) as first:
        for number, path in enumerate(paths):
            with open_file(path) as file:
                np.testing.assert_array_equal(file.read(1).counts, frames[1] + number)
        np.testing.assert_array_equal(first.read(2).counts, frames[2])
        assert _unpacked_files(paths[0]) == MOST_UNPACKED + 1
    assert _unpacked_files(paths[0]) == MOST_UNPACKED


def test_neither_a_look_nor_a_single_frame_leaves_a_temporary_file(make_file: Make) -> None:
    lone, stack = (make_file(f"{n}.tif.gz", np.ones((n, 8, 19), np.uint16)) for n in (1, 2))
    _settle()
    with open_file(lone) as file:
        file.read(0)
    assert peek_file(stack).n_frames == 2
    assert (_unpacked_files(lone), _unpacked_files(stack)) == (0, 0)
    with open_file(stack) as file:
        file.read(0)
    assert _unpacked_files(stack) == 1


def test_single_frames_do_not_displace_an_unpacked_stack(make_file: Make) -> None:
    stack = make_file("s.tif.gz", np.ones((2, 8, 29), np.uint16))
    lone = [make_file(f"{number}.tif.gz", np.ones((1, 8, 8), np.uint16)) for number in range(2 * MOST_UNPACKED)]
    _settle()
    for path in (stack, *lone):
        with open_file(path) as file:
            file.read(0)
    assert _unpacked_files(stack) == 1


@pytest.mark.parametrize("cut", [40, 300, -1])
def test_a_damaged_packed_stack_is_refused_every_time(make_file: Make, cut: int) -> None:
    path = make_file("a.edf.gz", np.arange(192, dtype=np.uint16).reshape(3, 8, 8))
    path.write_bytes(path.read_bytes()[:cut])
    _settle()
    for _ in range(3):
        with pytest.raises(FrameReadError, match="complete gzip file"), open_file(path):
            pass


@pytest.mark.parametrize("number", [errno.EIO, errno.ESTALE, errno.ENOSPC])
def test_errors_that_time_may_heal_do_not_become_the_files_fault(number: int) -> None:
    with pytest.raises(OSError, match="away") as caught, reading(Path("a.tif"), "a TIFF file"):
        raise OSError(number, "away")
    assert not isinstance(caught.value, FrameReadError)
    with pytest.raises(FrameReadError, match=r"a\.tif: not readable"), reading(Path("a.tif"), "a TIFF file"):
        raise OSError("truncated")


def test_a_full_disk_for_temporary_files_is_named(stacks: dict[str, Path]) -> None:
    """A limit on the size of files stands for the full disk."""
    code = (
        "import resource, signal, sys; from pathlib import Path; from tasks.readers import peek_file\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (2**20, 2**20))\n"
        "try: peek_file(Path(sys.argv[1]))\n"
        "except OSError as error: print(type(error).__name__, error)"
    )
    command = [sys.executable, "-c", code, str(stacks["packed.edf.gz"])]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60)
    assert re.match(r"OSError .*cannot unpack .*packed\.edf\.gz into .*set TMPDIR", done.stdout), done.stdout
