"""The windows of a volume, layer by layer along z, so that no more than a few layers are ever in memory."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby

from dlsia_core.segmentation.windows import Window


@dataclass(frozen=True)
class Layer:
    """Windows that look at the same slices: outer, and answer for the same ones: inner, both slices along z."""

    outer: slice
    inner: slice
    windows: tuple[Window, ...]


def layers(windows: Sequence[Window]) -> list[Layer]:
    """Windows in row-major order, as `SegmentationRecipe.windows` gives them, by their slices.

    >>> from dlsia_core.segmentation.windows import windows
    >>> [(layer.inner, len(layer.windows)) for layer in layers(windows((5, 4, 4), (4, 2, 4), (1, 0, 0)))]
    [(slice(0, 2, None), 2), (slice(2, 4, None), 2), (slice(4, 5, None), 2)]
    """
    grouped = groupby(windows, key=lambda window: (window.inner[0].start, window.inner[0].stop))
    found = [tuple(group) for _, group in grouped]
    return [Layer(group[0].outer[0], group[0].inner[0], group) for group in found]


def layers_of(found: Sequence[Layer], start: int, stop: int) -> list[Layer]:
    """Those that answer for some of the slices start to stop - 1."""
    return [layer for layer in found if layer.inner.start < stop and layer.inner.stop > start]
