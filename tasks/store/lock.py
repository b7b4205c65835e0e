"""One writer per scan: a lock that the operating system frees when its holder dies, however it dies."""

import fcntl
import json
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

from tasks.errors import StoreError


@contextmanager
def writer_lock(path: Path) -> Iterator[None]:
    """Hold the lock file; raise `StoreError`, naming the holder, if another run has it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a+") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            file.seek(0)
            raise StoreError(
                f"{path.parent.parent} is being written by another run ({file.read() or 'holder unknown'}); "
                "wait until it has ended, then start again: what is done will not be done twice"
            ) from error
        file.truncate(0)
        file.write(json.dumps({"pid": os.getpid(), "host": socket.gethostname(), "since": str(datetime.now(UTC))}))
        file.flush()
        yield
