"""Inpainted values come with an error that holds, and frames that the model does not know are marked and named."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from dlsia_core.networks import load_network, save_network
from tasks.familiarity import strangers
from tasks.model_trust import UNKNOWN, familiarity_of, uncertainty_of
from tasks.models import find_model
from tasks.normalized_frames import frames_of_store
from tasks.ready import why_unfamiliar
from tasks.store import ScanRef

N_FRAMES = 20


@pytest.fixture(scope="module")
def filled(tmp_path_factory, write_scan, run_stages, small, trained):
    """A scan that is filled by a model trained on others, and the same frames from a detector without gaps."""
    folder = tmp_path_factory.mktemp("trust")
    write_scan(folder / "raw", range(30, 30 + N_FRAMES))
    write_scan(folder / "gapless", range(30, 30 + N_FRAMES), gaps=False)
    truth = run_stages(folder / "gapless", folder / "gapless.zarr", small(), until="tile").store
    found = run_stages(folder / "raw", folder / "scan.zarr", small(), model=trained, until="stitch")
    return found, truth.read("normalized", 0, N_FRAMES)


@pytest.fixture(scope="module")
def other_sample(tmp_path_factory, write_strange, write_scan) -> Path:
    """Three frames like those that the model knows, and two of nothing but flat noise."""
    folder = tmp_path_factory.mktemp("other") / "raw"
    write_scan(folder, range(3))
    write_strange(folder, [3, 4])
    return folder


@pytest.fixture
def without_calibration(tmp_path, trained) -> Path:
    """The model as an earlier version would have made it."""
    network, facts = load_network(trained)
    save_network(tmp_path / "old", network, {k: v for k, v in facts.items() if k not in ("uncertainty", "familiarity")})
    return tmp_path / "old"


def test_errors_are_known_where_values_are_inpainted_and_nowhere_else(filled):
    store = filled[0].store
    origin, half = (store.read(name, 0, N_FRAMES) for name in ("provenance", "uncertainty"))
    assert half.dtype == np.float32
    assert (half[origin == 0] == 0).all()
    assert np.isnan(half[origin == 2]).all()
    assert np.isfinite(half[origin == 1]).mean() > 0.9
    assert (half[(origin == 1) & np.isfinite(half)] > 0).all()


def test_errors_hold_in_the_true_gaps_as_often_as_promised(filled):
    found, truth = filled
    filled_in, half = (found.store.read(name, 0, N_FRAMES) for name in ("inpainted", "uncertainty"))
    known = np.isfinite(half) & (half > 0)
    assert known.mean() > 0.05
    assert 0.84 < (np.abs(filled_in - truth) <= half)[known].mean() < 0.96


def test_the_array_says_what_is_promised_and_what_was_measured(filled):
    attributes = filled[0].store.array("uncertainty").attrs
    assert attributes["promised_coverage"] == 0.9
    uncertainty = uncertainty_of(filled[0].model)
    assert attributes["calibration"] == uncertainty.statement
    assert 0.86 < uncertainty.measured.coverage < 0.94
    assert attributes["origin"]["model"] == filled[0].model.digest


def test_frames_of_the_same_kind_are_familiar(filled):
    store = filled[0].store
    distance, marked = (store.read(name, 0, N_FRAMES) for name in ("familiarity", "unfamiliar"))
    assert (distance.dtype, marked.dtype) == (np.float32, np.bool_)
    assert not marked.any()
    assert 0 < distance.min() <= distance.max() <= store.array("unfamiliar").attrs["threshold"]
    assert strangers(filled[0].familiarity, "rings:1").warnings == ()


def test_frames_of_another_kind_are_marked_and_named(tmp_path, other_sample, run_stages, small, trained, caplog):
    found = run_stages(other_sample, tmp_path / "scan.zarr", small(), model=trained, until="stitch")
    assert found.store.read("unfamiliar", 0, 5).tolist() == [False, False, False, True, True]
    told = strangers(found.familiarity, "rings:1")
    assert told.n_frames == 2
    [warning] = told.warnings
    assert warning in caplog.messages
    assert "2 of 5 frames are unlike those that the model knows" in warning
    assert "scan_0003.cbf" in warning
    assert "scan_0002.cbf" not in warning
    assert "train_inpainting(source=…, name=…, start_from='rings:1')" in warning


def test_a_ready_model_is_for_frames_that_it_knows(filled, tmp_path, other_sample, run_stages, small, trained):
    facts = load_network(trained)[1]
    known = frames_of_store(filled[0].scan, None)
    assert why_unfamiliar(facts, known) is None
    (tmp_path / "strange").mkdir()
    for number in (3, 4):
        shutil.copy(other_sample / f"scan_{number:04d}.cbf", tmp_path / "strange")
    run_stages(tmp_path / "strange", tmp_path / "scan.zarr", small(), until="tile")
    strange = frames_of_store(ScanRef(str(tmp_path / "scan.zarr")), None)
    assert why_unfamiliar(facts, strange) == (
        "2 of 2 frames that were looked at are unlike those that it was trained on"
    )
    assert why_unfamiliar({}, strange) is None


def test_a_model_that_knows_nothing_of_it_makes_no_arrays(tmp_path, other_sample, run_stages, small, trained,
                                                          without_calibration):  # fmt: skip
    found = run_stages(other_sample, tmp_path / "scan.zarr", small(), model=without_calibration, until="stitch")
    assert (found.uncertainty, found.familiarity) == (None, None)
    assert not {"uncertainty", "familiarity", "unfamiliar"} & set(found.store.frame_arrays())
    old = find_model(without_calibration, {})
    assert (uncertainty_of(old).reason, familiarity_of(old)) == (UNKNOWN, (None, UNKNOWN))


@pytest.mark.server
def test_process_scan_says_how_sure_it_is_and_which_frames_are_strange(
    tmp_path, flow_runs, other_sample, small, trained, without_calibration
):
    arguments = {"source": other_sample, "store": tmp_path / "scan.zarr", **small()}
    found = flow_runs(**arguments, model=trained)["result"]
    assert found["uncertainty"].startswith("Promised coverage 90 %; measured ")
    [warning] = found["warnings"]
    assert warning.startswith("2 of 5 frames are unlike those that the model knows")
    page = (tmp_path / "scan.report.html").read_text()
    assert "2 unlike those that the model knows" in page
    assert "How sure" in page
    assert "how wrong it may be" in page

    arguments["store"] = tmp_path / "old.zarr"
    found = flow_runs(**arguments, model=without_calibration)["result"]
    assert {part["what"] for part in found["left_out"] if part["why"] == UNKNOWN} == {"familiarity", "uncertainty"}
    assert found["uncertainty"] == f"No calibrated error: {UNKNOWN}."
    assert found["warnings"] == []


def test_calibration_is_plain_json_in_the_model(trained):
    facts = json.loads((trained / "model.json").read_text())["metadata"]
    assert facts["uncertainty"]["measured"]["frames"] == facts["uncertainty"]["frames"] == 10
    assert facts["familiarity"]["frames"] == 24
