import itertools

import numpy as np
import pytest
import qlty
import torch
from hypothesis import assume, given
from hypothesis import strategies as st

from dlsia_core.errors import ArrayError, SettingError
from dlsia_core.tiling import TileGrid


@st.composite
def grids(draw):
    frame = [draw(st.integers(1, 40)) for _ in range(2)]
    tile = [draw(st.integers(1, size)) for size in frame]
    step = [draw(st.integers(1, size)) for size in tile]
    return TileGrid(tuple(frame), tuple(tile), tuple(step))


@given(grid=grids())
def test_tiles_cover_every_pixel_and_stay_inside(grid):
    assert grid.coverage().min() >= 1
    assert grid.coverage().sum() == grid.n_tiles * np.prod(grid.tile_shape)
    assert np.all(grid.origins >= 0)
    assert np.all(grid.origins + grid.tile_shape <= grid.frame_shape)


@given(grid=grids())
def test_origins_are_multiples_of_the_step_then_one_flush_with_the_border(grid):
    for origins, frame, tile, step in zip(
        (grid.row_origins, grid.column_origins), grid.frame_shape, grid.tile_shape, grid.step, strict=True
    ):
        assert list(origins[:-1]) == list(range(0, (len(origins) - 1) * step, step))
        assert origins[-1] == frame - tile
        assert all(0 < second - first <= step for first, second in itertools.pairwise(origins))


@given(grid=grids(), frames=st.integers(0, 3))
def test_each_tile_is_the_frame_at_its_origin(grid, frames):
    frame = np.arange(frames * np.prod(grid.frame_shape), dtype=np.int32).reshape(frames, *grid.frame_shape)
    tiles = grid.cut(frame)
    assert tiles.shape == (frames, grid.n_tiles, *grid.tile_shape)
    for tile, (row, column) in enumerate(grid.origins):
        expected = frame[:, row : row + grid.tile_shape[0], column : column + grid.tile_shape[1]]
        assert np.array_equal(tiles[:, tile], expected)


def test_the_papers_grid_has_seven_tiles():
    grid = TileGrid((512, 512), (512, 128), (512, 64))
    assert grid.n_tiles == 7
    assert grid.origins.tolist() == [[0, x] for x in range(0, 385, 64)]


def test_last_tile_is_flush_where_the_step_does_not_divide():
    assert TileGrid((64, 110), (64, 64), (64, 32)).column_origins == (0, 32, 46)
    assert TileGrid((110, 64), (64, 64), (32, 64)).origins.tolist() == [[0, 0], [32, 0], [46, 0]]


@pytest.mark.parametrize("dtype", [np.bool_, np.uint8, np.int32, np.float16, np.float32, np.float64])
def test_cut_keeps_every_dtype(dtype):
    tiles = TileGrid((4, 6), (4, 3), (4, 3)).cut(np.ones((2, 4, 6), dtype))
    assert tiles.dtype == dtype
    assert tiles.all()


def test_cut_is_a_copy():
    frame = np.zeros((4, 6))
    grid = TileGrid((4, 6), (4, 6), (4, 6))
    grid.cut(frame)[:] = 1
    assert not frame.any()


@given(grid=grids())
def test_equal_settings_are_equal_grids_however_they_are_spelled(grid):
    again = TileGrid(list(grid.frame_shape), np.array(grid.tile_shape), list(grid.step))
    assert again == grid
    assert hash(again) == hash(grid)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (((64, 110), (65, 64), (32, 32)), "tile of 65 px is larger than the frame of 64 px along the row axis"),
        (((64, 110), (64, 111), (32, 32)), "larger than the frame of 110 px along the column axis"),
        (((64, 110), (32, 64), (32, 65)), "step of 65 px is larger than the tile of 64 px along the column"),
        (((64, 110), (32, 64), (0, 32)), r"step must be at least 1 px along both axes, got \(0, 32\)"),
        (((64, -1), (32, 64), (1, 1)), "frame_shape must be at least 1 px"),
        (((64, 110), (32, 64.5), (1, 1)), "tile_shape must be two whole numbers"),
        (((64, 110, 3), (32, 64), (1, 1)), "frame_shape must be two whole numbers"),
        (((64, 110), 32, (1, 1)), "tile_shape must be two whole numbers"),
    ],
)
def test_impossible_grids_are_refused(arguments, message):
    with pytest.raises(SettingError, match=message):
        TileGrid(*arguments)


def test_frames_of_another_shape_are_refused():
    with pytest.raises(ArrayError, match=r"frames have shape \(2, 6, 4\); this grid cuts .* 4, 6\)"):
        TileGrid((4, 6), (4, 3), (4, 3)).cut(np.zeros((2, 6, 4)))


@given(grid=grids(), seed=st.integers(0, 9))
def test_qlty_cuts_the_same_tiles_in_the_same_order(grid, seed):
    assume(grid.n_tiles <= 200)
    frames = np.random.default_rng(seed).normal(size=(2, *grid.frame_shape)).astype(np.float32)
    quilt = qlty.NCYXQuilt(
        Y=grid.frame_shape[0],
        X=grid.frame_shape[1],
        window=grid.tile_shape,
        step=grid.step,
        border=(0, 0),
        border_weight=1.0,
    )
    theirs = quilt.unstitch(torch.from_numpy(frames)[:, None]).numpy()
    assert np.array_equal(theirs, grid.cut(frames).reshape(-1, 1, *grid.tile_shape))
