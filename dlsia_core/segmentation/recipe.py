"""How images become the input of a segmenting network: the same in training, calibration and use."""

import math
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dlsia_core.errors import ArrayError, SettingError
from dlsia_core.segmentation.windows import Window, windows


@dataclass(frozen=True)
class SegmentationRecipe:
    """Classes, scale of the images, and the tiles that a network is trained on and asked with.

    classes: their names; the number of a class is its place.
    tile_shape: (y, x) of a network that looks at slices one by one, (z, y, x) of one that looks at volumes.
    margin: pixels at the border of a tile whose answer is not used, nor learned from. At the border of an image these
        are its mirror image, so that a network, which knows nothing of borders, sees none.
    center, scale: the network sees (value - center) / scale.
    context: slices above and below that a network of slices sees besides the one that it answers for, as channels.

    >>> recipe = SegmentationRecipe(("background", "fibre"), (64, 64), margin=8, center=10.0, scale=2.0)
    >>> recipe.inputs(np.array([12, 8])).tolist(), recipe.ndim, recipe.spatial_tile
    ([1.0, -1.0], 2, (1, 64, 64))
    """

    classes: tuple[str, ...]
    tile_shape: tuple[int, ...]
    margin: int
    center: float
    scale: float
    context: int = 0

    def __post_init__(self) -> None:
        if len(self.classes) < 2 or len(set(self.classes)) != len(self.classes):
            raise SettingError(f"classes are {self.classes}; wanted two different names or more")
        if len(self.tile_shape) not in (2, 3) or min(self.tile_shape) < 1:
            raise SettingError(f"tile_shape is {self.tile_shape}; wanted (y, x) or (z, y, x), each at least 1")
        if not 0 <= 2 * self.margin < min(self.tile_shape):
            raise SettingError(
                f"margin is {self.margin} px on both sides of tiles of {self.tile_shape}, which leaves nothing of "
                "them; take a smaller margin or larger tiles"
            )
        if self.context < 0 or (self.context and self.ndim == 3):
            raise SettingError(
                f"context is {self.context} slices for tiles of {self.tile_shape}; wanted 0 or more, and 0 for a "
                "network of volumes, which sees its neighbors anyhow"
            )
        if not (math.isfinite(self.center) and 0 < self.scale < math.inf):
            raise SettingError(f"center is {self.center} and scale {self.scale}; wanted numbers, the scale above 0")

    @property
    def ndim(self) -> int:
        """2 where slices are looked at one by one, 3 for volumes."""
        return len(self.tile_shape)

    @property
    def spatial_tile(self) -> tuple[int, int, int]:
        """(z, y, x) of a tile; one slice thick for ndim=2."""
        depth, height, width = (1, *self.tile_shape)[-3:]
        return depth, height, width

    @property
    def seen_slices(self) -> int:
        """Slices of a tile that goes into the network: its channels where it looks at slices one by one.

        >>> SegmentationRecipe(("background", "fibre"), (64, 64), 8, 0.0, 1.0, context=2).seen_slices
        5
        """
        return 2 * self.context + 1 if self.ndim == 2 else self.tile_shape[0]

    def inputs(self, images: NDArray[Any]) -> NDArray[np.float32]:
        """Images of any real type and shape as the network sees them, float32. Raises ArrayError for NaN, infinity."""
        values = ((np.asarray(images, np.float64) - self.center) / self.scale).astype(np.float32)
        if not np.isfinite(values).all():
            raise ArrayError(
                f"{int((~np.isfinite(values)).sum())} pixels are no finite numbers; fill them before (process_scan "
                "writes `inpainted`), or cut them off"
            )
        return values

    def windows(self, shape: tuple[int, int, int]) -> list[Window]:
        """Where the tiles of a volume (z, y, x) lie, and which pixels each of them answers for."""
        if self.ndim == 3:
            return windows(shape, self.spatial_tile, self.margin)
        found = windows(shape, self.spatial_tile, (0, self.margin, self.margin))
        if not self.context:
            return found
        return [
            replace(window, outer=(self._seen(window.inner[0].start, shape[0]), *window.outer[1:])) for window in found
        ]

    def _seen(self, number: int, depth: int) -> slice:
        return slice(max(0, number - self.context), min(depth, number + self.context + 1))

    def tile(self, part: NDArray[Any], window: Window) -> NDArray[Any]:
        """What the network sees of a window, (z, y, x) with `seen_slices`; part: its outer part.

        Beyond its border a volume is mirrored; for networks of slices the first and last one are repeated instead.

        >>> recipe = SegmentationRecipe(("background", "fibre"), (1, 2), 0, 0.0, 1.0, context=1)
        >>> volume = np.arange(6).reshape(3, 1, 2)
        >>> [recipe.tile(volume[window.outer], window)[:, 0, 0].tolist() for window in recipe.windows((3, 1, 2))]
        [[0, 0, 2], [0, 2, 4], [2, 4, 4]]
        """
        tile = np.pad(part, window.beyond, mode="reflect")
        if self.ndim == 3:
            return tile
        wanted = np.arange(self.seen_slices) - self.context + window.inner_in_tile[0].start
        return np.asarray(tile[np.clip(wanted, 0, len(tile) - 1)])

    def answered(self, window: Window) -> tuple[slice, slice, slice]:
        """Where in the answer for a tile, (z, y, x), the window's inner part lies."""
        z, y, x = window.inner_in_tile
        return (z if self.ndim == 3 else slice(0, 1)), y, x

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {**asdict(self), "classes": list(self.classes), "tile_shape": list(self.tile_shape)}

    @classmethod
    def from_dict(cls, facts: Mapping[str, Any]) -> "SegmentationRecipe":
        """The inverse of `to_dict`."""
        return cls(**{**facts, "classes": tuple(facts["classes"]), "tile_shape": tuple(facts["tile_shape"])})


def intensity_scale(slices: Iterable[NDArray[Any]]) -> tuple[float, float]:
    """Mean and standard deviation of all pixels of some slices together; a deviation of 1 for constant ones.

    >>> intensity_scale([np.array([1.0, 3.0]), np.array([1.0, 3.0])])
    (2.0, 1.0)
    """
    count, mean, squares = 0, 0.0, 0.0
    for part in slices:
        values = np.asarray(part, np.float64)
        difference, total = float(values.mean()) - mean, count + values.size
        # Parts are merged about their means: squares of large offsets would eat the digits of the spread.
        squares += float(((values - values.mean()) ** 2).sum()) + difference**2 * count * values.size / total
        mean, count = mean + difference * values.size / total, total
    if not math.isfinite(mean) or not math.isfinite(squares):
        raise ArrayError("the images hold values that are no finite numbers; fill them before, or cut them off")
    deviation = math.sqrt(squares / max(count, 1))
    return mean, deviation if deviation > 0 else 1.0
