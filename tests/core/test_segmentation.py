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

sizes = st.tuples(st.integers(1, 4), st.integers(1, 30), st.integers(1, 30))


@settings(deadline=None)
@given(shape=sizes, tile=st.tuples(st.integers(1, 5), st.integers(7, 20), st.integers(7, 20)), margin=st.integers(0, 3))
def test_inner_parts_cover_each_pixel_once_and_keep_their_margin(shape, tile, margin):
    seen = np.zeros(shape, int)
    margins = (0, margin, margin)
    for window in windows(shape, tile, margins):
        seen[window.inner] += 1
        for inner, outer, size, wide, far in zip(window.inner, window.outer, shape, tile, margins, strict=True):
            assert outer.stop - outer.start == min(wide, size)
            assert inner.start - outer.start >= far or inner.start == 0
            assert outer.stop - inner.stop >= far or inner.stop == size
            assert 0 <= outer.start <= inner.start < inner.stop <= outer.stop <= size
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
