"""A simulated scan arrives as scans do: numbered, at a rate, whole or growing, its truth and its damage on record."""

import re
import subprocess
import sys
import threading
import time
from pathlib import Path

import fabio
import numpy as np
import pytest

from deployments.simulated_beamtime import SimulationSettings, damaged_frames, simulate_frame, write_scan
from deployments.simulated_beamtime.__main__ import main
from deployments.simulated_beamtime.writers import write_growing
from dlsia_core.errors import SettingError

SMALL = SimulationSettings(detector="Pilatus300k", scan="small", n_frames=4, seed=5)


def changed(**changes: object) -> SimulationSettings:
    return SimulationSettings(**{**SMALL.model_dump(), **changes})


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


def test_a_scan_written_in_two_parts_is_the_scan_written_at_once(tmp_path: Path) -> None:
    write_scan(tmp_path / "once", SMALL)
    write_scan(tmp_path / "parts", changed(n_frames=3))
    write_scan(tmp_path / "parts", changed(n_frames=1, start_index=3), pieces=2)
    assert contents(tmp_path / "once") == contents(tmp_path / "parts")
    assert list(contents(tmp_path / "once")) == [f"small_0000{i}.cbf" for i in (1, 2, 3, 4)]


def test_files_hold_the_simulated_frames(tmp_path: Path) -> None:
    paths = write_scan(tmp_path, changed(start_index=9))
    for index, path in enumerate(paths, start=9):
        with fabio.open(path) as image:
            np.testing.assert_array_equal(image.data, simulate_frame(SMALL, index).counts)


def test_als_scan_has_a_text_for_every_frame(tmp_path: Path) -> None:
    paths = write_scan(tmp_path, changed(file_format="edf_als", n_frames=2))
    assert sorted(contents(tmp_path)) == ["small_00001.edf", "small_00001.txt", "small_00002.edf", "small_00002.txt"]
    assert [path.suffix for path in paths] == [".edf", ".edf"]


@pytest.mark.parametrize("pieces", [2, 5])
def test_a_growing_file_is_incomplete_until_its_last_piece(tmp_path: Path, pieces: int) -> None:
    path, content = tmp_path / "frame.cbf", bytes(range(256)) * 41
    seen = []
    for written in write_growing(path, content, pieces):
        assert path.read_bytes() == content[:written]
        seen.append(written)
    assert len(seen) == pieces
    assert seen[-1] == len(content)
    assert all(0 < part < len(content) for part in seen[:-1])


def test_a_watcher_sees_growing_files(tmp_path: Path) -> None:
    settings = changed(n_frames=2)
    writer = threading.Thread(target=write_scan, args=(tmp_path, settings), kwargs={"rate_hz": 4.0, "pieces": 3})
    path, sizes = tmp_path / "small_00001.cbf", set()
    writer.start()
    while writer.is_alive():
        sizes.add(path.stat().st_size if path.exists() else -1)
        time.sleep(0.002)
    writer.join()
    whole = path.stat().st_size
    assert sum(0 < size < whole for size in sizes) >= 2
    with fabio.open(path) as image:
        np.testing.assert_array_equal(image.data, simulate_frame(settings, 0).counts)


def test_whole_files_are_never_seen_incomplete(tmp_path: Path) -> None:
    writer = threading.Thread(target=write_scan, args=(tmp_path, changed(n_frames=12)))
    sizes: dict[str, set[int]] = {}
    writer.start()
    while writer.is_alive():
        for path in tmp_path.glob("*.cbf"):
            sizes.setdefault(path.name, set()).add(path.stat().st_size)
    writer.join()
    assert len(sizes) >= 10
    assert all(len(seen) == 1 for seen in sizes.values())
    assert not list(tmp_path.glob(".*"))


def test_frames_come_no_earlier_than_the_rate_allows(tmp_path: Path) -> None:
    simulate_frame(SMALL, 0)  # so that the first frame does not pay for the scene
    start = time.time()
    paths = write_scan(tmp_path, changed(n_frames=5), rate_hz=8.0)
    after = np.array([path.stat().st_mtime for path in paths]) - start
    assert (after >= np.arange(5) / 8 - 0.02).all()  # file systems keep time in ticks of some milliseconds
    assert after[-1] < 3


