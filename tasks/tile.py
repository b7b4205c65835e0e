"""Tile: `normalized` is cut into overlapping `tiles` (frame, tile, tile_row, tile_column)."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from dlsia_core.tiling import TileGrid
from tasks.settings.stages import TileSettings
from tasks.stage import RunPlan, StageRun, place, run_shards, stage_task
from tasks.store import ArrayRef, ArraySpec, FrameRange, ScanStore, open_store
from tasks.workers import Workers

VERSION = 1
AXES = ("tile", "tile_row", "tile_column")


def place_tiles(plan: RunPlan, normalized: ArrayRef, grid: TileGrid, settings: TileSettings) -> ArrayRef:
    """Find or make the array, with the tiles' top left pixels among its attributes."""
    attributes = {"origins": [list(map(int, origin)) for origin in grid.origins], "step": list(settings.step)}
    spec = ArraySpec("tiles", (grid.n_tiles, *settings.shape), AXES, "float32", np.nan, attributes=attributes)
    stage = {"stage": "tile", "version": VERSION, "settings": settings.model_dump(mode="json")}
    return place(plan, [spec], stage, [normalized])[0]


def grid_of(normalized: ArrayRef, settings: TileSettings) -> TileGrid:
    """Where tiles lie on a normalized frame."""
    shape = open_store(normalized.scan).array(normalized.path).shape[1:]
    return TileGrid((shape[0], shape[1]), settings.shape, settings.step)


@stage_task("tile")
def tile_batch(frames: FrameRange, normalized: ArrayRef, tiles: ArrayRef, grid: TileGrid, workers: Workers) -> StageRun:
    """Cut the frames that are not done yet."""
    return run_shards([tiles], frames, _Tile(normalized.path, grid), workers)


@dataclass(frozen=True)
class _Tile:
    normalized: str
    grid: TileGrid

    def __call__(self, store: ScanStore, start: int, stop: int) -> list[npt.NDArray[Any]]:
        return [self.grid.cut(store.read(self.normalized, start, stop))]
