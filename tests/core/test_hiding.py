"""What is hidden to learn from lies where true gaps lie, on tiles that have none."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dlsia_core.errors import ArrayError
from dlsia_core.gaps import fill_linear
from dlsia_core.hiding import HidingPlan
from dlsia_core.inpainting import InpaintingRecipe, build_inpainter
from dlsia_core.inpainting_quality import quality_on_hidden
from dlsia_core.tiling import TileGrid

GRID = TileGrid((512, 512), (512, 128), (512, 64))


def pilatus_like() -> np.ndarray:
    """Measured pixels of a PILATUS 2M resized to 512 x 512: 2 vertical and 7 horizontal gaps."""
    valid = np.ones((512, 512), bool)
    valid[:, 169:171] = valid[:, 341:343] = False
    for gap in range(7):
        start = 60 + 65 * gap
        valid[start : start + 5] = False
    return valid


def test_the_papers_tiles_and_places_follow_from_the_gaps():
    plan = HidingPlan.from_valid(pilatus_like(), GRID)
    assert [GRID.column_origins[tile] for tile in plan.tiles] == [0, 192, 384]
    assert plan.vertical == ((21, 2), (41, 2), (85, 2), (105, 2))
    assert len(plan.horizontal[0]) == 7


def test_hidden_rows_never_touch_true_gaps_and_maps_follow_the_seed():
    plan = HidingPlan.from_valid(pilatus_like(), GRID)
    maps = plan.draw(40, seed=3)
    np.testing.assert_array_equal(maps, plan.draw(40, seed=3))
    assert not np.array_equal(maps, plan.draw(40, seed=4))
    true_rows = ~pilatus_like()[:, 0]
    hidden_rows = maps.all(axis=2)
    assert hidden_rows.any(axis=1).all()
    assert not (hidden_rows & true_rows).any()
    starts = {tuple(np.flatnonzero(tile.all(axis=0))) for tile in maps}
    assert starts == {(), (21, 22), (41, 42), (85, 86), (105, 106)}


def test_without_gap_free_tiles_all_tiles_are_used():
    valid = np.ones((64, 64), bool)
    valid[:, 30:33] = False
    plan = HidingPlan.from_valid(valid, TileGrid((64, 64), (64, 64), (64, 64)))
    assert plan.tiles == (0,)


@given(
    row=st.integers(0, 60), column=st.integers(0, 60), height=st.integers(1, 20), width=st.integers(1, 20),
    seed=st.integers(0, 100),
)  # fmt: skip
def test_any_gap_leads_to_something_hidden_and_something_shown(row, column, height, width, seed):
    valid = np.ones((64, 64), bool)
    valid[row : row + height, column : column + width] = False
    plan = HidingPlan.from_valid(valid, TileGrid((64, 64), (32, 32), (32, 32)))
    for hidden in plan.draw(3, seed):
        assert not hidden.all()
    assert plan.draw(20, seed).any()


@pytest.mark.parametrize("valid", [np.ones((512, 512), bool), np.zeros((64, 64), bool)], ids=["no gap", "other shape"])
def test_frames_that_cannot_be_planned_from_are_refused(valid):
    with pytest.raises(ArrayError, match=r"wanted a frame of \(512, 512\) px with gaps"):
        HidingPlan.from_valid(valid, GRID)


def test_quality_judges_hidden_measured_pixels_only():
    rng = np.random.default_rng(0)
    tiles = rng.normal(size=(3, 16, 16)).astype("float32")
    tiles[:, :, 4] = np.nan
    hidden = np.zeros(tiles.shape, bool)
    hidden[:, :, 3:6] = True
    recipe = InpaintingRecipe.from_tiles(tiles)
    untrained = build_inpainter({"network": "TUNet", "depth": 2, "base_channels": 4}, recipe, seed=0)
    network, linear = quality_on_hidden(untrained, tiles, hidden, recipe)
    filled = fill_linear(np.where(hidden, np.float32(np.nan), tiles))
    judged = hidden & np.isfinite(tiles)
    assert linear["pixels"] == judged.sum() == 3 * 16 * 2
    assert linear["L1 (normalized counts)"] == pytest.approx(np.abs(filled - tiles)[judged].mean(), rel=1e-6)
    # An untrained network with a zero head is linear interpolation.
    assert network["L1 (normalized counts)"] == pytest.approx(linear["L1 (normalized counts)"], rel=1e-5)


def test_quality_without_anything_hidden_is_refused():
    tiles = np.zeros((1, 8, 8), "float32")
    recipe = InpaintingRecipe.from_tiles(tiles)
    network = build_inpainter({"network": "TUNet", "depth": 1, "base_channels": 2}, recipe, seed=0)
    with pytest.raises(ArrayError, match="nothing can be judged"):
        quality_on_hidden(network, tiles, np.zeros(tiles.shape, bool), recipe)