def test_too_high_a_rate_is_missed_with_a_warning(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    write_scan(tmp_path, changed(n_frames=3), rate_hz=1e6)
    assert "2 of 3 frames came later than 1e+06 frames/s demand" in caplog.text


def test_truth_is_apart_and_complete(tmp_path: Path) -> None:
    settings = changed(n_frames=6, damaged_files=2)
    paths = write_scan(tmp_path / "scan", settings, truth_folder=tmp_path / "truth")
    assert {path.suffix for path in (tmp_path / "scan").iterdir()} == {".cbf"}
    for index, path in enumerate(paths):
        frame = simulate_frame(settings, index)
        with np.load(tmp_path / "truth" / f"{path.stem}.npz", allow_pickle=False) as truth:
            np.testing.assert_array_equal(truth["expected"], frame.expected)
            np.testing.assert_array_equal(truth["gapless"], frame.gapless)
            assert (str(truth["sample"]), int(truth["index"])) == (frame.sample, index)
            assert float(truth["progress"]) == frame.progress
            assert str(truth["damage"]) == damaged_frames(settings).get(index, "")


@pytest.mark.parametrize("file_format", ["cbf", "edf", "tiff"])
def test_exactly_the_recorded_files_are_damaged(tmp_path: Path, file_format: str) -> None:
    settings = changed(n_frames=6, damaged_files=3, file_format=file_format)
    damaged = damaged_frames(settings)
    whole = write_scan(tmp_path / "whole", changed(n_frames=6, file_format=file_format))
    broken = write_scan(tmp_path / "broken", settings)
    differ = {i for i, (a, b) in enumerate(zip(whole, broken, strict=True)) if a.read_bytes() != b.read_bytes()}
    assert differ == set(damaged)
    assert len(damaged) == 3
    for index, kind in damaged.items():
        shorter = broken[index].stat().st_size < whole[index].stat().st_size
        assert shorter == (kind == "truncated")
    assert set(damaged.values()) == ({"truncated", "flipped"} if file_format == "cbf" else {"truncated"})


def test_truth_in_the_scans_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SettingError, match="lies in the scan's folder"):
        write_scan(tmp_path / "scan", SMALL, truth_folder=tmp_path / "scan" / "truth")
    assert not (tmp_path / "scan").exists()


def test_nothing_is_overwritten(tmp_path: Path) -> None:
    write_scan(tmp_path, changed(n_frames=1, start_index=2))
    before = contents(tmp_path)
    with pytest.raises(FileExistsError, match=r"1 of 4 files are already in .* small_00003\.cbf; give another folder"):
        write_scan(tmp_path, SMALL)
    assert contents(tmp_path) == before


@pytest.mark.parametrize(("option", "value"), [("rate_hz", 0.0), ("rate_hz", float("nan")), ("pieces", 0)])
def test_impossible_rates_and_pieces_are_refused(tmp_path: Path, option: str, value: float) -> None:
    with pytest.raises(SettingError, match=f"{option} is {value}"):
        write_scan(tmp_path / "scan", SMALL, **{option: value})
    assert not (tmp_path / "scan").exists()


def test_command_line_writes_the_same_scan(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    options = "--scan small --seed 5 --frames 3 --detector Pilatus300k --samples fibre powder --format edf --corrupt 1"
    assert main([str(tmp_path / "cli"), *options.split(), "--truth", str(tmp_path / "truth")]) == 0
    settings = changed(n_frames=3, samples=("fibre", "powder"), file_format="edf", damaged_files=1)
    write_scan(tmp_path / "api", settings)
    assert contents(tmp_path / "cli") == contents(tmp_path / "api")
    assert len(list((tmp_path / "truth").glob("*.npz"))) == 3
    first, second = capsys.readouterr().out.splitlines()
    assert re.match(r"3 frames in .*, small_00001\.edf to small_00003\.edf", first)
    assert re.match(r"damaged: small_0000[123] \(truncated\)", second)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--frames", "0"], "n_frames: Input should be greater than or equal to 1"),
        (["--samples", "glass"], "invalid choice: 'glass'"),
        (["--pieces", "0"], "pieces is 0"),
        (["--frames", "2", "--corrupt", "3"], "only 2 frames are written"),
    ],
)
def test_command_line_refuses_with_a_reason(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], options: list[str], message: str
) -> None:
    with pytest.raises(SystemExit) as stop:
        main([str(tmp_path / "scan"), *options])
    assert stop.value.code == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "scan").exists()


def test_import_is_light_and_independent_of_the_readers() -> None:
    """The simulation is evidence for the readers only as long as it shares no code with them."""
    code = "import sys, deployments.simulated_beamtime.__main__; print(*sorted({m.split('.')[0] for m in sys.modules}))"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert "deployments" in loaded
    assert not {"tasks", "flows", "prefect", "torch", "pyFAI", "fabio", "tifffile", "zarr"} & set(loaded)
