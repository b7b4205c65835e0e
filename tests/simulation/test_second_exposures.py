"""A frame taken twice with the detector moved, and sets in which no frame repeats another."""

from pathlib import Path

import fabio
import numpy as np
import pytest
from numpy.typing import NDArray
from pydantic import ValidationError

from deployments.simulated_beamtime import (
    SAMPLES,
    SimulationSettings,
    second_folder_of,
    simulate_frame,
    write_scan,
)
from deployments.simulated_beamtime.__main__ import main
from deployments.simulated_beamtime.detector import gap_pixels
from deployments.simulated_beamtime.frames import expected_counts, sample_of, setup_of, state_of
from dlsia_core.errors import SettingError
from dlsia_core.exposures import merge_exposures
from dlsia_core.gaps import gap_columns, gap_rows
from dlsia_core.intensity import LogScale
from dlsia_core.resize import AreaResizer

SMALL = SimulationSettings(
    detector="Pilatus300k", scan="pairs", samples=SAMPLES, n_frames=5, seed=5, second_exposure_shift_px=30
)


def changed(**changes: object) -> SimulationSettings:
    return SimulationSettings(**{**SMALL.model_dump(), **changes})


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


@pytest.mark.parametrize("variety", ["drift", "library"])
@pytest.mark.parametrize("shift", [30, -47])
@pytest.mark.parametrize("index", range(5))
def test_both_exposures_look_at_the_same_scattering(shift: int, index: int, variety: str) -> None:
    """To the bit, rings and spots outside the first field of view included."""
    settings = changed(second_exposure_shift_px=shift, variety=variety, tube_radius_m=None)
    first, second = expected_counts(settings, index), expected_counts(settings, index, 2)
    pair = (first[:-shift], second[shift:]) if shift > 0 else (first[-shift:], second[:shift])
    np.testing.assert_array_equal(*pair)
    assert not np.array_equal(first, second)


def test_gaps_and_defects_stay_on_the_detector_and_the_noise_is_new() -> None:
    first, second = (simulate_frame(SMALL, 1, exposure) for exposure in (1, 2))
    assert np.array_equal(first.counts < 0, second.counts < 0)
    assert np.array_equal(first.counts > 2**20, second.counts > 2**20)
    seen_twice = first.gapless[:-30].astype(float), second.gapless[30:].astype(float)
    difference = seen_twice[0] - seen_twice[1]
    assert difference.var() == pytest.approx(first.expected[:-30].sum() * 2 / difference.size, rel=0.05)


def test_first_exposures_are_what_they_are_without_second_ones() -> None:
    alone = changed(second_exposure_shift_px=0)
    for index in range(5):
        np.testing.assert_array_equal(simulate_frame(SMALL, index).counts, simulate_frame(alone, index).counts)
    with pytest.raises(SettingError, match="no second exposure: second_exposure_shift_px is 0"):
        simulate_frame(alone, 0, 2)


def test_pairs_are_merged_into_frames_without_horizontal_gaps() -> None:
    settings = changed(detector="Pilatus1M")
    for index in range(5):
        first, second = (simulate_frame(settings, index, exposure) for exposure in (1, 2))
        valid = (first.counts >= 0) & (first.counts < 2**20)
        second_valid = (second.counts >= 0) & (second.counts < 2**20)
        merged = merge_exposures(first.counts, second.counts, valid, second_valid)
        assert merged.shift == (30, 0)
        assert gap_rows(merged.valid) == ()
        assert gap_columns(merged.valid) == ((487, 494),)
        filled = merged.origin == 1
        squares = (merged.counts - first.expected)[filled] ** 2 / first.expected[filled]
        assert squares.mean() == pytest.approx(1, abs=0.1)


@pytest.mark.parametrize("file_format", ["cbf", "edf_als"])
def test_second_exposures_have_their_own_folder_and_the_same_names(tmp_path: Path, file_format: str) -> None:
    settings = changed(file_format=file_format, n_frames=3, start_index=4, damaged_files=1)
    paths = write_scan(tmp_path / "scan", settings, truth_folder=tmp_path / "truth")
    second = second_folder_of(tmp_path / "scan")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["scan", "scan_second", "truth"]
    assert list(contents(second)) == list(contents(tmp_path / "scan"))
    for index, path in enumerate(paths, start=4):
        counts = simulate_frame(settings, index, 2).counts
        with fabio.open(second / path.name) as image:
            np.testing.assert_array_equal(image.data, np.maximum(counts, 0) if file_format == "edf_als" else counts)
        with np.load(tmp_path / "truth" / f"{path.stem}.npz", allow_pickle=False) as truth:
            np.testing.assert_array_equal(truth["expected"], expected_counts(settings, index))


