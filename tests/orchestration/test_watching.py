"""When a scan is complete, told by a fake clock and a fake reader: no sleeping, no server."""

import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks.errors import FrameReadError, SourceError, StoreError
from tasks.watching import Announced, Beamtime, CompleteScan, FileState, digest_of, scans_below

WHOLE = b"whole"


def peek(path: Path) -> None:
    if path.read_bytes() != WHOLE:
        raise FrameReadError(f"{path} is not complete")


def is_cbf(path: Path) -> bool:
    return path.suffix == ".cbf"


def watch(folder: Path, **settings: float) -> Beamtime:
    return Beamtime(folder, is_cbf, peek, **settings)


def write(path: Path, content: bytes = WHOLE) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)


def names(scans: list[CompleteScan]) -> list[str]:
    return [scan.name for scan in scans]


def test_a_scan_is_complete_after_the_quiet_time_and_not_before(tmp_path: Path) -> None:
    write(tmp_path / "scan" / "a.cbf")
    beamtime = watch(tmp_path, quiet_s=2)
    assert [names(beamtime.poll(now)) for now in (0, 1, 1.9, 2)] == [[], [], [], ["scan"]]


def test_scans_below_a_folder_are_named_by_their_paths_in_natural_order(tmp_path: Path) -> None:
    beamtime = tmp_path / "bt"
    for name in ("s10/a.cbf", "s9/a.cbf", "s9/b/a.cbf", "a.cbf", "s9/.hidden/a.cbf", "old.zarr/a.cbf", "notes/a.txt"):
        write(beamtime / name)
    assert list(scans_below(beamtime, is_cbf)) == ["bt", "s9", "s9/b", "s10"]
    write(beamtime / "bt" / "a.cbf")
    with pytest.raises(SourceError, match="both hold frames, and would have one store"):
        scans_below(beamtime, is_cbf)


def test_a_growing_file_holds_the_scan_up_however_long_it_takes(tmp_path: Path) -> None:
    beamtime = watch(tmp_path, quiet_s=2, give_up_s=10)
    for now in range(20):
        write(tmp_path / "scan" / "a.cbf", b"x" * now)
        assert beamtime.poll(now) == []
    write(tmp_path / "scan" / "a.cbf")
    assert [names(beamtime.poll(now)) for now in (20, 21, 22)] == [[], [], ["scan"]]


def test_a_new_file_starts_the_quiet_time_again(tmp_path: Path) -> None:
    write(tmp_path / "scan" / "a.cbf")
    beamtime = watch(tmp_path, quiet_s=4)
    beamtime.poll(0)
    beamtime.poll(1)
    write(tmp_path / "scan" / "b.cbf")
    assert [names(beamtime.poll(now)) for now in (1.5, 5, 5.5)] == [[], [], ["scan"]]


def test_an_incomplete_file_is_waited_for_until_give_up_and_then_counted(tmp_path: Path) -> None:
    write(tmp_path / "scan" / "a.cbf")
    write(tmp_path / "scan" / "b.cbf", b"who")
    beamtime = watch(tmp_path, quiet_s=2, give_up_s=30)
    assert [beamtime.poll(now) for now in (0, 1, 10, 29)] == [[], [], [], []]
    (scan,) = beamtime.poll(30)
    assert (scan.files, scan.unreadable, scan.size_bytes) == (2, 1, 8)


def test_a_file_that_becomes_readable_without_a_change_of_its_own_is_seen(tmp_path: Path) -> None:
    """An HDF5 master is complete when the files it links to are; its own size and time stay."""
    missing = {"a.cbf"}

    def peek_master(path: Path) -> None:
        if path.name in missing:
            raise FrameReadError("a linked file is missing")

    write(tmp_path / "scan" / "a.cbf")
    beamtime = Beamtime(tmp_path, is_cbf, peek_master, quiet_s=2, give_up_s=30)
    assert [beamtime.poll(now) for now in (0, 1, 5)] == [[], [], []]
    missing.clear()
    assert names(beamtime.poll(6)) == ["scan"]


def test_slow_exposures_do_not_cut_a_scan_into_pieces(tmp_path: Path) -> None:
    beamtime = watch(tmp_path, quiet_s=2, give_up_s=30)
    for now in range(40):
        if now % 5 == 0:  # one frame every 5 s: more than the quiet time
            write(tmp_path / "scan" / f"{now}.cbf")
        complete = beamtime.poll(now)
        # The pace is known from the second frame on, at 5 s; the first pause cannot be told from an end.
        assert complete == [] or now < 5
    assert names(beamtime.poll(45)) == ["scan"]


