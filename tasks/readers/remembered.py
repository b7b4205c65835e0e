"""What was found out about files, kept for as long as they stay as they are."""

import os
import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Generic, NamedTuple, TypeVar

Value = TypeVar("Value")

# Five ticks of the slowest clock that a kernel stamps files with (100 Hz).
_TICKS_NS = 50_000_000


class Stamp(NamedTuple):
    """The state of one file: whoever changes its content changes the stamp."""

    path: str
    device: int
    inode: int
    size_bytes: int
    mtime_ns: int
    ctime_ns: int

    @property
    def version(self) -> tuple[int, int]:
        """Size and time of the last change. A backup or a chmod changes the rest, but not the content."""
        return self.size_bytes, self.mtime_ns


def stamp(path: Path, status: os.stat_result) -> Stamp:
    """The stamp of the file that has this name and status."""
    return Stamp(
        os.path.abspath(path),  # noqa: PTH100  (Path.resolve would ask the file system about every part)
        status.st_dev,
        status.st_ino,
        status.st_size,
        status.st_mtime_ns,
        status.st_ctime_ns,
    )


class Remembered(Generic[Value]):
    """The last few results of something costly, each for the state that files were in; safe to share by threads.

    >>> sizes = Remembered(2)
    >>> stamps = (Stamp("/d/a.tif", 1, 2, 3, 4, 5),)
    >>> sizes.get(stamps, lambda: "computed"), sizes.get(stamps, lambda: "computed again")
    ('computed', 'computed')
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._lock = threading.Lock()
        self._slots: OrderedDict[tuple[Stamp, ...], _Slot[Value]] = OrderedDict()

    def get(
        self, stamps: tuple[Stamp, ...], compute: Callable[[], Value], keep: Callable[[Value], bool] = lambda _: True
    ) -> Value:
        """The result for files in this state; threads that ask for it at once wait for one of them to compute it.

        What `keep` declines, and what is asked about a file that changed this very moment, is not kept.
        """
        if any(map(_may_change_unseen, stamps)):
            return compute()
        with self._lock:
            slot = self._slots.setdefault(stamps, _Slot())
            self._slots.move_to_end(stamps)
        try:
            with slot.lock:
                if slot.results:
                    return slot.results[0]
                value = compute()
                if keep(value):
                    slot.results.append(value)
                return value
        finally:
            self._tidy_up(stamps, slot)

    def _tidy_up(self, stamps: tuple[Stamp, ...], slot: "_Slot[Value]") -> None:
        """Drop this slot if nothing is kept in it, and what was not asked for longest if there is too much."""
        with self._lock:
            if not slot.results and self._slots.get(stamps) is slot:
                del self._slots[stamps]
            while len(self._slots) > self._most:
                self._slots.popitem(last=False)


class _Slot(Generic[Value]):
    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.results: list[Value] = []


def _may_change_unseen(one: Stamp) -> bool:
    """Whether another change could leave the stamp as it is, because the clock of the file system has not moved on."""
    return abs(time.time_ns() - one.ctime_ns) < _TICKS_NS
