import numpy as np
import pytest
import qlty
import torch
from hypothesis import assume, given
from hypothesis import strategies as st

from dlsia_core.errors import ArrayError, SettingError
from dlsia_core.gaps import DEAD, INPAINTED, MEASURED
from dlsia_core.stitching import merge_measured, stitch, window_weights
from dlsia_core.tiling import TileGrid

WINDOWS = ["box", "hann", "gaussian"]
windows = st.sampled_from(WINDOWS)


@st.composite
def grids(draw):
    frame = [draw(st.integers(1, 30)) for _ in range(2)]
    tile = [draw(st.integers(1, size)) for size in frame]
    step = [draw(st.integers(1, size)) for size in tile]
    grid = TileGrid(tuple(frame), tuple(tile), tuple(step))
    assume(grid.n_tiles <= 150)
    return grid


def random_tiles(grid, seed, frames=2):
    rng = np.random.default_rng(seed)
    return rng.normal(size=(frames, grid.n_tiles, *grid.tile_shape)).astype(np.float32)


@given(grid=grids(), window=windows, seed=st.integers(0, 99))
def test_cutting_and_stitching_gives_the_frames_back_exactly(grid, window, seed):
    frames = np.random.default_rng(seed).normal(size=(2, *grid.frame_shape)).astype(np.float32)
    assert np.array_equal(stitch(grid.cut(frames), grid, window), frames)


@given(grid=grids(), window=windows)
def test_weights_are_a_partition_of_unity(grid, window):
    """Tile k all 1 and the others 0 gives tile k's share of every pixel; the shares add up to 1."""
    shares = np.zeros((grid.n_tiles, grid.n_tiles, *grid.tile_shape), np.float32)
    shares[range(grid.n_tiles), range(grid.n_tiles)] = 1
    stitched = stitch(shares, grid, window)
    assert stitched.min() >= 0
    np.testing.assert_allclose(stitched.sum(axis=0, dtype=np.float64), 1, atol=1e-5)


@given(grid=grids(), window=windows, seed=st.integers(0, 99))
def test_stitched_values_lie_between_those_of_the_tiles(grid, window, seed):
    tiles = random_tiles(grid, seed)
    lowest, highest = np.full((2, *grid.frame_shape), np.inf), np.full((2, *grid.frame_shape), -np.inf)
    for tile, (rows, columns) in enumerate(grid.slices):
        lowest[:, rows, columns] = np.minimum(lowest[:, rows, columns], tiles[:, tile])
        highest[:, rows, columns] = np.maximum(highest[:, rows, columns], tiles[:, tile])
    stitched = stitch(tiles, grid, window)
    assert np.all(stitched >= lowest)
    assert np.all(stitched <= highest)


@given(grid=grids(), window=windows, seed=st.integers(0, 99))
def test_a_frame_does_not_depend_on_its_batch(grid, window, seed):
    tiles = random_tiles(grid, seed, frames=3)
    batch = stitch(tiles, grid, window)
    for frame in range(3):
        assert stitch(tiles[frame], grid, window).tobytes() == batch[frame].tobytes()
    assert np.array_equal(stitch(tiles[None], grid, window)[0], batch)


@given(grid=grids(), seed=st.integers(0, 99))
def test_box_is_the_mean_of_the_tiles_that_hold_a_pixel(grid, seed):
    tiles = random_tiles(grid, seed, frames=1)[0]
    row, column = np.random.default_rng(seed).integers(0, grid.frame_shape)
    held = [
        tiles[tile, row - r, column - c]
        for tile, (r, c) in enumerate(grid.origins)
        if 0 <= row - r < grid.tile_shape[0] and 0 <= column - c < grid.tile_shape[1]
    ]
    assert stitch(tiles, grid)[row, column] == np.float32(np.mean(held, dtype=np.float64))


def test_hann_by_hand():
    grid = TileGrid((1, 3), (1, 2), (1, 1))
    tiles = np.array([[[1, 2]], [[4, 5]]], np.float32)
    assert stitch(tiles, grid, "hann").tolist() == [[1, 3, 5]]
    wide = TileGrid((1, 5), (1, 3), (1, 2))
    shoulder, middle = np.sin(np.pi / 6) ** 2, 1
    weights = window_weights(wide.tile_shape, "hann")
    np.testing.assert_allclose(weights, [[shoulder, middle, shoulder]])


