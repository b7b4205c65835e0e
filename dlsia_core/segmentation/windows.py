"""Tiles of a volume, each with the part that it answers for: a function of shape and settings alone.

So every pixel has one answer, whatever chunks a volume is read and written in.
"""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from dlsia_core.errors import SettingError

Beyond = tuple[tuple[int, int], tuple[int, int], tuple[int, int]]
NOTHING_BEYOND: Beyond = ((0, 0), (0, 0), (0, 0))


@dataclass(frozen=True)
class Window:
    """outer: the slices (z, y, x) that are looked at; inner: those that are answered for, inside outer.

    beyond: pixels (before, after) along each axis by which the tile reaches beyond the volume, where this is mirrored.
    """

    outer: tuple[slice, slice, slice]
    inner: tuple[slice, slice, slice]
    beyond: Beyond = NOTHING_BEYOND

    @property
    def inner_in_tile(self) -> tuple[slice, slice, slice]:
        """The inner part, counted from the corner of the tile, which is the outer part and what is beyond."""
        starts = [outer.start - before for outer, (before, _) in zip(self.outer, self.beyond, strict=True)]
        pairs = zip(self.inner, starts, strict=True)
        z, y, x = (slice(inner.start - start, inner.stop - start) for inner, start in pairs)
        return z, y, x

    @property
    def tile_shape(self) -> tuple[int, int, int]:
        """Size (z, y, x) of the tile."""
        z, y, x = (
            before + part.stop - part.start + after
            for part, (before, after) in zip(self.outer, self.beyond, strict=True)
        )
        return z, y, x


def windows(shape: Sequence[int], tile: Sequence[int], margin: int | Sequence[int]) -> list[Window]:
    """Windows of a volume (z, y, x) in row-major order; their inner parts cover each pixel once.

    tile: size (z, y, x), all windows alike; where the volume and the margins beyond it are smaller, as large as these.
    margin: at least so many pixels lie between the inner part and the border of the tile, at the border of the volume
    in its mirror image; one number, or one per axis.
    Raises SettingError for a margin that leaves nothing of a tile.

    >>> [(w.outer[2], w.inner[2], w.beyond[2]) for w in windows((1, 1, 8), (1, 1, 6), (0, 0, 1))]
    [(slice(0, 5, None), slice(0, 4, None), (1, 0)), (slice(3, 8, None), slice(4, 8, None), (0, 1))]
    """
    margins = (margin,) * 3 if isinstance(margin, int) else tuple(margin)
    axes = [_along(*sizes) for sizes in zip(shape, tile, margins, strict=True)]
    return [
        Window((z[0], y[0], x[0]), (z[1], y[1], x[1]), (z[2], y[2], x[2]))  # row by row
        for z, y, x in itertools.product(*axes)
    ]


def _along(size: int, tile: int, margin: int) -> list[tuple[slice, slice, tuple[int, int]]]:
    """Outer and inner slices of one axis, and what is beyond: 8 px in tiles of 6 and a margin of 1 start at -1, 3."""
    low, high = -margin, size + margin
    if tile >= high - low:
        return [(slice(0, size), slice(0, size), (margin, margin))]
    step = tile - 2 * margin
    if step < 1 or margin < 0:
        raise SettingError(f"tiles of {tile} px with a margin of {margin} px on both sides answer for no pixel")
    starts = sorted({*range(low, high - tile + 1, step), high - tile})
    # A tile answers up to its margin; what its predecessor answered for is not answered again.
    edges = [0, *(start + tile - margin for start in starts[:-1]), size]
    inner = [slice(*pair) for pair in pairwise(edges)]
    return [
        (
            slice(max(0, start), min(size, start + tile)),
            part,
            (max(0, -start), max(0, start + tile - size)),
        )
        for start, part in zip(starts, inner, strict=True)
    ]
