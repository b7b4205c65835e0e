"""Prove that the source files of frames are still there, in their place or in a folder of copies, by their hashes."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tasks.errors import FrameReadError, StoreError
from tasks.readers import open_file
from tasks.store import FrameRecord


@dataclass
class Copies:
    """Source files, and the folders in which copies of them may lie; each file is hashed once."""

    folders: Sequence[Path] = ()
    _by_name: dict[str, list[Path]] | None = None
    _hashes: dict[Path, str | None] = field(default_factory=dict)

    def find(self, record: FrameRecord) -> Path | None:
        """A file of just the bytes that the frame was read from; None if there is none."""
        source = Path(record.file)
        for path in (source, *self._named(source.name)):
            if self._hash(path) == record.sha256:
                return path
        return None

    def prove(self, records: Sequence[FrameRecord]) -> dict[str, Any]:
        """Say in which folders the files of all frames were found. Raises `StoreError`, naming those that were not."""
        files = {record.file: record for record in records}
        found = {file: self.find(record) for file, record in files.items()}
        missing = [file for file, path in found.items() if path is None]
        if missing:
            copies = ", ".join(map(str, self.folders)) or "a folder of copies"
            raise StoreError(
                f"{len(missing)} of {len(files)} source files are not there with the SHA-256 of the ledger, neither in "
                f"their place nor in {copies}; the first is {missing[0]}"
            )
        folders = Counter(str(path.parent) for path in found.values() if path is not None)
        return {"files": len(found), "size_bytes": sum(r.size_bytes for r in files.values()), "folders": dict(folders)}

    def _named(self, name: str) -> list[Path]:
        """Where to look: files of the same name; what they hold decides."""
        if self._by_name is None:
            self._by_name = {}
            for folder in self.folders:
                for path in sorted(folder.rglob("*")):
                    self._by_name.setdefault(path.name, []).append(path)
        return self._by_name.get(name, [])

    def _hash(self, path: Path) -> str | None:
        if path not in self._hashes:
            try:
                with open_file(path) as file:
                    self._hashes[path] = file.sha256
            except (FrameReadError, OSError):
                self._hashes[path] = None
        return self._hashes[path]
