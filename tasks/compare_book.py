"""What a comparison has found so far: a journal in its folder, so that a killed one goes on where it was.

A record's key names everything that its numbers follow from: the pixels of the frames, the settings, the code and the
model. What is found under its key is not computed again, in whatever order frames and models are added.
"""

import threading
from collections.abc import Iterable
from dataclasses import asdict, astuple, dataclass
from pathlib import Path
from typing import Any

from dlsia_core.metrics import PairMoments
from tasks.store.journal import Journal

BOOK = "journal/scores.jsonl"
LOCK = "journal/lock"
NOTHING = PairMoments()


@dataclass(frozen=True)
class CaseRecord:
    """A frame with gaps to judge, or why there is nothing to judge.

    n_pixels: judged. floor: L1 that noise alone makes there. pair: what the two exposures of a frame are to each other.
    """

    key: str
    frame: str
    gaps: str
    n_pixels: int = 0
    floor: float | None = None
    refused: str = ""
    pair: dict[str, Any] | None = None


@dataclass(frozen=True)
class ScoreRecord:
    """What one method made of a case, or why it could not fill the frame."""

    key: str
    method: str
    moments: PairMoments = NOTHING
    failed: str = ""


class Book:
    """Everything found, by its key; one object for a folder in a process, see `open_book`."""

    def __init__(self, path: Path) -> None:
        self._journal = Journal(path)
        self._lock = threading.Lock()
        self._cases: dict[str, CaseRecord] = {}
        self._scores: dict[str, ScoreRecord] = {}
        for line in self._journal.read():
            if "moments" in line:
                moments = PairMoments(*map(float, line["moments"]))
                self._scores[line["key"]] = ScoreRecord(line["key"], line["method"], moments, line["failed"])
            else:
                self._cases[line["key"]] = CaseRecord(**line)

    def case(self, key: str) -> CaseRecord | None:
        return self._cases.get(key)

    def score(self, key: str) -> ScoreRecord | None:
        return self._scores.get(key)

    def enter(self, cases: Iterable[CaseRecord], scores: Iterable[ScoreRecord]) -> None:
        """Write what is not there yet; when this returns it survives a crash."""
        with self._lock:
            new_cases = [case for case in cases if case.key not in self._cases]
            new_scores = [score for score in scores if score.key not in self._scores]
            lines = [asdict(case) for case in new_cases]
            lines += [{**vars(score), "moments": list(astuple(score.moments))} for score in new_scores]
            if lines:
                self._journal.append(lines)
            self._cases.update({case.key: case for case in new_cases})
            self._scores.update({score.key: score for score in new_scores})


_books: dict[Path, tuple[int, Book]] = {}
_opening = threading.Lock()


def open_book(folder: Path) -> Book:
    """The process's one book of a folder: two that write to one file would cut off each other's lines.

    Under the lock of the folder, which keeps other processes away.
    """
    path = folder / BOOK
    with _opening:
        path.parent.mkdir(parents=True, exist_ok=True)
        # The folder may have been deleted and made again since.
        path.touch()
        inode = path.stat().st_ino
        if path not in _books or _books[path][0] != inode:
            _books[path] = (inode, Book(path))
        return _books[path][1]
