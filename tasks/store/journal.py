"""An append-only file of JSON lines: the durable memory of a scan.

One process writes (the scan's lock sees to that), any number read. A line is written by one `write` and synced to disk
before `append` returns. A process killed in mid-write leaves a last line without its newline; readers ignore it and the
next writer cuts it off.
"""

import json
import os
import threading
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from tasks.errors import StoreError


class Journal:
    """Records in the order in which they were written.

    >>> import tempfile
    >>> journal = Journal(Path(tempfile.mkdtemp()) / "frames.jsonl")
    >>> journal.append([{"frame": 0}, {"frame": 1}])
    >>> [record["frame"] for record in journal.read()]
    [0, 1]
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._lock = threading.Lock()

    def append(self, records: Iterable[dict[str, Any]]) -> None:
        """Write the records; when this returns they survive a crash of the process and of the machine."""
        text = "".join(json.dumps(record, separators=(",", ":"), allow_nan=False) + "\n" for record in records)
        with self._lock:
            self._cut_torn_line()
            descriptor = os.open(self.path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
            try:
                _write_all(descriptor, text.encode())
                os.fsync(descriptor)
            finally:
                os.close(descriptor)

    def read(self, offset: int = 0) -> Iterator[dict[str, Any]]:
        """Yield the complete records from a byte offset on. Raises `StoreError` for a line that is not JSON."""
        for line, _ in self.read_lines(offset):
            yield line

    def read_lines(self, offset: int = 0) -> Iterator[tuple[dict[str, Any], int]]:
        """Yield each complete record with the byte offset behind it."""
        if not self.path.exists():
            return
        with self.path.open("rb") as file:
            file.seek(offset)
            for line in file:
                if not line.endswith(b"\n"):
                    return
                offset += len(line)
                try:
                    yield json.loads(line), offset
                except json.JSONDecodeError as error:
                    raise StoreError(
                        f"{self.path} is damaged at byte {offset - len(line)}: not JSON ({error}); "
                        "restore it from a copy, or process the scan into a new store"
                    ) from error

    def _cut_torn_line(self) -> None:
        if not self.path.exists():
            return
        with self.path.open("rb+") as file:
            size = file.seek(0, os.SEEK_END)
            tail = b""
            while size and not tail.endswith(b"\n"):
                start = max(0, size - 65536)
                file.seek(start)
                tail = file.read(size - start)
                keep = tail.rfind(b"\n") + 1
                size = start + keep
                tail = tail[:keep]
            file.truncate(size)


def _write_all(descriptor: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(descriptor, view) :]
