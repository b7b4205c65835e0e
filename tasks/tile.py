"""Tile: `normalized` is cut into overlapping `tiles` (frame, tile, tile_row, tile_column)."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from qlty import NCYXQuilt

from dlsia_core.tiling import TileGrid
from tasks.settings.stages import TileSettings
from tasks.stage import ReadableFrames, RunPlan, StageRun, place, run_shards, stage_task
from tasks.store import ArrayRef, ArraySpec, FrameRange, ScanStore, open_store
from tasks.workers import Workers

VERSION = 1
AXES = ("tile", "tile_row", "tile_column")


def place_tiles(plan: RunPlan, normalized: ArrayRef, grid: TileGrid, settings: TileSettings) -> ArrayRef:
    """Find or make the array, with the tiles' top left pixels among its attributes."""
    attributes = {"origins": [list(map(int, origin)) for origin in grid.origins], "step": list(grid.step)}
    spec = ArraySpec("tiles", (grid.n_tiles, *grid.tile_shape), AXES, "float32", np.nan, attributes=attributes)
    return place(plan, [spec], tile_stage(settings), [normalized])[0]


def tile_stage(settings: TileSettings) -> dict[str, Any]:
    """What decides the numbers, but for the inputs."""
    return {"stage": "tile", "version": VERSION, "settings": settings.model_dump(mode="json")}


def grid_of(normalized: ArrayRef, settings: TileSettings) -> TileGrid:
    """Where tiles lie on a normalized frame."""
    shape = open_store(normalized.scan).array(normalized.path).shape[1:]
    return settings.grid((shape[0], shape[1]))


@stage_task("tile")
def tile_batch(frames: FrameRange, normalized: ArrayRef, tiles: ArrayRef, grid: TileGrid, workers: Workers) -> StageRun:
    """Cut the frames that are not done yet."""
    # Whoever needs tiles that were pruned cuts them anew, see `tiles_of`.
    return run_shards([tiles], frames, CutFrames(normalized.path, grid), workers, spared=lambda *_: True)


def tiles_of(store: ScanStore, tiles: str, start: int, stop: int) -> npt.NDArray[np.float32]:
    """Frames start to stop of an array of tiles; those that were pruned are cut from `normalized` once more."""
    if not store.lacks(tiles, start, stop):
        return store.read(tiles, start, stop)
    origin: Any = store.array(tiles).attrs["origin"]
    for path, array in store.frame_arrays().items():
        if array.attrs.get("lineage") in origin["inputs"]:
            rows, columns = array.shape[1:]
            grid = TileSettings.model_validate(origin["settings"]).grid((rows, columns))
            return cut_with_qlty(store.read(path, start, stop), grid)
    return store.read(tiles, start, stop)  # says what is missing


@dataclass(frozen=True)
class CutFrames:
    """Cuts frames of `normalized`, whose name is given."""

    normalized: str
    grid: TileGrid

    def __call__(self, store: ReadableFrames, start: int, stop: int) -> list[npt.NDArray[Any]]:
        return [cut_with_qlty(store.read(self.normalized, start, stop), self.grid)]


def cut_with_qlty(frames: npt.NDArray[np.float32], grid: TileGrid) -> npt.NDArray[np.float32]:
    """Tiles (frame, tile, tile_row, tile_column) of frames (frame, row, column), as `grid.cut` gives them, by qlty.

    qlty does not refuse windows and steps that leave pixels out, so the grid, which does, comes first.

    >>> grid = TileGrid((4, 6), (4, 4), (4, 2))
    >>> frames = np.arange(24, dtype=np.float32).reshape(1, 4, 6)
    >>> np.array_equal(cut_with_qlty(frames, grid), grid.cut(frames))
    True
    """
    quilt = NCYXQuilt(*grid.frame_shape, window=grid.tile_shape, step=grid.step, border=None)
    tiles = quilt.unstitch(torch.from_numpy(frames)[:, None]).numpy()
    return np.asarray(tiles).reshape(len(frames), grid.n_tiles, *grid.tile_shape)
