"""Bytes of a file as its format defines them (unpacked), in memory or on disk."""

import io
import os
import tempfile
import weakref
from collections.abc import Iterable
from pathlib import Path
from typing import Any, BinaryIO, Protocol, cast

import numpy as np

from tasks.errors import FrameReadError

CANNOT_OPEN = "cannot be opened"
"""In the error of a file that is not there, or may not be read."""
LARGEST_IN_MEMORY = 64 * 2**20
"""Content of more bytes than this stays on disk, and only what is asked for is read."""


def open_stored(path: Path) -> io.FileIO:
    """The file for reading. What time does not heal is a `FrameReadError`; EIO, ESTALE and the like may be retried."""
    try:
        return io.FileIO(path)
    except (FileNotFoundError, IsADirectoryError, NotADirectoryError, PermissionError) as error:
        raise FrameReadError(
            f"{path}: {CANNOT_OPEN} ({error.strerror}). Check the path and its permissions."
        ) from error


class Content(Protocol):
    """Bytes that are read from any place; reading moves no position that others share."""

    @property
    def n_bytes(self) -> int:
        """Length of the content."""

    def at(self, start: int, n_bytes: int) -> memoryview:
        """These bytes, fewer where the content ends before."""

    def stream(self) -> BinaryIO:
        """The content for libraries that want an open file."""

    def close(self) -> None:
        """Nothing is read from here on."""


class Loaded:
    """Content in memory."""

    def __init__(self, data: bytes) -> None:
        self.data = data
        self.n_bytes = len(data)

    def at(self, start: int, n_bytes: int) -> memoryview:
        """These bytes, not copied; fewer where the content ends before."""
        return memoryview(self.data)[start : start + n_bytes]

    def stream(self) -> BinaryIO:
        """The content for libraries that want an open file."""
        return io.BytesIO(self.data)

    def close(self) -> None:
        """Memory is freed with the last frame."""


class OnDisk:
    """Content of an open file. Not mapped: a mapped file that another machine cuts off ends the process (SIGBUS)."""

    def __init__(self, file: io.FileIO) -> None:
        self._file = file
        self.n_bytes = os.fstat(file.fileno()).st_size

    def at(self, start: int, n_bytes: int) -> memoryview:
        """These bytes, read now; fewer where the content ends before."""
        wanted = max(0, min(n_bytes, self.n_bytes - start))
        # Not a bytearray, which would be filled with zeros first.
        buffer = np.empty(wanted, np.uint8).data
        n_read = 0
        while n_read < wanted and (more := self.read_into(buffer[n_read:], start + n_read)):
            n_read += more
        return buffer[:n_read]

    def read_into(self, buffer: memoryview, start: int) -> int:
        """Fill a part of the buffer; its length, 0 at the end."""
        return os.preadv(self._file.fileno(), [buffer], start)

    def stream(self) -> BinaryIO:
        """The content for libraries that want an open file; with a position of its own."""
        return cast(BinaryIO, io.BufferedReader(_Positioned(self)))

    def status(self) -> os.stat_result:
        """What the file system says of the file now."""
        return os.fstat(self._file.fileno())

    def close(self) -> None:
        """Close the file."""
        self._file.close()


class Unlinked:
    """Content in a temporary file without a name, which goes when nobody holds it, whatever ends the process."""

    def __init__(self, pieces: Iterable[bytes]) -> None:
        with tempfile.TemporaryFile(buffering=0) as file:
            for piece in pieces:
                rest = memoryview(piece)
                while rest:
                    rest = rest[file.write(rest) :]
            self._descriptor = os.dup(file.fileno())
            self.n_bytes = os.fstat(self._descriptor).st_size
        weakref.finalize(self, os.close, self._descriptor)

    def opened(self) -> OnDisk:
        """The content, to be closed by the caller; it outlives this object."""
        return OnDisk(io.FileIO(os.dup(self._descriptor)))


class _Positioned(io.RawIOBase):
    """A position in content on disk that nobody else moves."""

    def __init__(self, content: OnDisk) -> None:
        self._content = content
        self._position = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        n_read = self._content.read_into(memoryview(buffer).cast("B"), self._position)
        self._position += n_read
        return n_read

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        base = {os.SEEK_SET: 0, os.SEEK_CUR: self._position, os.SEEK_END: self._content.n_bytes}[whence]
        self._position = base + offset
        return self._position

    def tell(self) -> int:
        return self._position
