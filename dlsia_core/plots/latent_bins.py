"""Which image stands for which part of a latent map: square bins over 2-D coordinates, one thumbnail each."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from dlsia_core.errors import ArrayError, SettingError
from dlsia_core.latent import pool_frames

REPRESENTATIVES = ("nearest", "mean")
FloatArray = NDArray[np.floating]


@dataclass(frozen=True)
class LatentBins:
    """Square bins over a map of n points; row 0 is at the smallest second coordinate.

    corner: smallest (first, second) coordinate of the grid; side: of a bin, in units of the coordinates.
    bin_of_point: (n, 2) int64, row and column; counts: (row, column) int64, points per bin.
    nearest: (row, column) int64, the point that is nearest to the bin's center, the first of equals; -1 = empty bin.
    """

    corner: tuple[float, float]
    side: float
    bin_of_point: NDArray[np.int64]
    counts: NDArray[np.int64]
    nearest: NDArray[np.int64]

    def shown(self, min_count: int) -> NDArray[np.bool_]:
        """Bins (row, column) that hold `min_count` points or more."""
        if min_count < 1:
            raise SettingError(f"min_count is {min_count}; it must be at least 1")
        return self.counts >= min_count


def bin_points(coordinates: FloatArray, bins: int) -> LatentBins:
    """Lay square bins over a map: `bins` of them along its longer side, as many as needed along the other.

    coordinates: (n, 2), finite. A point on the border of two bins belongs to the upper or right one, at the end of the
    map to the last. The grid stands in the middle of the map where the shorter side is no whole number of bins.
    Raises ArrayError for other shapes and values, SettingError for fewer than 1 bin.

    >>> binned = bin_points(np.array([[0.0, 0.0], [4.0, 0.0], [3.5, 2.0], [3.1, 1.1]]), bins=4)
    >>> binned.side, binned.counts.tolist(), binned.nearest.tolist()
    (1.0, [[1, 0, 0, 1], [0, 0, 0, 2]], [[0, -1, -1, 1], [-1, -1, -1, 2]])
    """
    points = np.asarray(coordinates, np.float64)
    if points.ndim != 2 or points.shape[1] != 2 or not len(points) or not np.isfinite(points).all():
        raise ArrayError(f"coordinates have shape {points.shape}; wanted (frame, 2), finite, at least 1 frame")
    if bins < 1:
        raise SettingError(f"bins is {bins}; it must be at least 1")
    low, span = points.min(axis=0), np.ptp(points, axis=0)
    side = float(span.max() / bins) or 1.0
    # 2.9999999 bins that rounding made of 3 are 3.
    shape = np.maximum(np.ceil(span / side - 1e-9), 1).astype(np.int64)
    corner = low - (shape * side - span) / 2
    place = np.clip(np.floor((points - corner) / side).astype(np.int64), 0, shape - 1)
    row, column = place[:, 1], place[:, 0]
    counts = np.zeros((shape[1], shape[0]), np.int64)
    np.add.at(counts, (row, column), 1)
    distance = ((points - corner - (place + 0.5) * side) ** 2).sum(axis=1)
    nearest = np.full(counts.shape, -1, np.int64)
    order = np.argsort(distance, kind="stable")[::-1]  # written last is nearest
    nearest[row[order], column[order]] = order
    return LatentBins((float(corner[0]), float(corner[1])), side, np.stack([row, column], axis=1), counts, nearest)


def bin_thumbnails(
    images: FloatArray,
    binned: LatentBins,
    min_count: int = 1,
    representative: str = "nearest",
    size: tuple[int, int] | None = None,
) -> FloatArray:
    """One image for each bin: (row, column, y, x) float32, NaN for bins of fewer than `min_count` images.

    images: (frame, y, x), NaN = no value; representative: "nearest" = the image nearest to the bin's center, "mean" =
    mean of all images of the bin, over those that have a value. size: (y, x) to pool to, None = as the images are.
    Raises ArrayError where there is not one image per point, SettingError for settings that are not allowed.

    >>> binned = bin_points(np.array([[0.0, 0.0], [0.2, 0.0], [2.0, 0.0]]), bins=2)
    >>> images = np.array([1.0, 5.0, 7.0], np.float32)[:, None, None]
    >>> [bin_thumbnails(images, binned, 1, how).ravel().tolist() for how in ("nearest", "mean")]
    [[5.0, 7.0], [3.0, 7.0]]
    """
    if images.ndim != 3 or len(images) != len(binned.bin_of_point):
        raise ArrayError(f"images have shape {images.shape}; wanted ({len(binned.bin_of_point)}, y, x), one per point")
    if representative not in REPRESENTATIVES:
        raise SettingError(f"representative is {representative!r}; it must be one of {REPRESENTATIVES}")
    size = (images.shape[1], images.shape[2]) if size is None else size
    thumbnails = np.full((*binned.counts.shape, *size), np.nan, np.float32)
    for row, column in np.argwhere(binned.shown(min_count)):
        members = np.flatnonzero((binned.bin_of_point == (row, column)).all(axis=1))
        chosen = members if representative == "mean" else binned.nearest[row, column][None]
        thumbnails[row, column] = _mean(images[chosen], size)
    return thumbnails


def _mean(images: FloatArray, size: tuple[int, int]) -> FloatArray:
    """Mean over images and blocks of pixels that have a value; NaN where there is none."""
    values = np.ascontiguousarray(images, np.float32)
    known = np.isfinite(values)
    share = known.mean(axis=0)
    total = np.where(known, values, 0).mean(axis=0, dtype=np.float64)
    mean = np.divide(total, share, out=np.full(share.shape, np.nan), where=share > 0).astype(np.float32)
    return mean if mean.shape == size else np.asarray(pool_frames(mean[None], size)[0], np.float32)
