"""Training to segment: sets that keep apart, members found again, figures that are true, and clear refusals."""

import json
import os
import signal
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
import torch
from scipy.ndimage import gaussian_filter

from dlsia_core.metrics.confusion import confusion_matrix, scores_per_class
from dlsia_core.networks import count_parameters, load_network
from dlsia_core.networks.registry import empty_network
from dlsia_core.rings import RingFilter
from dlsia_core.segmentation import segment
from dlsia_core.segmentation.learning_tiles import windows_with
from tasks.errors import SettingsError, SourceError
from tasks.label_coach import coaching_model, disagreement_of, write_proposals
from tasks.segmentation_card import publish_segmenter, segmentation_card
from tasks.segmentation_judge import judge_networks
from tasks.segmentation_learning import Learning, learning_of
from tasks.segmentation_member import PlannedNetwork, train_network, work_folder
from tasks.segmentation_model import find_segmentation, load_segmentation, save_segmentation
from tasks.segmentation_plan import planned_segmentation
from tasks.settings.segmentation import CoachSettings, LabelMeaning, SegmentationTraining, VolumeReading

TINY = {
    "members": 2, "network_settings": {"depth": 3, "hidden_channels": 2}, "epochs": 3, "tile_shape": (40, 40),
    "margin": 4, "block": 8, "guard": 2,
    "device": "cpu", "max_tiles": 12, "learning_rate": 0.01,
}  # fmt: skip


def scene(depth: int = 5, side: int = 112) -> tuple[np.ndarray, np.ndarray]:
    """Images of blobs that a threshold nearly finds, and the truth."""
    rng = np.random.default_rng(0)
    truth = (gaussian_filter(rng.normal(size=(depth, side, side)), (0, 3, 3)) > 0.03).astype(np.uint8)
    return (1000 + 300.0 * truth + rng.normal(size=truth.shape) * 80).astype(np.uint16), truth


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Path:
    """images.tif, labels.tif: 1 background, 2 blob, 0 unlabelled in the lower half of each slice."""
    folder = tmp_path_factory.mktemp("data")
    images, truth = scene()
    label = truth + 1
    label[:, 84:] = 0
    tifffile.imwrite(folder / "images.tif", images)
    tifffile.imwrite(folder / "labels.tif", label)
    return folder


@pytest.fixture(autouse=True)
def _models(tmp_path_factory, monkeypatch):
    monkeypatch.setenv("DLSIA_FLOWS_MODELS", str(tmp_path_factory.mktemp("models")))


def learning(data: Path, network: Any = "SMSNet ensemble", meaning: Any = None, **training: Any) -> Learning:
    plan = planned_segmentation(network, "quick", SegmentationTraining(**{**TINY, **training}))
    paths = str(data / "images.tif"), str(data / "labels.tif")
    return learning_of(*paths, LabelMeaning(**meaning or {}), VolumeReading(), plan)


def networks(found: Learning) -> list[PlannedNetwork]:
    configs = found.plan.configs(2)
    return [PlannedNetwork(number, len(configs), config) for number, config in enumerate(configs)]


def trained(found: Learning, folder: Path) -> Path:
    work = work_folder(folder, found)
    refs = [train_network.fn(found, one, work) for one in networks(found)]
    judge_networks.fn(found, refs, work, "blobs")
    return work


@pytest.fixture(scope="module")
def model(tmp_path_factory, data) -> tuple[Learning, Path]:
    found = learning(data)
    return found, trained(found, tmp_path_factory.mktemp("output"))


def test_figures_are_those_of_whole_slices_segmented_and_compared_on_test_pixels(model):
    found, work = model
    loaded = load_segmentation(work)
    assert (loaded.members, loaded.recipe.classes, loaded.recipe.ndim) == (2, ("class 1", "class 2"), 2)
    images, truth = scene()
    answer = segment(loaded.network, loaded.recipe, images)
    here = found.split.where("test")
    assert (found.labels.label[here] == truth[here]).all()
    matrix = confusion_matrix(truth[here], answer.label[here], 2)
    assert loaded.facts["confusion"] == matrix.tolist()
    for row, f1 in zip(loaded.facts["scores"], scores_per_class(matrix)["f1"], strict=False):
        assert row["f1"] == pytest.approx(f1)
        assert row["f1_low"] < f1 < row["f1_high"]
    assert loaded.facts["scores"][1]["f1"] > 0.8
    sets = loaded.sets(answer.mean)
    for number, row in enumerate(loaded.facts["sets"]["classes"]):
        shown = sets[number][here & (truth == number)].mean()
        assert row["coverage"] == pytest.approx(shown, abs=0.03), "found on left out blocks, near what is calibrated"
        assert row["low"] < row["coverage"] < row["high"]


