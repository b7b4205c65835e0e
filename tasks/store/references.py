"""Small frozen pointers that travel between tasks instead of arrays."""

import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from tasks.settings.base import digest
from tasks.store.ledger import FrameRecord, content_digest
from tasks.store.scan_store import ScanStore


@dataclass(frozen=True)
class ScanRef:
    """A scan store by its absolute path."""

    path: str


@dataclass(frozen=True)
class ArrayRef:
    """An array of a scan, and the digest of all that it is computed from but the frames themselves."""

    scan: ScanRef
    path: str
    lineage: str


@dataclass(frozen=True)
class FrameRange:
    """Frames start to stop - 1 of a scan.

    >>> list(FrameRange(30, 50).shards(16))
    [(1, 16, 32), (2, 32, 48), (3, 48, 50)]
    """

    start: int
    stop: int

    def shards(self, frames: int) -> Iterator[tuple[int, int, int]]:
        """Each shard that the range touches, whole but for the scan's end: (shard, start, stop)."""
        for shard in range(self.start // frames, -(-self.stop // frames)):
            yield shard, shard * frames, min((shard + 1) * frames, self.stop)

    def __len__(self) -> int:
        return self.stop - self.start


_stores: dict[str, ScanStore] = {}
_opening = threading.Lock()


def open_store(scan: ScanRef) -> ScanStore:
    """The process's one object for a scan, so that its ledger is read once and written by one hand."""
    with _opening:
        store = _stores.get(scan.path)
        # The path may hold another scan by now, made after the first was deleted.
        if store is None or not store.is_same_scan():
            store = _stores[scan.path] = ScanStore(Path(scan.path))
    store.frames.refresh()
    store.shards.refresh()
    return store


def shard_lineage(array: ArrayRef, frames: Sequence[FrameRecord]) -> str:
    """Names what a shard holds: settings, code and models (by the array) and the pixels of its frames."""
    return digest([array.lineage, content_digest(frames)])