def test_a_scan_that_grows_later_has_a_new_digest_and_the_same_name(tmp_path: Path) -> None:
    write(tmp_path / "scan" / "a.cbf")
    beamtime = watch(tmp_path, quiet_s=1)
    beamtime.poll(0)
    (first,) = beamtime.poll(1)
    assert beamtime.poll(2) == [first]
    write(tmp_path / "scan" / "b.cbf")
    beamtime.poll(100)
    (second,) = beamtime.poll(101)
    assert (second.name, second.files) == (first.name, 2)
    assert second.key != first.key


def test_each_readable_file_is_peeked_at_once_until_it_changes(tmp_path: Path) -> None:
    peeked: list[str] = []
    for number in range(5):
        write(tmp_path / "scan" / f"{number}.cbf")
    beamtime = Beamtime(tmp_path, is_cbf, lambda path: peeked.append(path.name), quiet_s=2)
    for now in range(10):
        beamtime.poll(now)
    assert sorted(peeked) == [f"{number}.cbf" for number in range(5)]
    os.utime(tmp_path / "scan" / "3.cbf", ns=(1, 1))
    for now in range(10, 20):
        beamtime.poll(now)
    assert peeked[5:] == ["3.cbf"]


def test_scans_are_folders_at_any_depth_and_the_beamtime_folder_itself(tmp_path: Path) -> None:
    folder = tmp_path / "beamtime"
    for part in ("", "scan_2", "sample/scan_10", ".hidden", "result.zarr"):
        write(folder / part / "a.cbf")
    write(folder / "logs" / "a.txt")
    beamtime = watch(folder, quiet_s=0)
    beamtime.poll(0)
    assert sorted(names(beamtime.poll(1))) == ["beamtime", "sample/scan_10", "scan_2"]


def test_a_folder_or_file_that_vanishes_is_forgotten(tmp_path: Path) -> None:
    write(tmp_path / "scan" / "a.cbf")
    beamtime = watch(tmp_path, quiet_s=1)
    beamtime.poll(0)
    (tmp_path / "scan" / "a.cbf").unlink()
    (tmp_path / "scan").rmdir()
    assert beamtime.poll(5) == []


def test_a_missing_beamtime_folder_is_an_error_that_says_where(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match=r"nowhere is not a folder; create it, or mount the disk"):
        watch(tmp_path / "nowhere").poll(0)


@given(st.dictionaries(st.text(min_size=1), st.tuples(st.integers(0, 2**40), st.integers(0, 2**62)), max_size=8))
def test_the_digest_depends_on_names_sizes_and_times_but_not_on_order(facts: dict[str, tuple[int, int]]) -> None:
    listing = {name: FileState(*state) for name, state in facts.items()}
    assert digest_of(dict(reversed(listing.items()))) == digest_of(listing)
    for name, state in listing.items():
        assert digest_of(listing | {name: FileState(state.size + 1, state.mtime_ns)}) != digest_of(listing)
        assert digest_of(listing | {name: FileState(state.size, state.mtime_ns + 1)}) != digest_of(listing)
        assert digest_of({key: value for key, value in listing.items() if key != name}) != digest_of(listing)


def test_what_was_announced_survives_a_restart_and_is_confirmed_later(tmp_path: Path) -> None:
    memory = Announced(tmp_path / "deep" / "announced.json")
    memory.note("a:1")
    memory.note("b:2")
    memory.note("a:1", confirmed=True)
    again = Announced(tmp_path / "deep" / "announced.json")
    assert "a:1" in again
    assert "c:3" not in again
    assert again.unconfirmed() == ["b:2"]


def test_a_write_that_was_cut_short_leaves_the_old_memory(tmp_path: Path) -> None:
    memory = Announced(tmp_path / "announced.json")
    memory.note("a:1")
    (tmp_path / "announced.json.partial").write_text('{"announc')
    assert "a:1" in Announced(tmp_path / "announced.json")


def test_a_damaged_memory_is_refused_with_what_to_do(tmp_path: Path) -> None:
    (tmp_path / "announced.json").write_text("{}")
    with pytest.raises(StoreError, match=r"announced.json, the watcher's memory, is damaged .* delete it"):
        Announced(tmp_path / "announced.json")


def test_a_scan_grows_while_looks_find_new_files_and_is_due_after_its_quiet_time(tmp_path: Path) -> None:
    beamtime = watch(tmp_path, quiet_s=2)
    for now in range(3):
        write(tmp_path / "scan" / f"{now}.cbf")
        beamtime.poll(now)
    (scan,) = beamtime.growing(2)
    assert (scan.growths, scan.due_at) == (3, 32), "the newest file was not looked into yet"
    beamtime.poll(3)
    assert scan.due_at == 4
    assert beamtime.growing(4) == []


def test_which_scans_were_announced_is_known_by_their_folders(tmp_path: Path) -> None:
    memory = Announced(tmp_path / "announced.json")
    memory.note("/data/a:b:12")
    assert memory.knows(Path("/data/a:b"))
    assert not memory.knows(Path("/data/a"))
