"""Inpainting: an untrained network is the linear interpolation, training improves on it, predictions stand alone."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from dlsia_core.errors import ArrayError, SettingError
from dlsia_core.gaps import fill_linear
from dlsia_core.inpainting import InpaintingRecipe, build_inpainter, inpaint_frames, predict, require_inpainter
from dlsia_core.inpainting_examples import HiddenPixelExamples
from dlsia_core.networks import build_network
from dlsia_core.stitching import stitch
from dlsia_core.tiling import TileGrid
from dlsia_core.training import TrainSettings, fit, weighted_l1

CONFIG = {"network": "TUNet", "depth": 2, "base_channels": 6, "activation": "silu"}
SHAPE = (48, 32)


def rings(count: int, seed: int) -> np.ndarray:
    """Tiles of smooth rings with Poisson noise, as logarithms, and a true gap of two rows."""
    rng = np.random.default_rng(seed)
    rows, columns = np.mgrid[: SHAPE[0], : SHAPE[1]]
    centers = rng.uniform(-40, -10, size=(count, 2, 1, 1))
    radius = np.hypot(rows - centers[:, 0], columns - centers[:, 1])
    counts = rng.poisson(200 * (1.2 + np.cos(radius / 2.5)))
    tiles = np.log1p(counts).astype(np.float32) / 10
    tiles[:, 30:32] = np.nan
    return tiles


def gaps(count: int, seed: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    hidden = np.zeros((count, *SHAPE), bool)
    for one in hidden:
        row, column = rng.integers(0, 25), rng.integers(2, 25)
        one[row : row + 4] = True
        one[:, column : column + 3] = True
    return hidden


def test_an_untrained_network_predicts_the_linear_interpolation() -> None:
    tiles = rings(2, seed=0)
    recipe = InpaintingRecipe.from_tiles(tiles)
    predictions = predict(build_inpainter(CONFIG, recipe, seed=0), tiles, recipe)
    assert np.array_equal(predictions, fill_linear(tiles))


def test_a_short_training_beats_linear_interpolation_on_unseen_tiles() -> None:
    tiles, unseen = rings(48, seed=1), rings(8, seed=2)
    recipe = InpaintingRecipe.from_tiles(tiles)
    examples = HiddenPixelExamples(tiles, gaps(16, seed=3), recipe, seed=0, crop_rows=32)
    settings = TrainSettings(epochs=40, batch_size=8, learning_rate=4e-3, milestones=(28, 36), decay=0.3)
    network = fit(build_inpainter(CONFIG, recipe, seed=0), examples, weighted_l1, settings).network
    hidden = gaps(8, seed=4)
    shown = np.where(hidden, np.float32(np.nan), unseen)
    judged = hidden & np.isfinite(unseen)
    error = np.abs(predict(network, shown, recipe) - unseen)[judged].mean()
    linear = np.abs(fill_linear(shown) - unseen)[judged].mean()
    assert error < 0.7 * linear, f"L1 {error:.4f} against {linear:.4f}"


@pytest.mark.parametrize("prefill", ["linear", "zero"])
def test_predictions_depend_on_their_own_tile_only(prefill: str) -> None:
    tiles = rings(5, seed=5)
    tiles[3] = np.nan  # nothing measured at all
    recipe = InpaintingRecipe.from_tiles(tiles, prefill)
    network = build_inpainter(CONFIG | {"normalization": "batch"}, recipe, seed=0)
    torch.nn.init.ones_(network.head.weight)
    together = predict(network, tiles, recipe, batch_size=5)
    backwards = predict(network, tiles[::-1], recipe, batch_size=2)[::-1]
    assert np.isfinite(together).all()
    assert together.dtype == np.float32
    assert np.array_equal(together, backwards)


def test_shown_pixels_keep_their_values_with_linear_prefill() -> None:
    """The loss asks nothing of the network there, so its output must not reach the prediction."""
    tiles = rings(1, seed=6)
    recipe = InpaintingRecipe.from_tiles(tiles)
    network = build_inpainter(CONFIG, recipe, seed=0)
    torch.nn.init.ones_(network.head.weight)
    predictions, measured = predict(network, tiles, recipe), np.isfinite(tiles)
    assert np.array_equal(predictions[measured], tiles[measured])
    assert not np.allclose(predictions[~measured], fill_linear(tiles)[~measured])


def test_an_epoch_costs_the_same_whatever_the_crop() -> None:
    tiles, hidden = rings(3, seed=7), gaps(6, seed=8)
    lengths = [len(HiddenPixelExamples(tiles, hidden, InpaintingRecipe(), crop_rows=rows)) for rows in (None, 16, 20)]
    assert lengths == [3, 9, 6]
    examples = HiddenPixelExamples(tiles, hidden, InpaintingRecipe(), crop_rows=16)
    assert examples.batch(0, np.arange(9)).inputs.shape == (9, 2, 16, 32)


@given(indices=st.permutations(range(8)), epoch=st.integers(0, 3))
def test_an_example_follows_from_seed_epoch_and_index(indices: list[int], epoch: int) -> None:
    tiles = rings(4, seed=7)
    examples = HiddenPixelExamples(tiles, gaps(6, seed=8), InpaintingRecipe(), seed=1, crop_rows=20)
    together = examples.batch(epoch, np.array(indices))
    for place, index in enumerate(indices):
        alone = examples.batch(epoch, np.array([index]))
        assert torch.equal(alone.inputs[0], together.inputs[place])
        assert torch.equal(alone.target[0], together.target[place])
        assert torch.equal(alone.weight[0], together.weight[place])


def test_the_network_never_sees_what_it_is_judged_by() -> None:
    """Other values under the hidden pixels change the target and nothing of the input."""
    tiles, hidden = rings(1, seed=9), gaps(1, seed=10)
    batches = [
        HiddenPixelExamples(np.where(hidden, tiles + offset, tiles), hidden, InpaintingRecipe()).batch(0, np.array([0]))
        for offset in (np.float32(0), np.float32(5))
    ]
    assert torch.equal(batches[0].inputs, batches[1].inputs)
    judged = torch.from_numpy(hidden & np.isfinite(tiles))[:, None]
    assert torch.equal(batches[0].weight, judged.float())
    assert torch.allclose(batches[1].target[judged] - batches[0].target[judged], torch.tensor(5.0), atol=1e-5)


def test_by_hand_with_both_prefills() -> None:
    tiles = np.array([[[1.0, 2.0, 4.0, np.nan]]], dtype=np.float32)
    hidden = np.array([[[False, True, False, False]]])
    linear = HiddenPixelExamples(tiles, hidden, InpaintingRecipe("linear", center=1.0, scale=2.0)).batch(
        0, np.array([0])
    )
    assert linear.inputs[0, 0, 0].tolist() == [0, 0.75, 1.5, 1.5]  # (1, 2.5, 4, 4) standardized
    assert linear.inputs[0, 1, 0].tolist() == [1, 0, 1, 0]
    assert linear.target[0, 0, 0, 1] == -0.25  # (2 - 2.5) / 2
    assert linear.weight[0, 0, 0].tolist() == [0, 1, 0, 0]
    blind = HiddenPixelExamples(tiles, hidden, InpaintingRecipe("zero", center=1.0, scale=2.0)).batch(0, np.array([0]))
    assert blind.inputs[0].tolist() == [[[0, 0, 1.5, 0]]]
    assert blind.target[0, 0, 0].tolist() == [0, 0.5, 1.5, 0]
    assert blind.weight[0, 0, 0].tolist() == [1, 1, 1, 0]


def test_the_digest_knows_everything_that_decides_the_examples() -> None:
    tiles, hidden = rings(2, seed=0), gaps(2, seed=0)
    variants = [
        HiddenPixelExamples(tiles, hidden, InpaintingRecipe()),
        HiddenPixelExamples(tiles + 1, hidden, InpaintingRecipe()),
        HiddenPixelExamples(tiles, ~hidden, InpaintingRecipe()),
        HiddenPixelExamples(tiles, hidden, InpaintingRecipe("zero")),
        HiddenPixelExamples(tiles, hidden, InpaintingRecipe(), seed=1),
        HiddenPixelExamples(tiles, hidden, InpaintingRecipe(), crop_rows=5),
    ]
    assert len({examples.digest for examples in variants}) == len(variants)
    assert variants[0].digest == HiddenPixelExamples(tiles.copy(), hidden, InpaintingRecipe()).digest


def test_a_recipe_comes_back_from_its_dictionary() -> None:
    recipe = InpaintingRecipe.from_tiles(rings(2, seed=0), "zero")
    assert InpaintingRecipe(**recipe.to_dict()) == recipe


def test_what_cannot_work_is_refused() -> None:
    tiles, hidden = rings(2, seed=0), gaps(2, seed=0)
    recipe = InpaintingRecipe()
    with pytest.raises(ArrayError, match="hold no measured pixel"):
        InpaintingRecipe.from_tiles(np.full_like(tiles, np.nan))
    with pytest.raises(SettingError, match="prefill is 'cubic'; it must be one of"):
        InpaintingRecipe("cubic")
    with pytest.raises(SettingError, match="scale greater than 0"):
        InpaintingRecipe(scale=0.0)
    with pytest.raises(ArrayError, match=r"hidden has shape .*for tiles of \(48, 32\)"):
        HiddenPixelExamples(tiles, hidden[:, 1:], recipe)
    with pytest.raises(ArrayError, match="wanted bool"):
        HiddenPixelExamples(tiles, hidden.astype(np.uint8), recipe)
    with pytest.raises(SettingError, match="crop_rows is 49; it must be 1 to 48"):
        HiddenPixelExamples(tiles, hidden, recipe, crop_rows=49)
    with pytest.raises(SettingError, match="does not know 'bass'"):
        build_inpainter(CONFIG | {"bass": 3}, recipe, seed=0)
    network = build_inpainter(CONFIG, recipe, seed=0)
    with pytest.raises(ArrayError, match="finite or NaN"):
        predict(network, tiles + np.float32(np.inf), recipe)
    with pytest.raises(ArrayError, match="0 items"):
        predict(network, tiles[:0], recipe)


PARTIAL = {"network": "PartialConvUNet", "depth": 2, "base_channels": 3}
AUTOENCODER = {
    "network": "ConvAutoencoder",
    "depth": 2,
    "base_channels": 2,
    "latent_dim": 3,
    "input_shape": list(SHAPE),
}


@pytest.mark.parametrize("config", [CONFIG, PARTIAL, AUTOENCODER], ids=lambda config: config["network"])
@pytest.mark.parametrize("prefill", ["linear", "zero"])
def test_each_network_learns_by_each_recipe(config: dict[str, object], prefill: str) -> None:
    """One step changes the weights and leaves every prediction a number; untrained and linear is interpolation."""
    tiles = rings(3, seed=11)
    recipe = InpaintingRecipe(prefill, 0.5, 0.2, validity_channel=config["network"] == "PartialConvUNet")
    network = build_inpainter(config, recipe, seed=0)
    if prefill == "linear":
        assert np.array_equal(predict(network, tiles, recipe), fill_linear(tiles))
    before = predict(network, tiles, recipe)
    fit(network, HiddenPixelExamples(tiles, gaps(4, seed=1), recipe), weighted_l1, TrainSettings(1, 2))
    after = predict(network, tiles, recipe)
    assert np.isfinite(after).all()
    assert not np.array_equal(before, after)


def test_partial_convolutions_are_told_what_was_measured_and_others_are_not() -> None:
    blind, told = InpaintingRecipe("zero"), InpaintingRecipe("zero", validity_channel=True)
    with pytest.raises(SettingError, match=r"PartialConvUNet must be told what was measured; give .* validity_channel"):
        build_inpainter(PARTIAL, blind, seed=0)
    tile = np.float32([[1, np.nan], [3, 4]])
    assert blind.prepare(tile)[0].tolist() == [[[1, 0], [3, 4]]]
    assert told.prepare(tile)[0].tolist() == [[[1, 0], [3, 4]], [[1, 0], [1, 1]]]


def test_a_network_of_other_channels_is_refused() -> None:
    network = build_inpainter(CONFIG, InpaintingRecipe("zero"), seed=0)
    with pytest.raises(SettingError, match=r"TUNet has in_channels = 1, and prefill 'linear' .* needs 2"):
        require_inpainter(network, InpaintingRecipe("linear"))
    volumes = build_network({**CONFIG, "in_channels": 2, "out_channels": 1, "ndim": 3}, seed=0)
    with pytest.raises(SettingError, match="three-dimensional"):
        require_inpainter(volumes, InpaintingRecipe("linear"))


@given(cuts=st.lists(st.integers(1, 3), min_size=1, max_size=4))
def test_a_recipe_of_parts_is_that_of_the_whole(cuts: list[int]) -> None:
    tiles = rings(sum(cuts), seed=12) + np.float32(1000)
    parts = np.split(tiles, np.cumsum(cuts)[:-1])
    whole, pieced = (
        InpaintingRecipe.from_tiles(tiles),
        InpaintingRecipe.from_parts([np.full_like(tiles, np.nan), *parts]),
    )
    assert pieced.center == pytest.approx(whole.center, rel=1e-9)
    assert pieced.scale == pytest.approx(whole.scale, rel=1e-6)


def test_a_recipe_of_nothing_measured_is_refused() -> None:
    with pytest.raises(ArrayError, match="no tile holds a measured pixel"):
        InpaintingRecipe.from_parts([np.full((1, 2, 2), np.nan, np.float32)])


class Slices:
    """Tiles that are only ever read a few rows at a time, as those of a store are."""

    def __init__(self, tiles: np.ndarray) -> None:
        self.tiles, self.shape, self.dtype = tiles, tiles.shape, tiles.dtype
        self.asked: list[tuple[int, slice]] = []

    def __getitem__(self, key: tuple[int, slice]) -> np.ndarray:
        self.asked.append(key)
        return np.array(self.tiles[key])


def test_tiles_that_are_read_as_needed_make_the_same_training() -> None:
    tiles, hidden, recipe = rings(4, seed=13), gaps(3, seed=14), InpaintingRecipe("zero", 0.5, 0.3)
    stored = Slices(tiles)
    inside = HiddenPixelExamples(tiles, hidden, recipe, 3, 16, "a source")
    outside = HiddenPixelExamples(stored, hidden, recipe, 3, 16, "a source")
    assert inside.digest == outside.digest
    assert inside.digest != HiddenPixelExamples(tiles, hidden, recipe, 3, 16, "another source").digest
    settings = TrainSettings(2, 5)
    weights = [
        fit(build_inpainter(CONFIG, recipe, 0), examples, weighted_l1, settings).last_weights
        for examples in (inside, outside)
    ]
    assert all(torch.equal(weights[0][name], weights[1][name]) for name in weights[0])
    assert {key[1].stop - key[1].start for key in stored.asked} == {16}
    with pytest.raises(SettingError, match="digest_of_source is None and tiles are no NumPy array"):
        HiddenPixelExamples(stored, hidden, recipe)


@pytest.mark.parametrize("window", ["box", "hann"])
def test_whole_frames_are_their_tiles_stitched_whatever_the_batch(window: str) -> None:
    frames, recipe = np.concatenate([rings(3, seed=15), rings(3, seed=16)], axis=2), InpaintingRecipe()
    grid = TileGrid((48, 64), (48, 32), (48, 12))
    network = build_inpainter(CONFIG, recipe, seed=0)
    torch.nn.init.ones_(network.get_submodule("head").weight)
    whole = inpaint_frames(network, recipe, frames, grid, window, batch_size=100)
    tiles = np.stack([predict(network, grid.cut(frame), recipe) for frame in frames])
    assert np.array_equal(whole, stitch(tiles, grid, window))
    assert np.array_equal(whole[1:2], inpaint_frames(network, recipe, frames[1:2], grid, window, batch_size=1))
    with pytest.raises(ArrayError, match=r"wanted \(frame, row, column\) of \(48, 64\) px"):
        inpaint_frames(network, recipe, frames[:, :, :40], grid)
