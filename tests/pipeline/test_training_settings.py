"""What cannot be trained is refused before any work, and says what was given, what is allowed and what to do."""

from pathlib import Path

import pytest
import torch
from prefect.exceptions import ParameterTypeError

from flows.train_inpainting import train_inpainting
from tasks.errors import SettingsError, SourceError
from tasks.learning_set import learning_set
from tasks.normalized_frames import frames_of_store
from tasks.registration import publish_model
from tasks.settings.inpainting import InpaintingTraining
from tasks.settings.stages import NormalizeSettings
from tasks.store import ScanRef
from tasks.train_model import train_inpainter
from tasks.training_plan import planned_training

SMALL = {"tile_shape": [64, 32], "tile_step": [64, 16], "epochs": 1, "device": "cpu"}
TINY = {"depth": 1, "base_channels": 2}


@pytest.fixture(autouse=True)
def models(tmp_path, monkeypatch) -> Path:
    monkeypatch.setenv("DLSIA_FLOWS_MODELS", str(tmp_path / "models"))
    return tmp_path / "models"


@pytest.fixture
def refusal(tmp_path, write_scan, models):
    """Call train_inpainting as a deployment does; return its message, having seen that nothing was written."""

    def call(kind: type[Exception], source: Path | None = None, training=None, **changes) -> str:
        if source is None:
            source = tmp_path / "raw"
            write_scan(source, range(2))
        arguments = {"source": str(source), "name": "saxs", "output": str(tmp_path / "output"), **changes}
        with pytest.raises(kind) as caught:
            train_inpainting.fn(
                **train_inpainting.validate_parameters(arguments | {"training": {**SMALL, **(training or {})}})
            )
        assert not (tmp_path / "output").exists()
        assert not models.exists()
        return str(caught.value)

    return call


def plan(network=None, preset="quick", start_from=None, **training):
    return planned_training(network, preset, InpaintingTraining.model_validate(training), start_from)


@pytest.fixture
def registered(tmp_path, write_scan, run_stages, small):
    """A model under the name "saxs", trained on a scan, and that scan."""

    write_scan(tmp_path / "scan-raw", range(3))
    run_stages(tmp_path / "scan-raw", tmp_path / "scan.zarr", small(), until="tile")
    frames = frames_of_store(ScanRef(str(tmp_path / "scan.zarr")), None)
    model = train_inpainter.fn(frames, plan(network_settings=TINY, **SMALL), tmp_path / "trained", "saxs", "a scan")
    publish_model.fn("saxs", Path(model.folder))
    return frames


def test_unknown_network_and_preset(refusal):
    assert "'TUNet', 'MSDNet', 'PartialConvUNet' or 'ConvAutoencoder'" in refusal(ParameterTypeError, network="UNet")
    assert "Input should be 'quick' or 'paper'" in refusal(ParameterTypeError, preset="fast")


def test_unknown_setting_of_a_network(refusal):
    message = refusal(SettingsError, training={"network_settings": {"dept": 4}})
    assert "TUNet does not know 'dept'; it knows network, seed, in_channels, out_channels, depth" in message


def test_impossible_network(refusal):
    message = refusal(SettingsError, network="ConvAutoencoder", training={"network_settings": {"depth": 9}})
    assert "depth is 9; it must be less" in message


def test_what_follows_from_other_settings_is_not_taken_twice(refusal):
    message = refusal(SettingsError, training={"network_settings": {"in_channels": 2, "seed": 3}})
    assert "network_settings has in_channels, seed" in message
    assert "its channels follow from prefill; leave them out" in message


def test_unknown_key(refusal):
    message = refusal(ParameterTypeError, training={"tiles": [1, 1]})
    assert "unknown: 'tiles'; known are network_settings, prefill, tile_shape" in message


def test_falls_outside_of_the_training(refusal):
    message = refusal(SettingsError, training={"falls": [0.5, 100]})
    assert "falls are (0.5, 100.0); wanted shares of the epochs, above 0 and below 1" in message


def test_tiles_larger_than_the_frames(refusal):
    message = refusal(SettingsError, training={"tile_shape": [64, 96]}, normalize={"shape": [64, 64]})
    assert "the tiles do not fit the normalized frames of 64 x 64: tile of 96 px is larger" in message
    assert "change training.tile_shape and training.tile_step, or normalize.shape" in message


def test_tiles_of_the_paper_on_smaller_frames(refusal):
    arguments = {"training": {"tile_shape": None, "tile_step": None}, "normalize": {"shape": [256, 256]}}
    assert "tile of 512 px is larger than the frame of 256 px" in refusal(SettingsError, preset="paper", **arguments)


def test_a_name_that_is_none(refusal):
    assert "'a/b' is no name for a model" in refusal(SettingsError, name="a/b")


def test_a_source_that_is_not_there(refusal, tmp_path):
    assert "no such file or folder" in refusal(SourceError, source=tmp_path / "nowhere")


