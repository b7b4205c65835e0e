"""HDF5 files: EIGER masters and data files, NeXus masters with default/signal, virtual datasets.

HDF5 has no checksum of its own, and fills what was never written, or cannot be reached, with zeros. So links and
virtual sources are followed before anything is read, and a frame is read only if all its chunks are on disk.
"""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import h5py
import hdf5plugin  # noqa: F401  (registers the bitshuffle and Blosc filters)
import numpy as np

from tasks.readers.digest import stored_digest
from tasks.readers.frames import FilePeek, Frame, FrameFile, native
from tasks.readers.guard import UnsupportedError, changed, check_frame_size, reading, refusal
from tasks.readers.linked import linked_files
from tasks.readers.names import natural_key
from tasks.readers.nexus import facts_of, image_datasets
from tasks.readers.remembered import Stamp, stamp
from tasks.readers.written import check_sources, check_written

MOST_DECLARED_AHEAD = 100_000
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
            before = [stamp(one, one.stat()) for one in files]
            stack = _Stack(path, images, *facts_of(file, sum(_n_frames(dataset) for dataset in images)))
        yield FrameFile(
            stack.peek(before), lambda index: stack.frame(index, before), lambda: stored_digest(path, before)
        )


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
        check_frame_size(path, self.shape, self.dtype)
        _check_number(images)

    def peek(self, before: list[Stamp]) -> FilePeek:
        """The master stands for all its files: sum of sizes, newest time."""
        named = (value for name, value in self.header.items() if _DETECTOR.search(name))
        return FilePeek(
            path=self.path,
            format="hdf5",
            n_frames=self.n_frames,
            shape=self.shape,
            dtype=self.dtype,
            size_bytes=sum(one.size_bytes for one in before),
            mtime_ns=max(one.mtime_ns for one in before),
            detector=next(named, None),
        )

    def frame(self, index: int, before: list[Stamp]) -> Frame:
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


def _check_number(images: list[Any]) -> None:
    """Frames may be declared before they are written, but not by the million: then a bit of their number is flipped."""
    for dataset in images:
        if not dataset.is_virtual and dataset.chunks is not None:
            stored = dataset.id.get_num_chunks() * _n_frames_of(dataset.chunks)
            if _n_frames(dataset) > MOST_DECLARED_AHEAD + 10 * stored:
                raise ValueError(f"{dataset.name} declares {_n_frames(dataset)} frames, {stored} are stored")


def _n_frames(dataset: Any) -> int:
    return _n_frames_of(dataset.shape)


def _n_frames_of(shape: tuple[int, ...]) -> int:
    return int(np.prod(shape[:-2], dtype=np.int64))


def _unchanged(path: Path, before: list[Stamp]) -> None:
    for one in before:
        file = Path(one.path)
        if stamp(file, file.stat()).version != one.version:
            raise changed(path)
