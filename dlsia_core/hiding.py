"""Which tiles to learn inpainting from, and what to hide in them: gaps where true ones lie in other tiles."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.ndimage import distance_transform_edt

from dlsia_core.errors import ArrayError
from dlsia_core.gaps import (
    Runs,
    artificial_gaps,
    can_shift,
    draw_artificial_gaps,
    draw_strips,
    gap_columns,
    gap_free_origins,
    gap_rows,
)
from dlsia_core.tiling import TileGrid

BoolArray = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class HidingPlan:
    """What the gaps of a frame mean for training on its tiles (Chavez et al. 2022, section 2.1).

    tile_shape: rows and columns of a tile.
    tiles: positions in the grid of the tiles to learn from: those without a vertical gap, or all if there are none.
    vertical: places (start, width) at which vertical gaps lie in the other tiles.
    horizontal: for every row of tiles, the horizontal gaps (start, stop) inside.
    strip_width: of random strips, in pixels, for gaps of no regular structure.
    """

    tile_shape: tuple[int, int]
    tiles: tuple[int, ...]
    vertical: Runs
    horizontal: tuple[Runs, ...]
    strip_width: int

    @classmethod
    def from_valid(cls, valid: BoolArray, grid: TileGrid) -> "HidingPlan":
        """Plan from one frame's measured pixels, (row, column) bool.

        Raises ArrayError for a frame of another shape than the grid's, or without any gap.

        >>> valid = np.ones((64, 512), dtype=bool)
        >>> valid[:, 169:171] = valid[:, 341:343] = False
        >>> plan = HidingPlan.from_valid(valid, TileGrid((64, 512), (64, 128), (64, 64)))
        >>> plan.tiles, [start for start, _ in plan.vertical]
        ((0, 3, 6), [21, 41, 85, 105])
        """
        if valid.shape != grid.frame_shape or valid.all():
            raise ArrayError(
                f"wanted a frame of {grid.frame_shape} px with gaps; got {valid.shape}, {np.sum(~valid)} px unmeasured"
            )
        columns, rows = gap_columns(valid), gap_rows(valid)
        free = gap_free_origins(columns, grid.column_origins, grid.tile_shape[1])
        tiles = tuple(i for i, (_, column) in enumerate(grid.origins.tolist()) if column in free)
        horizontal = tuple(
            tuple(
                (max(start - origin, 0), min(stop - origin, grid.tile_shape[0]))
                for start, stop in rows
                if start < origin + grid.tile_shape[0] and stop > origin
            )
            for origin in grid.row_origins
        )
        widest = 2 * int(np.ceil(distance_transform_edt(~valid).max())) if valid.any() else 1
        return cls(
            grid.tile_shape,
            tiles or tuple(range(grid.n_tiles)),
            artificial_gaps(columns, grid.column_origins, grid.tile_shape[1]),
            horizontal,
            max(1, min(widest, min(grid.tile_shape) // 8)),
        )

    def draw(self, n_maps: int, seed: int) -> BoolArray:
        """Draw what to hide: (map, tile_row, tile_column) bool, True = hidden; a function of the seed."""
        rng = np.random.default_rng(seed)
        return np.stack([self._draw_one(rng) for _ in range(n_maps)])

    def _draw_one(self, rng: np.random.Generator) -> BoolArray:
        rows = self.horizontal[int(rng.integers(len(self.horizontal)))]
        if self.vertical or can_shift(self.tile_shape[0], rows):
            return draw_artificial_gaps(self.tile_shape, self.vertical, rows, rng)
        return draw_strips(self.tile_shape, (self.strip_width, self.strip_width), rng)
