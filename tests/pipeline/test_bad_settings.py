"""What cannot work fails before any work, and says what was given, what is allowed and what to do."""

import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from prefect.exceptions import ParameterTypeError

from dlsia_core.networks import load_network, save_network
from flows.process_scan import process_scan
from tasks.errors import SettingsError, SourceError, StoreError


@pytest.fixture
def refusal(tmp_path, write_scan, small):
    """Call process_scan as a deployment does; return its message, having seen that nothing was written."""

    def call(kind: type[Exception], source: Path | None = None, model: Path | None = None, **changes: Any) -> str:
        if source is None:
            source = tmp_path / "raw"
            write_scan(source, range(2))
        store = tmp_path / "results" / "scan.zarr"
        arguments = {"source": str(source), "store": str(store), "model": model and str(model)}
        settings = {**small(**changes), **{key: value for key, value in changes.items() if key not in small()}}
        with pytest.raises(kind) as caught:
            process_scan.fn(**process_scan.validate_parameters(arguments | settings))
        assert not store.parent.exists()
        return str(caught.value)

    return call


def test_window_larger_than_the_frame(refusal):
    message = refusal(SettingsError, tile={"shape": [64, 96], "step": [64, 16]})
    assert "normalized frames of 64 x 64" in message
    assert "tile of 96 px is larger than the frame of 64 px along the column axis" in message
    assert "at most (64, 64)" in message


def test_window_larger_than_a_frame_of_the_detectors_own_resolution(refusal):
    message = refusal(SettingsError, normalize={"shape": None}, tile={"shape": [256, 32], "step": [256, 32]})
    assert "tile of 256 px is larger than the frame of 128 px along the row axis" in message
    assert "at most (128, 160)" in message


def test_step_larger_than_the_window(refusal):
    message = refusal(SettingsError, tile={"step": [64, 40]})
    assert "step of 40 px is larger than the tile of 32 px along the column axis" in message
    assert "would leave pixels uncovered; choose a step of at most (64, 32)" in message


def test_unknown_detector(refusal):
    message = refusal(SettingsError, ingest={"validity": {"detector": "Pilatus9M"}})
    assert "unknown detector 'Pilatus9M'; similar names: Pilatus6M" in message
    assert "Give a detector name of pyFAI, 'auto' or 'none'" in message


def test_detector_of_other_frames(refusal):
    message = refusal(SettingsError, ingest={"validity": {"detector": "Pilatus2M"}})
    assert "Pilatus2M has frames of (1679, 1475) (y, x), the scan has (128, 160)" in message


def test_source_outside_the_roots(refusal, tmp_path, monkeypatch):
    monkeypatch.setenv("DLSIA_FLOWS_SOURCE_ROOTS", str(tmp_path / "allowed"))
    message = refusal(SourceError)
    assert f"outside the allowed roots {tmp_path / 'allowed'}" in message
    assert str(tmp_path / "raw" / "scan_0000.cbf") in message
    assert "move it there, or have DLSIA_FLOWS_SOURCE_ROOTS changed" in message


def test_store_outside_the_roots(refusal, tmp_path, monkeypatch):
    monkeypatch.setenv("DLSIA_FLOWS_STORE_ROOTS", str(tmp_path / "allowed"))
    message = refusal(SettingsError)
    assert f"{tmp_path / 'results' / 'scan.zarr'}, which is outside the allowed roots {tmp_path / 'allowed'}" in message


def test_empty_folder(refusal, tmp_path):
    (tmp_path / "empty").mkdir()
    message = refusal(SourceError, source=tmp_path / "empty")
    assert f"no detector files in '{tmp_path / 'empty'}'" in message
    assert "Allowed are .cbf" in message


def test_no_such_folder(refusal, tmp_path):
    message = refusal(SourceError, source=tmp_path / "nowhere")
    assert f"no such file or folder: {tmp_path / 'nowhere'}. Give a folder, a file, or a quoted glob" in message


