"""Where tiles sit in a frame, and cutting frames into them."""

import operator
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt

from dlsia_core.errors import ArrayError, SettingError

Element = TypeVar("Element", bound=np.generic)


@dataclass(frozen=True)
class TileGrid:
    """Overlapping tiles that together cover every pixel of a frame.

    Along each axis tiles start at the multiples of the step; where the step does not divide, one more tile sits
    flush with the border. All shapes are (row, column) in pixels of the normalized frame.

    Raises SettingError for a tile larger than the frame, a step larger than the tile (it would leave pixels
    uncovered), and for what is not a positive whole number.

    >>> TileGrid(frame_shape=(64, 110), tile_shape=(64, 64), step=(64, 32)).column_origins
    (0, 32, 46)
    >>> TileGrid((512, 512), (512, 128), (512, 64)).column_origins
    (0, 64, 128, 192, 256, 320, 384)
    """

    frame_shape: tuple[int, int]
    tile_shape: tuple[int, int]
    step: tuple[int, int]

    def __post_init__(self) -> None:
        for name in ("frame_shape", "tile_shape", "step"):
            object.__setattr__(self, name, _positive_pair(name, getattr(self, name)))
        for axis, frame, tile, step in zip(
            ("row", "column"), self.frame_shape, self.tile_shape, self.step, strict=True
        ):
            if tile > frame:
                raise SettingError(
                    f"tile of {tile} px is larger than the frame of {frame} px along the {axis} axis; "
                    f"choose a tile_shape of at most {self.frame_shape}"
                )
            if step > tile:
                raise SettingError(
                    f"step of {step} px is larger than the tile of {tile} px along the {axis} axis and would leave "
                    f"pixels uncovered; choose a step of at most {self.tile_shape}"
                )

    @property
    def row_origins(self) -> tuple[int, ...]:
        """First row of the tiles of one column of tiles."""
        return _origins(self.frame_shape[0], self.tile_shape[0], self.step[0])

    @property
    def column_origins(self) -> tuple[int, ...]:
        """First column of the tiles of one row of tiles."""
        return _origins(self.frame_shape[1], self.tile_shape[1], self.step[1])

    @property
    def origins(self) -> npt.NDArray[np.intp]:
        """Top-left pixel (row, column) of every tile, (tile, 2), row by row; the order of the `tile` axis."""
        pairs = [(row, column) for row in self.row_origins for column in self.column_origins]
        return np.array(pairs, dtype=np.intp)

    @property
    def n_tiles(self) -> int:
        """Tiles per frame."""
        return len(self.row_origins) * len(self.column_origins)

    @property
    def slices(self) -> tuple[tuple[slice, slice], ...]:
        """Rows and columns of every tile, in the order of `origins`."""
        height, width = self.tile_shape
        return tuple((slice(row, row + height), slice(column, column + width)) for row, column in self.origins.tolist())

    def cut(self, frames: npt.NDArray[Element]) -> npt.NDArray[Element]:
        """Cut frames (…, row, column) of any dtype into tiles (…, tile, tile_row, tile_column), as a copy.

        Raises ArrayError for frames of another shape.

        >>> TileGrid((1, 4), (1, 2), (1, 1)).cut(np.array([[5, 6, 7, 8]])).tolist()
        [[[5, 6]], [[6, 7]], [[7, 8]]]
        """
        if frames.shape[-2:] != self.frame_shape:
            raise ArrayError(
                f"frames have shape {frames.shape}; this grid cuts (…, row, column) = (…, "
                f"{self.frame_shape[0]}, {self.frame_shape[1]})"
            )
        tiles = np.empty((*frames.shape[:-2], self.n_tiles, *self.tile_shape), dtype=frames.dtype)
        for tile, (rows, columns) in enumerate(self.slices):
            tiles[..., tile, :, :] = frames[..., rows, columns]
        return tiles

    def coverage(self) -> npt.NDArray[np.intp]:
        """Number of tiles that hold each pixel, (row, column), at least 1 everywhere."""
        count = np.zeros(self.frame_shape, dtype=np.intp)
        for rows, columns in self.slices:
            count[rows, columns] += 1
        return count


def _origins(frame: int, tile: int, step: int) -> tuple[int, ...]:
    last = frame - tile
    regular = tuple(range(0, last + 1, step))
    return regular if regular[-1] == last else (*regular, last)


def _positive_pair(name: str, pair: Any) -> tuple[int, int]:
    try:
        rows, columns = (operator.index(size) for size in pair)
    except (TypeError, ValueError):
        raise SettingError(f"{name} must be two whole numbers (rows, columns), got {pair!r}") from None
    if rows < 1 or columns < 1:
        raise SettingError(f"{name} must be at least 1 px along both axes, got {pair!r}")
    return rows, columns
