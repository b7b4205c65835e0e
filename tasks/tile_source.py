"""Tiles to be clustered: random shapes with their truth, or tiles of measured frames that do not overlap."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from dlsia_core.shapes import random_shapes
from dlsia_core.shapes_experiment import SHAPES_OF_THE_EXPERIMENT
from dlsia_core.tiling import TileGrid
from tasks.errors import SettingsError
from tasks.normalized_frames import NormalizedFrames
from tasks.settings.base import digest
from tasks.settings.tile_clusters import TileClusterSettings
from tasks.stage import stage_task

FloatArray = npt.NDArray[np.float32]
IntArray = npt.NDArray[np.int64]
FEWEST = 8
_AT_ONCE = 2048


@dataclass(frozen=True, eq=False)
class Tiles:
    """Tiles (tile, y, x) float32 to learn from, and others to be mapped.

    places   (tile, 3) int64 of the others: frame, first row and column; None for generated ones
    shape    (tile,) int64, the true shape; None for measured ones
    clean    (tile, y, x) float32, the generated tiles without noise; None for measured ones
    digest   names the values
    """

    training: FloatArray
    new: FloatArray
    digest: str
    places: IntArray | None = None
    shape: IntArray | None = None
    clean: FloatArray | None = None
    remarks: tuple[str, ...] = field(default=())


@stage_task("generate-shapes")
def generated_tiles(settings: TileClusterSettings) -> Tiles:
    """Random circles, triangles, rectangles and annuli, as in the paper's experiment."""
    if settings.tile_px != SHAPES_OF_THE_EXPERIMENT.tile_size[0]:
        raise SettingsError(
            f"tile_px is {settings.tile_px}; the experiment's shapes are drawn on tiles of "
            f"{SHAPES_OF_THE_EXPERIMENT.tile_size[0]}; give that, or a source"
        )
    last = settings.training_tiles + settings.new_tiles
    training = random_shapes(range(settings.training_tiles), settings.seed, SHAPES_OF_THE_EXPERIMENT)
    new = random_shapes(range(settings.training_tiles, last), settings.seed, SHAPES_OF_THE_EXPERIMENT)
    shape = np.asarray(new.shape, np.int64)
    return Tiles(training.images, new.images, digest(["shapes", settings.seed, last]), shape=shape, clean=new.clean)


@stage_task("cut-tiles")
def measured_tiles(frames: NormalizedFrames, settings: TileClusterSettings) -> Tiles:
    """Tiles of frames, drawn at random from a grid without overlap; only those that were measured in every pixel."""
    edge, wanted = settings.tile_px, settings.training_tiles + settings.new_tiles
    if min(frames.shape) < edge:
        raise SettingsError(f"frames of {frames.shape} hold no tile of {edge}; give a smaller tile_px")
    # A frame that is no whole number of tiles would get a last one that overlaps: what is learned from would be mapped.
    whole = (frames.shape[0] // edge * edge, frames.shape[1] // edge * edge)
    grid = TileGrid(whole, (edge, edge), (edge, edge))
    tiles, places = [], []
    for tile, place in _drawn(frames, grid, settings.seed):
        tiles.append(tile)
        places.append(place)
        if len(tiles) == wanted:
            break
    n_training = round(len(tiles) * settings.training_tiles / wanted)
    check_enough(settings, len(tiles) - n_training)
    remarks = () if len(tiles) == wanted else (
        f"{n_training} tiles to learn from and {len(tiles) - n_training} others, not {settings.training_tiles} and "
        f"{settings.new_tiles}: the frames hold no more that are measured in every pixel.",
    )  # fmt: skip
    named = digest([frames.lineage, edge, settings.seed, len(tiles), n_training])
    both, where = np.stack(tiles), np.array(places, np.int64)
    return Tiles(both[:n_training], both[n_training:], named, where[n_training:], remarks=remarks)


def check_enough(settings: TileClusterSettings, new_tiles: int) -> None:
    """Raise `SettingsError` where so few tiles are left to be mapped that no cluster can be among them."""
    needed = max(settings.min_cluster_size, settings.min_samples, FEWEST)
    if new_tiles < needed:
        raise SettingsError(
            f"there are {new_tiles} new tiles, measured in every pixel, and the map needs {needed} (min_cluster_size "
            f"{settings.min_cluster_size}, min_samples {settings.min_samples}, at least {FEWEST}); give more frames or "
            "tiles, a smaller tile_px, or smaller clusters"
        )


def _drawn(frames: NormalizedFrames, grid: TileGrid, seed: int) -> Iterator[tuple[FloatArray, tuple[int, int, int]]]:
    """Whole tiles in a random order, some at a time, so that a frame is read once for several of them."""
    slices: Any = grid.slices
    order = np.random.default_rng(seed).permutation(frames.n_frames * len(slices))
    for start in range(0, len(order), _AT_ONCE):
        part = order[start : start + _AT_ONCE]
        found: dict[int, FloatArray] = {}
        for frame in np.unique(part // len(slices)):
            values = frames.read(int(frame))
            for place in part[part // len(slices) == frame]:
                tile = values[slices[int(place) % len(slices)]]
                if np.isfinite(tile).all():
                    found[int(place)] = tile.copy()
        for place in map(int, part):
            if place in found:
                rows, columns = slices[place % len(slices)]
                yield found[place], (place // len(slices), rows.start, columns.start)
