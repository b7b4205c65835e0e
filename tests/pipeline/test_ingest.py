"""Ingest: nothing lost, nothing doubled, nothing altered; what is not whole is quarantined with its reason."""

import shutil
from pathlib import Path

import h5py
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tasks import survey
from tasks.errors import SettingsError, SourceError, StoreError
from tasks.readers import ValidityRule, find_files
from tasks.settings.ingest import IngestSettings
from tasks.store import FrameState, ScanStore
from tasks.survey import survey_source
from tasks.verify import verify_store


def array_files(store: ScanStore) -> dict[str, bytes]:
    """The bytes of every chunk and shard."""
    return {
        str(file.relative_to(store.path)): file.read_bytes()
        for file in store.path.rglob("c/**/*")
        if file.is_file() and "source_file" not in str(file)
    }


def test_values_come_back_as_recorded_in_natural_order(tmp_path, write_frames, ingest_all, expected):
    numbers = [1, 2, 9, 10, 11, 100]
    write_frames(tmp_path / "raw", numbers)
    store = ingest_all(tmp_path / "raw", tmp_path / "scan.zarr")
    counts = store.read("counts", 0, 6)
    np.testing.assert_array_equal(counts, expected(numbers))
    assert counts.dtype == np.int32
    np.testing.assert_array_equal(store.read("valid", 0, 6), expected(numbers) >= 0)
    assert list(store.read("frame_number", 0, 6)) == numbers
    assert verify_store(store.path, deep=True).is_green


def test_many_short_scans_go_into_one_store_by_one_glob(tmp_path, write_frames, ingest_all, expected):
    for scan in (2, 10, 1):
        write_frames(tmp_path / "raw" / f"scan{scan}", [3 * scan, 3 * scan + 1, 3 * scan + 2])
    store = ingest_all(tmp_path / "raw" / "*" / "*.cbf", tmp_path / "scans.zarr")
    np.testing.assert_array_equal(store.read("counts", 0, 9), expected([3, 4, 5, 6, 7, 8, 30, 31, 32]))
    folders = [Path(str(file)).parent.name for file in store.read("source_file", 0, 9)]
    assert folders == ["scan1"] * 3 + ["scan2"] * 3 + ["scan10"] * 3
    assert verify_store(store.path, deep=True).is_green


def test_a_file_that_vanishes_while_the_source_is_looked_at_is_quarantined_and_taken_when_it_is_back(
    tmp_path, write_frames, ingest_all, expected, monkeypatch
):
    """It stopped the whole run with FileNotFoundError."""
    paths = write_frames(tmp_path / "raw", range(4))
    content = paths[2].read_bytes()

    def listed(source: str):
        found = find_files(source)
        paths[2].unlink(missing_ok=True)
        return found

    with monkeypatch.context() as patch:
        patch.setattr(survey, "find_files", listed)
        store = ingest_all(tmp_path / "raw", tmp_path / "scan.zarr")
    (refused,) = store.frames.in_state(FrameState.QUARANTINED)
    assert refused.file == str(paths[2])
    assert "cannot be opened (No such file or directory)" in refused.reason
    np.testing.assert_array_equal(store.read("counts", 0, 3), expected([0, 1, 3]))

    paths[2].write_bytes(content)
    store = ingest_all(tmp_path / "raw", tmp_path / "scan.zarr")
    np.testing.assert_array_equal(store.read("counts", 0, 4), expected([0, 1, 3, 2]))
    assert not store.frames.in_state(FrameState.QUARANTINED)
    assert verify_store(store.path, deep=True).is_green


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=15)
@given(damaged=st.sets(st.integers(0, 39), max_size=40), n_frames=st.integers(1, 40))
def test_damaged_frames_are_quarantined_and_the_rest_closes_up(
    tmp_path_factory, write_frames, ingest_all, expected, damaged, n_frames
):
    folder = tmp_path_factory.mktemp("scan")
    paths = write_frames(folder / "raw", range(n_frames), (8, 8))
    broken = sorted(number for number in damaged if number < n_frames)
    for number in broken:
        content = bytearray(paths[number].read_bytes())
        pixels = content.index(b"\x0c\x1a\x04\xd5") + 4
        content[pixels + number] ^= 0x10  # only the checksum can tell
        paths[number].write_bytes(content)
    whole = [number for number in range(n_frames) if number not in broken]
    store = ingest_all(folder / "raw", folder / "scan.zarr")
    np.testing.assert_array_equal(store.read("counts", 0, n_frames), expected(whole, (8, 8)))
    assert store.frames.counts_by_state == {
        "pending": 0, "ingested": len(whole), "quarantined": len(broken), "double": 0,
    }  # fmt: skip
    assert all(record.reason for record in store.frames.in_state(FrameState.QUARANTINED))
    assert verify_store(store.path, deep=True).is_green


