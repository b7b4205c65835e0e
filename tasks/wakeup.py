"""Sleep until it is time to look again, or until the file system says that something has changed.

File systems that are shared (GPFS, NFS, Lustre) say nothing of what other machines write, so that this only makes a
watcher look earlier, and never later: it looks again after its time in any case.
"""

import logging
import threading
from collections.abc import Sequence
from pathlib import Path

from watchfiles import Change, watch

Logger = logging.Logger | logging.LoggerAdapter[logging.Logger]

SHORTEST_SHARE = 0.25
"""Of the time between two looks: a burst of changes makes a watcher look four times as often, not more."""


class WakeUp:
    """Waits; changes below the folders end a wait early, where the file system tells of them."""

    def __init__(
        self, folders: Sequence[Path], logger: "logging.Logger | logging.LoggerAdapter[logging.Logger]"
    ) -> None:
        self._folders, self._logger = list(folders), logger
        self._changed, self._stop = threading.Event(), threading.Event()
        self._thread = threading.Thread(target=self._listen, name="wake-up", daemon=True)
        self._thread.start()

    def wait(self, seconds: float, poll_s: float) -> bool:
        """Wait for so long, or until something changes, but for a quarter of `poll_s` at least; True if it did."""
        shortest = min(seconds, SHORTEST_SHARE * poll_s)
        self._stop.wait(shortest)
        changed = self._changed.wait(max(0.0, seconds - shortest))
        self._changed.clear()
        return changed

    def close(self) -> None:
        """End the thread."""
        self._stop.set()
        self._thread.join(5)

    def _listen(self) -> None:
        try:
            listening = watch(
                *self._folders,
                watch_filter=_is_of_a_scan,
                stop_event=self._stop,
                debounce=200,
                step=50,
                rust_timeout=500,
            )
            for _ in listening:
                self._changed.set()
        except Exception as error:  # of many kinds: no watches left, folders that vanish, file systems that cannot
            self._logger.info("The file system does not tell of changes (%s); looking again and again instead", error)


def _is_of_a_scan(_change: Change, path: str) -> bool:
    """False for what a run writes, in a store or under a hidden name."""
    changed = Path(path)
    return not changed.name.startswith(".") and not any(part.endswith(".zarr") for part in changed.parts)
