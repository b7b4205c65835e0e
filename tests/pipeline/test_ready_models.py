"""A model that comes with the project is used where it fits; else the scan is trained on, and both say why."""

import json
import shutil
from pathlib import Path
from types import SimpleNamespace

import pytest

from dlsia_core.networks import load_network, save_network
from flows.process_scan import process_scan
from tasks import ready
from tasks.errors import SettingsError
from tasks.model_registry import MODEL_FILES, named_model
from tasks.normalized_frames import frames_of_store
from tasks.planning import StageSettings
from tasks.ready import choose_model
from tasks.registration import publish_model
from tasks.settings.inpainting import InpaintingTraining
from tasks.settings.stages import (
    ClusterSettings,
    EncodeSettings,
    InferSettings,
    NormalizeSettings,
    StitchSettings,
    TileSettings,
    TrainSettings,
)
from tasks.stage import RunPlan
from tasks.store import ScanRef
from tasks.train import train_on_scan
from tasks.train_model import train_inpainter
from tasks.training_plan import planned_training

REASON = "the ready model rings fits: same gaps, scale and size"


@pytest.fixture(scope="module")
def rings_model(tmp_path_factory, write_scan, run_stages, small) -> Path:
    """A registered version, trained on frames of the tests' detector."""
    folder = tmp_path_factory.mktemp("rings")
    write_scan(folder / "raw", range(6))
    run_stages(folder / "raw", folder / "scan.zarr", small(), until="tile")
    given = {"tile_shape": [64, 32], "tile_step": [64, 16], "epochs": 1, "device": "cpu"}
    given["network_settings"] = {"depth": 1, "base_channels": 2}
    plan = planned_training("TUNet", "quick", InpaintingTraining.model_validate(given))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DLSIA_FLOWS_MODELS", str(folder / "models"))
        model = train_inpainter.fn(
            frames_of_store(ScanRef(str(folder / "scan.zarr")), None), plan, folder / "output", "rings", "rings"
        )
        return Path(publish_model.fn("rings", Path(model.folder)).folder)


@pytest.fixture
def shipped(tmp_path, rings_model, monkeypatch) -> Path:
    """The project as if it came with this model."""
    shutil.copytree(rings_model, tmp_path / "ready_models" / "rings")
    monkeypatch.setattr(ready, "READY_MODELS", tmp_path / "ready_models")
    return tmp_path / "ready_models" / "rings"


@pytest.fixture
def scan(tmp_path, write_scan, run_stages, small):
    """A scan that is tiled; `choose` asks for its model."""

    def make(shape=(128, 160), name="scan", **changes) -> SimpleNamespace:
        write_scan(tmp_path / f"{name}-raw", range(3), shape=shape)
        given = small(**changes)
        refs = run_stages(tmp_path / f"{name}-raw", tmp_path / f"{name}.zarr", given, until="tile")
        kinds = {
            "normalize": NormalizeSettings, "tile": TileSettings, "train": TrainSettings, "infer": InferSettings,
            "stitch": StitchSettings, "encode": EncodeSettings, "cluster": ClusterSettings,
        }  # fmt: skip
        stages = StageSettings(**{stage: kind.model_validate(given[stage]) for stage, kind in kinds.items()})
        plan = RunPlan(refs.scan, stages.to_dict())

        def choose(model: str | None = None):
            return choose_model(plan, refs.normalized, refs.tiles, stages, model and named_model(model))

        return SimpleNamespace(store=refs.store, plan=plan, refs=refs, stages=stages, choose=choose)

    return make


def test_without_ready_models_a_scan_is_trained_on(scan, tmp_path, monkeypatch):
    monkeypatch.setattr(ready, "READY_MODELS", tmp_path / "none")
    choice = scan().choose()
    assert (choice.model, choice.why, choice.warnings) == (None, "", ())


def test_a_ready_model_that_fits_is_used_and_copied_into_the_store(scan, shipped, rings_model):
    found = scan()
    choice = found.choose()
    assert choice.why == REASON
    copy = Path(choice.model.folder)
    assert copy.parent == found.store.path / "models"
    assert sorted(file.name for file in copy.iterdir()) == sorted(MODEL_FILES)
    assert all((copy / name).read_bytes() == (rings_model / name).read_bytes() for name in MODEL_FILES)


