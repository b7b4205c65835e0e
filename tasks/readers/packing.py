"""Bytes of a file as stored and as unpacked from `.gz` or `.bz2`."""

import bz2
import gzip
import io
import os
from functools import cached_property
from pathlib import Path
from typing import BinaryIO, cast

from tasks.errors import FrameReadError
from tasks.readers.guard import reading, refusal

PACKINGS = (".gz", ".bz2")


def packing(path: Path) -> str:
    """ ".gz", ".bz2", or "" for a file that is stored as it is."""
    suffix = path.suffix.lower()
    return suffix if suffix in PACKINGS else ""


def _opened(path: Path) -> BinaryIO:
    """The file for reading. What time does not heal is a `FrameReadError`; EIO, ESTALE and the like may be retried."""
    try:
        return path.open("rb", buffering=0)
    except (FileNotFoundError, IsADirectoryError, NotADirectoryError, PermissionError) as error:
        raise FrameReadError(
            f"{path}: cannot be opened ({error.strerror}). Check the path and its permissions."
        ) from error


def stored_bytes(path: Path) -> tuple[bytes, os.stat_result]:
    """The whole file in one read, and its status; refused if it changed meanwhile."""
    with _opened(path) as file:
        before = os.fstat(file.fileno())
        stored = file.read()
        after = os.fstat(file.fileno())
    if (before.st_size, before.st_mtime_ns, len(stored)) != (after.st_size, after.st_mtime_ns, after.st_size):
        raise refusal(path, "the file changed while it was read")
    if not stored:
        raise refusal(path, "the file is empty")
    return stored, before


def unpacked(path: Path, stored: bytes) -> bytes:
    """The content; gzip and bzip2 check their own length and checksum."""
    match packing(path):
        case ".gz":
            with reading(path, "a complete gzip file"):
                return gzip.decompress(stored)
        case ".bz2":
            with reading(path, "a complete bzip2 file"):
                return bz2.decompress(stored)
    return stored


class Source:
    """One stored file for a look at its header, unpacked no further than asked."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.packing = packing(path)
        with _opened(path) as file:
            self.status = os.fstat(file.fileno())
            self._first = file.read(8192)
        if not self._first:
            raise refusal(path, "the file is empty")

    def head(self, n_bytes: int) -> bytes:
        """The first bytes of the content, fewer where it ends before."""
        if not self.packing and n_bytes <= 8192:
            return self._first
        with reading(self.path, "the start of a packed file"), self._unpacking() as file:
            return file.read(n_bytes)

    def _unpacking(self) -> BinaryIO:
        match self.packing:
            case ".gz":
                return cast(BinaryIO, gzip.open(self.path))
            case ".bz2":
                return cast(BinaryIO, bz2.open(self.path))
        return self.path.open("rb")

    @cached_property
    def content(self) -> bytes:
        """The whole content, unpacked."""
        return unpacked(self.path, stored_bytes(self.path)[0])

    def holds(self, n_bytes: int) -> bool:
        """Whether the content is at least this long. A gzip file says so at its end; if in doubt it is unpacked."""
        if not self.packing:
            return self.status.st_size >= n_bytes
        return (self.packing == ".gz" and self._gzip_length() >= n_bytes) or len(self.content) >= n_bytes

    def is_exactly(self, n_bytes: int) -> bool:
        """Whether a gzip file claims this length of content; False where only unpacking can tell."""
        return self.packing == ".gz" and self._gzip_length() == n_bytes

    def _gzip_length(self) -> int:
        # RFC 1952: the last four bytes are the content's length modulo 2**32 (of the last member, if several).
        with _opened(self.path) as file:
            file.seek(-min(4, self.status.st_size), os.SEEK_END)
            return int.from_bytes(file.read(4), "little")

    def stream(self) -> BinaryIO:
        """The content as a seekable stream; to be closed by the caller."""
        return io.BytesIO(self.content) if self.packing else self.path.open("rb")
