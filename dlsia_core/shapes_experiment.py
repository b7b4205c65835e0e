"""The shapes experiment of Roberts et al. 2024, §4.3: an autoencoder learns shapes, UMAP tells them apart (Fig. 9)."""

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from dlsia_core.errors import SettingError
from dlsia_core.latent import FrameRecipe, UmapResult, encode_frames, hdbscan_clusters, umap_coordinates
from dlsia_core.metrics import regression_scores
from dlsia_core.networks import build_network
from dlsia_core.networks.inference import batch_slices, run_in_batches
from dlsia_core.shapes import ShapeSettings, ShapeTiles, random_shapes
from dlsia_core.training import ArrayExamples, FitResult, Hook, OneCycle, TrainSettings, fit, weighted_l2

NETWORK = {"network": "ConvAutoencoder", "in_channels": 1, "out_channels": 1, "depth": 4, "base_channels": 16}
NETWORK |= {"latent_dim": 16}
BATCH = 32
# Centered circles differ by their radius alone, so that their latent vectors lie on a curve, which UMAP tears: a shift
# of up to two pixels gives it width. A small annulus with a small hole has circles as its nearest neighbors: with a
# radius from 10 pixels and holes from 0.4 of it, one seed of two ended with both shapes in one cluster.
SHAPES_OF_THE_EXPERIMENT = ShapeSettings(radius=(12.0, 28.0), annulus_ratio=(0.5, 0.75), max_shift=2.0, noise=0.05)

FloatArray = NDArray[np.float32]


@dataclass(frozen=True)
class ExperimentSettings:
    """Network, loss and latent length are the paper's; what it does not give is set here.

    training_tiles, new_tiles: how many; the new ones are those whose index follows on the training ones'.
    epochs, learning_rate: of Adam, the latter at the peak of one cycle.
    n_neighbors, min_dist: of UMAP; min_cluster_size, min_samples: of HDBSCAN on the map.
    """

    training_tiles: int = 4000
    new_tiles: int = 2000
    epochs: int = 16
    learning_rate: float = 3e-3
    n_neighbors: int = 15
    min_dist: float = 0.1
    min_cluster_size: int = 100
    min_samples: int = 20
    shapes: ShapeSettings = SHAPES_OF_THE_EXPERIMENT

    def __post_init__(self) -> None:
        if min(self.training_tiles, self.new_tiles) < 1:
            raise SettingError(f"{self.training_tiles} training and {self.new_tiles} new tiles; wanted at least 1 each")


@dataclass(frozen=True)
class ExperimentResult:
    """tiles: the new ones; reconstruction: (tile, y, x) float32; latent: (tile, 16) float32, and their umap.

    cluster: (tile,) int64, -1 = noise, from the map alone.
    pearson_noisy, pearson_clean: of the reconstruction with the new images, as the network got them and before the
        noise was added, over all pixels of all tiles; pearson_limit: of the clean with the noisy images.
    adjusted_rand: of the clusters, noise counting as one, with the four shapes (Hubert & Arabie 1985).
    """

    fit: FitResult
    tiles: ShapeTiles
    reconstruction: FloatArray
    latent: FloatArray
    umap: UmapResult
    cluster: NDArray[np.int64]
    pearson_noisy: float
    pearson_clean: float
    pearson_limit: float
    adjusted_rand: float


def run_shapes_experiment(
    seed: int,
    settings: ExperimentSettings | None = None,
    *,
    device: str | torch.device = "cpu",
    hooks: tuple[Hook, ...] = (),
) -> ExperimentResult:
    """Train an autoencoder on random shapes, pass new ones through it, map and cluster their latent vectors.

    seed: of tiles, weights, training and UMAP. No class is told to network, map or clusters.
    """
    chosen = ExperimentSettings() if settings is None else settings
    last = chosen.training_tiles + chosen.new_tiles
    training = random_shapes(range(chosen.training_tiles), seed, chosen.shapes)
    tiles = random_shapes(range(chosen.training_tiles, last), seed, chosen.shapes)
    network = build_network(NETWORK | {"input_shape": list(chosen.shapes.tile_size)}, seed=seed)
    train = TrainSettings(chosen.epochs, BATCH, chosen.learning_rate, seed=seed, schedule=OneCycle())
    result = fit(network, ArrayExamples(training.images[:, None]), weighted_l2, train, device=device, hooks=hooks)
    recipe = FrameRecipe(chosen.shapes.tile_size)
    latent = encode_frames(network, tiles.images, recipe, device=device)  # type: ignore[arg-type]
    umap = umap_coordinates(latent, chosen.n_neighbors, chosen.min_dist, seed)
    cluster = hdbscan_clusters(umap.coordinates, chosen.min_cluster_size, chosen.min_samples)
    rebuilt = reconstruct(network, tiles.images, device)
    return ExperimentResult(
        fit=result,
        tiles=tiles,
        reconstruction=rebuilt,
        latent=latent,
        umap=umap,
        cluster=cluster,
        pearson_noisy=_pearson(rebuilt, tiles.images),
        pearson_clean=_pearson(rebuilt, tiles.clean),
        pearson_limit=_pearson(tiles.clean, tiles.images),
        adjusted_rand=adjusted_rand_index(tiles.shape, cluster),
    )


def reconstruct(network: nn.Module, images: FloatArray, device: str | torch.device = "cpu") -> FloatArray:
    """Images (tile, y, x) as the autoencoder gives them back, (tile, y, x) float32."""
    inputs = (torch.from_numpy(images[part])[:, None] for part in batch_slices(len(images), BATCH))
    return np.concatenate([output[:, 0].numpy() for output in run_in_batches(network, network, inputs, device)])


def adjusted_rand_index(truth: NDArray[np.integer], cluster: NDArray[np.integer]) -> float:
    """Agreement of two groupings: 1 = the same but for names, 0 = as by chance (Hubert & Arabie 1985).

    >>> adjusted_rand_index(np.array([0, 0, 1, 1]), np.array([5, 5, 2, 2]))
    1.0
    """
    from sklearn.metrics import adjusted_rand_score

    return float(adjusted_rand_score(truth, cluster))


def _pearson(a: FloatArray, b: FloatArray) -> float:
    return regression_scores(a, b)["pearson_r"]
