"""Settings of segment_volume: how a network looks at a volume, when a class counts, what an instance is."""

from typing import Literal

from pydantic import Field, PositiveFloat, PositiveInt

from dlsia_core.instances import SplitSettings
from tasks.settings.base import Settings
from tasks.settings.segmentation import RingSettings


class SegmentSettings(Settings):
    """How the volume is read, and how the network looks at it."""

    dataset: str | None = Field(
        default=None, description="Array inside a Zarr group or HDF5 file. Empty: the only one; `inpainted` of a scan."
    )
    rings: RingSettings = Field(default=RingSettings(), description="Ring artifacts of tomography.")
    voxel_size: tuple[PositiveFloat, PositiveFloat, PositiveFloat] | None = Field(
        default=None, description="Edges (z, y, x) of a voxel. Empty: as the store has it, else not known."
    )
    voxel_unit: str = Field(default="µm", min_length=1, description="Unit of the voxel size.")
    tile_shape: tuple[PositiveInt, ...] | None = Field(
        default=None,
        description="Pixels that the network sees at once: (y, x), or (z, y, x) for a network of volumes. Smaller "
        "volumes are taken whole. Empty: the model's, but at least 512 x 512, or 64 x 96 x 96: wider tiles are faster.",
    )
    slab_slices: int | None = Field(
        default=None,
        ge=1,
        description="Slices that are written together. Empty: as the store has it, else 16, fewer where slices are "
        "large. The numbers do not depend on it.",
    )
    device: Literal["auto", "cpu", "cuda"] = Field(default="auto", description="'auto': a GPU where there is one.")
    batch_size: int = Field(
        default=4, ge=1, description="Tiles per forward pass on a GPU; lower it if memory runs out."
    )
    memory_gib: float = Field(
        default=2.0,
        gt=0,
        description="Memory for tiles that are computed side by side on a CPU; one always is.",
    )


class RuleSettings(Settings):
    """When a class counts: where mean - k * standard deviation of the members exceeds the threshold."""

    k: float = Field(default=1.0, ge=0, description="Standard deviations that are taken off; 1 as in the paper.")
    threshold: float = Field(default=0.5, ge=0, lt=1, description="Of the probability that is left; 0.5 as there.")
    background: str | None = Field(
        default=None,
        description="Name of the class of all other voxels. Empty: 'background' if there is one, else the first class.",
    )


class SplitTouching(Settings):
    """How touching fibres are told apart, along their skeletons."""

    max_angle_deg: float = Field(
        default=35.0, gt=0, lt=90, description="Branches go on in each other where neither turns by more than this."
    )
    min_length: float = Field(default=3.0, gt=0, description="Shorter parts are bumps; in radii of the fibre.")
    max_voxels: int = Field(default=20_000_000, ge=1, description="Larger components are left whole, and reported.")

    max_box: int = Field(
        default=200_000_000,
        ge=1,
        description="The same for voxels of the bounding box, of which each takes 6 bytes while a component is split.",
    )

    @property
    def core(self) -> SplitSettings:
        """As the library takes it."""
        return SplitSettings(**self.model_dump())


class InstanceSettings(Settings):
    """What an instance is: connected voxels of all classes but the background, or of some of them."""

    enabled: bool = Field(default=True, description="Number instances, and measure them. Off: classes only.")
    classes: tuple[str, ...] | None = Field(
        default=None, description="Names of the classes whose voxels make instances. Empty: all but the background."
    )
    connectivity: Literal[6, 18, 26] = Field(
        default=26, description="Neighbors of a voxel: 6 across faces, 18 also across edges, 26 also across corners."
    )
    min_voxels: int = Field(default=50, ge=1, description="Smaller components are dust and left out; 1: none are.")
    split: SplitTouching | None = Field(
        default=SplitTouching(), description="How touching fibres are told apart. None: what is connected is one."
    )
