"""Settings of the stages behind ingest; each stage's result is stored with the settings that made it."""

from typing import Literal, Self

from pydantic import Field, PositiveInt, model_validator

from dlsia_core.intensity import IntensityScale, LinearScale, LogScale
from dlsia_core.tiling import TileGrid
from tasks.settings.base import Settings

PAPER_TILE_COLUMNS = 128
"""Chavez et al. 2022, section 2.1."""


class NormalizeSettings(Settings):
    """How `counts` become `normalized`: resized first, then scaled; NaN where nothing was measured."""

    shape: tuple[PositiveInt, PositiveInt] | None = Field(
        default=(512, 512), description="Rows and columns of the result; empty: the detector's own resolution."
    )
    resize: Literal["area", "bicubic"] = Field(
        default="area",
        description="'area': mean over measured pixels only. 'bicubic': as in the papers; smears the edges of gaps.",
    )
    min_coverage: float = Field(
        default=0.5, gt=0, le=1, description="Share of a resized pixel's area that must be measured for it to count."
    )
    scale: Literal["log", "linear"] = Field(
        default="log",
        description="'log': log(1 + counts / unit) / log(1 + ceiling / unit); 'linear': counts / ceiling.",
    )
    unit_counts: float = Field(
        default=1.0, gt=0, description="Counts at which the log scale turns from linear to logarithmic; log only."
    )
    ceiling_counts: float = Field(
        default=2.0**20, gt=0, description="Counts that become 1. Larger ones are kept and exceed 1."
    )

    def intensity_scale(self) -> IntensityScale:
        """The scale with its constants."""
        if self.scale == "linear":
            return LinearScale(ceiling_counts=self.ceiling_counts)
        return LogScale(self.unit_counts, self.ceiling_counts)


