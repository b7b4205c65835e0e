"""Which files a source means, in which order, and which of them are the same frame."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks.errors import SourceError
from tasks.readers import find_doubles, find_files, frame_number, natural_key, peek_file


def _touch(folder: Path, *names: str) -> None:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()


def _names(folder: Path, source: str) -> list[str]:
    return [path.relative_to(folder).as_posix() for path in find_files(source)]


def test_a_folder_is_listed_in_natural_order(tmp_path: Path) -> None:
    _touch(tmp_path, "s_10.cbf", "s_9.cbf", "S_9_1.CBF.gz", "s_100.cbf.bz2")
    assert _names(tmp_path, str(tmp_path)) == ["s_9.cbf", "S_9_1.CBF.gz", "s_10.cbf", "s_100.cbf.bz2"]


def test_what_is_no_frame_is_left_out(tmp_path: Path) -> None:
    others = ["a.txt", "a.log", "a.poni", "a.png", ".a.cbf", "b.cbf.tmp", "b.edf.partial", "sub/c.cbf", "a.h5.gz"]
    _touch(tmp_path, "a.edf", "b.tiff", *others)
    (tmp_path / "d.cbf").mkdir()
    assert _names(tmp_path, str(tmp_path)) == ["a.edf", "b.tiff"]


def test_globs_reach_sub_folders_and_are_ordered_by_the_whole_path(tmp_path: Path) -> None:
    _touch(tmp_path, "run_10/a_1.cbf", "run_9/a_2.cbf", "run_9/.hidden/a_3.cbf", ".trash/a_4.cbf", "run_9/a_2.txt")
    assert _names(tmp_path, f"{tmp_path}/**/*.cbf") == ["run_9/a_2.cbf", "run_10/a_1.cbf"]
    assert _names(tmp_path, f"{tmp_path}/run_*/*") == ["run_9/a_2.cbf", "run_10/a_1.cbf"]
    assert _names(tmp_path, f"{tmp_path}/run_9/a_?.cbf") == ["run_9/a_2.cbf"]


def test_a_single_file_and_names_with_brackets(tmp_path: Path) -> None:
    _touch(tmp_path, "scan[1]/a.cbf", "b[2].cbf")
    assert _names(tmp_path, f"{tmp_path}/scan[1]") == ["scan[1]/a.cbf"]
    assert _names(tmp_path, f"{tmp_path}/b[2].cbf") == ["b[2].cbf"]


def test_a_link_to_nothing_stays_in_the_list(tmp_path: Path) -> None:
    """It is a frame that somebody expects: to be reported, not passed over."""
    (tmp_path / "a.cbf").symlink_to(tmp_path / "gone.cbf")
    assert _names(tmp_path, str(tmp_path)) == ["a.cbf"]
    with pytest.raises(OSError, match=r"a\.cbf"):
        peek_file(tmp_path / "a.cbf")


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("", r"2 other files \(a\.txt, b\.log\).*Allowed are \.cbf, .*\.gz and \.bz2"),
        ("*.cbf", "nothing matches"),
        ("missing/*.cbf", "the folder .*missing does not exist"),
        ("missing", "no such file or folder.*quoted glob"),
        ("a.txt", "not a detector file by its suffix"),
    ],
)
def test_nothing_found_says_what_was_there_and_what_is_allowed(tmp_path: Path, source: str, message: str) -> None:
    _touch(tmp_path, "a.txt", "b.log")
    with pytest.raises(SourceError, match=message):
        find_files(str(tmp_path / source))


def test_holes_in_the_numbering_stay_visible() -> None:
    names = ["ds03_00001_00005.cbf", "ds03_00001_00007.cbf.gz", "dark.edf", "x_12keV_0003.tiff", "n4_00001-0000.tif"]
    assert [frame_number(name) for name in names] == [5, 7, None, 3, 0]


def test_doubles_point_to_the_file_that_is_kept() -> None:
    files = [Path(name) for name in ("a.cbf.gz", "a.cbf", "a.cbf.bz2", "b.cbf.bz2", "b.cbf.gz", "c/a.cbf", "a.edf")]
    assert find_doubles(files) == {
        Path("a.cbf.gz"): Path("a.cbf"),
        Path("a.cbf.bz2"): Path("a.cbf"),
        Path("b.cbf.bz2"): Path("b.cbf.gz"),
    }


@given(st.lists(st.tuples(st.text("ab_/.", max_size=4), st.integers(0, 2000), st.text("ab_", max_size=2)), max_size=8))
def test_natural_order_is_by_number_whatever_the_padding(pieces: list[tuple[str, int, str]]) -> None:
    padded = sorted(f"{before}{number:05}{after}.cbf" for before, number, after in pieces)
    bare = [f"{before}{number}{after}.cbf" for before, number, after in pieces]
    # Any two names can be compared, and among names that differ in one number the number decides.
    assert len(sorted(bare + padded, key=natural_key)) == 2 * len(pieces)
    numbers = [number for _, number, _ in pieces]
    series = sorted((f"s_{number}.cbf" for number in numbers), key=natural_key)
    assert series == [f"s_{number}.cbf" for number in sorted(numbers)]
