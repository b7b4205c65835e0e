"""Tiles to learn segmentation from: where labels of a set are, each labelled pixel in one tile from each side."""

from collections.abc import Sequence
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from dlsia_core.segmentation.cuts import Cut
from dlsia_core.segmentation.windows import Window

IGNORE = 255
Tile = TypeVar("Tile")


def windows_with(there: NDArray[np.bool_], windows: Sequence[Window]) -> list[Window]:
    """The windows whose inner part has a pixel that is True, in their order.

    there: (z, y, x) bool.

    >>> from dlsia_core.segmentation.windows import windows
    >>> there = np.zeros((1, 1, 10), bool)
    >>> there[0, 0, 7] = True
    >>> [w.inner[2] for w in windows_with(there, windows(there.shape, (1, 1, 6), (0, 0, 1)))]
    [slice(4, 8, None)]
    """
    return [window for window in windows if there[window.inner].any()]


def drawn(found: Sequence[Tile], most: int, seed: int) -> list[Tile]:
    """`most` of them at random, in their order; 0 = all.

    >>> drawn("abc", most=0, seed=0), len(drawn("abc", most=2, seed=0))
    (['a', 'b', 'c'], 2)
    """
    if not most or len(found) <= most:
        return list(found)
    chosen = np.sort(np.random.default_rng(seed).choice(len(found), most, replace=False))
    return [found[number] for number in chosen]


def tile_label(label: NDArray[np.uint8], there: NDArray[np.bool_], cut: Cut) -> NDArray[np.uint8]:
    """Label of the tile of a cut, in its axes, 255 where it is not `there` or another window answers.

    label, there: (z, y, x) of the whole volume.
    """
    window = cut.window
    tile = np.full(window.tile_shape, IGNORE, np.uint8)
    inner = cut.turned(label)[window.inner]
    tile[window.inner_in_tile] = np.where(cut.turned(there)[window.inner], inner, IGNORE)
    return tile
