"""Whether frames that resemble each other stay neighbors in a latent space (Chavez et al. 2022, Fig. 10).

Frames are read as vectors (frame, latent); neighbors by Euclidean distance; resemblance as the Pearson correlation of
what both frames measured.
"""

import numpy as np
from numpy.typing import NDArray

from dlsia_core.errors import ArrayError, SettingError
from dlsia_core.metrics import Interval, bootstrap_interval

FloatArray = NDArray[np.float64]
IndexArray = NDArray[np.int64]


def nearest_neighbors(latent: NDArray[np.floating], n_neighbors: int) -> IndexArray:
    """The nearest other frames, nearest first: (frame, latent) -> (frame, neighbor) int64.

    Of frames at equal distance the earlier one comes first. Raises ArrayError for values that are no numbers,
    SettingError for more neighbors than there are other frames.

    >>> nearest_neighbors(np.array([[0.0], [1.0], [3.0]]), 2).tolist()
    [[1, 2], [0, 2], [1, 0]]
    """
    points = np.asarray(latent, np.float64)
    if points.ndim != 2 or not np.isfinite(points).all():
        raise ArrayError(f"latent has shape {points.shape}; wanted (frame, latent), finite")
    if not 1 <= n_neighbors < len(points):
        raise SettingError(f"n_neighbors is {n_neighbors}; of {len(points)} frames, wanted 1 to {len(points) - 1}")
    near = np.empty((len(points), n_neighbors), np.int64)
    for number, point in enumerate(points):
        # Differences, not |a|² + |b|² - 2ab: that loses neighbors far from the origin to rounding.
        distance = np.square(points - point).sum(axis=1)
        distance[number] = np.inf
        near[number] = np.argsort(distance, kind="stable")[:n_neighbors]
    return near


class CorrelationSums:
    """Pearson correlations between all frames, summed up block by block of pixels, so that memory is bounded."""

    def __init__(self, n_frames: int) -> None:
        # Of each pair over the pixels that both measured: their number, sums of one and the other, squares, products.
        self.pixels = np.zeros((n_frames, n_frames))
        self.sums, self.squares, self.products = (np.zeros_like(self.pixels) for _ in range(3))

    def add(self, block: NDArray[np.floating]) -> None:
        """Add pixels (frame, pixel), NaN = not measured; each pixel once."""
        values = np.asarray(block, np.float64)
        if values.ndim != 2 or len(values) != len(self.pixels):
            raise ArrayError(f"block has shape {values.shape}; wanted ({len(self.pixels)}, pixel)")
        measured = np.isfinite(values).astype(np.float64)
        values = np.where(measured > 0, values, 0.0)
        self.pixels += measured @ measured.T
        self.sums += values @ measured.T
        self.squares += np.square(values) @ measured.T
        self.products += values @ values.T

    def correlations(self) -> FloatArray:
        """(frame, frame) float64; NaN where a pair has no two pixels in common, or one of it is constant there."""
        with np.errstate(invalid="ignore", divide="ignore"):
            mean = self.sums / self.pixels
            variance = self.squares / self.pixels - np.square(mean)
            covariance = self.products / self.pixels - mean * mean.T
            # What rounding leaves of a constant is no variance.
            variance = np.where(variance > 1e-12 * self.squares / self.pixels, variance, np.nan)
            found: FloatArray = np.clip(covariance / np.sqrt(variance * variance.T), -1.0, 1.0)
        return found


def correlation_by_rank(correlations: FloatArray, near: IndexArray) -> FloatArray:
    """Mean correlation of a frame with its first, second, ... neighbor: (rank,); pairs without one have no part in it.

    >>> correlation_by_rank(np.array([[1.0, 0.5], [0.7, 1.0]]), np.array([[1], [0]])).tolist()
    [0.6]
    """
    found = np.take_along_axis(correlations, near, axis=1)
    known = np.isfinite(found)
    counts = known.sum(axis=0)
    sums = np.where(known, found, 0.0).sum(axis=0)
    return np.where(counts > 0, sums / np.maximum(counts, 1), np.nan)


def kept_share(near: IndexArray, reference: IndexArray) -> FloatArray:
    """Share of each frame's neighbors in `reference` that are among those in `near`: (frame,), 0 to 1.

    Both (frame, neighbor). Neighbors drawn by chance keep n_neighbors / (n_frames - 1) on average.

    >>> kept_share(np.array([[1, 2], [0, 3]]), np.array([[2, 1], [3, 2]])).tolist()
    [1.0, 0.5]
    """
    if near.shape != reference.shape or near.ndim != 2:
        raise ArrayError(f"neighbors have shapes {near.shape} and {reference.shape}; wanted the same (frame, neighbor)")
    shares = [np.isin(ours, theirs).mean() for ours, theirs in zip(reference, near, strict=True)]
    return np.asarray(shares, np.float64)


def mean_difference(first: FloatArray, second: FloatArray, *, seed: int, confidence: float, resamples: int) -> Interval:
    """Mean of `first - second` (frame,) with its bootstrap interval: each draw takes the same frames for both.

    >>> share = np.array([0.5, 0.6, 0.7])
    >>> interval = mean_difference(share + 0.25, share, seed=0, confidence=0.95, resamples=100)
    >>> round(interval.low, 9), round(interval.high, 9)
    (0.25, 0.25)
    """
    parts = np.stack([first - second, np.ones_like(first)], axis=1)
    return bootstrap_interval(
        parts, lambda sums: float(sums[0] / sums[1]), seed=seed, confidence=confidence, resamples=resamples
    )


def usable_neighbors(wanted: int, n_frames: int) -> int:
    """How many neighbors to look at: as many as wanted where the frames are more than that, else a quarter of the rest.

    All other frames are no neighbors: of 60 frames any latent space keeps all of 59.

    >>> usable_neighbors(100, 1856), usable_neighbors(100, 101), usable_neighbors(100, 41), usable_neighbors(100, 3)
    (100, 25, 10, 1)
    """
    if n_frames < 3:
        raise ArrayError(f"there are {n_frames} frames; neighbors need at least 3")
    return wanted if n_frames - 1 > wanted else max(1, (n_frames - 1) // 4)
