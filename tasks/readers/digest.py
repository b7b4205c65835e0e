"""SHA-256 of files as they are stored, computed once per process and state of the files."""

import os
from collections.abc import Sequence
from hashlib import sha256
from pathlib import Path

from tasks.readers.content import open_stored
from tasks.readers.guard import changed
from tasks.readers.remembered import Remembered, Stamp, stamp

_PIECE_BYTES = 2**20
_digests: Remembered[str] = Remembered(64)


def stored_digest(path: Path, stamps: Sequence[Stamp]) -> str:
    """Hex digest over the bytes of these files, one behind the other, read piece by piece; `path` stands for them all.

    Raises
        FrameReadError: one of them is not, or does not stay, in the state of its stamp.
    """
    return _digests.get(tuple(stamps), lambda: _digest(path, stamps))


def loaded_digest(one: Stamp, stored: bytes) -> str:
    """The same for a file whose bytes are in memory."""
    return _digests.get((one,), lambda: sha256(stored).hexdigest())


def _digest(path: Path, stamps: Sequence[Stamp]) -> str:
    digest = sha256()
    piece = memoryview(bytearray(_PIECE_BYTES))
    for one in stamps:
        name = Path(one.path)
        with open_stored(name) as file:
            before = stamp(name, os.fstat(file.fileno()))
            while n_read := file.readinto(piece):
                digest.update(piece[:n_read])
            after = stamp(name, os.fstat(file.fileno()))
        if not one.version == before.version == after.version:
            raise changed(path)
    return digest.hexdigest()
