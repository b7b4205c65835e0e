"""Models by name and version: whole or not there, never changed, found by everything that takes a model."""

import json
import shutil
from pathlib import Path

import pytest

from dlsia_core.inpainting import InpaintingRecipe, build_inpainter
from dlsia_core.networks import build_network, save_network
from tasks.errors import SettingsError, SourceError
from tasks.model_registry import check_name, model_names, named_model, register, versions_of
from tasks.models import find_model
from tasks.settings.paths import models_root

TINY = {"network": "TUNet", "depth": 1, "base_channels": 2}


@pytest.fixture
def root(tmp_path, monkeypatch) -> Path:
    monkeypatch.setenv("DLSIA_FLOWS_MODELS", str(tmp_path / "models"))
    return tmp_path / "models"


@pytest.fixture
def trained_folder(tmp_path):
    """A folder as a training leaves it; other seeds are other models."""

    def make(seed: int = 0, **description) -> Path:
        folder = tmp_path / f"training-{seed}"
        network = build_inpainter(TINY, InpaintingRecipe(), seed)
        save_network(folder, network, {"recipe": InpaintingRecipe().to_dict(), "tile_shape": [64, 32]} | description)
        (folder / "training.csv").write_text("epoch\n")
        (folder / "lock").write_text("")
        return folder

    return make


def card(label: str) -> str:
    return f"# {label}"


def test_versions_are_counted_and_the_newest_is_meant(root, trained_folder):
    labels = [register("saxs", trained_folder(seed), card).label for seed in (0, 1)]
    other = register("waxs.2m", trained_folder(2), card)
    assert labels == ["saxs:1", "saxs:2"]
    assert model_names() == ["saxs", "waxs.2m"]
    assert named_model("saxs").label == "saxs:2"
    assert named_model("saxs:1").folder == root / "saxs" / "1"
    assert sorted(file.name for file in other.folder.iterdir()) == [
        "card.md", "model.json", "model.safetensors", "training.csv",
    ]  # fmt: skip
    assert (root / "saxs" / "1" / "card.md").read_text() == "# saxs:1"
    assert find_model(named_model("saxs:1").folder, {}).digest != find_model(named_model("saxs").folder, {}).digest


def test_the_tenth_version_is_newer_than_the_ninth(root, trained_folder):
    for seed in range(10):
        register("saxs", trained_folder(seed), card)
    assert named_model("saxs").label == "saxs:10"
    assert versions_of("saxs") == list(range(1, 11))


def test_the_same_model_is_registered_once(root, trained_folder):
    for _ in range(2):
        assert register("saxs", trained_folder(0), card).label == "saxs:1"
    register("saxs", trained_folder(1), card)
    assert register("saxs", trained_folder(0), card).label == "saxs:1"


def test_what_a_kill_leaves_is_no_version_and_is_cleared_away(root, trained_folder):
    """Killed at any moment, a registration leaves a folder of another name, which a repetition makes anew."""

    class Killed(BaseException):
        pass

    def kill(label: str) -> str:
        raise Killed

    with pytest.raises(Killed):
        register("saxs", trained_folder(0), kill)
    assert [path.suffix for path in (root / "saxs").iterdir()] == [".part"]
    assert model_names() == versions_of("saxs") == []
    with pytest.raises(SettingsError, match="no model is registered under 'saxs'"):
        named_model("saxs")
    register("saxs", trained_folder(0), card)
    assert [path.name for path in (root / "saxs").iterdir()] == ["1"]


def test_a_version_that_another_run_takes_meanwhile_is_left_alone(root, trained_folder):
    def card_of_the_slower(label: str) -> str:
        if label == "saxs:1":
            assert register("saxs", trained_folder(1), card).label == "saxs:1"
        return card(label)

    assert register("saxs", trained_folder(0), card_of_the_slower).label == "saxs:2"
    assert [(root / "saxs" / str(n) / "card.md").read_text() for n in (1, 2)] == ["# saxs:1", "# saxs:2"]


def test_a_name_that_is_not_registered(root, trained_folder):
    register("saxs", trained_folder(0), card)
    message = refusal(lambda: named_model("waxs"))
    assert f"no model is registered under 'waxs' in {root}; known names: saxs" in message
    assert "train_inpainting(name='waxs')" in message
    assert "a folder, with a slash in it, as in './waxs'" in message


@pytest.mark.parametrize("version", ["3", "0", "01", "-1", "new", ""])
def test_a_version_that_is_not_there(root, trained_folder, version):
    for seed in (0, 1):
        register("saxs", trained_folder(seed), card)
    if not version:
        assert named_model("saxs:").label == "saxs:2"
        return
    message = refusal(lambda: named_model(f"saxs:{version}"))
    assert f"model 'saxs' has no version '{version}'; it has 1, 2. Give one of them, or 'saxs' alone" in message


