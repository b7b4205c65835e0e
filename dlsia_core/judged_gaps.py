"""Where inpainting can be judged: gaps over which something was measured, as boolean maps of a frame.

Every map follows from `valid` alone, (row, column) bool, True = measured, of any detector and at any resolution.
"""

from typing import Literal, get_args

import numpy as np
import numpy.typing as npt

from dlsia_core.errors import ArrayError, SettingError
from dlsia_core.gaps import artificial_gaps, can_shift, draw_artificial_gaps, gap_columns, gap_free_origins, gap_rows
from dlsia_core.tiling import TileGrid

BoolArray = npt.NDArray[np.bool_]
Direction = Literal["horizontal", "vertical"]


def true_horizontal_gaps(valid: BoolArray, truth_valid: BoolArray) -> BoolArray:
    """Pixels of the horizontal gaps of `valid` that a second exposure measured: (row, column) bool, True = judge.

    truth_valid  what the merged exposures measured, as `dlsia_core.exposures.merge_exposures` gives it

    Dead pixels elsewhere have no part in it, as in the paper. Raises ArrayError for unequal shapes, and where no gap
    pixel was measured.

    >>> valid, truth_valid = np.ones((4, 3), dtype=bool), np.ones((4, 3), dtype=bool)
    >>> valid[1], truth_valid[:, 2] = False, False
    >>> true_horizontal_gaps(valid, truth_valid).astype(int).tolist()
    [[0, 0, 0], [1, 1, 0], [0, 0, 0], [0, 0, 0]]
    """
    if truth_valid.shape != valid.shape or truth_valid.dtype != np.bool_:
        raise ArrayError(f"truth_valid must be bool {valid.shape}; got {truth_valid.dtype} {truth_valid.shape}")
    judged = np.zeros(valid.shape, dtype=np.bool_)
    for start, stop in gap_rows(valid):
        judged[start:stop] = truth_valid[start:stop] & ~valid[start:stop]
    if not judged.any():
        raise ArrayError(
            f"none of the horizontal gaps {gap_rows(valid)} (start, stop) was measured by the second exposure; move "
            "the detector by more rows than a gap has"
        )
    return judged


def paper_vertical_gaps(
    valid: BoolArray, rng: np.random.Generator, *, tile_width: int = 128, tile_step: int = 64
) -> BoolArray:
    """Artificial vertical gaps as in Chavez et al. 2022, section 2.1: (row, column) bool, True = hide.

    Tiles as high as the frame lie every `tile_step` columns. Each tile without a true vertical gap gets one artificial
    gap, at a place and of the width that a true one has in one of the other tiles, all equally likely (eq. (1),
    without its "none", which leaves nothing to judge). Where free tiles overlap, as they do on detectors with wider
    modules than the paper's, the left one counts. Judge what is hidden and was measured: `hidden & valid`.

    Raises SettingError for a detector without vertical gaps, or whose tiles all hold one.

    >>> valid = np.ones((8, 512), dtype=bool)
    >>> valid[:, 169:171] = valid[:, 341:343] = False
    >>> starts = [start for start, _ in gap_columns(~paper_vertical_gaps(valid, np.random.default_rng(0)))]
    >>> all(start % 192 in (21, 41, 85, 105) for start in starts), len(starts)
    (True, 3)
    """
    gaps = gap_columns(valid)
    rows, columns = valid.shape
    width = min(tile_width, columns)
    origins = TileGrid((rows, columns), (rows, width), (rows, tile_step)).column_origins
    choices = artificial_gaps(gaps, origins, width)
    free = gap_free_origins(gaps, origins, width)
    if not choices or not free:
        raise SettingError(
            f"vertical gaps {gaps} (start, stop) and tiles of {width} columns every {tile_step} leave "
            f"{len(choices)} places to imitate and {len(free)} free tiles; use shifted_gaps or narrower tiles"
        )
    hidden = np.zeros(valid.shape, dtype=np.bool_)
    behind = 0
    for origin in free:
        if origin >= behind:
            start, gap_width = choices[int(rng.integers(len(choices)))]
            hidden[:, origin + start : origin + start + gap_width] = True
            behind = origin + width
    return hidden


def shifted_gaps(valid: BoolArray, direction: Direction, rng: np.random.Generator) -> BoolArray:
    """The detector's own gaps of one direction, moved together over measured pixels: (row, column) bool, True = hide.

    Widths and distances are those of the true gaps; the motion is drawn from all that keep the pattern inside the
    frame and off the true gaps. Raises SettingError where there is none.

    >>> valid = np.ones((3, 9), dtype=bool)
    >>> valid[:, 4] = False
    >>> hidden = shifted_gaps(valid, "vertical", np.random.default_rng(0))
    >>> hidden.sum(), hidden[:, 3:6].any()
    (np.int64(3), np.False_)
    """
    if direction not in get_args(Direction):
        raise SettingError(f"unknown direction {direction!r}; known: {', '.join(get_args(Direction))}")
    along = valid if direction == "horizontal" else valid.T
    gaps = gap_rows(along)
    if not can_shift(along.shape[0], gaps):
        raise SettingError(f"the {direction} gaps {gaps} (start, stop) cannot be moved onto measured pixels")
    hidden = draw_artificial_gaps((along.shape[0], along.shape[1]), (), gaps, rng)
    return hidden if direction == "horizontal" else np.ascontiguousarray(hidden.T)
