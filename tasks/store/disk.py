"""What a full or read-only disk says, in words that a person can act on."""

import errno
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from tasks.errors import PipelineError, StoreError

_PROBLEMS = {
    errno.ENOSPC: "its disk is full",
    errno.EDQUOT: "the quota on its disk is used up",
    errno.EFBIG: "a file would be larger than this user may write",
    errno.EROFS: "its disk is read-only",
    errno.EACCES: "this user may not write there",
    errno.EPERM: "this user may not write there",
}
_SPACE = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


@contextmanager
def disk_problems(store: Path) -> Iterator[None]:
    """Turn what a disk refuses for good into a `StoreError` that says what to do; other errors pass.

    Meant for a whole run: stages have tried again by then.
    """
    try:
        yield
    except PipelineError:
        raise
    except OSError as error:
        if error.errno not in _PROBLEMS:
            raise
        advice = "Make room" if error.errno in _SPACE else "Make it writable"
        raise StoreError(
            f"{store} cannot be written: {_PROBLEMS[error.errno]}{_room(store)} ({error}). {advice}, or give a store "
            "on another disk; then start the same command again: finished shards are kept"
        ) from error


def _room(store: Path) -> str:
    folder = next(path for path in (store, *store.parents) if path.exists())
    with suppress(OSError):
        usage = shutil.disk_usage(folder)
        return f", {usage.free / 1e6:.1f} of {usage.total / 1e6:.1f} MB are free"
    return ""
