import numpy as np
import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from dlsia_core.errors import ArrayError, SettingError
from dlsia_core.gaps import gap_columns, gap_rows
from dlsia_core.judged_gaps import paper_vertical_gaps, shifted_gaps, true_horizontal_gaps
from dlsia_core.resize import AreaResizer

seeds = st.integers(0, 999)
MODULES = {"2M": (8, 3), "1M": (5, 2), "300k": (3, 1), "6M": (12, 5)}


def pilatus(name, resized=None, min_coverage=0.5):
    rows, columns = MODULES[name]
    y, x = np.ogrid[: rows * 212 - 17, : columns * 494 - 7]
    valid = (y % 212 < 195) & (x % 494 < 487)
    return valid if resized is None else AreaResizer(valid.shape, resized).coverage(valid) >= min_coverage


def widths(runs):
    return [stop - start for start, stop in runs]


@pytest.mark.parametrize(("name", "resized"), [("2M", None), ("2M", (512, 512)), ("1M", (512, 512)), ("300k", None)])
def test_true_gaps_are_judged_where_the_second_exposure_measured(name, resized):
    """A detector moved by 30 of its rows: everything but the vertical gaps, and no dead pixel elsewhere."""
    full = pilatus(name)
    full[3, 5] = False
    both = full | np.roll(full, 30, axis=0)
    both[:30] = full[:30]
    shape = resized or full.shape
    resizer = AreaResizer(full.shape, shape)
    valid, truth_valid = (resizer.coverage(v) >= 0.5 for v in (full, both))
    judged = true_horizontal_gaps(valid, truth_valid)
    assert gap_rows(~judged, 0.9) == gap_rows(valid)
    assert not (judged & valid).any()
    assert not (judged & ~truth_valid).any()
    columns = gap_columns(valid)
    assert all(not judged[:, start:stop].any() for start, stop in columns)
    open_columns = shape[1] - sum(widths(columns))
    assert judged.sum() == sum(widths(gap_rows(valid))) * open_columns


def test_gaps_that_nobody_measured_cannot_be_judged():
    valid = pilatus("300k")
    with pytest.raises(ArrayError, match="was measured by the second exposure; move the detector by more rows"):
        true_horizontal_gaps(valid, valid)
    with pytest.raises(ArrayError, match="truth_valid must be bool"):
        true_horizontal_gaps(valid, valid[1:])


@given(seed=seeds)
def test_paper_gaps_lie_where_the_paper_puts_them(seed):
    """One gap in each of the free tiles at 0, 192 and 384, at the places of the true gaps in the other tiles."""
    valid = pilatus("2M", (512, 512))
    hidden = paper_vertical_gaps(valid, np.random.default_rng(seed))
    runs = gap_columns(~hidden)
    assert np.array_equal(hidden.any(axis=0), hidden.all(axis=0))
    assert len(runs) == 3
    for tile, (start, stop) in zip((0, 192, 384), runs, strict=True):
        assert (start - tile, stop - start) in {(21, 2), (41, 2), (85, 2), (105, 2)}
    assert not (hidden & ~valid)[:, [c for run in runs for c in range(*run)]].all(axis=0).any()


def test_paper_gaps_at_the_papers_own_columns():
    """Eq. (1): {21, 42, 85, 106}, where a resized pixel is a gap only if nothing at all was measured in it."""
    valid = pilatus("2M", (512, 512), min_coverage=1e-9)
    rng, starts = np.random.default_rng(0), set()
    for _ in range(60):
        starts |= {start % 192 for start, _ in gap_columns(~paper_vertical_gaps(valid, rng))}
    assert starts == {21, 42, 85, 106}


@given(seed=seeds)
def test_paper_gaps_of_another_layout_stay_whole_and_off_the_true_gap(seed):
    valid = pilatus("1M", (512, 512))
    hidden = paper_vertical_gaps(valid, np.random.default_rng(seed))
    true = ~valid.any(axis=0)
    runs = gap_columns(~hidden)
    assert 1 <= len(runs) <= 4
    assert set(widths(runs)) <= set(range(1, max(widths(gap_columns(valid))) + 1))
    assert not (hidden.any(axis=0) & true).any()


@given(seed=seeds)
@hypothesis_settings(max_examples=8)
@pytest.mark.parametrize("resized", [None, (512, 512)])
@pytest.mark.parametrize("direction", ["horizontal", "vertical"])
@pytest.mark.parametrize("name", ["2M", "1M", "6M"])
def test_shifted_gaps_are_the_detectors_own(name, direction, resized, seed):
    valid = pilatus(name, resized)
    runs_of = gap_rows if direction == "horizontal" else gap_columns
    hidden, true = shifted_gaps(valid, direction, np.random.default_rng(seed)), runs_of(valid)
    moved = runs_of(~hidden)
    assert widths(moved) == widths(true)
    assert len({new[0] - old[0] for new, old in zip(moved, true, strict=True)}) == 1
    columns = hidden.all(axis=1 if direction == "horizontal" else 0)
    for start, stop in true:
        assert not columns[max(start - 1, 0) : stop + 1].any()
    assert hidden.flags.c_contiguous


def test_equal_seeds_hide_the_same():
    valid = pilatus("2M", (512, 512))
    for draw in (paper_vertical_gaps, lambda v, rng: shifted_gaps(v, "vertical", rng)):
        one, two, other = (draw(valid, np.random.default_rng(seed)) for seed in (5, 5, 6))
        assert np.array_equal(one, two)
        assert not np.array_equal(one, other)


def test_detectors_without_such_gaps_are_refused():
    with pytest.raises(SettingError, match=r"vertical gaps \(\) .* leave 0 places to imitate"):
        paper_vertical_gaps(pilatus("300k"), np.random.default_rng(0))
    with pytest.raises(SettingError, match=r"the vertical gaps \(\) \(start, stop\) cannot be moved"):
        shifted_gaps(pilatus("300k"), "vertical", np.random.default_rng(0))
    with pytest.raises(SettingError, match="unknown direction 'diagonal'"):
        shifted_gaps(pilatus("300k"), "diagonal", np.random.default_rng(0))
