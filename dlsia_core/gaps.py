"""Gaps of a detector: where they are, filling them by interpolation, and hiding measured pixels to learn from.

Frames and tiles have the axes (row, column); NaN, or False in `valid`, means not measured.
"""

from collections.abc import Iterator, Sequence
from typing import Any, Final, TypeVar

import numpy as np
import numpy.typing as npt
from scipy.ndimage import distance_transform_edt

from dlsia_core.errors import ArrayError, SettingError

Real = TypeVar("Real", bound=np.floating[Any])
BoolArray = npt.NDArray[np.bool_]
Runs = tuple[tuple[int, int], ...]

MEASURED: Final = 0
INPAINTED: Final = 1
DEAD: Final = 2


def fill_linear(values: npt.NDArray[Real]) -> npt.NDArray[Real]:
    """Interpolate across gaps along rows and columns: (…, row, column) with NaN -> same shape and dtype, no NaN.

    A gap pixel gets the mean of the nearest measured pixels to its left, right, above and below, each weighted with
    1 / distance. Along one axis that is linear interpolation, or the nearest value where only one side was measured;
    the two axes are weighted with the inverse variances of a random walk between their ends, so the shorter gap
    wins. What has nothing measured in its row and its column (the crossing of two gaps) is filled in the same way
    from the pixels filled first; a frame without any measured pixel becomes 0. Measured pixels keep their bits, and
    every frame is filled from itself alone.

    Raises ArrayError for arrays that are not floats of at least two axes, and for infinite values.

    >>> fill_linear(np.array([[1.0, np.nan, np.nan, 4.0, np.nan]])).tolist()
    [[1.0, 2.0, 3.0, 4.0, 4.0]]
    """
    if values.ndim < 2 or values.dtype.kind != "f":
        raise ArrayError(f"values must be floats (…, row, column), got dtype {values.dtype}, shape {values.shape}")
    if np.isinf(values).any():
        raise ArrayError("values hold infinity, which cannot be interpolated; NaN is what marks a gap")
    filled = values.copy()
    for position in np.ndindex(values.shape[:-2]):
        frame = filled[position]
        gap = np.isnan(frame)
        if gap.any():
            frame[gap] = _filled(frame)[gap]
    return filled


def gap_columns(valid: BoolArray, share: float = 0.95) -> Runs:
    """Runs (start, stop) of columns of `valid` (row, column) of which at least `share` was not measured.

    >>> gap_columns(np.array([[True, False, False, True], [True, False, False, False]]))
    ((1, 3),)
    """
    _check_valid(valid)
    unmeasured = 1 - valid.mean(axis=0) >= share
    edges = np.flatnonzero(np.diff(unmeasured, prepend=False, append=False))
    return tuple(zip(edges[::2].tolist(), edges[1::2].tolist(), strict=True))


def gap_rows(valid: BoolArray, share: float = 0.95) -> Runs:
    """Runs (start, stop) of rows of `valid` (row, column) of which at least `share` was not measured."""
    _check_valid(valid)
    return gap_columns(valid.T, share)


def artificial_gaps(gaps: Sequence[tuple[int, int]], origins: Sequence[int], tile_width: int) -> Runs:
    """Places (start, width) inside tiles at which true vertical gaps sit: what to imitate in tiles without any.

    gaps        true gaps of the frame as (start, stop) columns
    origins     first column of every tile
    tile_width  columns

    A gap that a tile's border cuts counts with the part inside. Sorted, each place once. This is the rule behind
    the list {21, 42, 85, 106} of Chavez et al. 2022, eq. (1).

    >>> artificial_gaps([(170, 171), (341, 342)], range(0, 385, 64), 128)
    ((21, 1), (42, 1), (85, 1), (106, 1))
    """
    places = set()
    for origin in origins:
        for gap_start, gap_stop in gaps:
            start, stop = max(gap_start - origin, 0), min(gap_stop - origin, tile_width)
            if start < stop:
                places.add((start, stop - start))
    return tuple(sorted(places))


