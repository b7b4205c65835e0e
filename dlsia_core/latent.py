"""Frames as points: an autoencoder's latent vectors, their UMAP map, and the clusters in it."""

import warnings
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional as F

from dlsia_core.errors import ArrayError, SettingError
from dlsia_core.networks import ConvAutoencoder
from dlsia_core.networks.inference import batch_slices, run_in_batches

FloatArray = NDArray[np.float32]


@dataclass(frozen=True)
class FrameRecipe:
    """How a frame becomes the autoencoder's input; stored with the model.

    size: (row, column) after pooling; center, scale: in units of the frames, the network sees (value - center) / scale.
    """

    size: tuple[int, int]
    center: float = 0.0
    scale: float = 1.0

    def __post_init__(self) -> None:
        if len(self.size) != 2 or min(self.size) < 1:
            raise SettingError(f"size is {self.size}; it must be two whole numbers of at least 1")
        if not (np.isfinite(self.center) and np.isfinite(self.scale) and self.scale > 0):
            raise SettingError(f"center is {self.center} and scale {self.scale}; wanted finite, scale greater than 0")

    @classmethod
    def from_frames(cls, frames: FloatArray, size: tuple[int, int]) -> "FrameRecipe":
        """Mean and standard deviation of the pooled frames; scale 1 where they are all the same."""
        pooled = pool_frames(frames, size)
        return cls(size, float(pooled.mean(dtype=np.float64)), float(pooled.std(dtype=np.float64)) or 1.0)

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_dict(cls, stored: Mapping[str, Any]) -> "FrameRecipe":
        return cls(**dict(stored) | {"size": tuple(stored["size"])})

    def prepare(self, frames: FloatArray) -> FloatArray:
        """(frame, row, column), NaN = dead -> network input (frame, 1, *size) float32."""
        pooled = pool_frames(frames, self.size)
        return ((pooled - np.float32(self.center)) / np.float32(self.scale)).astype(np.float32)[:, None]


def pool_frames(frames: FloatArray, size: tuple[int, int]) -> FloatArray:
    """Mean of the finite pixels of each block: (frame, row, column) -> (frame, *size) float32; 0 where there is none.

    Blocks are as equal as whole pixels allow; a size that is not smaller repeats pixels.
    Raises ArrayError for arrays without three axes or without elements.

    >>> pool_frames(np.array([[[1.0, 3.0, 5.0, np.nan]]], dtype=np.float32), (1, 2))
    array([[[2., 5.]]], dtype=float32)
    """
    if frames.ndim != 3 or not frames.size:
        raise ArrayError(f"frames have shape {frames.shape}; wanted (frame, row, column), at least one of each")
    pooled = np.empty((len(frames), *size), np.float32)
    for number, frame in enumerate(frames):  # one by one, so that memory is bounded and no frame sees another
        finite = torch.from_numpy(np.isfinite(frame))
        values = torch.where(finite, torch.from_numpy(np.ascontiguousarray(frame)), 0)
        both = torch.stack((values.double(), finite.double()))[None]
        total, share = F.adaptive_avg_pool2d(both, size)[0]
        pooled[number] = (total / torch.where(share > 0, share, 1)).numpy()
    return pooled


def encode_frames(
    network: ConvAutoencoder,
    frames: FloatArray,
    recipe: FrameRecipe,
    *,
    device: str | torch.device = "cpu",
    batch_size: int = 32,
) -> FloatArray:
    """Latent vectors (frame, latent) float32 of frames (frame, row, column); each depends on its own frame alone."""
    slices = batch_slices(len(frames), batch_size)

    def inputs() -> Iterator[torch.Tensor]:
        for part in slices:
            yield torch.from_numpy(recipe.prepare(frames[part]))

    return np.concatenate([z.numpy() for z in run_in_batches(network, network.encode, inputs(), device)])


@dataclass(frozen=True)
class UmapResult:
    """coordinates: (frame, 2) float32; n_neighbors: as really used, less than asked for where there are few frames."""

    coordinates: FloatArray
    n_neighbors: int
    min_dist: float
    seed: int


