"""A latent map while frames still come: fitted on those that are there, later ones placed among their neighbors.

A linear autoencoder (principal components of small frames) takes milliseconds where a network takes a minute. It is a
first look at a scan that is under way; the map that stays is made by `dlsia_core.latent` when the scan has ended.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from dlsia_core.errors import ArrayError, SettingError
from dlsia_core.latent import hdbscan_clusters, umap_coordinates

FloatArray = NDArray[np.float32]
NOISE = -1
NEAR = 6
"""Fitted frames whose places decide the place of a later one."""
STRANGE = 3.0
"""Times the usual distance to the nearest neighbor from which a later frame belongs to no cluster."""


@dataclass(frozen=True)
class LiveMapSettings:
    """components: length of latent vectors; the others as in `umap_coordinates` and `hdbscan_clusters`."""

    components: int = 16
    n_neighbors: int = 15
    min_dist: float = 0.1
    min_cluster_size: int = 5
    seed: int = 0

    def __post_init__(self) -> None:
        if self.components < 1:
            raise SettingError(f"components is {self.components}; a latent vector has at least 1")


@dataclass(frozen=True, eq=False)
class LiveMap:
    """A fitted map: center (feature,), axes (component, feature), and the fitted frames as latent vectors
    (frame, component), places (frame, 2) and clusters (frame,); `usual` distance to the nearest neighbor.
    """

    center: FloatArray
    axes: FloatArray
    latent: FloatArray
    places: FloatArray
    clusters: NDArray[np.int64]
    usual: float

    def encode(self, features: FloatArray) -> FloatArray:
        """Latent vectors (frame, component) of small frames (frame, feature)."""
        return np.asarray((features - self.center) @ self.axes.T, np.float32)

    def place(self, features: FloatArray) -> tuple[FloatArray, NDArray[np.int64]]:
        """Places (frame, 2) and clusters (frame,) of small frames (frame, feature), each on its own.

        The place is the mean of the nearest fitted frames, weighted by 1 / distance²; a fitted frame keeps its own. A
        frame far from all of them is noise: of a kind that was not there when the map was fitted, maybe.
        """
        latent = self.encode(features)
        places = np.empty((len(latent), 2), np.float32)
        clusters = np.empty(len(latent), np.int64)
        for row, vector in enumerate(latent):
            distance = np.linalg.norm(self.latent - vector, axis=1)
            near = np.argsort(distance, kind="stable")[:NEAR]
            weights = 1 / np.maximum(distance[near].astype(np.float64), 1e-9) ** 2
            places[row] = weights @ self.places[near] / weights.sum()
            strange = distance[near[0]] > STRANGE * self.usual
            clusters[row] = NOISE if strange else self.clusters[near[0]]
        return places, clusters


def fit_live_map(features: FloatArray, settings: LiveMapSettings, before: LiveMap | None = None) -> LiveMap:
    """Fit a map to small frames (frame, feature); the same frames and settings give the same bits.

    before: the map that this one replaces; the new one is turned and mirrored so that what stayed alike stays where it
    was. Raises ArrayError for fewer frames than UMAP and HDBSCAN need or values that are no numbers.

    >>> rng = np.random.default_rng(0)
    >>> two_kinds = rng.normal(size=(16, 9)) + 20 * (np.arange(16) % 2)[:, None]
    >>> fitted = fit_live_map(two_kinds.astype(np.float32), LiveMapSettings(components=2))
    >>> sorted(set(fitted.clusters.tolist()) - {NOISE})
    [0, 1]
    """
    if features.ndim != 2 or not np.isfinite(features).all():
        raise ArrayError(f"features have shape {features.shape}; wanted (frame, feature), finite")
    center = features.mean(axis=0, dtype=np.float64)
    _, _, axes = np.linalg.svd(features - center, full_matrices=False)
    axes = axes[: settings.components].astype(np.float32)
    center = center.astype(np.float32)
    latent = np.asarray((features - center) @ axes.T, np.float32)
    places = umap_coordinates(latent, settings.n_neighbors, settings.min_dist, settings.seed).coordinates
    clusters = hdbscan_clusters(places, settings.min_cluster_size)
    if before is not None:
        places = _turned(places, before.place(features)[0])
    return LiveMap(center, axes, latent, places, clusters, _usual_distance(latent))


def _turned(places: FloatArray, wanted: FloatArray) -> FloatArray:
    """The places (frame, 2), turned, mirrored and moved to lie near others (orthogonal Procrustes)."""
    own, other = places.mean(axis=0), wanted.mean(axis=0)
    left, _, right = np.linalg.svd((places - own).T.astype(np.float64) @ (wanted - other))
    return np.asarray((places - own) @ (left @ right) + other, np.float32)


def _usual_distance(latent: FloatArray) -> float:
    """95th percentile of the distance from a frame to its nearest neighbor."""
    square = np.sum(latent.astype(np.float64) ** 2, axis=1)
    distance = np.sqrt(np.maximum(square[:, None] + square - 2 * latent.astype(np.float64) @ latent.T, 0))
    np.fill_diagonal(distance, np.inf)
    rounding = 1e-6 * np.sqrt(square.max())  # of frames that are all the same
    return float(max(np.quantile(distance.min(axis=1), 0.95), rounding))
