"""Proposed tiles are the worst ones that are free, apart from each other and from labels, and always the same."""

import csv
import io

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dlsia_core.errors import SettingError
from dlsia_core.segmentation.coach import Proposal, propose_tiles
from tasks.label_coach import shapes_csv


@settings(deadline=None, max_examples=30)
@given(
    seed=st.integers(0, 1000),
    side=st.integers(1, 12),
    distance=st.integers(0, 6),
    count=st.integers(1, 6),
    separate=st.booleans(),
)
def test_tiles_are_apart_from_each_other_and_from_labels(seed, side, distance, count, separate):
    rng = np.random.default_rng(seed)
    labelled = rng.random((6, 30, 40)) < 0.002
    shown = {number: rng.random((30, 40)) for number in (0, 2, 5)}
    tiles = propose_tiles(shown, labelled, count, side, distance, separate)
    taken = np.zeros(labelled.shape, bool)
    for tile in tiles:
        reach = 0 if separate else distance
        rows, columns = (slice(max(start - distance, 0), start + side + distance) for start in (tile.y, tile.x))
        around = slice(max(tile.z - reach, 0), tile.z + reach + 1), rows, columns
        assert not labelled[around].any()
        assert not taken[around].any()
        here = tile.z, slice(tile.y, tile.y + side), slice(tile.x, tile.x + side)
        taken[here] = True
        assert tile.disagreement == pytest.approx(shown[tile.z][here[1:]].mean())
    assert [tile.disagreement for tile in tiles] == sorted((t.disagreement for t in tiles), reverse=True)
    assert tiles == propose_tiles(shown, labelled, count, side, distance, separate)


def test_the_first_tile_is_where_the_members_disagree_most():
    shown = np.zeros((1, 64, 64))
    shown[0, 40:48, 16:24], shown[0, 0:8, 0:8] = 1, 0.5
    free = np.zeros(shown.shape, bool)
    first, second = propose_tiles({0: shown[0]}, free, 2, 8, distance=4)
    assert (first.y, first.x, first.disagreement) == (40, 16, 1)
    assert (second.y, second.x) == (0, 0)
    free[0, 44, 20] = True
    assert propose_tiles({0: shown[0]}, free, 1, 8, distance=4)[0] == second


def test_where_all_is_labelled_nothing_is_proposed_and_nonsense_is_refused():
    full = np.ones((1, 16, 16), bool)
    assert propose_tiles({0: np.ones((16, 16))}, full, 3, 4) == []
    for count, side, distance in ((0, 4, 0), (1, 17, 0), (1, 4, -1)):
        with pytest.raises(SettingError, match="wanted at least 1"):
            propose_tiles({0: np.ones((16, 16))}, full, count, side, distance)


def test_the_file_holds_four_corners_of_each_rectangle():
    rows = list(
        csv.DictReader(io.StringIO(shapes_csv([Proposal(3, 10, 20, 4, 0.5), Proposal(0, 0, 0, 2, 0.1)], False)))
    )
    assert [row["index"] for row in rows] == ["0"] * 4 + ["1"] * 4
    assert {row["shape-type"] for row in rows} == {"rectangle"}
    assert [row["vertex-index"] for row in rows[:4]] == ["0", "1", "2", "3"]
    corners = {(float(row["axis-0"]), float(row["axis-1"]), float(row["axis-2"])) for row in rows[:4]}
    assert corners == {(3, 10, 20), (3, 10, 24), (3, 14, 24), (3, 14, 20)}
    assert "axis-2" not in shapes_csv([Proposal(0, 0, 0, 2, 0.1)], flat=True)
