"""Tiles to learn segmentation from: where labels of a set are, each labelled pixel in one tile."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from dlsia_core.segmentation.windows import Window

IGNORE = 255


def windows_with(there: NDArray[np.bool_], windows: Sequence[Window], most: int = 0, seed: int = 0) -> list[Window]:
    """The windows whose inner part has a pixel that is True, in their order; `most` of them drawn at random, 0 = all.

    there: (z, y, x) bool.

    >>> from dlsia_core.segmentation.windows import windows
    >>> there = np.zeros((1, 1, 10), bool)
    >>> there[0, 0, 7] = True
    >>> [w.inner[2] for w in windows_with(there, windows(there.shape, (1, 1, 6), (0, 0, 1)))]
    [slice(5, 10, None)]
    """
    found = [window for window in windows if there[window.inner].any()]
    if not most or len(found) <= most:
        return found
    drawn = np.sort(np.random.default_rng(seed).choice(len(found), most, replace=False))
    return [found[number] for number in drawn]


def tile_label(label: NDArray[np.uint8], there: NDArray[np.bool_], window: Window) -> NDArray[np.uint8]:
    """Label of the outer part of a window (z, y, x), 255 where it is not `there` or another window answers."""
    tile = np.full([part.stop - part.start for part in window.outer], IGNORE, np.uint8)
    tile[window.inner_in_outer] = np.where(there[window.inner], label[window.inner], IGNORE)
    return tile