def test_frames_of_several_shapes(refusal, tmp_path, write_frames):
    write_frames(tmp_path / "mixed", [1, 2], prefix="small")
    write_frames(tmp_path / "mixed", [1, 2], (32, 40), prefix="wide")
    message = refusal(SourceError, source=tmp_path / "mixed")
    assert "several shapes or types; a scan has one. Give a source that selects one group" in message
    assert f"48 x 64 int32: 2 files, for example small_1.cbf; try source='{tmp_path}/mixed/small_*.cbf'" in message
    assert f"32 x 40 int32: 2 files, for example wide_1.cbf; try source='{tmp_path}/mixed/wide_*.cbf'" in message


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"tile": {"stepp": [64, 16]}}, "tile: Value error, unknown: 'stepp'; known are shape, step"),
        ({"ingest": {"validity": {"mask": "x"}}}, "ingest.validity: Value error, unknown: 'mask'; known are detector,"),
        ({"stitch": {"window": "hamming"}}, "stitch.window: Input should be 'box', 'hann' or 'gaussian'"),
        ({"train": {"epochs": 0}}, "train.epochs: Input should be greater than or equal to 1"),
        ({"workers": {"processes": 4}}, "workers: Value error, unknown: 'processes'; known are scheduler, threads"),
    ],
)
def test_unknown_keys_and_values(refusal, changes, expected):
    assert expected in refusal(ParameterTypeError, **changes)


def test_unknown_parameter(refusal):
    message = refusal(TypeError, tiles={})
    assert "'tile'" in message
    assert "'tiles'" in message


def test_no_such_model(refusal, tmp_path):
    message = refusal(SettingsError, model=tmp_path / "nothing")
    assert f"no usable model in {tmp_path / 'nothing'}" in message
    assert "give a folder with model.safetensors and model.json" in message


def test_model_whose_weights_were_altered(refusal, tmp_path, trained):
    shutil.copytree(trained, tmp_path / "model")
    weights = bytearray((tmp_path / "model" / "model.safetensors").read_bytes())
    weights[-1] ^= 1
    (tmp_path / "model" / "model.safetensors").write_bytes(weights)
    message = refusal(SettingsError, model=tmp_path / "model")
    assert "model.safetensors is not the file that model.json describes" in message


def test_model_of_another_scale(refusal, trained):
    message = refusal(SettingsError, model=trained, normalize={"unit_counts": 3.0})
    assert f"the model in {trained} was trained with scale =" in message
    assert "'unit_counts': 1.0" in message
    assert "'unit_counts': 3.0" in message
    assert "change the scan's settings to the model's, give another model, or none to train one" in message


def test_model_that_was_not_trained_by_this_pipeline(refusal, tmp_path, trained):
    network, _ = load_network(trained)
    save_network(tmp_path / "model", network, {})
    assert "was trained with scale = None" in refusal(SettingsError, model=tmp_path / "model")


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a GPU")
def test_gpu_where_there_is_none(refusal):
    message = refusal(SettingsError, infer={"device": "cuda"})
    assert "device 'cuda' was asked for and this machine has none; give 'cpu' or 'auto'" in message


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"encode": {"depth": 6}}, "settings of encode: depth is 6; it must be less: input_shape (16, 16)"),
        ({"train": {"depth": 3, "growth_rate": 0.1}}, "settings of train: growth_rate is 0.1; it must be large enough"),
    ],
)
def test_impossible_network(refusal, changes, expected):
    assert expected in refusal(SettingsError, **changes)


def test_more_frames_for_a_cluster_than_for_a_map(refusal):
    message = refusal(ParameterTypeError, cluster={"min_frames": 4, "min_cluster_size": 6})
    assert "min_frames is 4 and min_cluster_size 6" in message
    assert "raise min_frames or lower min_cluster_size" in message


@pytest.mark.parametrize("other", ["frames", "settings", "folder"])
def test_a_store_that_holds_something_else_is_left_as_it_is(
    tmp_path, write_frames, write_scan, run_stages, small, tree, other
):
    write_scan(tmp_path / "raw", range(2))
    store, source, settings = tmp_path / "scan.zarr", tmp_path / "raw", small()
    if other == "folder":
        store.mkdir()
        (store / "notes.txt").write_text("not a store")
        expected = "no scan store at"
    else:
        run_stages(source, store, settings, until="tile")
        expected = "was made with ingest ="
        settings = small(ingest={"compression": "zstd"})
    if other == "frames":
        source, settings, expected = tmp_path / "others", small(), "frame_shape = [128, 160], and cannot take [48, 64]"
        write_frames(source, [1])
    before = tree(store)
    arguments = process_scan.validate_parameters({"source": str(source), "store": str(store), **settings})
    with pytest.raises(StoreError) as caught:
        process_scan.fn(**arguments)
    assert expected in str(caught.value)
    assert "give " in str(caught.value)
    assert tree(store) == before