def test_a_model_to_start_from_that_is_not_there(refusal):
    message = refusal(SettingsError, start_from="saxs:4")
    assert "no model is registered under 'saxs'" in message
    assert "known names: none" in message


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a GPU")
def test_gpu_where_there_is_none(refusal):
    assert "device 'cuda' was asked for and this machine has none" in refusal(
        SettingsError, training={"device": "cuda"}
    )


@pytest.mark.parametrize(
    ("network", "training", "message"),
    [
        ("MSDNet", {}, "network is 'MSDNet', and the model 'saxs' that the training starts from has 'TUNet'"),
        (None, {"network_settings": {"depth": 2}}, "training.network_settings is {'depth': 2}"),
        (
            None,
            {"prefill": "zero"},
            "training.prefill is 'zero', and the model 'saxs' that the training starts from has",
        ),
        (None, {"tile_shape": [64, 64]}, "training.tile_shape is (64, 64), and the model 'saxs'"),
    ],
)
def test_what_contradicts_the_model_to_start_from(registered, network, training, message):
    with pytest.raises(SettingsError) as caught:
        plan(network, start_from="saxs", **training)
    assert message in str(caught.value)
    assert "leave it empty, or train a new model without start_from" in str(caught.value)


def learning_refusal(tmp_path, run_stages, given, **training) -> str:

    run_stages(tmp_path / "raw", tmp_path / "refused.zarr", given, until="tile")
    frames = frames_of_store(ScanRef(str(tmp_path / "refused.zarr")), None)
    with pytest.raises(SettingsError) as caught:
        learning_set(frames, plan(**training))
    return str(caught.value)


def test_frames_of_another_scale_than_the_model_to_start_from(registered, tmp_path, write_scan, run_stages, small):
    write_scan(tmp_path / "raw", range(2))
    other = small(normalize={"unit_counts": 3.0})
    message = learning_refusal(tmp_path, run_stages, other, start_from="saxs", epochs=1, device="cpu")
    assert "the model 'saxs:1' was trained on the scale {" in message
    assert "give normalize the model's constants, or train without start_from" in message


def test_an_empty_training_set_of_frames_without_gaps(tmp_path, write_scan, run_stages, small):
    write_scan(tmp_path / "raw", range(2), gaps=False)
    message = learning_refusal(tmp_path, run_stages, small(), **SMALL)
    assert f"the training set is empty: {tmp_path / 'refused.zarr'} has no gaps to imitate" in message
    assert "give frames of the detector whose gaps are to be filled" in message


def test_an_empty_training_set_of_frames_without_pixels(tmp_path, write_blank, run_stages, small):
    for number in range(3):
        write_blank(tmp_path / "raw" / f"blank_{number}.cbf")
    message = learning_refusal(tmp_path, run_stages, small(), **SMALL)
    assert "the training set is empty: no tile of 64 x 32 in frames [" in message
    assert "holds a measured pixel; give other frames" in message


def test_a_store_without_such_normalized_frames(registered):
    with pytest.raises(SettingsError) as caught:
        frames_of_store(registered.normalized.scan, NormalizeSettings(shape=(32, 32)))
    message = str(caught.value)
    assert "holds no normalized frames of the settings {'shape': [32, 32]" in message
    assert "only of [{'shape': [64, 64]" in message
    assert "run process_scan on it with these settings, or leave normalize empty" in message


def test_a_store_that_was_only_ingested(refusal, tmp_path, write_frames, ingest_all):
    write_frames(tmp_path / "frames", [1])
    ingest_all(tmp_path / "frames", tmp_path / "ingested.zarr")
    assert "holds no normalized frames" in refusal(SettingsError, source=tmp_path / "ingested.zarr")


def test_ingest_settings_for_frames_that_are_ingested(refusal, tmp_path, write_frames, ingest_all):
    write_frames(tmp_path / "frames", [1])
    ingest_all(tmp_path / "frames", tmp_path / "ingested.zarr")
    message = refusal(SettingsError, source=tmp_path / "ingested.zarr", ingest={"compression": "zstd"})
    assert "is a store, whose frames are ingested; leave it out" in message


def test_the_presets_are_those_of_the_papers_tables():
    """Chavez et al. 2022, appendix A, tables 2 and 3."""
    tunet, wide, dense = (
        plan("TUNet", "paper"),
        plan("TUNet", "paper", network_settings={"base_channels": 16}),
        plan("MSDNet", "paper"),
    )
    settings = tunet.fit_settings()
    assert (settings.epochs, settings.batch_size, settings.milestones, settings.decay) == (300, 50, (100, 200), 0.1)
    assert [settings.learning_rate_at(epoch) for epoch in (0, 100, 200)] == pytest.approx([1e-3, 1e-4, 1e-5])
    assert settings.gradient_clip is None
    assert wide.fit_settings().batch_size == 180
    assert dense.fit_settings().batch_size == 6
    grid = tunet.grid((512, 512))
    assert (grid.tile_shape, grid.step, grid.n_tiles) == ((512, 128), (512, 64), 7)
    assert tunet.recipe.channels == 1
    assert plan("PartialConvUNet", "paper").recipe.channels == 2
