"""Learn an autoencoder on tiles, map other tiles by their latent vectors, and cluster the map (paper (a), §4.3)."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np
import numpy.typing as npt
import torch

from dlsia_core.latent import FrameRecipe, encode_frames, hdbscan_clusters, umap_coordinates
from dlsia_core.metrics import regression_scores
from dlsia_core.networks import ConvAutoencoder, build_network, load_network
from dlsia_core.shapes_experiment import adjusted_rand_index, reconstruct
from dlsia_core.training import ArrayExamples, FitResult, OneCycle, fit, weighted_l2
from dlsia_core.training import TrainSettings as FitSettings
from tasks.devices import device_slot
from tasks.learning import curve_of, finish, finished_model, log_epoch, resumable
from tasks.models import ModelRef
from tasks.settings.base import digest
from tasks.settings.tile_clusters import TileClusterSettings
from tasks.stage import stage_task
from tasks.tile_source import Tiles

FloatArray = npt.NDArray[np.float32]
_LEARNING = ("latent", "base_channels", "depth", "epochs", "batch_size", "learning_rate", "seed", "tile_px")


@dataclass(frozen=True, eq=False)
class ClusteredTiles:
    """What became of the new tiles.

    reconstruction  (tile, y, x) float32; latent (tile, latent) float32; coordinates (tile, 2) float32
    cluster         (tile,) int64, -1 = noise, from the map alone
    pearson         of the reconstruction with the tiles; pearson_clean: with those without noise, None if not known
    adjusted_rand   of the clusters with the true shapes, noise counting as one; None if they are not known
    """

    reconstruction: FloatArray
    latent: FloatArray
    coordinates: FloatArray
    cluster: npt.NDArray[np.int64]
    curve: dict[str, Any]
    pearson: float
    pearson_clean: float | None
    adjusted_rand: float | None

    @property
    def n_clusters(self) -> int:
        """Clusters without the noise."""
        return int(self.cluster.max()) + 1


@stage_task("learn-tiles")
def learn_tiles(folder: Path, tiles: Tiles, settings: TileClusterSettings) -> ModelRef:
    """The autoencoder, trained, or found trained on the same tiles with the same settings."""
    counts = settings.model_dump(mode="json", include=set(_LEARNING))
    place = folder / f"autoencoder-{digest([tiles.digest, counts])[:12]}"
    found = finished_model(place)
    if found is not None:
        return found
    size = (settings.tile_px, settings.tile_px)
    recipe = FrameRecipe(size) if tiles.places is None else FrameRecipe.from_frames(tiles.training, size)
    with device_slot(settings.device) as device:
        inputs = recipe.prepare(tiles.training)
        fitted = resumable(place / "checkpoint", lambda state: _fit(settings, inputs, state, device))
    curve = curve_of("autoencoder", fitted, "mean square error")
    return finish(place, fitted, {"recipe": recipe.to_dict(), "curve": curve})


def _fit(settings: TileClusterSettings, inputs: FloatArray, checkpoint: Path, device: torch.device) -> FitResult:
    network = {
        "network": "ConvAutoencoder",
        "in_channels": 1,
        "out_channels": 1,
        "depth": settings.depth,
        "base_channels": settings.base_channels,
        "latent_dim": settings.latent,
        "input_shape": [settings.tile_px, settings.tile_px],
    }
    train = FitSettings(
        settings.epochs, settings.batch_size, settings.learning_rate, seed=settings.seed, schedule=OneCycle()
    )
    return fit(
        build_network(network, seed=settings.seed),
        ArrayExamples(inputs),
        weighted_l2,
        train,
        checkpoint_folder=checkpoint,
        device=device,
        on_epoch=log_epoch("autoencoder of tiles", settings.epochs),
        checkpoint_seconds=settings.checkpoint_s,
        max_seconds=60 * settings.max_minutes,
    )


@stage_task("cluster-tiles")
def cluster_tiles(model: ModelRef, tiles: Tiles, settings: TileClusterSettings) -> ClusteredTiles:
    """Latent vectors of the new tiles, their map, and the clusters in it; the same model gives the same bits."""
    network, description = load_network(Path(model.folder))
    recipe = FrameRecipe.from_dict(description["recipe"])
    with device_slot(settings.device) as device:
        latent = encode_frames(cast(ConvAutoencoder, network), tiles.new, recipe, device=device)
        rebuilt = reconstruct(network, recipe.prepare(tiles.new)[:, 0], device)
    rebuilt = (rebuilt * np.float32(recipe.scale) + np.float32(recipe.center)).astype(np.float32)
    umap = umap_coordinates(latent, settings.n_neighbors, settings.min_dist, settings.seed)
    cluster = hdbscan_clusters(umap.coordinates, settings.min_cluster_size, settings.min_samples)
    return ClusteredTiles(
        reconstruction=rebuilt,
        latent=latent,
        coordinates=umap.coordinates,
        cluster=cluster,
        curve=description["curve"],
        pearson=regression_scores(rebuilt, tiles.new)["pearson_r"],
        pearson_clean=None if tiles.clean is None else regression_scores(rebuilt, tiles.clean)["pearson_r"],
        adjusted_rand=None if tiles.shape is None else adjusted_rand_index(tiles.shape, cluster),
    )
