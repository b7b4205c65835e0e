"""The ledger: every source frame in exactly one state, and every finished shard with its hash.

Two journals in `<store>/ledger`. `frames.jsonl`: a line for each change of a frame's state; the last one counts.
`shards.jsonl`: a line for each shard that was written; it names the lineage (settings, code, inputs) that the shard was
computed from and the SHA-256 of the file that holds it, or held it, if it was pruned.
"""

import threading
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from typing import Any

from tasks.settings.base import digest
from tasks.store.journal import Journal


def now() -> str:
    """The time as the ledger writes it."""
    return datetime.now(UTC).isoformat(timespec="milliseconds")


class FrameState(StrEnum):
    """What became of a source frame."""

    PENDING = "pending"
    INGESTED = "ingested"
    QUARANTINED = "quarantined"
    DOUBLE = "double"


@dataclass(frozen=True)
class FrameRecord:
    """One source frame: where it is, what it was when read, and where it went."""

    file: str
    """Absolute path."""
    index: int
    """Position in the file; 0 for a file that cannot be opened, whose number of frames nobody knows."""
    state: FrameState
    size_bytes: int
    mtime_ns: int
    frame: int | None = None
    """Row in `counts`, for ingested frames."""
    sha256: str = ""
    """Of the file's bytes as stored."""
    crc32c: int = 0
    """Of the decoded pixels, native byte order."""
    invalid_pixels: int = 0
    reason: str = ""
    header: dict[str, Any] = field(default_factory=dict)
    at: str = field(default="", compare=False)
    """When this state was written: UTC, ISO 8601."""

    @property
    def key(self) -> tuple[str, int]:
        return self.file, self.index


class FrameLedger:
    """All frames of a scan, in the order in which they were first seen."""

    def __init__(self, path: Path) -> None:
        self._journal = Journal(path)
        self._offset = 0
        self._refreshing = threading.Lock()
        self._records: dict[tuple[str, int], FrameRecord] = {}
        self._indices: dict[str, list[int]] = {}
        self._ingested: list[FrameRecord] = []
        self._by_content: dict[tuple[str, int], list[FrameRecord]] = {}
        self.refresh()

    def refresh(self) -> None:
        """Read what was appended since, by this or another process."""
        with self._refreshing:
            for line, offset in self._journal.read_lines(self._offset):
                self._take(_record(line))
                self._offset = offset

    def write(self, records: Sequence[FrameRecord]) -> None:
        """Append the new states durably."""
        at = now()
        self._journal.append(_line(replace(record, at=at)) for record in records)
        self.refresh()

    def history(self, file: str, index: int) -> list[FrameRecord]:
        """All that was ever written about a frame, oldest first."""
        lines = (line for line in self._journal.read() if (line["file"], line["index"]) == (file, index))
        return [_record(line) for line in lines]

    def _take(self, record: FrameRecord) -> None:
        if record.key not in self._records:
            self._indices.setdefault(record.file, []).append(record.index)
        self._records[record.key] = record
        if record.frame is not None and record.frame == len(self._ingested):
            self._ingested.append(record)
            self._by_content.setdefault((record.sha256, record.index), []).append(record)

    def get(self, file: str, index: int) -> FrameRecord | None:
        return self._records.get((file, index))

    def all(self) -> list[FrameRecord]:
        return list(self._records.values())

    def of_file(self, file: str) -> list[FrameRecord]:
        return [self._records[file, index] for index in self._indices.get(file, ())]

    def in_state(self, state: FrameState) -> list[FrameRecord]:
        return [record for record in self._records.values() if record.state is state]

    @property
    def ingested(self) -> Sequence[FrameRecord]:
        """Ingested frames; position = row in `counts`."""
        return self._ingested

    @property
    def counts_by_state(self) -> dict[str, int]:
        found = Counter(record.state for record in self._records.values())
        return {state.value: found[state] for state in FrameState}

    def with_content(self, sha256: str, index: int) -> list[FrameRecord]:
        """Ingested frames that were read from the same bytes."""
        return self._by_content.get((sha256, index), [])


def content_digest(records: Iterable[FrameRecord]) -> str:
    """Names the pixels of frames: what a shard of `counts` is computed from."""
    return digest([[record.sha256, record.index, record.crc32c] for record in records])


def _record(line: dict[str, Any]) -> FrameRecord:
    return FrameRecord(**{**line, "state": FrameState(line["state"])})


def _line(record: FrameRecord) -> dict[str, Any]:
    return {key: value for key, value in asdict(record).items() if value not in ("", {}, None)}


@dataclass(frozen=True)
class ShardRecord:
    """One written shard of one array. An empty `sha256` says that a rewrite began: the older commit is void."""

    array: str
    shard: int
    stop: int
    """Frame behind the last one in the shard."""
    lineage: str
    sha256: str
    size_bytes: int
    at: str = field(default="", compare=False)
    """When it was committed: UTC, ISO 8601."""
    pruned: str = ""
    """Names the proof in `pruned.jsonl` under which the file was deleted; empty: it is there."""


class ShardLedger:
    """The commit markers of all arrays."""

    def __init__(self, path: Path) -> None:
        self._journal = Journal(path)
        self._offset = 0
        self._refreshing = threading.Lock()
        self._records: dict[tuple[str, int], ShardRecord] = {}
        self._pruned: dict[str, set[int]] = {}
        self.refresh()

    def refresh(self) -> None:
        """Read what was appended since, by this or another process."""
        with self._refreshing:
            for line, offset in self._journal.read_lines(self._offset):
                record = ShardRecord(**line)
                self._records[record.array, record.shard] = record
                pruned = self._pruned.setdefault(record.array, set())
                (pruned.add if record.pruned else pruned.discard)(record.shard)
                self._offset = offset

    def commit(self, records: Iterable[ShardRecord]) -> None:
        """Append commit markers durably."""
        at = now()
        lines = (asdict(replace(record, at=at)) for record in records)
        self._journal.append({key: value for key, value in line.items() if key != "pruned" or value} for line in lines)
        self.refresh()

    def void(self, records: Iterable[ShardRecord]) -> None:
        """Say, before files are rewritten, that their commits no longer hold."""
        self.commit(replace(record, sha256="", size_bytes=0, pruned="") for record in records)

    def get(self, array: str, shard: int) -> ShardRecord | None:
        return self._records.get((array, shard))

    def of_array(self, array: str) -> list[ShardRecord]:
        return [record for record in self._records.values() if record.array == array]

    def pruned(self, array: str) -> list[ShardRecord]:
        """Shards whose files were deleted, with proof, and not made again since."""
        return [self._records[array, shard] for shard in sorted(self._pruned.get(array, ()))]

    def arrays(self) -> list[str]:
        return sorted({record.array for record in self._records.values()})
