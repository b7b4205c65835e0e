"""Which files of a growing scan are taken, and in which order: told by a fake clock and a fake reader."""

import gzip
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks.errors import FrameReadError
from tasks.following import Arrived, GrowingScan, present_files
from tasks.readers import FilePeek, natural_key
from tasks.settings.follow import FollowSettings

WHOLE = b"whole"


def peek(path: Path) -> FilePeek:
    if not path.read_bytes().endswith(WHOLE):
        raise FrameReadError(f"{path} is not complete")
    status = path.stat()
    return FilePeek(path, "cbf", 1, (4, 4), "int32", status.st_size, status.st_mtime_ns, None)


def growing(folder: Path, known: tuple[Path, ...] = (), **settings: float) -> GrowingScan:
    chosen = {"poll_s": 1, "late_s": 5, "quiet_s": 10, "give_up_s": 60, **settings}
    return GrowingScan(lambda: present_files(str(folder)), peek, known, FollowSettings(**chosen))


def write(folder: Path, *numbers: int, content: bytes = WHOLE) -> None:
    for number in numbers:
        (folder / f"scan_{number}.cbf").write_bytes(content)


def numbers(arrived: list[Arrived]) -> list[int]:
    return [int(one.peek.path.stem.removeprefix("scan_")) for one in arrived]


def test_a_file_is_taken_when_it_is_complete_and_did_not_change_between_two_looks(tmp_path: Path) -> None:
    scan = growing(tmp_path)
    write(tmp_path, 0)
    write(tmp_path, 1, content=b"who")
    assert [numbers(scan.look(now)) for now in (0, 0.5, 1, 2)] == [[], [], [0], []]
    write(tmp_path, 1)
    assert [numbers(scan.look(now)) for now in (3, 3.5, 4, 5)] == [[], [], [1], []]
    assert scan.n_waiting == 0


def test_files_keep_natural_order_while_one_is_missing_and_no_longer_than_that(tmp_path: Path) -> None:
    scan = growing(tmp_path, late_s=5)
    write(tmp_path, 0, 1, 3, 10)
    assert [numbers(scan.look(now)) for now in (0, 1, 4)] == [[], [0, 1], []]
    write(tmp_path, 2)
    assert [numbers(scan.look(now)) for now in (4.1, 5.1)] == [[], [2, 3, 10]], "10 has waited for as long as it may"
    assert scan.late == 0


def test_one_that_comes_too_late_is_taken_behind_the_others_and_counted(tmp_path: Path) -> None:
    scan = growing(tmp_path, late_s=5)
    write(tmp_path, 0, 2, 3)
    assert [numbers(scan.look(now)) for now in (0, 1, 4.9, 5)] == [[], [0], [], [2, 3]]
    write(tmp_path, 1)
    assert [numbers(scan.look(now)) for now in (6, 7)] == [[], [1]]
    assert scan.late == 1


def test_one_that_stays_incomplete_holds_the_others_up_for_a_while_and_the_end_for_longer(tmp_path: Path) -> None:
    scan = growing(tmp_path, late_s=5, quiet_s=10, give_up_s=60)
    write(tmp_path, 0, 2)
    write(tmp_path, 1, content=b"who")
    assert [numbers(scan.look(now)) for now in (0, 1, 4, 5)] == [[], [0], [], [2]]
    assert [scan.has_ended(now) for now in (10, 59, 60)] == [False, False, True]
    assert scan.n_waiting == 1, "the survey at the end quarantines it"


def test_the_first_number_that_a_restarted_run_misses_is_known(tmp_path: Path) -> None:
    write(tmp_path, 0, 1, 2)
    scan = growing(tmp_path, known=(tmp_path / "scan_0.cbf", tmp_path / "scan_1.cbf"))
    assert [numbers(scan.look(now)) for now in (0, 1)] == [[], [2]]


@given(st.permutations(range(8)), st.lists(st.floats(0, 4), min_size=8, max_size=8))
def test_whatever_order_files_come_in_they_are_taken_in_natural_order(tmp_path_factory, order, pauses) -> None:
    """Files that come within `late_s` of each other, in any order, at any pace."""
    folder = tmp_path_factory.mktemp("growing")
    scan, now, taken = growing(folder, late_s=sum(pauses) + 3), 0.0, []
    for number, pause in zip(order, pauses, strict=True):
        write(folder, number)
        taken += scan.look(now)
        now += pause
        taken += scan.look(now)
    for _ in range(8):
        now += 1.5
        taken += scan.look(now)
    assert numbers(taken) == list(range(8))
    assert scan.late == 0
    assert [one.peek.path for one in taken] == sorted((one.peek.path for one in taken), key=natural_key)


def test_the_end_waits_longer_where_frames_come_slowly(tmp_path: Path) -> None:
    scan = growing(tmp_path, quiet_s=10, give_up_s=60)
    assert not scan.has_ended(1000), "nothing has come yet"
    for number in range(4):
        write(tmp_path, number)
        for tick in range(20):
            scan.look(20 * number + tick)
    assert [scan.has_ended(60 + 1.5 * 20 - 1), scan.has_ended(60 + 1.5 * 20)] == [False, True]


def test_the_same_frame_packed_otherwise_is_left_to_the_survey(tmp_path: Path) -> None:
    scan = growing(tmp_path)
    write(tmp_path, 0, 1)
    assert [numbers(scan.look(now)) for now in (0, 1)] == [[], [0, 1]]
    for number in (0, 1):
        (tmp_path / f"scan_{number}.cbf.gz").write_bytes(gzip.compress(WHOLE))
    write(tmp_path, 2)
    assert [numbers(scan.look(now)) for now in (2, 3, 9)] == [[], [2], []]
    assert scan.n_waiting == 0


def test_a_file_that_vanishes_is_waited_for_no_more(tmp_path: Path) -> None:
    scan = growing(tmp_path)
    write(tmp_path, 0)
    write(tmp_path, 1, content=b"who")
    scan.look(0)
    assert numbers(scan.look(1)) == [0]
    (tmp_path / "scan_1.cbf").unlink()
    scan.look(2)
    assert scan.n_waiting == 0
    assert scan.has_ended(12)


@pytest.mark.parametrize("grows", [True, False])
def test_a_stack_that_grows_on_after_it_was_taken_keeps_the_scan_open(tmp_path: Path, grows: bool) -> None:
    scan = growing(tmp_path, quiet_s=10)
    write(tmp_path, 0)
    for now in range(12):
        scan.look(now)
        if grows and now == 8:
            write(tmp_path, 0, content=WHOLE + WHOLE)
    assert scan.has_ended(12) != grows