def test_headers_give_the_moved_beam(tmp_path: Path) -> None:
    (path,) = write_scan(tmp_path / "scan", changed(n_frames=1, beam_y_px=400.0, beam_x_px=250.0))
    headers = [(folder / path.name).read_bytes() for folder in (path.parent, second_folder_of(path.parent))]
    assert b"Beam_xy (250.00, 400.00) pixels" in headers[0]
    assert b"Beam_xy (250.00, 430.00) pixels" in headers[1]


def test_files_do_not_depend_on_the_number_of_workers(tmp_path: Path) -> None:
    settings = changed(variety="library")
    write_scan(tmp_path / "one", settings)
    write_scan(tmp_path / "three", settings, workers=3)
    assert contents(tmp_path / "one") == contents(tmp_path / "three")
    assert contents(tmp_path / "one_second") == contents(tmp_path / "three_second")
    with pytest.raises(SettingError, match="workers is 0"):
        write_scan(tmp_path / "none", settings, workers=0)


def test_nothing_of_either_exposure_is_overwritten(tmp_path: Path) -> None:
    write_scan(tmp_path / "scan", changed(n_frames=2))
    for path in (tmp_path / "scan").iterdir():
        path.unlink()
    with pytest.raises(FileExistsError, match=r"2 of 5 files are already in .*scan_second, the first is pairs_00001"):
        write_scan(tmp_path / "scan", SMALL)
    assert contents(tmp_path / "scan") == {}
    with pytest.raises(SettingError, match=r"truth_folder .* lies in the scan's folder .*other_second"):
        write_scan(tmp_path / "other", SMALL, truth_folder=tmp_path / "other_second" / "truth")


def test_command_line_writes_pairs_of_a_library(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    options = "--scan pairs --seed 5 --frames 5 --detector Pilatus300k --variety library --second-exposure-shift 30"
    assert main([str(tmp_path / "cli"), *options.split(), "--samples", *SAMPLES, "--workers", "2"]) == 0
    write_scan(tmp_path / "api", changed(variety="library"))
    assert contents(tmp_path / "cli_second") == contents(tmp_path / "api_second")
    assert contents(tmp_path / "cli") == contents(tmp_path / "api")
    assert f"second exposures in {tmp_path / 'cli_second'}" in capsys.readouterr().out


def test_impossible_varieties_and_shifts_are_refused() -> None:
    with pytest.raises(ValidationError, match="drift"):
        changed(variety="chaos")
    with pytest.raises(ValidationError, match="second_exposure_shift_px"):
        changed(second_exposure_shift_px=501)


# Libraries


def resized(settings: SimulationSettings, index: int) -> NDArray[np.float32]:
    """What a network sees of the frame without its noise."""
    expected = expected_counts(settings, index)
    resizer = AreaResizer((expected.shape[0], expected.shape[1]), (80, 64))
    return LogScale().normalize(resizer.resize(expected, ~gap_pixels(settings.detector))[0])


def test_frames_of_a_library_are_no_near_copies() -> None:
    """Even the two most similar of 100 differ by far more than those of a drifting scan, which ends in copies."""
    nearest = {}
    for variety in ("drift", "library"):
        settings = changed(variety=variety, samples=SAMPLES[:4], beam_jitter=0.02)
        start = 300
        seen = np.stack([resized(settings, start + i).ravel() for i in range(100)])
        names = [sample_of(settings, start + i) for i in range(100)]
        gaps = [
            min(np.nanmean(np.abs(seen[i] - seen[j])) for j in range(100) if j != i and names[i] == names[j])
            for i in range(100)
        ]
        nearest[variety] = np.array(gaps)
    assert np.median(nearest["drift"]) < 0.001
    assert nearest["library"].min() > 0.003
    assert np.median(nearest["library"]) > 0.01


def test_a_library_is_a_function_of_its_seed() -> None:
    settings = changed(variety="library")
    assert state_of(settings, 3) == state_of(changed(variety="library", n_frames=9), 3)
    assert setup_of(settings, 3) == setup_of(changed(variety="library", n_frames=9), 3).model_copy(
        update={"n_frames": 5}
    )
    assert state_of(settings, 3) != state_of(changed(variety="library", seed=6), 3)
    assert state_of(settings, 3) != state_of(settings, 4)
    assert setup_of(settings, 3).distance_m != setup_of(settings, 4).distance_m
    assert setup_of(changed(), 3) == changed()


@pytest.mark.parametrize("sample", SAMPLES)
def test_every_frame_of_a_library_can_be_simulated(sample: str) -> None:
    settings = changed(variety="library", samples=(sample,))
    brightest = []
    for index in range(60):
        expected = expected_counts(settings, index)
        assert np.isfinite(expected).all()
        assert expected.min() > 0
        brightest.append(float(np.quantile(expected, 0.999)))
    assert max(brightest) > 3 * min(brightest)
