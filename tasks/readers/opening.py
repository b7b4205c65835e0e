"""The two ways into a detector file of any format: a look at its header, and its frames."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from hashlib import sha256
from pathlib import Path

from tasks.readers import cbf, edf, hdf5, tiff
from tasks.readers.frames import FilePeek, FrameFile, Layout
from tasks.readers.guard import refusal
from tasks.readers.names import ALLOWED, file_format
from tasks.readers.packing import Source, stored_bytes, unpacked

_FORMATS = {"cbf": cbf, "edf": edf, "tiff": tiff}


def peek_file(path: Path) -> FilePeek:
    """What the header promises; pixels are not decoded, packed files are unpacked only as far as needed.

    Raises
        FrameReadError: of an unknown kind, unreadable, or visibly incomplete (shorter than it declares itself).
    """
    name = _format(path)
    if name == "hdf5":
        with hdf5.opened(path) as file:
            return file.peek
    source = Source(path)
    return _peek(path, name, _FORMATS[name].peek(source), source.status)


@contextmanager
def open_file(path: Path) -> Iterator[FrameFile]:
    """Read a file once and hand out its frames, each verified when it is read.

    Raises
        FrameReadError: of an unknown kind, incomplete or corrupt. Errors that time may heal (EIO, ESTALE) stay OSError.
    """
    name = _format(path)
    if name == "hdf5":
        with hdf5.opened(path) as file:
            yield file
        return
    stored, status = stored_bytes(path)
    layout, frame = _FORMATS[name].opened(path, unpacked(path, stored))
    yield FrameFile(_peek(path, name, layout, status), frame, lambda: sha256(stored).hexdigest())


def _format(path: Path) -> str:
    name = file_format(path)
    if name is None:
        raise refusal(path, "not a detector file by its suffix", f"Allowed are {ALLOWED}.")
    return name


def _peek(path: Path, name: str, layout: Layout, status: os.stat_result) -> FilePeek:
    return FilePeek(
        path=path,
        format=name,
        n_frames=layout.n_frames,
        shape=layout.shape,
        dtype=layout.dtype,
        size_bytes=status.st_size,
        mtime_ns=status.st_mtime_ns,
        detector=layout.detector,
    )