def test_training_sees_no_pixel_near_a_held_out_one_and_no_unlabelled_one(model):
    found, _ = model
    sets = found.split.sets
    assert (sets[:, 84:] == 255).all()
    learned = found.training.batch(0, np.arange(len(found.training))).weight.sum()
    assert 0 < learned <= found.split.pixels["training"]
    for number in range(3):
        near = np.zeros(sets.shape, bool)
        for axis, places in enumerate(np.nonzero(sets == number)):
            assert len(places), axis
        for z, y, x in zip(*np.nonzero(sets == number), strict=True):
            near[max(z - 2, 0) : z + 3, max(y - 2, 0) : y + 3, max(x - 2, 0) : x + 3] = True
        assert not (near & (sets != number) & (sets != 255)).any()


def test_a_model_says_what_it_is_and_is_found_by_name_and_in_the_output(model, tmp_path):
    _, work = model
    published = publish_segmenter.fn("blobs", work, tmp_path)
    assert published.label == "blobs:1"
    for place in ("blobs", "blobs:1", str(tmp_path)):
        assert find_segmentation(place).ref.digest == published.digest
    assert publish_segmenter.fn("blobs", work, tmp_path).label == "blobs:1"
    card, page = (tmp_path / "card.md").read_text(), (tmp_path / "report.html").read_text()
    assert "| class 2 | 0." in card
    assert "segment_volume(source=…, model='blobs:1', store=…)" in card
    assert page.count("<img") >= 2
    assert "http" not in page.split("</style>")[1].replace("http://www.w3.org", "")
    assert not list(tmp_path.glob("*.part"))


def test_the_same_training_gives_the_same_bytes_and_is_not_done_twice(model, data, tmp_path):
    _, work = model
    weights = (work / "model.safetensors").read_bytes()
    again = learning(data)
    assert work_folder(work.parent, again) == work
    before = (work / "member-1" / "model.json").stat().st_mtime_ns
    assert trained(again, work.parent) == work
    assert (work / "member-1" / "model.json").stat().st_mtime_ns == before
    anew = trained(again, tmp_path)
    assert (anew / "model.safetensors").read_bytes() == weights
    assert (anew / "model.json").read_bytes() == (work / "model.json").read_bytes()


def test_single_networks_have_no_spread_and_are_calibrated_too(data, tmp_path):
    small = {"network_settings": {"depth": 2, "base_channels": 2}, "members": 1}
    found = learning(data, "TUNet3Plus", class_weights="inverse", **small)
    assert found.loss.class_weights is not None
    loaded = load_segmentation(trained(found, tmp_path))
    assert loaded.members == 1
    assert loaded.calibration is not None
    assert not segment(loaded.network, loaded.recipe, scene(1, 40)[0]).std.any()


def test_any_network_may_have_members_that_differ(data, tmp_path):
    small = {"network_settings": {"depth": 2, "base_channels": 2}, "epochs": 1, "max_tiles": 4}
    found = learning(data, "TUNet", members=2, **small)
    loaded = load_segmentation(trained(found, tmp_path))
    assert loaded.members == 2
    assert segment(loaded.network, loaded.recipe, scene(1, 40)[0]).std.max() > 0
    assert learning(data, "TUNet", members=None, **small).plan.members == 1
    assert learning(data, members=None).plan.members == 5
    with pytest.raises(SettingsError, match="an SMSNet ensemble has 2 or more"):
        learning(data, members=1)


@pytest.mark.parametrize(
    ("network", "settings"),
    [("TUNet", {"depth": 2, "base_channels": 2}), ("MSDNet", {"num_layers": 3, "max_dilation": 2})],
)
def test_other_networks_are_trained_as_well(data, tmp_path, network, settings):
    found = learning(data, network, network_settings=settings, epochs=1, members=None)
    (one,) = networks(found)
    ref = train_network.fn(found, one, tmp_path)
    assert load_network(ref.folder)[1]["config"]["network"] == network


def test_members_have_about_the_size_of_the_paper():
    plan = planned_segmentation("SMSNet ensemble", "paper", SegmentationTraining(device="cpu"))
    sizes = [count_parameters(empty_network(config)) for config in plan.configs(2)]
    assert len(sizes) == 5
    assert all(43_000 <= size <= 47_000 for size in sizes)


