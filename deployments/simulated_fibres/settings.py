"""What a simulated volume of fibre-reinforced concrete is made of: every value that decides a voxel."""

from typing import Annotated, Self

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, model_validator

Side = Annotated[int, Field(ge=16, le=8192)]


class FibreSettings(BaseModel):
    """Everything that decides the volume, its truth and its sparse labels; frozen, unknown keys are refused.

    Lengths are in voxels; axes are (z, y, x). The default shows fibres of 0.02 volume fraction, each of about 6,500
    voxels, so that six of them with ten parts background to two parts fibre are about 235,000 labelled voxels.

    >>> FibreSettings(shape=(64, 64, 64), fibres=5, length=30.0, radius=2.0).mean_direction
    (0.2, 0.4, 1.0)
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    shape: tuple[Side, Side, Side] = Field(default=(256, 256, 256), description="Slices, rows and columns.")
    seed: int = Field(default=0, ge=0, description="Seed of everything.")
    voxel_size_um: float = Field(default=4.0, gt=0, description="Edge of a voxel in micrometers, for fibres.csv.")
    fibres: int = Field(default=60, ge=0, le=1_000_000, description="Number of fibres.")
    length: float = Field(default=130.0, gt=4, description="Mean length along a fibre.")
    length_spread: float = Field(
        default=0.2, ge=0, le=0.45, description="Standard deviation of the length over its mean; cut at 2.2 of them."
    )
    radius: float = Field(default=4.0, ge=1.0, le=50, description="Radius of a fibre.")
    bend: float = Field(
        default=0.6, ge=0, le=2.5, description="Largest angle, in radians, by which a fibre bends from end to end."
    )
    gap: float = Field(
        default=0.0, ge=0, description="Least distance between the surfaces of two fibres; 0: some touch by chance."
    )
    mean_direction: tuple[float, float, float] = Field(
        default=(0.2, 0.4, 1.0), description="Direction (z, y, x) that the fibres prefer; of any length but 0."
    )
    concentration: float = Field(
        default=2.0,
        ge=-50,
        le=50,
        description="k of the Watson distribution exp(k cos^2): 0: no preference, above: along the mean direction, "
        "below: across it.",
    )
    aggregate_fraction: float = Field(
        default=0.08, ge=0, le=0.3, description="Volume fraction of aggregates asked for."
    )
    aggregate_radius: float = Field(default=14.0, ge=2, description="Median radius of an aggregate.")
    pore_fraction: float = Field(default=0.015, ge=0, le=0.2, description="Volume fraction of air pores asked for.")
    pore_radius: float = Field(default=4.5, ge=1, description="Median radius of a pore.")
    matrix_gray: float = Field(default=0.55, ge=0, le=1, description="Gray of cement, of 0 to 1; air is 0.08.")
    fibre_gray: float = Field(default=0.30, ge=0, le=1, description="Gray of a fibre.")
    aggregate_gray: float = Field(default=0.70, ge=0, le=1, description="Mean gray of aggregates; each differs a bit.")
    texture: float = Field(default=0.025, ge=0, le=0.5, description="Standard deviation of the cement's own texture.")
    blur: float = Field(default=1.0, ge=0, le=5, description="Standard deviation of the point spread.")
    noise: float = Field(
        default=0.045,
        ge=0,
        le=1,
        description="Standard deviation of the noise, on the gray scale. With texture and blur the default is a tenth "
        "of the contrast between solid and air, as in a published micro-CT stack of sand (0.094).",
    )
    rings: int = Field(default=24, ge=0, le=10_000, description="Ring artifacts per 256 columns of the detector.")
    ring_gray: float = Field(default=0.05, ge=0, le=1, description="Standard deviation of the rings' gray.")
    cupping: float = Field(
        default=0.05, ge=0, le=0.5, description="How much darker the axis is than the rim, as by beam hardening."
    )
    label_fibres: int = Field(default=0, ge=0, description="Whole fibres that get sparse labels; 0: none are written.")
    label_ratio: float = Field(default=5.0, gt=0.2, description="Labelled voxels of background for one of fibre.")
    label_near: float = Field(
        default=0.5, gt=0, lt=1, description="Part of the labelled background that lies around the labelled fibres."
    )
    label_pores: float = Field(
        default=0.5,
        ge=0,
        le=1,
        description="Part of the other labelled background that is drawn over pores, which look like fibres cut "
        "across; 0: wherever chance puts it.",
    )

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if not np.isfinite(self.mean_direction).all() or not np.any(self.mean_direction):
            raise ValueError(f"mean_direction is {self.mean_direction}; give three numbers that are not all 0")
        if self.length < 3 * self.radius:
            raise ValueError(
                f"length is {self.length} and radius {self.radius}; give a length of at least three radii, "
                "or a smaller radius"
            )
        if self.label_fibres > self.fibres:
            raise ValueError(
                f"label_fibres is {self.label_fibres}, but there are only {self.fibres} fibres; give at most as many"
            )
        return self


def generator(settings: FibreSettings, *purpose: int) -> np.random.Generator:
    """Random numbers of one purpose: a function of the seed and the purpose alone."""
    return np.random.Generator(np.random.SFC64(np.random.SeedSequence([settings.seed, *purpose])))