@pytest.mark.parametrize("name", ["", ".", "..", ".hidden", "a b", "a/b", "a:b", "ä", "x" * 65, "-x", "a.part"])
def test_names_that_could_be_paths_or_versions_are_refused(root, name):
    assert "is no name for a model; give letters, digits" in refusal(lambda: check_name(name))


def test_a_folder_is_anything_with_a_slash(root, trained_folder, monkeypatch, tmp_path):
    folder = trained_folder(0)
    assert named_model(str(folder)).folder == folder
    monkeypatch.chdir(folder.parent)
    assert named_model(f"./{folder.name}").folder == folder
    monkeypatch.setenv("DLSIA_FLOWS_SOURCE_ROOTS", str(tmp_path / "elsewhere"))
    with pytest.raises(SourceError, match="outside the allowed roots"):
        named_model(str(folder))


def test_registered_models_need_no_source_root_and_cannot_lead_out_of_their_own(root, trained_folder, monkeypatch):
    monkeypatch.setenv("DLSIA_FLOWS_SOURCE_ROOTS", str(root / "elsewhere"))
    register("saxs", trained_folder(0), card)
    assert named_model("saxs").label == "saxs:1"
    (root / "saxs" / "2").symlink_to(trained_folder(1))
    assert "is a link to" in refusal(lambda: named_model("saxs"))


def test_the_root_is_in_the_home_folder_if_nothing_else_is_said(monkeypatch, tmp_path):
    monkeypatch.delenv("DLSIA_FLOWS_MODELS", raising=False)
    monkeypatch.setenv("DLSIA_FLOWS_HOME", str(tmp_path / "home"))
    assert models_root() == tmp_path / "home" / "models"
    monkeypatch.delenv("DLSIA_FLOWS_HOME")
    assert models_root() == Path(__file__).resolve().parents[2] / ".home" / "models"


def test_a_home_folder_that_is_made_for_a_model_is_closed_to_others(monkeypatch, tmp_path, trained_folder):
    """The server refuses a home folder that others may enter: it holds the data base."""
    monkeypatch.delenv("DLSIA_FLOWS_MODELS", raising=False)
    monkeypatch.setenv("DLSIA_FLOWS_HOME", str(tmp_path / "home"))
    register("saxs", trained_folder(0), card)
    assert (tmp_path / "home").stat().st_mode & 0o077 == 0


def test_tiles_of_another_size_are_refused(trained_folder):
    folder = trained_folder(0)
    assert find_model(folder, {}, (64, 32)).folder == str(folder)
    message = refusal(lambda: find_model(folder, {}, (64, 16)))
    assert "was trained on tiles of 64 x 32, the scan's are 64 x 16; give tile={'shape': [64, 32]}" in message


def test_a_network_whose_channels_do_not_fit_its_recipe_is_refused(tmp_path):
    network = build_network({**TINY, "in_channels": 3, "out_channels": 1}, 0)
    save_network(tmp_path / "model", network, {"recipe": InpaintingRecipe().to_dict()})
    message = refusal(lambda: find_model(tmp_path / "model", {}))
    assert f"the model in {tmp_path / 'model'} is no inpainting model: the network TUNet has in_channels = 3" in message
    assert "needs 2" in message


@pytest.mark.parametrize("recipe", [None, {"center": 0.0, "scale": 1.0, "size": [4, 4]}])
def test_a_model_of_another_kind_is_refused(tmp_path, recipe):
    network = build_network({**TINY, "in_channels": 1, "out_channels": 1}, 0)
    save_network(tmp_path / "model", network, {} if recipe is None else {"recipe": recipe})
    assert "is no inpainting model" in refusal(lambda: find_model(tmp_path / "model", {}))


@pytest.mark.parametrize("damage", ["weights", "description", "other network"])
def test_a_damaged_model_is_refused(trained_folder, damage):
    folder = trained_folder(0)
    if damage == "weights":
        (folder / "model.safetensors").unlink()
    elif damage == "description":
        (folder / "model.json").write_text("{")
    else:
        described = json.loads((folder / "model.json").read_text())
        described["config"]["base_channels"] = 3
        (folder / "model.json").write_text(json.dumps(described))
    assert f"no usable model in {folder}" in refusal(lambda: find_model(folder, {}))


def test_a_copy_of_a_version_is_a_model(root, trained_folder, tmp_path):
    version = register("saxs", trained_folder(0), card)
    shutil.copytree(version.folder, tmp_path / "copy")
    assert find_model(tmp_path / "copy", {}).digest == find_model(version.folder, {}).digest


def refusal(call) -> str:
    with pytest.raises(SettingsError) as caught:
        call()
    return str(caught.value)
