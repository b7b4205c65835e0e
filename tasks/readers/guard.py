"""The one place where errors of file libraries become the project's own."""

import errno
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from tasks.errors import FrameReadError, PipelineError

AGAIN = "Wait until it is completely written, or copy it again from its source."
CONVERT = "Convert it to a kind of file that is read."
LARGEST_FRAME_BYTES = 2**32
# What a network file system says while it is away, and what a full disk says.
_PASSING = {errno.EIO, errno.ESTALE, errno.ETIMEDOUT, errno.EAGAIN, errno.EREMOTEIO, errno.ENOTCONN, errno.ENOSPC}


class UnsupportedError(ValueError):
    """A file in order, but of a kind that is not read: no waiting will help."""


def refusal(path: Path, problem: str, advice: str = AGAIN) -> FrameReadError:
    """The error for a file that is not read: which file, what is wrong, what to do."""
    return FrameReadError(f"{path}: {problem}. {advice}")


def check_frame_size(path: Path, shape: tuple[int, int], dtype: str) -> None:
    """Refuse frames that are larger than any detector's, before memory is asked for: one flipped bit makes them so."""
    n_bytes = shape[0] * shape[1] * np.dtype(dtype).itemsize
    if n_bytes > LARGEST_FRAME_BYTES:
        raise refusal(path, f"its header is damaged: it declares frames of {shape[0]} x {shape[1]} {dtype}")


def changed(path: Path) -> FrameReadError:
    """The error for a file that is written to while it is read."""
    return refusal(path, "the file, or one that it links to, changed while it was read")


@contextmanager
def reading(path: Path, what: str) -> Iterator[None]:
    """Turn whatever a file library raises (fabio, h5py and tifffile use a dozen types) into `FrameReadError`.

    MemoryError, and errors of the file system that time may heal, pass: they say nothing about the file.
    """
    try:
        yield
    except (PipelineError, MemoryError):
        raise
    except UnsupportedError as error:
        raise refusal(path, str(error), CONVERT) from error
    except Exception as error:
        if isinstance(error, OSError) and error.errno in _PASSING:
            raise
        reason = str(error) or "no message"
        raise refusal(path, f"not readable as {what} ({type(error).__name__}: {reason})") from error
