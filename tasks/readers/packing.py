"""Bytes of a file as stored, and as unpacked from `.gz` or `.bz2`."""

import bz2
import errno
import gzip
import io
import itertools
import os
import re
import tempfile
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from hashlib import sha256
from pathlib import Path
from typing import Any, BinaryIO, cast

from tasks.readers.content import LARGEST_IN_MEMORY, Loaded, OnDisk, Unlinked, open_stored
from tasks.readers.guard import changed, reading, refusal
from tasks.readers.remembered import Stamp, stamp

PACKINGS = (".gz", ".bz2")
_PIECE_BYTES = 2**20
# RFC 1952: two bytes that identify gzip, deflate, flags of which the upper three bits are zero.
_MEMBER = re.compile(rb"\x1f\x8b\x08[\x00-\x1f]", re.DOTALL)


def packing(path: Path) -> str:
    """ ".gz", ".bz2", or "" for a file that is stored as it is."""
    suffix = path.suffix.lower()
    return suffix if suffix in PACKINGS else ""


@dataclass(frozen=True)
class Unpacked:
    """All of a packed file: its content, and the digest of the stored bytes that it was unpacked from."""

    content: Loaded | Unlinked
    sha256: str

    def opened(self) -> Loaded | OnDisk:
        """The content, to be closed by the caller."""
        return self.content.opened() if isinstance(self.content, Unlinked) else self.content


def state_of(path: Path, file: io.FileIO) -> Stamp:
    """The state of an open file; refused if it is empty."""
    state = stamp(path, os.fstat(file.fileno()))
    if not state.size_bytes:
        raise refusal(path, "the file is empty")
    return state


def stored_bytes(path: Path, file: io.FileIO, state: Stamp) -> bytes:
    """The whole file in one read; refused if it is not, or does not stay, in this state."""
    stored = file.read()
    if stamp(path, os.fstat(file.fileno())).version != state.version or len(stored) != state.size_bytes:
        raise changed(path)
    return stored


def unpack(path: Path, file: io.FileIO, state: Stamp) -> Unpacked:
    """Unpack and hash a file in one pass; more than `LARGEST_IN_MEMORY` of content goes to a temporary file.

    gzip and bzip2 check their own length and checksum.

    Raises
        FrameReadError: not completely written, or changed while it was read.
        OSError: what time may heal; names the folder where a temporary file had no room.
    """
    hashing = _Hashing(file)
    stored = io.BufferedReader(hashing, _PIECE_BYTES)
    with reading(path, "a complete gzip file" if packing(path) == ".gz" else "a complete bzip2 file"):
        with gzip.GzipFile(fileobj=stored) if packing(path) == ".gz" else bz2.BZ2File(stored) as stream:
            content = _collected(path, stream)
        while stored.read(_PIECE_BYTES):
            pass  # bytes behind the packed content, which count for the digest
    if stamp(path, os.fstat(file.fileno())).version != state.version:
        raise changed(path)
    return Unpacked(content, hashing.digest.hexdigest())


class _Hashing(io.RawIOBase):
    """A file that hashes what is read from it."""

    def __init__(self, file: io.FileIO) -> None:
        self._file = file
        self.digest = sha256()

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        n_read = self._file.readinto(buffer) or 0
        self.digest.update(memoryview(buffer)[:n_read])
        return n_read


def _collected(path: Path, stream: gzip.GzipFile | bz2.BZ2File) -> Loaded | Unlinked:
    start = stream.read(LARGEST_IN_MEMORY + 1)
    if len(start) <= LARGEST_IN_MEMORY:
        return Loaded(start)
    return spilled(path, itertools.chain([start], iter(lambda: stream.read(_PIECE_BYTES), b"")))


def spilled(path: Path, pieces: Iterable[bytes]) -> Unlinked:
    """What `path` holds unpacked, in a temporary file."""
    try:
        return Unlinked(pieces)
    except OSError as error:
        if error.errno is None:
            raise  # from the pieces: the packed file is damaged
        folder = tempfile.gettempdir()
        problem = f"cannot unpack {path} into {folder} ({error.strerror}); make room, or set TMPDIR to another folder"
        # Not the error's own number: a full disk says nothing about the file, which can be read later.
        raise OSError(errno.ENOSPC, problem) from error


class Source:
    """One stored file for a look at its header, unpacked no further than asked."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.packing = packing(path)
        with open_stored(path) as file:
            self.stamp = state_of(path, file)
            self._first = file.read(8192)

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
    def n_bytes(self) -> int:
        """Length of the content; a packed file is unpacked to find it."""
        if not self.packing:
            return self.stamp.size_bytes
        with open_stored(self.path) as file:
            return unpack(self.path, file, self.stamp).content.n_bytes

    def holds(self, n_bytes: int) -> bool:
        """Whether the content is at least this long. A gzip file says so at its end; if in doubt it is unpacked."""
        return (self.packing == ".gz" and self._gzip_length() >= n_bytes) or self.n_bytes >= n_bytes

    def is_exactly(self, n_bytes: int) -> bool:
        """Whether a gzip file claims this length of content; False where only unpacking can tell."""
        return self.packing == ".gz" and self._gzip_length() == n_bytes and self._has_one_member()

    def _has_one_member(self) -> bool:
        """Whether nothing in the file can be the start of another member, as in files joined by `cat`."""
        if self.stamp.size_bytes > LARGEST_IN_MEMORY:
            return False
        with open_stored(self.path) as file:
            return _MEMBER.search(file.read(), 1) is None

    def _gzip_length(self) -> int:
        # RFC 1952: the last four bytes are the content's length modulo 2**32 (of the last member, if several).
        with open_stored(self.path) as file:
            file.seek(-min(4, self.stamp.size_bytes), os.SEEK_END)
            return int.from_bytes(file.read(4), "little")