class TileSettings(Settings):
    """How frames are cut into overlapping tiles; the last tile of a row or column is flush with the border.

    Left empty, tiles follow the frames: 512 x 128 with step 64 on frames of 512 x 512, as in the papers.
    """

    shape: tuple[PositiveInt, PositiveInt] | None = Field(
        default=None,
        description="Rows and columns of a tile, in pixels of `normalized`. Empty: all rows of the frame, 128 columns.",
    )
    step: tuple[PositiveInt, PositiveInt] | None = Field(
        default=None,
        description="Distance between neighboring tiles in rows and columns; at most the shape. "
        "Empty: a whole tile in rows, half a tile in columns.",
    )

    def grid(self, frame_shape: tuple[int, int]) -> TileGrid:
        """Where tiles lie on frames of (row, column).

        Raises `ArrayError` or `SettingError` for tiles that do not fit or leave pixels out.

        >>> grid = TileSettings().grid((512, 512))
        >>> grid.tile_shape, grid.step, grid.n_tiles
        ((512, 128), (512, 64), 7)
        >>> TileSettings().grid((1679, 100)).tile_shape
        (1679, 100)
        """
        shape = self.shape or (frame_shape[0], min(frame_shape[1], PAPER_TILE_COLUMNS))
        step = self.step or (shape[0], max(1, shape[1] // 2))
        return TileGrid(frame_shape, shape, step)


class TrainSettings(Settings):
    """How a small inpainting network is trained on the scan's own measured pixels, where no model is given."""

    ready_models: bool = Field(
        default=True,
        description="Use a model that comes with the project instead, where it was trained on such a detector, scale "
        "and size, and on frames like these. Off: always train on the scan.",
    )
    depth: int = Field(default=3, ge=1, le=8, description="Levels of the TUNet.")
    base_channels: int = Field(default=8, ge=1, description="Channels of the first level.")
    growth_rate: float = Field(default=2.0, gt=0, description="Channels of a level over those of the one above.")
    prefill: Literal["linear", "zero"] = Field(
        default="linear",
        description="What stands in gaps before the network: 'linear' interpolation, which the network corrects, "
        "or 'zero', as in the papers.",
    )
    max_tiles: int = Field(default=72, ge=1, description="Tiles to train on, taken evenly over the scan.")
    crop_rows: PositiveInt | None = Field(
        default=64,
        description="Rows of a tile seen per step, at a random place; a crop trains as well and faster. Empty: all.",
    )
    epochs: int = Field(
        default=12,
        ge=1,
        description="Passes over the training tiles, each over as many pixels as they have; the learning rate falls to "
        "0.3 of itself after 60 % and 85 % of them.",
    )
    batch_size: int = Field(default=8, ge=1, description="Tiles per step.")
    learning_rate: float = Field(default=3e-3, gt=0, description="Of the Adam optimizer.")
    validation_share: float = Field(
        default=0.15, gt=0, lt=1, description="Share of the tiles kept for choosing the best weights."
    )
    seed: int = Field(default=0, ge=0, description="Of weights, data order and artificial gaps.")
    checkpoint_s: float = Field(
        default=15.0,
        ge=0,
        description="Seconds between checkpoints, from which a killed training goes on; 0: each step.",
    )
    max_minutes: float = Field(
        default=120.0, gt=0, description="Training that takes longer fails, and goes on where it was when run again."
    )


class InferSettings(Settings):
    """How tiles go through the network. The numbers do not depend on these settings."""

    device: Literal["auto", "cpu", "cuda"] = Field(default="auto", description="'auto': a GPU where there is one.")
    batch_size: int = Field(default=14, ge=1, description="Tiles per forward pass; lower it if memory runs out.")


class StitchSettings(Settings):
    """How overlapping predictions become one frame."""

    window: Literal["box", "hann", "gaussian"] = Field(
        default="box", description="Weights over a tile: 'box' averages as in the paper; the others fade at borders."
    )
    reach_px: float = Field(
        default=24.0,
        gt=0,
        description="Farthest distance from a measured pixel, in detector pixels, at which a value is filled in; "
        "farther pixels are 'dead' and stay empty. The gaps of PILATUS and EIGER need up to 19.",
    )


class EncodeSettings(Settings):
    """How frames become latent vectors, by a convolutional autoencoder trained on the scan itself."""

    latent: int = Field(default=16, ge=1, description="Length of the latent vector.")
    pooled_shape: tuple[PositiveInt, PositiveInt] = Field(
        default=(128, 128), description="Rows and columns to which frames are averaged before they are encoded."
    )
    base_channels: int = Field(default=8, ge=1, description="Channels of the first level.")
    depth: int = Field(default=4, ge=1, le=7, description="Levels; each halves rows and columns.")
    max_frames: int = Field(default=512, ge=2, description="Frames to train on, taken evenly over the scan.")
    epochs: int = Field(default=60, ge=1, description="Passes over the training frames.")
    batch_size: int = Field(default=16, ge=1, description="Frames per step.")
    learning_rate: float = Field(default=2e-3, gt=0, description="Of the Adam optimizer.")
    seed: int = Field(default=0, ge=0, description="Of weights and data order.")
    checkpoint_s: float = Field(default=15.0, ge=0, description="As for training.")
    max_minutes: float = Field(default=120.0, gt=0, description="As for training.")


class ClusterSettings(Settings):
    """How latent vectors become a map and clusters."""

    n_neighbors: int = Field(default=15, ge=2, description="UMAP: neighbors per frame; fewer where the scan is short.")
    min_dist: float = Field(default=0.1, ge=0, le=1, description="UMAP: least distance of points on the map.")
    min_cluster_size: int = Field(default=5, ge=2, description="HDBSCAN: frames that make a cluster.")
    min_frames: int = Field(default=8, ge=4, description="Shorter scans get no map.")
    seed: int = Field(default=0, ge=0, description="Of the map.")

    @model_validator(mode="after")
    def _long_enough(self) -> Self:
        if self.min_frames < self.min_cluster_size:
            raise ValueError(
                f"min_frames is {self.min_frames} and min_cluster_size {self.min_cluster_size}: a scan that gets a map "
                "must have frames for a cluster; raise min_frames or lower min_cluster_size"
            )
        return self
