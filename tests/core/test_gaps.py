from pathlib import Path

import fabio
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.ndimage import distance_transform_edt

from dlsia_core.errors import ArrayError, SettingError
from dlsia_core.gaps import (
    DEAD,
    INPAINTED,
    MEASURED,
    artificial_gaps,
    draw_artificial_gaps,
    draw_strips,
    fill_linear,
    gap_columns,
    gap_free_origins,
    gap_rows,
    provenance,
)
from dlsia_core.intensity import LogScale
from dlsia_core.resize import AreaResizer
from dlsia_core.tiling import TileGrid

PILATUS_2M_SHAPE = (1679, 1475)
MODULE_SHAPE, GAP_SHAPE = (195, 487), (17, 7)
GRID = TileGrid((512, 512), (512, 128), (512, 64))

seeds = st.integers(0, 999)
shapes = st.tuples(st.integers(1, 14), st.integers(1, 14))


def pilatus_2m_valid():
    y, x = np.ogrid[: PILATUS_2M_SHAPE[0], : PILATUS_2M_SHAPE[1]]
    on_module = [
        axis % (module + gap) < module for axis, module, gap in zip((y, x), MODULE_SHAPE, GAP_SHAPE, strict=True)
    ]
    return on_module[0] & on_module[1]


def gapped(seed, shape):
    rng = np.random.default_rng(seed)
    values = rng.normal(size=shape).astype(np.float32)
    values[rng.random(shape) < rng.random()] = np.nan
    return values


def slow_fill(frame):
    """The four nearest measured pixels of every gap pixel, found by walking; twice, for the crossings."""
    for _ in range(2):
        seen = frame.copy()
        for row, column in zip(*np.nonzero(np.isnan(frame)), strict=True):
            total = weight = 0.0
            for line in (
                frame[row, :column][::-1],
                frame[row, column + 1 :],
                frame[:row, column][::-1],
                frame[row + 1 :, column],
            ):
                distances = np.flatnonzero(~np.isnan(line)) + 1
                if distances.size:
                    total += line[distances[0] - 1] / distances[0]
                    weight += 1 / distances[0]
            if weight:
                seen[row, column] = total / weight
        frame = seen
    return np.nan_to_num(frame)


@given(seed=seeds, shape=shapes)
def test_filling_agrees_with_walking_to_the_nearest_measured_pixels(seed, shape):
    values = gapped(seed, shape)
    np.testing.assert_allclose(fill_linear(values), slow_fill(values.astype(float)), rtol=1e-5, atol=1e-6)


@given(seed=seeds, shape=shapes)
def test_filling_keeps_measured_pixels_to_the_bit_and_leaves_no_gap(seed, shape):
    values = gapped(seed, shape)
    values[0, 0] = -0.0
    before = values.tobytes()
    filled = fill_linear(values)
    measured = ~np.isnan(values)
    assert filled.dtype == np.float32
    assert filled[measured].tobytes() == values[measured].tobytes()
    assert not np.isnan(filled).any()
    assert values.tobytes() == before


@given(seed=seeds, shape=shapes)
def test_filled_values_lie_between_the_measured_ones(seed, shape):
    values = gapped(seed, shape)
    values[0, 0] = 0
    filled = fill_linear(values)
    assert filled.min() >= np.nanmin(values)
    assert filled.max() <= np.nanmax(values)


@given(seed=seeds, frames=st.integers(1, 4))
def test_a_frame_is_filled_from_itself_alone(seed, frames):
    batch = gapped(seed, (frames, 2, 9, 8))
    filled = fill_linear(batch)
    for position in np.ndindex(frames, 2):
        assert fill_linear(batch[position]).tobytes() == filled[position].tobytes()


@given(seed=seeds, shape=shapes)
def test_filling_treats_rows_and_columns_alike(seed, shape):
    values = gapped(seed, shape)
    np.testing.assert_allclose(fill_linear(values.T), fill_linear(values).T, rtol=1e-6, atol=1e-7)
    np.testing.assert_allclose(fill_linear(values[::-1, ::-1]), fill_linear(values)[::-1, ::-1], rtol=1e-6, atol=1e-7)


@given(slope=st.floats(-5, 5), start=st.integers(1, 15), width=st.integers(1, 4))
def test_a_ramp_across_a_gap_is_restored(slope, start, width):
    ramp = np.broadcast_to(slope * np.arange(20.0), (6, 20)).copy()
    values = ramp.copy()
    values[:, start : start + width] = np.nan
    np.testing.assert_allclose(fill_linear(values), ramp, atol=1e-12)
    np.testing.assert_allclose(fill_linear(values.T.copy()), ramp.T, atol=1e-12)


def test_the_crossing_of_two_gaps_is_filled_from_all_four_sides():
    plane = np.full((9, 9), 3.0)
    plane[3:5] = plane[:, 6:8] = np.nan
    assert np.array_equal(fill_linear(plane), np.full((9, 9), 3.0))


def test_where_one_side_is_missing_the_nearest_value_stands():
    values = np.array([[np.nan, np.nan, 2.0, 5.0, np.nan]])
    assert fill_linear(values).tolist() == [[2, 2, 2, 5, 5]]


