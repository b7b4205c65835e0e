"""Settings of a training for the model registry; what is left empty is taken from the preset."""

from typing import Any, Literal

from pydantic import Field, PositiveInt

from tasks.settings.base import Settings

NetworkName = Literal["TUNet", "MSDNet", "PartialConvUNet", "ConvAutoencoder"]
PresetName = Literal["quick", "paper"]


class InpaintingTraining(Settings):
    """How an inpainting model is trained; empty fields are what the preset says for the network.

    'quick': minutes on two cores; the network corrects a linear interpolation, learns from part of the tiles and sees
    crops of them. 'paper': as in Chavez et al. 2022, appendix A; hours on a GPU.
    """

    network_settings: dict[str, Any] = Field(
        default={}, description="Keyword arguments of the network, over those of the preset: {'depth': 4}."
    )
    prefill: Literal["linear", "zero"] | None = Field(
        default=None,
        description="What stands in gaps before the network: 'linear' interpolation, which the network corrects "
        "(quick), or 'zero' (paper).",
    )
    tile_shape: tuple[PositiveInt, PositiveInt] | None = Field(
        default=None,
        description="Rows and columns of a tile, in pixels of `normalized`. Empty: all rows of the frame, 128 columns "
        "(quick); 512 x 128 (paper).",
    )
    tile_step: tuple[PositiveInt, PositiveInt] | None = Field(
        default=None,
        description="Distance between neighboring tiles in rows and columns. Empty: a tile in rows, half in columns.",
    )
    crop_rows: int | None = Field(
        default=None, ge=0, description="Rows of a tile seen per step, at a random place; 0: all. Quick: 64; paper: 0."
    )
    max_tiles: int | None = Field(
        default=None,
        ge=0,
        description="Tiles to train on, taken evenly over the training frames; 0: all. Quick: 240; paper: 0.",
    )
    max_validation_tiles: int | None = Field(
        default=None, ge=1, description="Tiles on which the best epoch is chosen. Quick: 24; paper: 600."
    )
    epochs: int | None = Field(default=None, ge=1, description="Passes over the training tiles. Quick: 30; paper: 300.")
    batch_size: int | None = Field(
        default=None,
        ge=1,
        description="Tiles per step. Quick: 8; paper: 50 to 180 by the network's size, MSDNet 6 to 30.",
    )
    learning_rate: float | None = Field(
        default=None,
        gt=0,
        description="Of the Adam optimizer, at the start. Quick: 3e-3; paper: 1e-3; a third of it with start_from.",
    )
    falls: tuple[float, ...] | None = Field(
        default=None,
        description="Shares of the epochs after which the learning rate is multiplied by `decay`. "
        "Quick: 0.6, 0.85; paper: 1/3, 2/3.",
    )
    decay: float | None = Field(default=None, gt=0, le=1, description="Quick: 0.3; paper: 0.1.")
    gradient_clip: float | None = Field(
        default=None, ge=0, description="Largest norm of all gradients together; 0: no limit. Quick: 1; paper: 0."
    )
    patience: int | None = Field(
        default=None,
        ge=0,
        description="Stop after this many epochs that brought nothing better; 0: never. Quick: 8; paper: 60.",
    )
    precision: Literal["32-true", "bf16-mixed"] = Field(
        default="32-true", description="'bf16-mixed': half the memory and faster on newer GPUs; a little less exact."
    )
    validation_share: float = Field(
        default=0.15, gt=0, lt=0.5, description="Share of the frames on which the best epoch is chosen."
    )
    test_share: float = Field(
        default=0.15,
        gt=0,
        lt=0.5,
        description="Share of the frames that have no part in the training, for the figures.",
    )
    judged_frames: int = Field(
        default=32,
        ge=1,
        description="Most frames on which the finished model is measured, evenly over the test frames.",
    )
    seed: int = Field(default=0, ge=0, description="Of the split of frames, weights, data order and artificial gaps.")
    device: Literal["auto", "cpu", "cuda"] = Field(default="auto", description="'auto': a GPU where there is one.")
    memory_gib: float = Field(
        default=4.0, ge=0, description="Tiles of more than this are read from the store as they are needed."
    )
    checkpoint_s: float = Field(
        default=15.0,
        ge=0,
        description="Seconds between checkpoints, from which a killed training goes on; 0: each step.",
    )
    max_minutes: float = Field(
        default=24 * 60.0,
        gt=0,
        description="Training that takes longer fails, and goes on where it was when run again with more.",
    )
