"""A wait that changes end early, and that ends in any case."""

import logging
import time
from pathlib import Path

from tasks.wakeup import WakeUp

LONG_S = 30.0


def until_it_listens(wake_up: WakeUp, file: Path) -> None:
    """The first changes may come before the file system is asked to tell of them."""
    deadline = time.monotonic() + LONG_S
    while not wake_up.wait(0.3, 0.1):
        file.write_text(str(time.monotonic()))
        assert time.monotonic() < deadline, "the file system tells of no change"


def test_a_file_in_a_folder_that_is_new_ends_the_wait_early(tmp_path: Path) -> None:
    wake_up = WakeUp([tmp_path], logging.getLogger("test"))
    try:
        until_it_listens(wake_up, tmp_path / "first.cbf")
        (tmp_path / "scan").mkdir()
        while wake_up.wait(1.0, 0.1):
            pass
        (tmp_path / "scan" / "a.cbf").write_text("frame")
        assert wake_up.wait(LONG_S, 0.1)
    finally:
        wake_up.close()


def test_what_runs_write_wakes_nobody(tmp_path: Path) -> None:
    wake_up = WakeUp([tmp_path], logging.getLogger("test"))
    try:
        (tmp_path / "scan.zarr").mkdir()
        until_it_listens(wake_up, tmp_path / "first.cbf")
        while wake_up.wait(1.0, 0.1):
            pass
        (tmp_path / "scan.zarr" / "shard").write_text("bytes")
        (tmp_path / ".hidden").write_text("bytes")
        assert not wake_up.wait(1.0, 0.1)
    finally:
        wake_up.close()


def test_a_file_system_that_says_nothing_costs_no_more_than_the_wait(tmp_path: Path, caplog) -> None:
    with caplog.at_level(logging.INFO):
        wake_up = WakeUp([tmp_path / "nowhere"], logging.getLogger("test"))
        started = time.monotonic()
        assert not wake_up.wait(0.5, 0.1)
        assert time.monotonic() - started >= 0.5
        wake_up.close()
    assert "looking again and again instead" in caplog.text