def test_a_frame_without_measured_pixels_becomes_zero():
    assert not fill_linear(np.full((2, 3, 4), np.nan, np.float32)).any()


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (np.ones((3, 3), int), "values must be floats"),
        (np.ones(3), "values must be floats"),
        (np.array([[1.0, np.inf]]), "values hold infinity"),
    ],
)
def test_what_cannot_be_filled_is_refused(values, message):
    with pytest.raises(ArrayError, match=message):
        fill_linear(values)


@given(seed=seeds, shape=shapes)
def test_gap_runs_are_exactly_the_unmeasured_columns(seed, shape):
    rng = np.random.default_rng(seed)
    valid = np.broadcast_to(rng.random(shape[1]) < 0.5, shape).copy()
    runs = gap_columns(valid)
    inside = np.zeros(shape[1], bool)
    for start, stop in runs:
        assert start < stop
        assert not inside[max(start - 1, 0) : stop].any()
        inside[start:stop] = True
    assert np.array_equal(inside, ~valid[0])
    assert gap_rows(valid.T) == runs


def test_nearly_empty_columns_belong_to_a_gap_and_shadows_do_not():
    valid = np.ones((100, 6), bool)
    valid[:95, 1] = False
    valid[:94, 3] = False
    assert gap_columns(valid) == ((1, 2),)
    assert gap_columns(valid, share=0.94) == ((1, 2), (3, 4))


def test_gaps_of_a_pilatus_2m_at_its_own_resolution():
    valid = pilatus_2m_valid()
    assert np.count_nonzero(~valid) == 197_365
    assert gap_columns(valid) == ((487, 494), (981, 988))
    assert gap_rows(valid) == tuple((start, start + 17) for start in range(195, 1600, 212))


def test_the_papers_places_of_artificial_gaps():
    """Chavez et al. 2022, eq. (1): {21, 42, 85, 106} are the resized columns in which nothing at all was measured."""
    coverage = AreaResizer(PILATUS_2M_SHAPE, (512, 512)).coverage(pilatus_2m_valid())
    gaps = gap_columns(coverage > 0)
    assert gaps == ((170, 171), (341, 342))
    assert [start for start, _ in artificial_gaps(gaps, GRID.column_origins, 128)] == [21, 42, 85, 106]
    assert gap_free_origins(gaps, GRID.column_origins, 128) == (0, 192, 384)


def test_places_of_artificial_gaps_where_half_a_pixel_must_be_measured():
    coverage = AreaResizer(PILATUS_2M_SHAPE, (512, 512)).coverage(pilatus_2m_valid())
    gaps = gap_columns(coverage >= 0.5)
    assert gaps == ((169, 171), (341, 343))
    assert artificial_gaps(gaps, GRID.column_origins, 128) == ((21, 2), (41, 2), (85, 2), (105, 2))


def test_a_gap_cut_by_a_tile_counts_with_the_part_inside():
    assert artificial_gaps([(3, 6)], [0, 4, 8], 4) == ((0, 2), (3, 1))
    assert gap_free_origins([(3, 6)], [0, 4, 6, 8], 4) == (6, 8)


def test_vertical_gaps_are_drawn_uniformly_including_none():
    choices = ((2, 1), (5, 2), (9, 1))
    rng = np.random.default_rng(0)
    draws = [draw_artificial_gaps((4, 12), choices, (), rng).any(axis=0) for _ in range(4000)]
    counts = {
        place: sum(gap_columns(~drawn[None]) == place for drawn in draws)
        for place in ((), ((2, 3),), ((5, 7),), ((9, 10),))
    }
    assert sum(counts.values()) == 4000
    assert all(abs(count - 1000) < 150 for count in counts.values())  # five standard deviations


@given(seed=seeds, first=st.integers(0, 20), width=st.integers(1, 5), second=st.integers(6, 12))
def test_moved_horizontal_gaps_stay_whole_inside_and_off_the_true_ones(seed, first, width, second):
    gaps = ((first, first + width), (first + second, first + second + width))
    hidden = draw_artificial_gaps((64, 8), (), gaps, np.random.default_rng(seed))
    rows = hidden.all(axis=1)
    assert np.array_equal(rows, hidden.any(axis=1))
    moved = gap_rows(~hidden)
    assert [stop - start for start, stop in moved] == [width, width]
    assert moved[1][0] - moved[0][0] == second
    for start, stop in gaps:
        assert not rows[max(start - 1, 0) : stop + 1].any()


def test_every_row_that_may_be_hidden_is_hidden_sometimes():
    rng = np.random.default_rng(0)
    hidden = sum(draw_artificial_gaps((20, 1), (), ((9, 11),), rng).astype(int) for _ in range(500))
    assert np.flatnonzero(hidden == 0).tolist() == [8, 9, 10, 11]


