"""Studies of latent spaces: which frames differ in what, figures that follow from them, a kill in the middle."""

import csv
import os
import signal
import time
from pathlib import Path
from typing import Any

import fabio.cbfimage
import numpy as np
import pytest

from dlsia_core.latent import pool_frames
from dlsia_core.neighbor_study import mean_difference
from tasks.compare_plan import compared_models, planned_comparison
from tasks.normalized_frames import frames_of_store
from tasks.report_study import study_findings
from tasks.settings.study import StudySettings
from tasks.store import FrameRange, ScanRef
from tasks.study_frames import MASKED, TRUTH, StudiedFrames, Study, studied_frames, study_batch

N_FRAMES = 9
ENCODER = {"latent": 4, "pooled_shape": [32, 32], "base_channels": 2, "depth": 2, "epochs": 3}
SETTINGS = {"encoder": ENCODER, "batch_frames": 4, "device": "cpu", "neighbors": 100}


@pytest.fixture(scope="module")
def raw(tmp_path_factory, write_scan) -> Path:
    folder = tmp_path_factory.mktemp("raw")
    write_scan(folder, range(20, 20 + N_FRAMES))
    return folder


@pytest.fixture(scope="module")
def store(tmp_path_factory, raw, run_stages, small) -> Path:
    path = tmp_path_factory.mktemp("store") / "scan.zarr"
    run_stages(raw, path, small(), until="tile")
    return path


def study_of(folder: Path, store: Path, models=(), **changes: Any) -> Study:
    settings = StudySettings.model_validate({**SETTINGS, **changes})
    frames = frames_of_store(ScanRef(str(store)), None)
    checked = compared_models(models, frames.facts["scale"], frames.shape, settings.compare)
    return Study(planned_comparison(folder, "raw", frames, None, checked, settings.compare)[0], settings)


def made(study: Study, step: int) -> StudiedFrames:
    batches = [FrameRange(start, min(start + step, N_FRAMES)) for start in range(0, N_FRAMES, step)]
    for batch in batches:
        study_batch.fn(batch, study)
    return studied_frames.fn(study, batches)


def test_kinds_differ_in_the_gaps_alone_and_the_truth_is_the_frame_itself(tmp_path, store, trained):
    study = study_of(tmp_path, store, [f"{trained}/"], encoder={**ENCODER, "pooled_shape": [64, 64]})
    found = made(study, 4)
    assert study.spaces == (TRUTH, MASKED, f"{trained}/")
    frames = np.stack([study.comparison.frames.read(row) for row in range(N_FRAMES)])
    gap = np.isfinite(frames) & study.hidden
    assert gap[0].any()
    assert np.array_equal(found.pooled[TRUTH], pool_frames(frames, (64, 64)))
    assert (found.pooled[MASKED][gap] == 0).all()
    filled = found.pooled[study.fills[0]]
    assert (filled[gap] != 0).all()
    for space in study.spaces:
        assert np.array_equal(found.pooled[space][~gap], found.pooled[TRUTH][~gap])
    shown = np.where(study.hidden, np.nan, frames)
    both = np.isfinite(shown[0]) & np.isfinite(shown[1])
    assert found.correlations[0, 1] == pytest.approx(np.corrcoef(shown[0][both], shown[1][both])[0, 1], abs=1e-6)


def test_frames_that_are_there_are_not_made_again(tmp_path, store):
    study = study_of(tmp_path, store, masked_fill="mean")
    found = made(study, 4)
    times = {path: path.stat().st_mtime_ns for path in study.folder.iterdir()}
    again = made(study_of(tmp_path, store, masked_fill="mean"), 4)
    assert {path: path.stat().st_mtime_ns for path in study.folder.iterdir()} == times
    assert all(np.array_equal(again.pooled[space], found.pooled[space]) for space in study.spaces)
    assert study_of(tmp_path, store).folder != study.folder


def test_a_space_like_the_truth_keeps_all_neighbors_and_the_difference_is_that_of_the_same_frames(tmp_path, store):
    study = study_of(tmp_path, store)
    rng = np.random.default_rng(0)
    truth, other = rng.normal(size=(2, 60, 3)).astype("float32")
    frames = StudiedFrames(np.arange(60), {}, np.eye(60))
    found = study_findings(study, frames, {TRUTH: truth, MASKED: other, "linear": 2 * truth})
    assert (found.n_neighbors, found.chance) == (14, 14 / 59)
    assert (found.kept["linear"] == 1).all()
    assert found.shares["linear"].estimate == 1
    expected = mean_difference(found.kept["linear"], found.kept[MASKED], seed=0, confidence=0.95, resamples=1000)
    assert found.more == {"linear": expected}
    assert expected.low > 0