@given(shape=st.tuples(st.integers(1, 600), st.integers(1, 600)), window=windows)
def test_weights_are_positive_and_symmetric(shape, window):
    weights = window_weights(shape, window)
    assert weights.shape == shape
    assert weights.min() >= 1e-6
    assert weights.max() == 1
    np.testing.assert_allclose(weights, weights[::-1, ::-1], rtol=1e-9)


@given(grid=grids(), seed=st.integers(0, 9))
def test_box_agrees_with_qlty(grid, seed):
    tiles = random_tiles(grid, seed)
    quilt = qlty.NCYXQuilt(*grid.frame_shape, window=grid.tile_shape, step=grid.step, border=(0, 0), border_weight=1.0)
    flat = torch.from_numpy(tiles.reshape(-1, 1, *grid.tile_shape))
    theirs, count = quilt.stitch(flat, use_numba=False)
    np.testing.assert_allclose(stitch(tiles, grid), theirs[:, 0].numpy(), rtol=1e-5, atol=1e-5)
    assert np.array_equal(count.numpy(), grid.coverage())


@pytest.mark.parametrize("window", WINDOWS)
@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_what_is_not_finite_is_never_averaged_away(window, value):
    grid = TileGrid((4, 6), (4, 3), (4, 1))
    tiles = np.ones((2, grid.n_tiles, 4, 3), np.float32)
    tiles[1, 2, 3, 0] = value
    with pytest.raises(
        ArrayError, match=r"tile 2 of frame \(1,\) \(origin \(0, 2\)\) holds values that are not finite"
    ):
        stitch(tiles, grid, window)


def test_wrong_tiles_and_windows_are_refused():
    grid = TileGrid((4, 6), (4, 3), (4, 3))
    with pytest.raises(ArrayError, match=r"tiles have shape \(3, 4, 3\).* 2, 4, 3\)"):
        stitch(np.ones((3, 4, 3), np.float32), grid)
    with pytest.raises(SettingError, match="unknown window 'sinc'; known: box, hann, gaussian"):
        stitch(np.ones((2, 4, 3), np.float32), grid, "sinc")


@given(seed=st.integers(0, 99), shape=st.sampled_from([(5, 7), (2, 5, 7)]))
def test_measured_pixels_come_back_to_the_bit(seed, shape):
    rng = np.random.default_rng(seed)
    normalized = rng.normal(size=shape).astype(np.float32)
    normalized[rng.random(shape) < 0.1] = -0.0
    provenance = rng.integers(0, 3, shape).astype(np.uint8)
    normalized[provenance != MEASURED] = np.nan
    stitched = rng.normal(size=shape).astype(np.float32)
    merged = merge_measured(stitched, normalized, provenance)
    measured = provenance == MEASURED
    assert merged.dtype == np.float32
    assert merged[measured].tobytes() == normalized[measured].tobytes()
    assert np.array_equal(merged[provenance == INPAINTED], stitched[provenance == INPAINTED])
    assert np.array_equal(np.isnan(merged), provenance == DEAD)


def test_contradicting_provenance_is_refused():
    values, nan = np.float32([1, 2, 3]), np.float32([1, np.nan, 3])
    with pytest.raises(ArrayError, match="contradicts normalized at 1 pixels"):
        merge_measured(values, nan, np.uint8([0, 0, 0]))
    with pytest.raises(ArrayError, match="contradicts normalized at 1 pixels"):
        merge_measured(values, values, np.uint8([0, 1, 0]))
    with pytest.raises(ArrayError, match="contradicts normalized at 1 pixels"):
        merge_measured(values, nan, np.uint8([0, 3, 0]))
    with pytest.raises(ArrayError, match="must have the same shape"):
        merge_measured(values, nan, np.uint8([0, 1]))
    with pytest.raises(ArrayError, match="not finite at pixels to be inpainted"):
        merge_measured(nan, nan, np.uint8([0, 1, 0]))