def test_networks_that_see_volumes_are_trained_on_volumes(data, tmp_path):
    found = learning(data, dimensions=3, tile_shape=(4, 32, 32), margin=1, epochs=1, members=2)
    loaded = load_segmentation(trained(found, tmp_path))
    assert (loaded.recipe.ndim, loaded.recipe.tile_shape) == (3, (4, 32, 32))
    assert segment(loaded.network, loaded.recipe, scene(5, 40)[0]).mean.shape == (2, 5, 40, 40)


def test_networks_that_see_the_slices_above_and_below(data, tmp_path):
    found = learning(data, context=1, epochs=1, members=2)
    images, truth = scene()
    batch = found.training.batch(0, np.arange(len(found.training)))
    assert batch.inputs.shape[1] == 3
    loaded = load_segmentation(trained(found, tmp_path))
    assert (loaded.recipe.context, loaded.describe()["context_slices"]) == (1, 1)
    here = found.split.where("test")
    answer = segment(loaded.network, loaded.recipe, images)
    assert loaded.facts["confusion"] == confusion_matrix(truth[here], answer.label[here], 2).tolist()


def test_what_is_learned_of_a_slice_with_its_neighbors_is_its_own_label(data):
    """Not that of the first slice that is seen: images that hold their slice's number, and labels as well."""
    found = learning(data, context=1, augment=False, max_tiles=0)
    for number, window in enumerate(windows_with(found.split.where("training"), found.recipe.windows((5, 112, 112)))):
        batch, z = found.training.batch(0, np.array([number])), window.inner[0].start
        there = batch.weight[0] > 0
        wanted = np.full(there.shape, 255)
        wanted[window.inner_in_tile[1:]] = found.labels.label[window.inner][0]
        assert (batch.target[0][there] == torch.from_numpy(wanted)[there]).all()
        own = found.recipe.inputs(np.pad(scene()[0][z][window.outer[1:]], window.beyond[1:], mode="reflect"))
        np.testing.assert_array_equal(batch.inputs[0, 1].numpy(), own)


def test_a_training_is_another_one_where_a_slice_that_is_seen_changes_and_has_no_labels(tmp_path):
    images, truth = scene(depth=40)
    labels = np.zeros_like(truth)
    labels[20] = truth[20] + 1
    tifffile.imwrite(tmp_path / "labels.tif", labels)

    def digest(changed: int, **given: Any) -> str:
        """Of images that differ in a slice from which center and scale are not taken."""
        shown = images.copy()
        shown[changed, 3, 3] += 1
        tifffile.imwrite(tmp_path / "images.tif", shown)
        return learning(tmp_path, **given, max_tiles=0).digest

    alone, with_neighbors = ([digest(k, **given) for k in (24, 19, 20)] for given in ({}, {"context": 1}))
    assert alone[0] == alone[1] != alone[2], "19 and 24 are not seen"
    assert len(set(with_neighbors)) == 3, "19 is seen beside 20"


