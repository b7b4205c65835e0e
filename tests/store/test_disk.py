"""A disk that refuses to write is named in words, with what to do."""

import errno

import pytest

from tasks.errors import FrameReadError, StoreError
from tasks.store import ScanStore


@pytest.mark.parametrize(
    ("number", "words"),
    [
        (errno.ENOSPC, r"its disk is full, [\d.]+ of [\d.]+ MB are free .* Make room"),
        (errno.EROFS, "its disk is read-only.* Make it writable"),
        (errno.EACCES, "this user may not write there.* Make it writable"),
    ],
)
def test_what_a_disk_refuses_says_what_to_do(tmp_path, number, words):
    """A run on a full disk ended with "[Errno 28] No space left on device", and nobody knew which disk."""
    with pytest.raises(StoreError, match=words) as caught, ScanStore.writing(tmp_path / "scan.zarr"):
        raise OSError(number, "the system's own words")
    assert "start the same command again: finished shards are kept" in str(caught.value)
    assert str(tmp_path / "scan.zarr") in str(caught.value)


@pytest.mark.parametrize("error", [OSError(errno.EIO, "network"), FrameReadError("of a file"), KeyError("a bug")])
def test_other_errors_pass_as_they_are(tmp_path, error):
    with pytest.raises(type(error)) as caught, ScanStore.writing(tmp_path / "scan.zarr"):
        raise error
    assert caught.value is error
