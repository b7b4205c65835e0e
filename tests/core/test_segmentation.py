"""Windows cover each pixel once, answers depend on nothing but their window, scales merge."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from dlsia_core.errors import ArrayError, SettingError
from dlsia_core.networks import build_network
from dlsia_core.segmentation import SegmentationRecipe, answer_tiles, segment, windows
from dlsia_core.segmentation.recipe import intensity_scale


@settings(deadline=None)
@given(
    shape=st.tuples(st.integers(1, 9), st.integers(1, 30), st.integers(1, 30)),
    tile=st.tuples(st.integers(7, 9), st.integers(7, 20), st.integers(7, 20)),
    margin=st.integers(0, 3),
)
def test_mirrored_tiles_are_those_of_the_whole_mirrored_volume_and_keep_their_margin_everywhere(shape, tile, margin):
    volume = np.arange(np.prod(shape)).reshape(shape)
    mirrored = np.pad(volume, margin, mode="reflect")
    seen = np.zeros(shape, int)
    looks_at_volumes = SegmentationRecipe(("a", "b"), tile, margin, 0.0, 1.0)
    for window in looks_at_volumes.windows(shape):
        seen[window.inner] += 1
        assert window.tile_shape == tuple(min(t, s + 2 * margin) for t, s in zip(tile, shape, strict=True))
        found = looks_at_volumes.tile(volume[window.outer], window)
        first = [part.start - before + margin for part, (before, _) in zip(window.outer, window.beyond, strict=True)]
        whole = mirrored[tuple(slice(k, k + size) for k, size in zip(first, found.shape, strict=True))]
        np.testing.assert_array_equal(found, whole)
        np.testing.assert_array_equal(found[looks_at_volumes.answered(window)], volume[window.inner])
        for part, size in zip(window.inner_in_tile, window.tile_shape, strict=True):
            assert margin <= part.start < part.stop <= size - margin
    assert (seen == 1).all()


@pytest.fixture(scope="module")
def ensemble():
    member = {"network": "MSDNet", "in_channels": 1, "out_channels": 3, "num_layers": 3, "max_dilation": 2}
    return build_network({"network": "Ensemble", "members": [member, member]}, seed=0)


def recipe(*tile_shape: int, margin: int = 5) -> SegmentationRecipe:
    return SegmentationRecipe(("a", "b", "c"), tile_shape, margin, center=1.0, scale=2.0)


def test_a_margin_as_wide_as_the_network_sees_makes_tiles_invisible(ensemble):
    volume = np.random.default_rng(0).normal(size=(2, 40, 33))
    tiled, whole = (segment(ensemble, recipe(*shape), volume) for shape in ((16, 16), (40, 33)))
    np.testing.assert_allclose(tiled.mean, whole.mean, atol=1e-6)
    np.testing.assert_allclose(tiled.std, whole.std, atol=1e-6)
    assert np.isfinite(tiled.std).all()
    assert tiled.std.max() > 1e-3


class MeanOfChannels(torch.nn.Module):
    """Three classes whose logits are multiples of the mean over the slices that are seen."""

    def forward(self, x):
        return torch.cat([x.mean(dim=1, keepdim=True) * factor for factor in (0.0, 1.0, -2.0)], dim=1)


@settings(deadline=None)
@given(depth=st.integers(1, 6), context=st.integers(0, 4), tile=st.integers(5, 12), seed=st.integers(0, 9))
def test_a_network_of_slices_sees_its_neighbors_and_the_last_slice_again_beyond_it(depth, context, tile, seed):
    """Whatever the tiles; by an independent way: the volume is extended and averaged along z."""
    volume = np.random.default_rng(seed).normal(size=(depth, 11, 9)).astype(np.float32)
    found = segment(MeanOfChannels(), SegmentationRecipe(("a", "b", "c"), (tile, tile), 2, 0.0, 1.0, context), volume)
    extended = np.pad(volume, ((context, context), (0, 0), (0, 0)), mode="edge")
    seen = np.stack([extended[k : k + depth] for k in range(2 * context + 1)]).mean(axis=0)
    powers = np.exp(np.stack([0 * seen, seen, -2 * seen]))
    np.testing.assert_allclose(found.mean, powers / powers.sum(axis=0), atol=1e-5)


def test_context_that_makes_no_sense_is_refused():
    for context, tile in ((-1, (8, 8)), (1, (4, 8, 8))):
        with pytest.raises(SettingError, match=f"context is {context} slices"):
            SegmentationRecipe(("a", "b"), tile, 1, 0.0, 1.0, context)
    seen = SegmentationRecipe(("a", "b", "c"), (8, 8), 1, 0.0, 1.0, 1)
    with pytest.raises(ArrayError, match=r"wanted \(tile, 3, y, x\)"):
        answer_tiles(MeanOfChannels(), seen, np.zeros((1, 1, 8, 8)))


def test_mean_and_std_are_those_of_the_members_softmax(ensemble):
    tile = np.random.default_rng(1).normal(size=(1, 1, 9, 9))
    found = answer_tiles(ensemble, recipe(9, 9, margin=0), tile)
    inputs = torch.from_numpy(((tile - 1) / 2).astype(np.float32))
    with torch.inference_mode():
        answers = np.stack([member(inputs).softmax(1).numpy() for member in ensemble.members])
    np.testing.assert_allclose(found.mean[:, :, 0], answers.mean(0), atol=1e-6)
    np.testing.assert_allclose(found.std[:, :, 0], answers.std(0, ddof=1), atol=1e-6)


def test_an_answer_has_the_same_bits_in_any_batch(ensemble):
    tiles = np.random.default_rng(2).normal(size=(3, 1, 9, 9))
    together = answer_tiles(ensemble, recipe(9, 9, margin=0), tiles)
    alone = answer_tiles(ensemble, recipe(9, 9, margin=0), tiles[1:2])
    assert (together.mean[1] == alone.mean[0]).all()
    assert (together.std[1] == alone.std[0]).all()


def test_volumes_are_answered_by_three_dimensional_networks():
    network = build_network(
        {"network": "TUNet", "in_channels": 1, "out_channels": 3, "depth": 2, "base_channels": 2, "ndim": 3}, seed=0
    )
    found = segment(network, recipe(8, 8, 8, margin=1), np.zeros((5, 9, 20), np.uint8))
    assert found.mean.shape == (3, 5, 9, 20)
    np.testing.assert_allclose(found.mean.sum(0), 1, atol=1e-5)
    assert not found.std.any()


def test_the_scale_of_parts_is_that_of_the_whole():
    values = 1e6 + np.random.default_rng(3).normal(size=1000)
    center, scale = intensity_scale(np.split(values, [10, 500]))
    assert (center, scale) == (pytest.approx(values.mean()), pytest.approx(values.std(), rel=1e-9))
    assert intensity_scale([np.full(4, 7)]) == (7.0, 1.0)


def test_what_makes_no_sense_is_refused():
    with pytest.raises(SettingError, match="leaves nothing"):
        recipe(8, 8, margin=4)
    with pytest.raises(SettingError, match="two different names"):
        SegmentationRecipe(("a", "a"), (8, 8), 1, 0, 1)
    with pytest.raises(ArrayError, match="1 pixels are no finite numbers"):
        recipe(8, 8, margin=1).inputs(np.array([1.0, np.nan]))
    with pytest.raises(SettingError, match="answer for no pixel"):
        windows((1, 9, 9), (1, 4, 4), 2)
