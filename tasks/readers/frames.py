"""What a reader hands out: the promise of a header, one frame, one open file."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tasks.errors import FrameReadError


@dataclass(frozen=True)
class Layout:
    """Frames of one file as its header declares them: number, shape (y, x), NumPy dtype name, detector as written."""

    n_frames: int
    shape: tuple[int, int]
    dtype: str
    detector: str | None


@dataclass(frozen=True)
class Index:
    """Where the frames of one file are: its layout, and what its reader needs to find each of them."""

    layout: Layout
    entries: tuple[Any, ...]


@dataclass(frozen=True)
class FilePeek:
    """What the header of a file promises, found without decoding pixels.

    `format` is "cbf", "tiff", "edf" or "hdf5"; `shape` is (y, x); `dtype` is the NumPy name of the recorded type
    without byte order; `size_bytes` and `mtime_ns` are those of the file as stored (an HDF5 master counts the files
    that it links to: sum of sizes, newest time); `detector` is the header's own text.
    """

    path: Path
    format: str
    n_frames: int
    shape: tuple[int, int]
    dtype: str
    size_bytes: int
    mtime_ns: int
    detector: str | None


@dataclass(frozen=True)
class Frame:
    """One verified detector image: counts (y, x), read-only, values and dtype as recorded; header as plain strings."""

    counts: NDArray[np.generic]
    header: dict[str, str]


@dataclass(frozen=True)
class FrameFile:
    """An open detector file; made by `open_file`, for use in one thread at a time and until that ends."""

    peek: FilePeek
    frame: Callable[[int], Frame]
    digest: Callable[[], str]

    @cached_property
    def sha256(self) -> str:
        """Hex digest of the bytes on disk (`.gz` as packed); those of an HDF5 master and then of its linked files."""
        return self.digest()

    def read(self, index: int) -> Frame:
        """Frame `index`, counted from 0, checked in every way its format offers.

        Raises
            IndexError: the file has no such frame.
            FrameReadError: the frame is incomplete or corrupt.
        """
        if not 0 <= index < self.peek.n_frames:
            raise IndexError(f"{self.peek.path} has frames 0 to {self.peek.n_frames - 1}, not {index}")
        frame = self.frame(index)
        found = (frame.counts.shape, frame.counts.dtype.name)
        if found != (self.peek.shape, self.peek.dtype):
            promised = (self.peek.shape, self.peek.dtype)
            raise FrameReadError(f"{self.peek.path}: frame {index} is {found} where the header says {promised}")
        frame.counts.flags.writeable = False
        return frame


def native(counts: NDArray[np.generic]) -> NDArray[np.generic]:
    """The same values in this machine's byte order and alignment; copied only where that is needed."""
    return np.require(counts, dtype=counts.dtype.newbyteorder("="), requirements=["C", "A"])
