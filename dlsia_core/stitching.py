"""Average overlapping tiles back to frames, and put the measured pixels back."""

from typing import Literal, get_args

import numpy as np
import numpy.typing as npt

from dlsia_core.errors import ArrayError, SettingError
from dlsia_core.gaps import DEAD, INPAINTED, MEASURED
from dlsia_core.tiling import TileGrid

Window = Literal["box", "hann", "gaussian"]

SMALLEST_WEIGHT = 1e-3  # of the largest, per axis: a pixel that only a tile's corner covers must not divide by zero
GAUSSIAN_SIGMA = 0.125  # of the tile's length, as is usual for sliding-window inference


def window_weights(tile_shape: tuple[int, int], window: Window = "box") -> npt.NDArray[np.float64]:
    """Blend weight of every pixel of a tile, (tile_row, tile_column) float64, in (0, 1].

    box       all 1: the plain average of the paper (Chavez et al. 2022, section 2.2)
    hann      sin^2 from border to border
    gaussian  standard deviation 1/8 of the tile's length

    Raises SettingError for an unknown window.

    >>> window_weights((1, 4), "hann").round(3).tolist()
    [[0.172, 1.0, 1.0, 0.172]]
    """
    if window not in get_args(Window):
        raise SettingError(f"unknown window {window!r}; known: {', '.join(get_args(Window))}")
    along_rows, along_columns = (_profile(size, window) for size in tile_shape)
    weights: npt.NDArray[np.float64] = along_rows[:, None] * along_columns
    return weights


def stitch(tiles: npt.NDArray[np.floating], grid: TileGrid, window: Window = "box") -> npt.NDArray[np.float32]:
    """Weighted average of overlapping tiles (…, tile, tile_row, tile_column): frames (…, row, column) float32.

    Sums are float64 and run over the tiles in the grid's order, so a frame's result depends neither on the other
    frames nor on how many there are, and `stitch(grid.cut(frames), grid)` gives float32 frames back exactly, with
    every window.

    Raises ArrayError for tiles of another shape and for tiles that are not finite: a NaN averaged away, or spread
    over its neighbors, would be a silent loss.

    >>> grid = TileGrid((1, 3), (1, 2), (1, 1))
    >>> stitch(np.array([[[1.0, 2.0]], [[4.0, 5.0]]]), grid).tolist()
    [[1.0, 3.0, 5.0]]
    """
    _check_tiles(tiles, grid)
    weights = window_weights(grid.tile_shape, window)
    total = np.zeros((*tiles.shape[:-3], *grid.frame_shape))
    total_weight = np.zeros(grid.frame_shape)
    for tile, (rows, columns) in enumerate(grid.slices):
        total[..., rows, columns] += weights * tiles[..., tile, :, :]
        total_weight[rows, columns] += weights
    total /= total_weight
    return total.astype(np.float32)


def merge_measured(
    stitched: npt.NDArray[np.float32], normalized: npt.NDArray[np.float32], provenance: npt.NDArray[np.uint8]
) -> npt.NDArray[np.float32]:
    """Put measured pixels back: `inpainted` (…, row, column) float32.

    stitched    predictions as frames, used where `provenance` says inpainted
    normalized  measured values, NaN = not measured; they come back unchanged to the bit
    provenance  0 measured, 1 inpainted, 2 dead (NaN in the result), as `dlsia_core.gaps.provenance` gives it

    Raises ArrayError for unequal shapes, for a provenance that contradicts `normalized`, and for predictions
    that are not finite where they are needed.

    >>> nan = np.nan
    >>> merge_measured(np.float32([7, 7, 7]), np.float32([1, nan, nan]), np.uint8([0, 1, 2])).tolist()
    [1.0, 7.0, nan]
    """
    if not stitched.shape == normalized.shape == provenance.shape:
        raise ArrayError(
            f"stitched {stitched.shape}, normalized {normalized.shape} and provenance {provenance.shape} "
            "must have the same shape (…, row, column)"
        )
    measured, inpainted = provenance == MEASURED, provenance == INPAINTED
    contradicting = np.count_nonzero(measured == np.isnan(normalized)) + np.count_nonzero(provenance > DEAD)
    if contradicting:
        raise ArrayError(
            f"provenance contradicts normalized at {contradicting} pixels: {MEASURED} must stand exactly where a value "
            f"was measured, {INPAINTED} or {DEAD} where it is NaN; compute it from the same frames"
        )
    if not np.isfinite(stitched[inpainted]).all():
        raise ArrayError("stitched holds values that are not finite at pixels to be inpainted; check the predictions")
    merged = np.where(inpainted, stitched, np.float32(np.nan)).astype(np.float32, copy=False)
    merged[measured] = normalized[measured]
    return merged


def _profile(size: int, window: Window) -> npt.NDArray[np.float64]:
    """Weights along one axis; the largest is 1, so that the floor means the same for every size."""
    position = (
        np.arange(size) + 0.5
    ) / size  # centers of pixels: no weight falls on the border itself, where hann is 0
    if window == "hann":
        profile = np.sin(np.pi * position) ** 2
    elif window == "gaussian":
        profile = np.exp(-0.5 * ((position - 0.5) / GAUSSIAN_SIGMA) ** 2)
    else:
        profile = np.ones(size)
    floored: npt.NDArray[np.float64] = np.maximum(profile / profile.max(), SMALLEST_WEIGHT)
    return floored


def _check_tiles(tiles: npt.NDArray[np.floating], grid: TileGrid) -> None:
    expected = (grid.n_tiles, *grid.tile_shape)
    if tiles.shape[-3:] != expected:
        raise ArrayError(
            f"tiles have shape {tiles.shape}; this grid stitches (…, tile, tile_row, tile_column) = (…, "
            f"{', '.join(map(str, expected))})"
        )
    finite = np.isfinite(tiles).all(axis=(-2, -1))
    if not finite.all():
        *frame, tile = map(int, np.argwhere(~finite)[0])
        raise ArrayError(
            f"tile {tile} of frame {tuple(frame)} (origin {tuple(grid.origins[tile].tolist())}) holds values that are "
            f"not finite, as do {np.count_nonzero(~finite) - 1} other tiles; predictions must be finite"
        )
