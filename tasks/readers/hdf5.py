"""HDF5 files: EIGER masters and data files, NeXus masters with default/signal, virtual datasets.

HDF5 has no checksum of its own, and fills what was never written, or cannot be reached, with zeros. So links and
virtual sources are followed before anything is read, and a frame is read only if all its chunks are on disk.
"""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from hashlib import sha256
from pathlib import Path
from typing import Any

import h5py
import hdf5plugin  # noqa: F401  (registers the bitshuffle and Blosc filters)
import numpy as np

from tasks.readers.frames import FilePeek, Frame, FrameFile, native
from tasks.readers.guard import UnsupportedError, reading, refusal
from tasks.readers.linked import linked_files
from tasks.readers.names import natural_key
from tasks.readers.nexus import facts_of, image_datasets
from tasks.readers.written import check_sources, check_written

_DETECTOR = re.compile(r"(^|/)detector(_[0-9]+)?/(description|name|local_name)$")


@contextmanager
def opened(path: Path) -> Iterator[FrameFile]:
    """The file and all that it links to, for as long as the context lasts."""
    with reading(path, "HDF5"):
        if not path.is_file():
            raise refusal(path, "no such file", "Check the path.")
        file = h5py.File(path, "r", locking=False)
    with file:
        with reading(path, "HDF5"):
            images = image_datasets(file, path)
            for dataset in images:
                check_sources(dataset)
            files = [path, *sorted((other for other in linked_files(file, path) if other.is_file()), key=natural_key)]
            before = _status(files)
            stack = _Stack(path, images, *facts_of(file, sum(_n_frames(dataset) for dataset in images)))
        yield FrameFile(stack.peek(before), lambda index: stack.frame(index, before), lambda: _digest(path, before))


class _Stack:
    """Frames of one or several datasets, one behind the other."""

    def __init__(self, path: Path, images: list[Any], header: dict[str, str], per_frame: dict[str, list[str]]) -> None:
        kinds = {(dataset.shape[-2:], dataset.dtype.newbyteorder("=").name) for dataset in images}
        if len(kinds) != 1:
            raise UnsupportedError(f"frames of several kinds: {sorted(kinds)}")
        (self.shape, self.dtype), *_ = kinds
        if np.dtype(self.dtype).kind not in "iuf":
            raise UnsupportedError(f"pixels of type {self.dtype}; integers and floats are read")
        self.path, self.images, self.header, self.per_frame = path, images, header, per_frame
        self.n_frames = sum(map(_n_frames, images))
        if not self.n_frames:
            raise ValueError("no frames written yet")

    def peek(self, status: dict[Path, tuple[int, int]]) -> FilePeek:
        """The master stands for all its files: sum of sizes, newest time."""
        named = (value for name, value in self.header.items() if _DETECTOR.search(name))
        return FilePeek(
            path=self.path,
            format="hdf5",
            n_frames=self.n_frames,
            shape=self.shape,
            dtype=self.dtype,
            size_bytes=sum(size for size, _ in status.values()),
            mtime_ns=max(time for _, time in status.values()),
            detector=next(named, None),
        )

    def frame(self, index: int, before: dict[Path, tuple[int, int]]) -> Frame:
        """One frame, read only if it was written."""
        with reading(self.path, f"frame {index} of an HDF5 file"):
            dataset, lead = self._place(index)
            check_written(dataset, lead)
            counts = native(np.asarray(dataset[lead]))
            header = self.header | {name: values[index] for name, values in self.per_frame.items()}
        _unchanged(self.path, before)
        return Frame(counts, header)

    def _place(self, index: int) -> tuple[Any, tuple[int, ...]]:
        for dataset in self.images:
            n_frames = _n_frames(dataset)
            if index < n_frames:
                return dataset, tuple(int(i) for i in np.unravel_index(index, dataset.shape[:-2] or (1,)))[
                    : dataset.ndim - 2
                ]
            index -= n_frames
        raise IndexError(index)


def _n_frames(dataset: Any) -> int:
    return int(np.prod(dataset.shape[:-2], dtype=np.int64))


def _status(files: list[Path]) -> dict[Path, tuple[int, int]]:
    status = {file: file.stat() for file in files}
    return {file: (one.st_size, one.st_mtime_ns) for file, one in status.items()}


def _unchanged(path: Path, before: dict[Path, tuple[int, int]]) -> None:
    if _status(list(before)) != before:
        raise refusal(path, "the file, or one that it links to, changed while it was read")


def _digest(path: Path, before: dict[Path, tuple[int, int]]) -> str:
    """One digest over the bytes of the master and then of its linked files in natural order."""
    digest = sha256()
    for file in before:
        with file.open("rb") as stream:
            while block := stream.read(2**20):
                digest.update(block)
    _unchanged(path, before)
    return digest.hexdigest()