def test_tiles_cut_across_from_each_side_hold_the_labels_of_what_they_show(tmp_path):
    """Voxels that are all different, so that each tells where it lies; the label is one of its digits."""
    shape = (24, 20, 28)
    voxels = np.arange(np.prod(shape), dtype=np.uint16).reshape(shape)
    label = (voxels // 7 % 2 + 1).astype(np.uint8)
    label[:, :, 20:] = 0
    tifffile.imwrite(tmp_path / "images.tif", voxels)
    tifffile.imwrite(tmp_path / "labels.tif", label)
    given = {"tile_shape": (12, 12), "margin": 2, "context": 1, "augment": False, "max_tiles": 0}
    found, slices = (learning(tmp_path, **given, planes=planes) for planes in ("orthogonal", "slices"))
    times = np.zeros(shape, int)
    for number in range(len(found.training)):
        batch = found.training.batch(0, np.array([number]))
        shown = np.rint(batch.inputs[0, 1].numpy() * found.recipe.scale + found.recipe.center).astype(int)
        there = batch.weight[0].numpy() > 0
        np.testing.assert_array_equal(batch.target[0].numpy()[there], shown[there] // 7 % 2)
        times.ravel()[shown[there]] += 1
    there = found.split.where("training")
    assert set(times[there]) == {3}, "each labelled voxel once from each side"
    assert not times[~there].any()
    assert len(slices.training) < len(found.training)
    assert found.validation.digest == slices.validation.digest
    assert [window.outer for window in found.judged] == [window.outer for window in slices.judged]


def test_training_tiles_are_disturbed_as_asked_for_and_no_others(data, tmp_path):
    plain, disturbed = (learning(data, augment=False, **given) for given in ({}, {"imitated_rings": 3.0}))
    before, after = (found.training.batch(0, np.arange(4)) for found in (plain, disturbed))
    assert not torch.equal(before.inputs, after.inputs)
    assert torch.equal(before.target, after.target)
    for setting in ("contrast_jitter", "brightness_jitter", "turn_deg", "stretch", "bend_px"):
        changed = learning(data, augment=False, **{setting: 0.2}).training.batch(0, np.arange(4))
        assert not torch.equal(before.inputs, changed.inputs)
    assert plain.validation.digest == disturbed.validation.digest
    assert work_folder(tmp_path, plain) != work_folder(tmp_path, disturbed), "another model"


def test_a_model_that_learns_without_rings_says_so_and_is_another_one(data, tmp_path):
    plan = planned_segmentation("SMSNet ensemble", "quick", SegmentationTraining(**{**TINY, "epochs": 1}))
    paths = str(data / "images.tif"), str(data / "labels.tif")
    rings = {"center": (55.0, 57.5), "width": 21}
    found = learning_of(*paths, LabelMeaning(), VolumeReading(rings=rings), plan)
    wanted = RingFilter((55.0, 57.5), 21).without_rings(scene()[0][3])
    np.testing.assert_array_equal(found.images.read_slice(3), wanted)
    assert found.images.read_slice(3) is found.images.read_slice(3)
    loaded = load_segmentation(trained(found, tmp_path))
    assert loaded.ring_width == 21
    assert "Rings: taken out, about the axis at row 55, column 57.5" in segmentation_card(
        tmp_path / loaded.ref.folder, "x"
    )
    plain = learning(data, epochs=1)
    assert (plain.rings, plain.digest == found.digest) == (None, False)
    with pytest.raises(SourceError, match="no ring artifacts stand out"):
        learning_of(*paths, LabelMeaning(), VolumeReading(rings={"remove": True}), plan)


def test_labels_that_are_not_learned_from_are_told(data):
    all_of_them, some = learning(data, max_tiles=0), learning(data, max_tiles=7)
    assert all_of_them.facts["notes"] == []
    total = len(all_of_them.training)
    held = some.training.batch(0, np.arange(7)).weight.sum() / some.split.pixels["training"]
    (note,) = some.facts["notes"]
    assert note.startswith(
        f"7 of {total} tiles with labels are learned from (training.max_tiles), which hold {held:.0%}"
    )


def test_too_few_labels_make_a_model_that_says_what_it_does_not_know(tmp_path):
    images, truth = scene(1)
    label = np.zeros_like(truth)
    label[0, 20:22, 20:22], label[0, 40:42, 40:42] = 1, 2
    tifffile.imwrite(tmp_path / "images.tif", images[0])
    tifffile.imwrite(tmp_path / "labels.tif", label[0])
    found = learning(tmp_path, block=None, epochs=1)
    published = publish_segmenter.fn("few", trained(found, tmp_path), tmp_path)
    assert any("too few" in warning for warning in published.warnings)
    assert "reason" in published.sets
    with pytest.raises(SettingsError, match="has no conformal calibration"):
        load_segmentation(tmp_path).sets(np.full((2, 1, 1, 1), 0.5, np.float32))


def test_what_cannot_work_is_refused_before_anything_is_written(data, tmp_path):
    cases: list[tuple[dict[str, Any], str]] = [
        ({"meaning": {"classes": {"a": 1, "b": 2, "c": 3}}}, "class 'c' has no labelled pixel"),
        ({"class_weights": (1, 2, 3)}, "there are 2 classes"),
        ({"network_settings": {"depht": 3}}, "depht"),
        ({"network_settings": {"in_channels": 3}}, "in_channels"),
        ({"falls": (1.5,)}, "shares of the epochs"),
        ({"guard": 40}, "block_shape"),
        ({"margin": 20}, "leaves nothing"),
        ({"memory_gib": 1e-6}, "training tiles .* need"),
        ({"planes": "orthogonal"}, r"5 x 112 x 112 voxels, in which tiles of 40 x 40 px do not fit"),
    ]
    for settings, message in cases:
        with pytest.raises(SettingsError, match=message):
            _ = learning(data, **settings).loss
    with pytest.raises(ValueError, match="leave some for the test"):
        SegmentationTraining(training_share=0.6, validation_share=0.4)
    with pytest.raises(ValueError, match="sees neighbors anyhow"):
        SegmentationTraining(dimensions=3, context=1)
    paths = str(data / "images.tif"), str(data / "labels.tif")
    for key, value in (("context", 1), ("planes", "orthogonal")):
        plan = planned_segmentation("TUNet", "quick", SegmentationTraining(device="cpu", **{key: value}))
        with pytest.raises(SettingsError, match=f"training.{key} .* nothing lies above or below"):
            learning_of(*paths, LabelMeaning(), VolumeReading(stacked="separate"), plan)
    with pytest.raises(ValueError, match="wanted 3 numbers"):
        SegmentationTraining(dimensions=3, tile_shape=(64, 64))
    with pytest.raises(SettingsError, match=r"is of kind 'inpainting'|no usable model"):
        find_segmentation(str(tmp_path))


def test_images_that_are_no_numbers_are_refused(tmp_path, data):
    images = scene()[0].astype(np.float32)
    images[2, 3, 4] = np.nan
    tifffile.imwrite(tmp_path / "images.tif", images)
    (tmp_path / "labels.tif").write_bytes((data / "labels.tif").read_bytes())
    with pytest.raises(SettingsError, match="no finite numbers"):
        learning(tmp_path)
    tifffile.imwrite(tmp_path / "images.tif", images[:4], photometric="minisblack")
    with pytest.raises(SourceError, match="5 slices of labels and 4 images"):
        learning(tmp_path)
    tifffile.imwrite(tmp_path / "images.tif", images[0])
    with pytest.raises(SettingsError, match="is one image, in which nothing lies above or below"):
        learning(tmp_path, dimensions=3, tile_shape=(4, 32, 32), margin=1)


@pytest.mark.server
@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_flow_killed_in_the_second_member_ends_with_the_same_bytes(tmp_path, flow_runs, data):
    training = {**TINY, "epochs": 8, "checkpoint_s": 0}
    arguments = {"images": data / "images.tif", "labels": data / "labels.tif", "training": training}
    process = flow_runs.start("train_segmentation", output=tmp_path / "killed", **arguments)
    while "member 2 of 2: epoch 3 of 8" not in flow_runs.log.read_text():
        time.sleep(0.002)
    os.kill(process, signal.SIGKILL)
    assert flow_runs.ended()["status"] == -signal.SIGKILL
    found = flow_runs("train_segmentation", output=tmp_path / "killed", **arguments)
    assert "result" in found, found
    log = flow_runs.log.read_text()
    assert "member 1 of 2: trained before" in log
    assert "member 2 of 2: epoch 1 of 8" not in log
    undisturbed = flow_runs("train_segmentation", output=tmp_path / "whole", **arguments)
    for name in ("model.safetensors", "model.json"):
        assert (tmp_path / "killed" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()
    assert found["result"]["model"] == undisturbed["result"]["model"]
    assert json.loads((tmp_path / "whole" / "model.json").read_text())["metadata"]["kind"] == "segmentation"


def test_the_coach_proposes_tiles_where_nothing_is_labelled(model, data, tmp_path):
    found, work = model
    coach = CoachSettings(count=3, side=12, distance=3, slices=3, device="cpu")
    ensemble = coaching_model(str(work), "cpu")
    labelled = found.labels.label != 255
    arguments = (ensemble.ref, found.images, labelled, tmp_path, coach, False)
    written = write_proposals.fn(*arguments)
    assert [row["rank"] for row in written.table] == [1, 2, 3]
    assert all(int(row["rows"].split()[0]) >= 84 + 3 for row in written.table)
    before = Path(written.file).read_bytes()
    assert write_proposals.fn(*arguments) == written
    assert Path(written.file).read_bytes() == before
    # The map is that of the whole volume, segmented at once.
    whole = segment(ensemble.network, ensemble.recipe, scene()[0]).std.mean(axis=0)
    for number, shown in disagreement_of(ensemble.ref, found.images, coach).items():
        np.testing.assert_allclose(shown, whole[number], atol=1e-6)


def test_a_single_network_is_no_coach(data, tmp_path):
    found = learning(data, "TUNet", network_settings={"depth": 2, "base_channels": 2}, epochs=1, members=1)
    (one,) = networks(found)
    ref = train_network.fn(found, one, tmp_path)
    save_segmentation(tmp_path / "single", load_network(ref.folder)[0], found.recipe, "not asked for", {})
    with pytest.raises(SettingsError, match="cannot disagree with itself"):
        coaching_model(str(tmp_path / "single"), "cpu")