def umap_coordinates(latent: FloatArray, n_neighbors: int = 15, min_dist: float = 0.1, seed: int = 0) -> UmapResult:
    """Map latent vectors (frame, latent) to the plane with UMAP (McInnes et al. 2018, arXiv:1802.03426).

    n_neighbors: frames that count as near, at least 2; with n frames at most n - 1 (the result says what was used).
    min_dist: smallest distance of points in the map, 0 to 1. The same seed and latent vectors give the same bits.
    Raises ArrayError for fewer than 4 frames or values that are no numbers, SettingError for settings out of range.
    """
    if latent.ndim != 2 or len(latent) < 4 or not np.isfinite(latent).all():
        raise ArrayError(f"latent has shape {latent.shape}; a map needs (frame, latent), finite, at least 4 frames")
    if n_neighbors < 2 or not 0 <= min_dist <= 1:
        raise SettingError(f"n_neighbors is {n_neighbors} (at least 2), min_dist is {min_dist} (0 to 1)")
    with warnings.catch_warnings():
        # umap says so for a part of it that is not used here.
        warnings.filterwarnings("ignore", "Tensorflow not installed", ImportWarning)
        import umap  # compiles for ten seconds, so only where a map is wanted

    used = min(n_neighbors, len(latent) - 1)
    reducer = umap.UMAP(
        n_neighbors=used,
        min_dist=min_dist,
        # Spectral initialization fails on few or disconnected points and then falls back to random places.
        init=_principal_coordinates(latent, seed),
        random_state=seed,
        n_jobs=1,  # what a seed needs; otherwise UMAP changes it with a warning
    )
    return UmapResult(np.asarray(reducer.fit_transform(latent), dtype=np.float32), used, min_dist, seed)


def _principal_coordinates(latent: FloatArray, seed: int) -> FloatArray:
    """The two directions of largest variance, signs fixed; random numbers where there is no variance (equal frames).

    UMAP stretches each of the two to 10 units and divides by zero where all are the same.
    """
    centered = latent.astype(np.float64) - latent.mean(axis=0, dtype=np.float64)
    _, _, axes = np.linalg.svd(centered, full_matrices=False)
    axes = axes[:2] * np.sign(np.take_along_axis(axes[:2], np.abs(axes[:2]).argmax(axis=1)[:, None], axis=1))
    places = np.zeros((len(latent), 2))
    places[:, : len(axes)] = centered @ axes.T
    spread = np.ptp(places, axis=0)
    flat = spread <= 1e-6 * max(spread.max(), np.abs(latent).max())
    places[:, flat] = np.random.default_rng(seed).random((len(latent), int(flat.sum())))
    return places.astype(np.float32)


def hdbscan_clusters(
    coordinates: FloatArray,
    min_cluster_size: int = 5,
    min_samples: int | None = None,
    *,
    allow_single_cluster: bool = False,
) -> NDArray[np.int64]:
    """Cluster of each point: (frame, axis) -> (frame,) int64 from 0, and -1 for noise (HDBSCAN).

    min_cluster_size: smallest group that counts, at least 2; min_samples: None = the same.
    allow_single_cluster: let the points be one cluster (and its outer ones noise); without it a single group comes out
        as noise or in pieces.
    Raises ArrayError for fewer points than min_cluster_size or min_samples, SettingError for settings below the least.
    """
    samples = min_cluster_size if min_samples is None else min_samples
    if min_cluster_size < 2 or samples < 1:
        raise SettingError(f"min_cluster_size is {min_cluster_size} (at least 2), min_samples {samples} (at least 1)")
    needed = max(min_cluster_size, samples)
    if coordinates.ndim != 2 or len(coordinates) < needed or not np.isfinite(coordinates).all():
        raise ArrayError(
            f"coordinates have shape {coordinates.shape}; wanted (frame, axis), finite, >= {needed} frames"
        )
    from sklearn.cluster import HDBSCAN

    model = HDBSCAN(min_cluster_size, samples, allow_single_cluster=allow_single_cluster, copy=True)
    return np.asarray(model.fit_predict(coordinates.astype(np.float64)), dtype=np.int64)