def gap_free_origins(gaps: Sequence[tuple[int, int]], origins: Sequence[int], tile_width: int) -> tuple[int, ...]:
    """The origins of the tiles that hold no part of a true vertical gap; arguments as for `artificial_gaps`.

    >>> gap_free_origins([(169, 171), (341, 343)], range(0, 385, 64), 128)
    (0, 192, 384)
    """
    return tuple(origin for origin in origins if not artificial_gaps(gaps, [origin], tile_width))


def draw_artificial_gaps(
    tile_shape: tuple[int, int],
    vertical_choices: Sequence[tuple[int, int]],
    horizontal_gaps: Sequence[tuple[int, int]],
    rng: np.random.Generator,
    *,
    shift_horizontal: bool = True,
) -> BoolArray:
    """One draw of pixels to hide in a tile: (row, column) bool, True = hidden.

    vertical_choices  places (start, width) from `artificial_gaps`; one of them or none, all equally likely, is
                      hidden over the tile's whole height (Chavez et al. 2022, eq. (1))
    horizontal_gaps   true gaps of the tile as (start, stop) rows
    shift_horizontal  hide the pattern of the horizontal gaps too, moved by a random number of rows such that it stays
                      in the tile and touches no true gap. An extension: the paper had second exposures to learn from.

    Raises SettingError where no draw could hide anything; `draw_strips` always can.
    """
    vertical_runs = [(start, start + width) for start, width in vertical_choices]
    _check_inside("vertical choices", vertical_runs, tile_shape[1])
    _check_inside("horizontal gaps", horizontal_gaps, tile_shape[0])
    hidden = np.zeros(tile_shape, dtype=np.bool_)
    shifts = _row_shifts(tile_shape[0], horizontal_gaps) if shift_horizontal else np.array([], dtype=np.intp)
    if not len(vertical_runs) and not len(shifts):
        raise SettingError(
            f"nothing to hide in a tile of {tile_shape} px: no vertical choice is given, and the horizontal gaps "
            f"{tuple(horizontal_gaps)} cannot be moved onto measured rows; use draw_strips"
        )
    choice = int(rng.integers(len(vertical_runs) + 1))
    for start, stop in vertical_runs[choice : choice + 1]:  # the last choice is none
        hidden[:, start:stop] = True
    if len(shifts):
        shift = int(rng.choice(shifts))
        for start, stop in horizontal_gaps:
            hidden[start + shift : stop + shift] = True
    return hidden


def can_shift(n_rows: int, horizontal_gaps: Sequence[tuple[int, int]]) -> bool:
    """True if the pattern of gaps (start, stop) can be moved onto measured rows of a tile of `n_rows`.

    >>> can_shift(512, [(60, 65), (119, 125)]), can_shift(10, [(1, 9)]), can_shift(10, [])
    (True, False, False)
    """
    return bool(len(_row_shifts(n_rows, horizontal_gaps)))


def draw_strips(tile_shape: tuple[int, int], strip_shape: tuple[int, int], rng: np.random.Generator) -> BoolArray:
    """Hide one horizontal and one vertical strip at random places, for detectors without structural gaps.

    strip_shape  (rows of the horizontal strip, columns of the vertical one); 0 = no such strip

    Returns (row, column) bool, True = hidden. Raises SettingError for strips that leave nothing or hide nothing.
    """
    if not all(0 <= strip < size for strip, size in zip(strip_shape, tile_shape, strict=True)) or not any(strip_shape):
        raise SettingError(
            f"strips of {strip_shape} px must be narrower than the tile of {tile_shape} px, and one wider than 0"
        )
    hidden = np.zeros(tile_shape, dtype=np.bool_)
    row, column = (int(rng.integers(size - strip + 1)) for size, strip in zip(tile_shape, strip_shape, strict=True))
    hidden[row : row + strip_shape[0]] = True
    hidden[:, column : column + strip_shape[1]] = True
    return hidden


