"""Settings of a comparison of inpainting methods."""

from typing import Literal

from pydantic import Field, field_validator

from dlsia_core.classical import CLASSICAL_METHODS
from dlsia_core.exposures import PairLimits
from tasks.settings.base import Settings


class CompareSettings(Settings):
    """What is compared with what, on which frames, and how sure the figures are to be."""

    methods: tuple[str, ...] | None = Field(
        default=None,
        description="Classical methods: biharmonic, linear, harmonic, azimuthal, azimuthal_harmonic. Empty: all, the "
        "azimuthal ones where the beam center is known.",
    )
    beam_center_px: Literal["header"] | tuple[float, float] | None = Field(
        default="header",
        description="Where the direct beam meets the detector, (y, x) in detector pixels, for the azimuthal methods; "
        "'header': as each frame's header says (Beam_xy); empty: not known.",
    )
    max_frames: int = Field(
        default=256, ge=0, description="Most frames to judge on, taken evenly over those held out; 0: all of them."
    )
    shift_px: tuple[int, int] | None = Field(
        default=None,
        description="Rows and columns by which the scattering lies further down and right in the second exposure. "
        "Empty: found for each pair from its frames.",
    )
    largest_shift_px: int = Field(default=64, ge=1, description="Longest shift that is looked for, in detector pixels.")
    flux: Literal["auto", "keep", "scale"] = Field(
        default="auto",
        description="Counts that fill gaps from the second exposure: 'keep', as recorded, which refuses pairs of "
        "unequal flux; 'scale', times the ratio of both exposures; 'auto', scaled where they are unequal, and says so.",
    )
    noise_floor: bool = Field(
        default=True, description="Compute the L1 that counting noise alone makes on the judged pixels (Poisson)."
    )
    seed: int = Field(default=0, ge=0, description="Of the artificial gaps and of the bootstrap.")
    resamples: int = Field(default=1000, ge=1, le=100_000, description="Draws of frames for each interval.")
    confidence: float = Field(default=0.95, gt=0, lt=1, description="Of the intervals.")
    shown_frames: int = Field(
        default=2, ge=0, le=8, description="Frames in the report's pictures, for each direction of gaps."
    )
    device: Literal["auto", "cpu", "cuda"] = Field(default="auto", description="'auto': a GPU where there is one.")
    batch_size: int = Field(default=14, ge=1, description="Tiles per forward pass; lower it if memory runs out.")
    batch_frames: int = Field(
        default=8, ge=1, le=256, description="Frames per task run: the unit of retry and progress; they lie in memory."
    )

    @field_validator("methods")
    @classmethod
    def _known(cls, given: tuple[str, ...] | None) -> tuple[str, ...] | None:
        unknown = [name for name in given or () if name not in CLASSICAL_METHODS]
        if unknown:
            raise ValueError(f"unknown classical methods {unknown}; known: {', '.join(CLASSICAL_METHODS)}")
        if len(set(given or ())) < len(given or ()):
            raise ValueError(f"methods are named twice: {list(given or ())}")
        return given

    @property
    def pair_limits(self) -> PairLimits:
        """What two frames must be to count as two exposures of one sample."""
        return PairLimits(largest_shift=self.largest_shift_px)
