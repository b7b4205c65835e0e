"""Settings of a study of latent spaces."""

from typing import Literal

from pydantic import Field

from tasks.settings.base import Settings
from tasks.settings.comparison import CompareSettings
from tasks.settings.stages import EncodeSettings


class StudyEncoder(EncodeSettings):
    """The autoencoder of each latent space; the same network and training for all, so that only the frames differ."""

    latent: int = Field(default=200, ge=1, description="Length of the latent vector; 200 as in the paper.")
    max_frames: int = Field(default=4096, ge=2, description="Frames to train on, taken evenly over those studied.")


class StudySettings(Settings):
    """Which frames are studied, and how neighbors are counted."""

    encoder: StudyEncoder = Field(default=StudyEncoder(), description="The autoencoder of each latent space.")
    neighbors: int = Field(
        default=100,
        ge=1,
        description="Nearest neighbors of a frame that are looked at; with no more frames than that a quarter of the "
        "other frames, which the report says.",
    )
    masked_fill: Literal["zero", "mean"] = Field(
        default="zero",
        description="What stands in the gaps of masked frames, in units of `normalized`: 'zero', or the 'mean' of what "
        "the frame measured.",
    )
    max_frames: int = Field(
        default=1000, ge=0, description="Most frames to study, taken evenly over those held out; 0: all of them."
    )
    shift_px: tuple[int, int] | None = Field(
        default=None,
        description="Rows and columns by which the scattering lies further down and right in the second exposure. "
        "Empty: found for each pair from its frames.",
    )
    largest_shift_px: int = Field(default=64, ge=1, description="Longest shift that is looked for, in detector pixels.")
    flux: Literal["auto", "keep", "scale"] = Field(
        default="auto", description="Counts from the second exposure, as for compare_inpainting."
    )
    seed: int = Field(default=0, ge=0, description="Of the artificial gaps and of the bootstrap.")
    resamples: int = Field(default=1000, ge=1, le=100_000, description="Draws of frames for each interval.")
    confidence: float = Field(default=0.95, gt=0, lt=1, description="Of the intervals.")
    device: Literal["auto", "cpu", "cuda"] = Field(default="auto", description="'auto': a GPU where there is one.")
    batch_size: int = Field(default=14, ge=1, description="Tiles per forward pass; lower it if memory runs out.")
    batch_frames: int = Field(
        default=32, ge=1, le=256, description="Frames per task run: the unit of retry, progress and going on."
    )

    @property
    def compare(self) -> CompareSettings:
        """How frames, models and second exposures are chosen: as for a comparison."""
        same = ("max_frames", "shift_px", "largest_shift_px", "flux", "seed", "device", "batch_size", "batch_frames")
        return CompareSettings(**self.model_dump(include=set(same)), methods=("linear",), noise_floor=False)