def provenance(measured: BoolArray, reach: float) -> npt.NDArray[np.uint8]:
    """Where every pixel's value comes from: (row, column) uint8, 0 measured, 1 inpainted, 2 dead.

    measured  (row, column) bool
    reach     farthest Euclidean distance to a measured pixel, in pixels, at which a value is inpainted

    >>> provenance(np.array([[True, False, False, False]]), reach=2).tolist()
    [[0, 1, 1, 2]]
    """
    _check_valid(measured)
    if not reach >= 0:
        raise SettingError(f"reach is a distance in pixels, at least 0; got {reach}")
    origin = np.full(measured.shape, DEAD, dtype=np.uint8)
    if measured.any():  # without any, the distance transform measures to a pixel that is not there
        origin[distance_transform_edt(~measured) <= reach] = INPAINTED
    origin[measured] = MEASURED
    return origin


def _filled(frame: npt.NDArray[Real]) -> npt.NDArray[np.float64]:
    """One frame (row, column) filled everywhere, float64."""
    filled = frame.astype(np.float64)
    for _ in range(2):  # the second time fills the crossings of gaps
        _fill_what_is_seen(filled)
    return np.nan_to_num(filled, copy=False, nan=0.0)


def _fill_what_is_seen(frame: npt.NDArray[np.float64]) -> None:
    """Fill, in place, gap pixels with a measured pixel in their row or column."""
    rows, columns = np.nonzero(np.isnan(frame))
    if not 0 < rows.size < frame.size:
        return
    total, total_weight = np.zeros((2, rows.size))
    for lines, line, position in ((frame, rows, columns), (frame.T, columns, rows)):
        for value, weight in _nearest_measured(lines, line, position):
            total += weight * value
            total_weight += weight
    seen = total_weight > 0
    frame[rows[seen], columns[seen]] = total[seen] / total_weight[seen]


def _nearest_measured(
    lines: npt.NDArray[np.float64], line: npt.NDArray[np.intp], position: npt.NDArray[np.intp]
) -> Iterator[tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]]:
    """Values next to the given gap pixels in their line, before and behind, and weights 1 / distance (0 = none).

    The measured pixels are numbered line by line: the count of those before a gap pixel is the number of the one
    behind it, and no search is needed.
    """
    measured = ~np.isnan(lines)
    places, size = np.flatnonzero(measured), lines.shape[1]
    own = line * size + position
    behind = np.cumsum(measured)[own]
    for number in (behind - 1, behind):
        place = places[np.clip(number, 0, places.size - 1)]
        exists = (number >= 0) & (number < places.size) & (place // size == line)
        yield lines[place // size, place % size], exists / np.abs(place - own)


def _row_shifts(n_rows: int, gaps: Sequence[tuple[int, int]]) -> npt.NDArray[np.intp]:
    """All shifts that keep the pattern of gaps inside the rows and off the true gaps."""
    if not gaps:
        return np.array([], dtype=np.intp)
    pattern, touching = np.zeros((2, n_rows))
    for start, stop in gaps:
        pattern[start:stop] = 1
        touching[max(start - 1, 0) : stop + 1] = 1  # two gaps side by side would be one wider gap
    first, last = min(start for start, _ in gaps), max(stop for _, stop in gaps)
    overlap = np.correlate(touching, pattern, "full")  # element n_rows - 1 + s is the overlap at shift s
    shifts = np.arange(-first, n_rows - last + 1)
    free: npt.NDArray[np.intp] = shifts[overlap[shifts + n_rows - 1] == 0]
    return free


def _check_inside(name: str, runs: Sequence[tuple[int, int]], size: int) -> None:
    if outside := [run for run in runs if not 0 <= run[0] < run[1] <= size]:
        raise SettingError(f"{name} lie outside the tile of {size} px: (start, stop) = {outside}")


def _check_valid(valid: BoolArray) -> None:
    if valid.ndim != 2 or valid.dtype != np.bool_:
        raise ArrayError(f"expected bool (row, column), True = measured; got dtype {valid.dtype}, shape {valid.shape}")
