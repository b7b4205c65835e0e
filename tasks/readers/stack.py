"""Files that may hold many frames (TIFF, EDF), opened again and again for a few frames each time.

Small files are read whole and hashed from the same bytes. Of a large one only the asked frames are read; where its
frames are, its digest, and the unpacked content of a packed stack are remembered while the file stays as it is.
"""

import io
import os
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, closing, contextmanager
from dataclasses import dataclass, replace
from hashlib import sha256
from pathlib import Path
from typing import Protocol

from tasks.readers.content import LARGEST_IN_MEMORY, Content, Loaded, OnDisk, open_stored
from tasks.readers.digest import loaded_digest, stored_digest
from tasks.readers.frames import Frame, Index
from tasks.readers.guard import changed
from tasks.readers.packing import Unpacked, packing, spilled, state_of, stored_bytes, unpack
from tasks.readers.remembered import Remembered, Stamp, stamp

MOST_UNPACKED = 4
"""Packed stacks whose content stays in temporary files; more threads than this rarely fill shards of different ones."""


class Format(Protocol):
    """What a module for such files offers."""

    def index(self, path: Path, content: Content) -> Index:
        """Where the frames are, found by the headers."""

    def frames(self, path: Path, content: Content, index: Index) -> AbstractContextManager[Callable[[int], Frame]]:
        """The function that reads one frame and no other, for as long as the context lasts."""


@dataclass(frozen=True)
class Stack:
    """A file ready to be read: where its frames are, the state it was in, and how to get a frame and the digest."""

    index: Index
    stamp: Stamp
    frame: Callable[[int], Frame]
    digest: Callable[[], str]


_indices: Remembered[Index] = Remembered(16)
_kept: Remembered[tuple[Unpacked, Index]] = Remembered(MOST_UNPACKED)


def peek(path: Path, format_: Format) -> tuple[Index, Stamp]:
    """Where the frames are, and the state of the file; only headers are read, unless it is packed."""
    with open_stored(path) as file:
        state = state_of(path, file)
        if packing(path):
            # What is unpacked for a look is not kept: who watches a folder would fill the disk.
            return _indices.get((state,), lambda: _unpack(path, file, state, format_)[1], keep=_is_stack), state
        return _index_on_disk(path, OnDisk(file), state, format_), state


@contextmanager
def opened(path: Path, format_: Format) -> Iterator[Stack]:
    """The file, for as long as the context lasts."""
    with open_stored(path) as file:
        state = state_of(path, file)
        content, index, digest = _prepared(path, file, state, format_)
        with closing(content), format_.frames(path, content, index) as read:
            is_read_in_place = isinstance(content, OnDisk) and not packing(path)
            yield Stack(index, state, _checked(path, file, state, read) if is_read_in_place else read, digest)


def _prepared(path: Path, file: io.FileIO, state: Stamp, format_: Format) -> tuple[Content, Index, Callable[[], str]]:
    """Content, where the frames are in it, and how to get the digest."""
    if packing(path):
        unpacked, index = _kept.get((state,), lambda: _unpack_to_keep(path, file, state, format_), keep=_holds_stack)
        digest = unpacked.sha256  # and not `unpacked` in the lambda, which would hold on to what is no longer kept
        return unpacked.opened(), index, lambda: digest
    if state.size_bytes > LARGEST_IN_MEMORY:
        content = OnDisk(file)
        index = _index_on_disk(path, content, state, format_)
        if _is_stack(index):
            return content, index, lambda: stored_digest(path, [state])
    stored = stored_bytes(path, file, state)
    loaded = Loaded(stored)
    index = format_.index(path, loaded)
    if _is_stack(index):
        return loaded, index, lambda: loaded_digest(state, stored)
    return loaded, index, lambda: sha256(stored).hexdigest()


def _checked(path: Path, file: io.FileIO, state: Stamp, read: Callable[[int], Frame]) -> Callable[[int], Frame]:
    def frame(number: int) -> Frame:
        try:
            return read(number)
        finally:
            # Also where reading failed: then this is why.
            if stamp(path, os.fstat(file.fileno())).version != state.version:
                raise changed(path)

    return frame


def _index_on_disk(path: Path, content: OnDisk, state: Stamp, format_: Format) -> Index:
    # The headers of 5000 frames take 0.1 to 0.4 s, which is longer than reading the frames of a shard.
    is_large = state.size_bytes > LARGEST_IN_MEMORY
    return _indices.get((state,), lambda: format_.index(path, content), keep=lambda _: is_large)


def _unpack(path: Path, file: io.FileIO, state: Stamp, format_: Format) -> tuple[Unpacked, Index]:
    unpacked = unpack(path, file, state)
    with closing(unpacked.opened()) as content:
        return unpacked, format_.index(path, content)


def _unpack_to_keep(path: Path, file: io.FileIO, state: Stamp, format_: Format) -> tuple[Unpacked, Index]:
    """What is kept, a stack, goes to disk whatever its size; a single frame is used and forgotten."""
    unpacked, index = _unpack(path, file, state, format_)
    if _is_stack(index) and isinstance(unpacked.content, Loaded):
        unpacked = replace(unpacked, content=spilled(path, [unpacked.content.data]))
    return unpacked, index


def _is_stack(index: Index) -> bool:
    return index.layout.n_frames > 1


def _holds_stack(found: tuple[Unpacked, Index]) -> bool:
    return _is_stack(found[1])
