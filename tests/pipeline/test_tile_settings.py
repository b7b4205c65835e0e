"""Tiles follow the size of the frames unless they are told otherwise, and leave no pixel out."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dlsia_core.errors import ArrayError, SettingError
from tasks.settings.stages import TileSettings
from tasks.tile import cut_with_qlty


@given(rows=st.integers(1, 3000), columns=st.integers(1, 3000))
def test_default_tiles_cover_frames_of_any_size(rows, columns):
    grid = TileSettings().grid((rows, columns))
    assert grid.tile_shape == (rows, min(columns, 128))
    origins = np.array(grid.column_origins)
    assert origins[0] == 0
    assert origins[-1] + grid.tile_shape[1] == columns
    assert (np.diff(origins) <= grid.tile_shape[1]).all()


def test_the_default_on_the_papers_frames_is_the_papers():
    grid = TileSettings().grid((512, 512))
    assert (grid.tile_shape, grid.step) == ((512, 128), (512, 64))
    assert grid.column_origins == (0, 64, 128, 192, 256, 320, 384)


@pytest.mark.parametrize("settings", [TileSettings(shape=(600, 128)), TileSettings(shape=(64, 64), step=(65, 64))])
def test_what_is_asked_for_is_not_adapted(settings):
    with pytest.raises((ArrayError, SettingError), match="larger than"):
        settings.grid((512, 512))


@given(
    size=st.tuples(st.integers(4, 60), st.integers(4, 60)), tile=st.tuples(st.integers(2, 60), st.integers(2, 60)),
    step=st.tuples(st.integers(1, 60), st.integers(1, 60)),
)  # fmt: skip
def test_qlty_cuts_the_tiles_of_our_grid(size, tile, step):
    shape = (min(tile[0], size[0]), min(tile[1], size[1]))
    grid = TileSettings(shape=shape, step=(min(step[0], shape[0]), min(step[1], shape[1]))).grid(size)
    frames = np.random.default_rng(0).normal(size=(2, *size)).astype("float32")
    np.testing.assert_array_equal(cut_with_qlty(frames, grid), grid.cut(frames))