def test_a_second_run_reads_no_file_and_changes_no_byte(tmp_path, write_frames, ingest_all):
    paths = write_frames(tmp_path / "raw", range(20))
    store = ingest_all(tmp_path / "raw", tmp_path / "scan.zarr")
    before = array_files(store)
    for path in paths:
        path.chmod(0)  # whoever is not root could not even open it
    assert survey_source(str(tmp_path / "raw"), store.frames, ValidityRule()).new == []
    assert array_files(ingest_all(tmp_path / "raw", store.path)) == before


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=10)
@given(parts=st.lists(st.integers(1, 20), min_size=2, max_size=4))
def test_a_scan_that_grows_ends_with_the_bytes_of_one_ingested_at_once(
    tmp_path_factory, write_frames, ingest_all, parts
):
    folder = tmp_path_factory.mktemp("scan")
    done = 0
    for part in parts:
        write_frames(folder / "raw", range(done, done + part), (8, 8))
        done += part
        grown = ingest_all(folder / "raw", folder / "grown.zarr")
    at_once = ingest_all(folder / "raw", folder / "at_once.zarr")
    assert array_files(grown) == array_files(at_once)
    assert verify_store(grown.path).is_green


def test_a_file_that_was_completed_later_is_taken_then(tmp_path, write_frames, ingest_all, expected):
    paths = write_frames(tmp_path / "raw", [1, 2, 3])
    whole = paths[1].read_bytes()
    paths[1].write_bytes(whole[: len(whole) // 2])
    store = ingest_all(tmp_path / "raw", tmp_path / "scan.zarr")
    assert store.n_frames == 2
    paths[1].write_bytes(whole)
    store = ingest_all(tmp_path / "raw", store.path)
    np.testing.assert_array_equal(store.read("counts", 0, 3), expected([1, 3, 2]))
    assert store.frames.counts_by_state["quarantined"] == 0


def test_a_moved_source_adds_nothing(tmp_path, write_frames, ingest_all):
    write_frames(tmp_path / "raw", range(5))
    ingest_all(tmp_path / "raw", tmp_path / "scan.zarr")
    (tmp_path / "raw").rename(tmp_path / "archive")
    store = ingest_all(tmp_path / "archive", tmp_path / "scan.zarr")
    assert store.n_frames == 5
    assert store.frames.counts_by_state["double"] == 5


def test_equal_frames_under_two_names_are_both_kept(tmp_path, write_frames, ingest_all):
    [path] = write_frames(tmp_path / "raw", [1])
    shutil.copy(path, path.with_name("scan_2.cbf"))
    assert ingest_all(tmp_path / "raw", tmp_path / "scan.zarr").n_frames == 2


def test_a_compressed_copy_beside_its_original_is_a_double(tmp_path, write_frames, ingest_all):
    import gzip

    [path] = write_frames(tmp_path / "raw", [1])
    path.with_name(path.name + ".gz").write_bytes(gzip.compress(path.read_bytes()))
    store = ingest_all(tmp_path / "raw", tmp_path / "scan.zarr")
    assert store.frames.counts_by_state == {"pending": 0, "ingested": 1, "quarantined": 0, "double": 1}


def test_a_file_altered_after_ingest_is_reported_and_does_not_reach_the_store(
    tmp_path, write_frames, ingest_all, expected
):
    write_frames(tmp_path / "raw", [1, 2])
    store = ingest_all(tmp_path / "raw", tmp_path / "scan.zarr")
    [other] = write_frames(tmp_path / "other", [3])
    shutil.copy(other, tmp_path / "raw" / "scan_2.cbf")
    [warning] = survey_source(str(tmp_path / "raw"), store.frames, ValidityRule()).warnings
    assert "scan_2.cbf has changed since it was ingested" in warning
    store = ingest_all(tmp_path / "raw", store.path)
    np.testing.assert_array_equal(store.read("counts", 0, 2), expected([1, 2]))
    assert any("scan_2.cbf is not the file that was ingested" in line for line in verify_store(store.path, True).wrong)


def test_frames_of_two_shapes_are_refused_with_a_source_for_each(tmp_path, write_frames):
    write_frames(tmp_path / "raw", [1, 2], prefix="small")
    write_frames(tmp_path / "raw", [1, 2], (32, 40), prefix="wide")
    with pytest.raises(SourceError, match="several shapes") as caught:
        survey_source(str(tmp_path / "raw"), None, ValidityRule())
    for prefix in ("small", "wide"):
        pattern = f"{tmp_path / 'raw'}/{prefix}_*.cbf"
        assert pattern in str(caught.value)
        assert len(survey_source(pattern, None, ValidityRule()).new) == 2


def test_a_store_refuses_other_frames_and_other_rules(tmp_path, write_frames, ingest_all):
    write_frames(tmp_path / "raw", [1])
    ingest_all(tmp_path / "raw", tmp_path / "scan.zarr")
    write_frames(tmp_path / "wide", [1], (32, 40))
    with pytest.raises(StoreError, match=r"frame_shape = \[48, 64\], and cannot take \[32, 40\]"):
        ingest_all(tmp_path / "wide", tmp_path / "scan.zarr")
    with pytest.raises(StoreError, match="was made with ingest ="):
        ingest_all(tmp_path / "raw", tmp_path / "scan.zarr", IngestSettings(compression="zstd"))


def test_a_source_outside_the_allowed_roots_is_refused(tmp_path, write_frames, monkeypatch):
    write_frames(tmp_path / "secret", [1])
    (tmp_path / "allowed").mkdir()
    (tmp_path / "allowed" / "link").symlink_to(tmp_path / "secret")
    monkeypatch.setenv("DLSIA_FLOWS_SOURCE_ROOTS", str(tmp_path / "allowed"))
    for source in (tmp_path / "secret", tmp_path / "allowed" / "link", tmp_path / "allowed" / ".." / "secret"):
        with pytest.raises(SourceError, match="outside the allowed roots"):
            survey_source(str(source), None, ValidityRule())


@pytest.mark.parametrize("how", ["link", "virtual", "raw", "through another"])
def test_a_file_in_the_allowed_roots_shows_none_outside(tmp_path, monkeypatch, how):
    allowed, secret = tmp_path / "allowed", tmp_path / "secret"
    for folder in (allowed, secret):
        folder.mkdir()
    hidden = secret / "hidden.h5"
    with h5py.File(hidden, "w") as file:
        file["entry/data/data"] = np.ones((2, 8, 9), "int32")
    with h5py.File(allowed / "scan.h5", "w") as file:
        if how == "link":
            file["entry/data/data"] = h5py.ExternalLink(str(hidden), "/entry/data/data")
        elif how == "virtual":
            layout = h5py.VirtualLayout((2, 8, 9), "int32")
            layout[:] = h5py.VirtualSource(str(hidden), "entry/data/data", (2, 8, 9))
            file.create_virtual_dataset("entry/data/data", layout)
        elif how == "raw":
            file.create_dataset("entry/data/data", (2, 8, 9), "int32", external=[(str(hidden), 0, 576)])
        else:
            file["entry/data/data"] = h5py.ExternalLink("other.dat", "/deeper")
    with h5py.File(allowed / "other.dat", "w") as file:
        file["deeper"] = h5py.ExternalLink(str(hidden), "/entry/data/data")
    monkeypatch.setenv("DLSIA_FLOWS_SOURCE_ROOTS", str(allowed))
    with pytest.raises(SourceError, match=r"scan.h5 links to another file: .*hidden.h5.* outside the allowed roots"):
        survey_source(str(allowed / "scan.h5"), None, ValidityRule())


def test_a_store_outside_the_allowed_roots_is_refused(tmp_path, monkeypatch):
    from tasks.settings import confine

    monkeypatch.setenv("DLSIA_FLOWS_STORE_ROOTS", str(tmp_path / "results"))
    with pytest.raises(SettingsError, match="DLSIA_FLOWS_STORE_ROOTS"):
        confine(tmp_path / "elsewhere" / "scan.zarr", "store")
    assert confine(tmp_path / "results" / "scan.zarr", "store") == tmp_path / "results" / "scan.zarr"
    (tmp_path / "results").mkdir()
    (tmp_path / "results" / "link").symlink_to(tmp_path)
    with pytest.raises(SettingsError, match="DLSIA_FLOWS_STORE_ROOTS"):
        confine(tmp_path / "results" / "link" / "scan.zarr", "store")


def test_verify_finds_a_flipped_bit_and_a_file_that_came_later(tmp_path, write_frames, ingest_all):
    write_frames(tmp_path / "raw", range(3))
    store = ingest_all(tmp_path / "raw", tmp_path / "scan.zarr")
    write_frames(tmp_path / "raw", [3])
    assert any("came after the last run" in line for line in verify_store(store.path).wrong)
    shard = store.shard_path("valid", 0)
    content = bytearray(shard.read_bytes())
    content[len(content) // 2] ^= 1
    shard.write_bytes(content)
    assert any("is not what was committed" in line for line in verify_store(store.path).wrong)