def test_horizontal_gaps_are_an_extension_that_can_be_switched_off():
    rng = np.random.default_rng(0)
    for _ in range(20):
        hidden = draw_artificial_gaps((64, 12), ((3, 2),), ((10, 14),), rng, shift_horizontal=False)
        assert np.array_equal(hidden.all(axis=0), hidden.any(axis=0))


def test_equal_seeds_draw_equal_gaps():
    first, second = (
        [draw_artificial_gaps((64, 12), ((3, 2),), ((10, 14),), rng) for _ in range(9)]
        for rng in (np.random.default_rng(7), np.random.default_rng(7))
    )
    assert np.array_equal(first, second)
    assert len({hidden.tobytes() for hidden in first}) > 1


@pytest.mark.parametrize(
    ("vertical", "horizontal", "message"),
    [
        ((), (), "nothing to hide .* use draw_strips"),
        ((), ((1, 7),), "cannot be moved onto measured rows"),
        (((11, 2),), (), "vertical choices lie outside the tile of 12 px"),
        ((), ((6, 9),), "horizontal gaps lie outside the tile of 8 px"),
    ],
)
def test_draws_that_make_no_sense_are_refused(vertical, horizontal, message):
    with pytest.raises(SettingError, match=message):
        draw_artificial_gaps((8, 12), vertical, horizontal, np.random.default_rng(0))


@given(seed=seeds, shape=st.tuples(st.integers(2, 20), st.integers(2, 20)), data=st.data())
def test_strips_have_their_widths(seed, shape, data):
    rows, columns = (data.draw(st.integers(0, size - 1)) for size in shape)
    if not rows and not columns:
        with pytest.raises(SettingError, match="one wider than 0"):
            draw_strips(shape, (rows, columns), np.random.default_rng(seed))
        return
    hidden = draw_strips(shape, (rows, columns), np.random.default_rng(seed))
    assert np.count_nonzero(hidden.all(axis=1)) == rows
    assert np.count_nonzero(hidden.all(axis=0)) == columns
    assert np.count_nonzero(~hidden) == (shape[0] - rows) * (shape[1] - columns)


def test_strips_that_hide_a_whole_tile_are_refused():
    with pytest.raises(SettingError, match="narrower than the tile"):
        draw_strips((8, 8), (8, 1), np.random.default_rng(0))


@given(seed=seeds, shape=shapes, reach=st.floats(0, 20))
def test_provenance_agrees_with_the_distance_to_every_measured_pixel(seed, shape, reach):
    measured = ~np.isnan(gapped(seed, shape))
    origin = provenance(measured, reach)
    assert origin.dtype == np.uint8
    places = np.argwhere(measured)
    for pixel in np.ndindex(*shape):
        nearest = np.sqrt(((places - pixel) ** 2).sum(axis=1)).min(initial=np.inf)
        expected = MEASURED if measured[pixel] else INPAINTED if nearest <= reach else DEAD
        assert origin[pixel] == expected


def test_reach_is_inclusive_and_euclidean():
    measured = np.zeros((5, 6), bool)
    measured[0, 0] = True
    assert provenance(measured, 5)[4, 3] == INPAINTED
    assert provenance(measured, 4.999)[4, 3] == DEAD
    assert provenance(measured, 0)[0].tolist() == [MEASURED, *[DEAD] * 5]


def test_a_frame_without_measured_pixels_is_dead():
    assert np.all(provenance(np.zeros((4, 5), bool), 100) == DEAD)


@pytest.mark.parametrize("reach", [-1, float("nan")])
def test_reach_is_a_distance(reach):
    with pytest.raises(SettingError, match="reach is a distance"):
        provenance(np.ones((2, 2), bool), reach)


def test_polarity_must_be_explicit():
    with pytest.raises(ArrayError, match="expected bool"):
        gap_columns(np.ones((3, 3), np.uint8))
    with pytest.raises(ArrayError, match="expected bool"):
        gap_rows(np.ones(3, bool))
    with pytest.raises(ArrayError, match="expected bool"):
        provenance(np.ones((3, 3), np.int8), 1)


def test_linear_filling_beats_the_nearest_value_on_real_frames(real_frames: Path):
    """Hidden strips as wide as the true gaps; mean absolute error in log intensity over the hidden pixels."""
    files = sorted((real_frames / "cbf" / "p03_gisaxs").glob("*.cbf"))
    if not files:
        pytest.skip("no P03 frames")
    hidden = np.zeros((512, 512), bool)
    for start in range(20, 490, 43):
        hidden[:, start : start + 3] = True
    for file in files:
        counts = fabio.open(file).data
        values, _ = AreaResizer(counts.shape, (512, 512)).resize(counts, counts >= 0)
        normalized = LogScale().normalize(values)
        for hide in (hidden, hidden.T):
            shown = np.where(hide, np.float32(np.nan), normalized)
            nearest = shown[tuple(distance_transform_edt(np.isnan(shown), return_distances=False, return_indices=True))]
            judged = hide & ~np.isnan(normalized)
            linear_error = np.abs(fill_linear(shown) - normalized)[judged].mean()
            nearest_error = np.abs(nearest - normalized)[judged].mean()
            assert linear_error < 0.92 * nearest_error
