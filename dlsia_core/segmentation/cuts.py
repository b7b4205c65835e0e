"""Tiles cut across a volume from several sides, so that its objects are seen along, across and on end."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, TypeVar

import numpy as np
from numpy.typing import NDArray

from dlsia_core.segmentation.windows import Window

Planes = Literal["slices", "orthogonal"]
Box = tuple[slice, slice, slice]
Element = TypeVar("Element", bound=np.generic)

ORDERS: dict[Planes, tuple[tuple[int, int, int], ...]] = {
    "slices": ((0, 1, 2),),
    "orthogonal": ((0, 1, 2), (1, 0, 2), (2, 0, 1)),
}
"""For each direction that is cut across: the axis (of z, y, x) that takes the place of z, then of y, of x."""


@dataclass(frozen=True)
class Cut:
    """A window of a volume with its axes in another order: (1, 0, 2) lets a slice show z and x.

    >>> Cut(Window((slice(0, 1), slice(2, 4), slice(5, 9)), (slice(0, 1),) * 3), (1, 0, 2)).box
    (slice(2, 4, None), slice(0, 1, None), slice(5, 9, None))
    """

    window: Window
    order: tuple[int, int, int] = (0, 1, 2)

    @property
    def box(self) -> Box:
        """The outer part in the volume itself, (z, y, x)."""
        z, y, x = (self.window.outer[self.order.index(axis)] for axis in range(3))
        return z, y, x

    def turned(self, values: NDArray[Element]) -> NDArray[Element]:
        """The volume, or the part of it in the box, with its axes in the order of the window; a view."""
        return values.transpose(self.order)


def turned_shape(shape: Sequence[int], order: tuple[int, int, int]) -> tuple[int, int, int]:
    """Shape of a volume (z, y, x) with its axes in another order.

    >>> turned_shape((9, 20, 30), (2, 0, 1))
    (30, 9, 20)
    """
    return shape[order[0]], shape[order[1]], shape[order[2]]
