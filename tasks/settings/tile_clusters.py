"""Settings of cluster_shapes."""

from typing import Literal

from pydantic import Field

from tasks.settings.base import Settings


class TileClusterSettings(Settings):
    """Tiles, autoencoder, map and clusters; the defaults are those of Roberts et al. 2024, §4.3, where it gives any."""

    tile_px: int = Field(default=64, ge=16, le=512, multiple_of=16, description="Rows and columns of a tile.")
    training_tiles: int = Field(default=4000, ge=8, le=100_000, description="Tiles that the autoencoder learns from.")
    new_tiles: int = Field(default=2000, ge=8, le=50_000, description="Other tiles, which are mapped and clustered.")
    latent: int = Field(default=16, ge=1, description="Length of the latent vector.")
    base_channels: int = Field(default=16, ge=1, description="Channels of the first level.")
    depth: int = Field(default=4, ge=1, le=4, description="Levels; each halves rows and columns.")
    epochs: int = Field(default=16, ge=1, description="Passes over the training tiles.")
    batch_size: int = Field(default=32, ge=1, description="Tiles per step.")
    learning_rate: float = Field(default=3e-3, gt=0, description="Of the Adam optimizer, at the peak of one cycle.")
    n_neighbors: int = Field(default=15, ge=2, description="UMAP: neighbors per tile.")
    min_dist: float = Field(default=0.1, ge=0, le=1, description="UMAP: least distance of points on the map.")
    min_cluster_size: int = Field(default=100, ge=2, description="HDBSCAN: tiles that make a cluster.")
    min_samples: int = Field(default=20, ge=1, description="HDBSCAN: neighbors that make a place dense.")
    seed: int = Field(default=0, ge=0, description="Of tiles, weights, training and map.")
    device: Literal["auto", "cpu", "cuda"] = Field(default="auto", description="'auto': a GPU where there is one.")
    checkpoint_s: float = Field(default=15.0, ge=0, description="Seconds between checkpoints of the training.")
    max_minutes: float = Field(default=120.0, gt=0, description="Longest training; run again, it goes on.")
