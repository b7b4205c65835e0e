"""Tiles of a volume, each with the part that it answers for: a function of shape and settings alone.

So every pixel has one answer, whatever chunks a volume is read and written in.
"""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from dlsia_core.errors import SettingError


@dataclass(frozen=True)
class Window:
    """outer: the slices (z, y, x) that are looked at; inner: those that are answered for, inside outer."""

    outer: tuple[slice, slice, slice]
    inner: tuple[slice, slice, slice]

    @property
    def inner_in_outer(self) -> tuple[slice, slice, slice]:
        """The inner part, counted from the corner of the outer one."""
        pairs = zip(self.inner, self.outer, strict=True)
        z, y, x = (slice(inner.start - outer.start, inner.stop - outer.start) for inner, outer in pairs)
        return z, y, x


def windows(shape: Sequence[int], tile: Sequence[int], margin: int | Sequence[int]) -> list[Window]:
    """Windows of a volume (z, y, x) in row-major order; their inner parts cover each pixel once.

    tile: outer size (z, y, x), all windows alike; where the volume is smaller, as large as that.
    margin: at least so many pixels lie between the inner part and the border of the outer one, unless that is the
    border of the volume; one number, or one per axis. Raises SettingError for a margin that leaves nothing of a tile.

    >>> [(w.outer[2], w.inner[2]) for w in windows((1, 1, 10), (1, 1, 6), (0, 0, 1))]
    [(slice(0, 6, None), slice(0, 5, None)), (slice(4, 10, None), slice(5, 10, None))]
    """
    margins = (margin,) * 3 if isinstance(margin, int) else tuple(margin)
    axes = [_along(*sizes) for sizes in zip(shape, tile, margins, strict=True)]
    return [
        Window((z[0], y[0], x[0]), (z[1], y[1], x[1]))  # row by row
        for z, y, x in itertools.product(*axes)
    ]


def _along(size: int, tile: int, margin: int) -> list[tuple[slice, slice]]:
    """Outer and inner slices of one axis: 10 px in tiles of 6 with a margin of 1 start at 0 and 4."""
    if tile >= size:
        return [(slice(0, size), slice(0, size))]
    step = tile - 2 * margin
    if step < 1 or margin < 0:
        raise SettingError(f"tiles of {tile} px with a margin of {margin} px on both sides answer for no pixel")
    starts = sorted({*range(0, size - tile + 1, step), size - tile})
    # A tile answers up to its margin; what its predecessor answered for is not answered again.
    edges = [0, *(start + tile - margin for start in starts[:-1]), size]
    inner = [slice(low, high) for low, high in pairwise(edges)]
    return [(slice(start, start + tile), part) for start, part in zip(starts, inner, strict=True)]