def test_a_ready_model_stays_with_its_store(scan, shipped):
    """Frames that come later are filled by the same network, also when the project brings another one."""
    found = scan()
    first = found.choose()
    network, facts = load_network(shipped)
    save_network(shipped, network, facts | {"started_from": "another version of it"})
    again = found.choose()
    assert (again.model, again.why) == (first.model, first.why)
    other = scan(name="other").choose()
    assert other.model.digest != first.model.digest


def test_a_copy_that_a_kill_left_without_its_description_is_made_whole(scan, shipped):
    found = scan()
    first = found.choose()
    Path(first.model.folder, "model.json").unlink()
    assert found.choose().model == first.model


def test_a_scan_that_has_its_own_model_keeps_it(scan, shipped):
    found = scan()
    train_on_scan.fn(found.plan, found.refs.normalized, found.refs.tiles, found.stages)
    assert found.choose().model is None


def test_a_ready_model_can_be_declined(scan, shipped):
    assert scan(train={"ready_models": False}).choose().model is None


def test_declining_makes_no_other_training(scan, shipped):
    """Stores made before there were ready models find the models that they trained."""
    plain, declined = scan(name="a"), scan(name="b", train={"ready_models": False})
    folders = [
        Path(train_on_scan.fn(s.plan, s.refs.normalized, s.refs.tiles, s.stages)[1].folder).name
        for s in (plain, declined)
    ]
    assert folders[0] == folders[1]


@pytest.mark.parametrize(
    ("shape", "changes", "why"),
    [
        ((128, 160), {"normalize": {"unit_counts": 2.0}}, "the scale of the counts is"),
        ((128, 160), {"normalize": {"min_coverage": 0.25}}, "the normalization is"),
        ((128, 160), {"tile": {"shape": [64, 40]}}, "tiles are (64, 40), and its are [64, 32]"),
        (
            (128, 200),
            {},
            "columns without pixels are 19-20, and it was trained on a detector without a name with 24-26",
        ),
    ],
)
def test_a_ready_model_that_does_not_fit_is_left_with_its_reason(scan, shipped, shape, changes, why):
    choice = scan(shape, **changes).choose()
    assert choice.model is None
    assert choice.why.startswith("the ready model rings does not fit: ")
    assert why in choice.why


def test_a_given_model_of_another_detector_is_used_with_a_warning(scan, shipped):
    choice = scan((128, 200)).choose(f"{shipped}")
    assert choice.model.folder == str(shipped)
    [warning] = choice.warnings
    assert f"model {shipped} was trained on another detector: columns without pixels are 19-20" in warning
    assert f"train_inpainting(source=…, name=…, start_from='{shipped}')" in warning


def test_a_given_model_of_other_tiles_is_refused(scan, shipped):
    with pytest.raises(SettingsError, match=r"was trained on tiles of 64 x 32, the scan's are 64 x 40; give tile="):
        scan(tile={"shape": [64, 40]}).choose(str(shipped))


@pytest.mark.server
def test_process_scan_says_which_model_it_took_and_why(tmp_path, write_scan, small, shipped, monkeypatch, flow_runs):
    monkeypatch.setenv("DLSIA_FLOWS_HOME", str(flow_runs.home))
    write_scan(tmp_path / "raw", range(3))
    arguments = process_scan.validate_parameters({"source": str(tmp_path / "raw"), **small(), "store": "x"})
    first = process_scan(**arguments | {"store": str(tmp_path / "ready.zarr")})
    assert first.inpainting == REASON
    assert {part.what: part.why for part in first.left_out}["train"] == REASON
    assert f"<dt>Gaps filled by</dt><dd>{REASON}</dd>" in Path(first.report).read_text()
    assert not list((tmp_path / "ready.zarr" / "models").glob("inpainting-*"))

    facts = json.loads((shipped / "model.json").read_text())["metadata"]
    network, _ = load_network(shipped)
    save_network(shipped, network, facts | {"tile_shape": [32, 32]})
    second = process_scan(**arguments | {"store": str(tmp_path / "own.zarr")})
    why = "a model that was trained on the scan itself; the ready model rings does not fit: tiles are (64, 32)"
    assert second.inpainting.startswith(why)
    assert "train" not in {part.what for part in second.left_out}
    assert why in Path(second.report).read_text()
