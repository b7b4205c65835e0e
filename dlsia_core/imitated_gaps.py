"""Artificial gaps that imitate everything a detector does not measure: its gaps, and what else is missing.

For errors that are to hold in true gaps, errors must be measured in gaps like them: as wide, as far apart, crossing
each other, and with beamstops, dead modules and single dead pixels of the same shapes.
"""

import numpy as np
import numpy.typing as npt

from dlsia_core.errors import ArrayError, SettingError
from dlsia_core.gaps import draw_strips, gap_columns, gap_rows
from dlsia_core.judged_gaps import Direction, shifted_gaps

BoolArray = npt.NDArray[np.bool_]
WIDEST_STRIP = 8
DRAWS = 32
DIRECTIONS: tuple[Direction, Direction] = ("horizontal", "vertical")


def imitated_gaps(valid: BoolArray, rng: np.random.Generator) -> BoolArray:
    """What to hide in a frame to judge how its gaps are filled: (row, column) bool, True = hide.

    valid  (row, column) bool, True = measured

    The horizontal gaps are moved together onto measured rows, the vertical ones together onto measured columns, as far
    as there are any that can be; everything else that is missing is moved together, to where most of it was measured.
    Where nothing of all that hides a pixel, a horizontal and a vertical strip are hidden. Judge `hidden & valid`.

    Raises ArrayError for a frame without measured pixels.

    >>> valid = np.ones((20, 9), dtype=bool)
    >>> valid[:, 4] = False
    >>> hidden = imitated_gaps(valid, np.random.default_rng(0))
    >>> hidden.any(axis=0).sum(), hidden.all(axis=0).sum(), bool(hidden[:, 4].any())
    (np.int64(1), np.int64(1), False)
    """
    if valid.ndim != 2 or valid.dtype != np.bool_ or not valid.any():
        raise ArrayError(f"valid is {valid.dtype} {valid.shape}; wanted bool (row, column), some of it True")
    hidden = _moved(_beside_gaps(valid), valid, rng)
    for direction in DIRECTIONS:
        try:
            hidden |= shifted_gaps(valid, direction, rng)
        except SettingError:  # no such gaps, or no room to move them: the other direction, or strips, must do
            continue
    if not (hidden & valid).any():
        width = max(1, min(WIDEST_STRIP, min(valid.shape) // 8))
        strips = tuple(min(width, size - 1) for size in valid.shape)
        hidden = draw_strips((valid.shape[0], valid.shape[1]), (strips[0], strips[1]), rng)
    return hidden


def _beside_gaps(valid: BoolArray) -> BoolArray:
    """What is missing outside the gaps over the whole frame."""
    missing = ~valid
    for start, stop in gap_rows(valid):
        missing[start:stop] = False
    for start, stop in gap_columns(valid):
        missing[:, start:stop] = False
    return missing


def _moved(missing: BoolArray, valid: BoolArray, rng: np.random.Generator) -> BoolArray:
    """The missing pixels moved by the one of some random motions that brings most of them over measured ones.

    What leaves the frame on one side comes in on the other, as in a torus, so that nothing is lost at the borders.
    """
    best, most = np.zeros_like(missing), 0
    if missing.any():
        for _ in range(DRAWS):
            moved = np.roll(missing, [int(rng.integers(size)) for size in missing.shape], axis=(0, 1))
            if (found := int((moved & valid).sum())) > most:
                best, most = moved, found
    return best
