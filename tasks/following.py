"""Which files of a growing scan are complete, and in which order they are taken; no clock, no sleeping, no store here.

Frames keep natural order, as in a run on the finished scan: a file waits for those of lower numbers. It waits for a
limited time only. A file that comes later than that is taken when it comes, behind the others, and counted as late.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path

from tasks.errors import FrameReadError, SourceError
from tasks.readers import FilePeek, find_doubles, find_files, natural_key, series_and_number, unpacked
from tasks.readers.names import NaturalKey
from tasks.settings.follow import FollowSettings
from tasks.watching import FileState


@dataclass(frozen=True)
class Arrived:
    """A complete file whose turn it is; `written_at` in seconds since 1970, as the file system tells."""

    peek: FilePeek
    written_at: float


@dataclass
class _Waiting:
    """A file that is not taken yet. Times are seconds of the caller's clock."""

    key: NaturalKey
    series: str
    number: int | None
    since: float
    state: FileState | None = None
    state_since: float = 0.0
    written_at: float = 0.0
    peek: FilePeek | None = field(default=None)


def present_files(source: str) -> list[Path]:
    """The detector files that are there now, named in full; none where there is nothing yet."""
    try:
        return [file.parent.resolve() / file.name for file in find_files(source)]
    except SourceError:
        return []


class GrowingScan:
    """The files of one scan, looked at again and again.

    `known`: files that the store has already. `list_files` and `peek` are `present_files` and `peek_file`; `peek`
    raises `FrameReadError` for a file that is not complete by its own header.
    """

    def __init__(
        self,
        list_files: Callable[[], Iterable[Path]],
        peek: Callable[[Path], FilePeek],
        known: Iterable[Path],
        settings: FollowSettings,
    ) -> None:
        self._list_files, self._peek, self._settings = list_files, peek, settings
        self._taken: set[Path] = set()
        self._numbers: set[tuple[str, int]] = set()
        self._waiting: dict[Path, _Waiting] = {}
        self._frames: set[Path] = set()
        self._doubles: set[Path] = set()
        self._last: NaturalKey | None = None
        self._newest: tuple[Path, FileState] | None = None
        self._changed_at: float | None = None
        self._pace_s = 0.0
        self.late = 0
        """Files that came after one of a higher number had been taken."""
        for path in known:
            self._take(path)

    @property
    def n_waiting(self) -> int:
        """Files that are there and not taken."""
        return len(self._waiting)

    @property
    def n_files(self) -> int:
        """Files seen, taken or not."""
        return len(self._taken) + len(self._waiting)

    def look(self, now: float) -> list[Arrived]:
        """Look at the source once; return the files to be taken now, in this order."""
        self._note_files(now)
        self._note_growing_stack(now)
        complete = {path for path, waiting in self._waiting.items() if self._is_complete(path, waiting, now)}
        arrived = []
        for path, waiting in sorted(self._waiting.items(), key=lambda item: item[1].key):
            overdue = now - waiting.since >= self._settings.late_s
            if path in complete and (overdue or self._follows(waiting)):
                assert waiting.peek
                arrived.append(Arrived(waiting.peek, waiting.written_at))
                self._take(path)
            elif not overdue:
                break
        return arrived

    def has_ended(self, now: float) -> bool:
        """True once nothing has changed for the quiet time, and no incomplete file holds up the end any more."""
        if self._changed_at is None:
            return False
        settings = self._settings
        quiet_s = max(settings.quiet_s, min(1.5 * self._pace_s, settings.give_up_s))
        return now - self._changed_at >= (settings.give_up_s if self._waiting else quiet_s)

    def _note_files(self, now: float) -> None:
        """Enter new files, and forget those that have vanished."""
        present = set(self._list_files())
        gone = self._waiting.keys() - present
        for file in gone:
            del self._waiting[file]
        new = present - self._taken - self._waiting.keys() - self._doubles
        for file in new:
            series, number = series_and_number(file)
            self._waiting[file] = _Waiting(natural_key(file), series, number, now)
        if new or gone:
            self._note_change(now)
            self._leave_doubles()

    def _leave_doubles(self) -> None:
        """Pass over what is the same frame packed otherwise; the survey at the end enters it in the ledger."""
        doubles = set(find_doubles(self._waiting)) | {file for file in self._waiting if unpacked(file) in self._frames}
        for file in doubles:
            del self._waiting[file]
        self._doubles |= doubles

    def _note_growing_stack(self, now: float) -> None:
        """A file of several frames may look complete and grow on; the survey at the end takes the rest of it."""
        if self._newest is None:
            return
        path, state = self._newest
        try:
            status = path.stat()
        except OSError:
            return
        if (found := FileState(status.st_size, status.st_mtime_ns)) != state:
            self._newest = path, found
            self._note_change(now)

    def _note_change(self, now: float) -> None:
        """Keep the longest pause between two changes, so that slow exposures do not end the scan."""
        if self._changed_at is not None and now - self._changed_at <= self._settings.give_up_s:
            self._pace_s = max(self._pace_s, now - self._changed_at)
        self._changed_at = now

    def _is_complete(self, path: Path, waiting: _Waiting, now: float) -> bool:
        """True for a file that is complete by its header and did not change between two looks."""
        try:
            status = path.stat()
            state = FileState(status.st_size, status.st_mtime_ns)
            if state != waiting.state:
                if waiting.state is not None:
                    self._note_change(now)
                waiting.state, waiting.state_since, waiting.peek = state, now, None
                # A file that is moved or linked into place keeps the time of its last change.
                waiting.written_at = max(status.st_mtime_ns, status.st_ctime_ns) / 1e9
                return False
            if waiting.peek is None and now - waiting.state_since >= self._settings.poll_s:
                waiting.peek = self._peek(path)
        except (FrameReadError, OSError):
            return False
        return waiting.peek is not None

    def _follows(self, waiting: _Waiting) -> bool:
        """True unless the file of the number before is missing."""
        return not waiting.number or (waiting.series, waiting.number - 1) in self._numbers

    def _take(self, path: Path) -> None:
        waiting = self._waiting.pop(path, None)
        key = waiting.key if waiting else natural_key(path)
        series, number = (waiting.series, waiting.number) if waiting else series_and_number(path)
        self._taken.add(path)
        self._frames.add(unpacked(path))
        if waiting and waiting.state:
            self._newest = path, waiting.state
        if number is not None:
            self._numbers.add((series, number))
        if self._last is None or key > self._last:
            self._last = key
        elif waiting:
            self.late += 1