@pytest.mark.server
def test_a_killed_study_goes_on_and_ends_like_an_undisturbed_one(tmp_path, flow_runs, raw):
    long = {**SETTINGS, "encoder": {**ENCODER, "epochs": 8, "checkpoint_s": 0}}
    arguments = {"source": raw, "study": long, "normalize": {"shape": [64, 64]}}
    process = flow_runs.start("study_latent_space", output=tmp_path / "killed", **arguments)
    while "autoencoder of masked: epoch 3 of 8" not in flow_runs.log.read_text():
        time.sleep(0.002)
    os.kill(process, signal.SIGKILL)
    assert flow_runs.ended()["status"] == -signal.SIGKILL
    found = flow_runs("study_latent_space", output=tmp_path / "killed", **arguments)
    assert "result" in found, found
    log = flow_runs.log.read_text()
    assert "autoencoder of ground truth" not in log
    assert "autoencoder of masked: epoch 1 of 8" not in log
    whole = flow_runs("study_latent_space", output=tmp_path / "whole", **arguments)
    for name in ("neighbors.csv", "curves.csv", "frames.csv"):
        assert (tmp_path / "killed" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()
    assert found["result"]["verdict"] == whole["result"]["verdict"]
    with (tmp_path / "killed" / "neighbors.csv").open() as file:
        rows = {row["space"]: row for row in csv.DictReader(file)}
    assert set(rows) == {TRUTH, MASKED, "linear"}
    assert rows[TRUTH]["kept"] == ""
    difference = float(rows["linear"]["kept"]) - float(rows[MASKED]["kept"])
    assert float(rows["linear"]["more_than_masked"]) == pytest.approx(difference)
    assert "2 neighbors are looked at, not 100" in found["result"]["warnings"][0]
    page = (tmp_path / "killed" / "report.html").read_text()
    assert "2 neighbors are looked at, not 100" in page
    assert "the ground truth is each frame itself" in page
    assert "are not judged" not in page


def shifted(number: int, rows: int) -> np.ndarray:
    """Counts of rings, moved down by some rows, with a horizontal and a vertical gap."""
    y, x = np.indices((128, 160))
    radius = np.hypot(y - 60 - rows, x - 30)
    mean = 80 * (1.2 + np.cos(radius / (5 + number % 3))) * np.exp(-radius / 90) + 5
    counts = np.random.default_rng([number, rows]).poisson(mean).astype("int32")
    counts[40:44] = counts[:, 76:80] = -1
    return counts


@pytest.mark.server
def test_second_exposures_are_the_truth_where_they_are_given(tmp_path, flow_runs):
    for name, rows in (("first", 0), ("second", 9)):
        (tmp_path / name).mkdir()
        for number in range(5):
            image = fabio.cbfimage.CbfImage(data=shifted(number, rows))
            image.write(str(tmp_path / name / f"scan_{number:04d}.cbf"))
    # A pair that is none: another sample.
    blank = np.random.default_rng(0).poisson(300, (128, 160)).astype("int32")
    fabio.cbfimage.CbfImage(data=blank).write(str(tmp_path / "second" / "scan_0004.cbf"))
    found = flow_runs(
        "study_latent_space", source=tmp_path / "first", second_exposure=tmp_path / "second", output=tmp_path / "out",
        study=SETTINGS, normalize={"shape": [64, 80]},
    )  # fmt: skip
    assert "result" in found, found
    assert found["result"]["n_frames"] == 4
    assert any("1 of 5 frames have no truth" in warning for warning in found["result"]["warnings"])
    parts = next((tmp_path / "out" / "study").glob("*/frames-000000.npz"))
    with np.load(parts) as file:
        truth, masked = file["space-0"], file["space-1"]
    differs = np.abs(truth - masked).max(axis=(0, 2)) > 0.1
    assert np.flatnonzero(differs).tolist() == [10]  # of 32 rows, the one with the horizontal gap
