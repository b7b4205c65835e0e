"""Settings of segmentation: what labels mean, how images are read, how a model is trained."""

from typing import Any, Literal, Self

from pydantic import Field, PositiveInt, model_validator

from dlsia_core.segmentation.cuts import Planes
from tasks.settings.base import Settings

Stacked = Literal["volume", "separate"]
SegmentingNetwork = Literal["SMSNet ensemble", "TUNet", "TUNet3Plus", "MSDNet"]
Preset = Literal["quick", "paper"]
REST = "rest"


class LabelMeaning(Settings):
    """What the values of labels stand for. Unlabelled pixels teach nothing; they are not background."""

    classes: dict[str, int | tuple[int, ...] | Literal["rest"]] | None = Field(
        default=None,
        description="Values of each class, by its name, in the order of the classes, background first (segment_volume "
        "takes the first for it): {'background': 2, 'bead': 1}. "
        "'rest': all values that are not named, for labels that number objects: {'background': 0, 'nucleus': 'rest'}. "
        "Empty: each value is a class, in rising order.",
    )
    unlabelled: int | Literal["auto"] | None = Field(
        default="auto",
        description="The value of pixels that nobody labelled; empty (None): every pixel is labelled. 'auto': 255 or "
        "-1 where it occurs, else 0; with `classes`, whichever of them is no class.",
    )

    @model_validator(mode="after")
    def _clear(self) -> Self:
        if self.classes is None:
            return self
        if len(self.classes) < 2:
            raise ValueError(f"classes are {self.classes}; a network needs two or more, background among them")
        given = [value for values in self.classes.values() for value in values_of(values)]
        if len(set(given)) != len(given):
            raise ValueError(f"classes are {self.classes}; a value can be of one class only")
        if sum(values == REST for values in self.classes.values()) > 1:
            raise ValueError(f"classes are {self.classes}; only one of them can be the rest")
        if self.unlabelled in given:
            raise ValueError(f"{self.unlabelled} is a class and unlabelled; it can be one of both only")
        return self


class RingSettings(Settings):
    """Ring artifacts of tomography, and whether they are taken out of slices before a network sees them."""

    remove: bool | None = Field(
        default=None,
        description="Take out what is brighter or darker all around the axis of rotation. Empty: if the center is "
        "given, or the model learned from images without rings.",
    )
    center: tuple[float, float] | None = Field(
        default=None,
        description="Row and column of the axis of rotation in px. Empty: found by the rings, within a tenth of the "
        "slice from its middle.",
    )
    width: int | None = Field(
        default=None,
        ge=3,
        description="Pixels of the median along the radius that rings are measured against, odd: twice the widest "
        "ring or more. Rings within a quarter of it from the axis stay. Empty: that of the model's training, else 31.",
    )

    @model_validator(mode="after")
    def _used(self) -> Self:
        if self.width is not None and self.width % 2 == 0:
            raise ValueError(f"rings.width is {self.width} px; give an odd number")
        if self.remove is False and self.center is not None:
            raise ValueError(f"rings.center is {self.center}, and rings.remove is off; leave one of them out")
        return self


class VolumeReading(Settings):
    """How images and labels are read."""

    images_dataset: str | None = Field(
        default=None, description="Array inside a Zarr group or HDF5 file. Empty: the only one; `inpainted` of a scan."
    )
    labels_dataset: str | None = Field(default=None, description="The same for the labels.")
    stacked: Stacked = Field(
        default="volume",
        description="'volume': slices are neighbors in space, and none may be missing. 'separate': single images of "
        "one size.",
    )
    rings: RingSettings = Field(default=RingSettings(), description="Ring artifacts of tomography.")


class SegmentationTraining(Settings):
    """How a segmenting model is trained; empty fields are what the preset says.

    'quick': minutes on two cores. 'paper': five networks of about 45,000 weights as in Roberts et al. 2024, §4.2, tiles
    of 256 px and 300 epochs, for a GPU.
    """

    dimensions: Literal[2, 3] = Field(default=2, description="2: slice by slice. 3: the network sees volumes.")
    context: int = Field(
        default=0,
        ge=0,
        le=16,
        description="With 2 dimensions: slices above and below that the network sees besides the one that it labels. "
        "They tell a fibre that is cut across from a pore, at little more cost than the slice alone.",
    )
    planes: Planes = Field(
        default="slices",
        description="'slices': training tiles lie in the slices. 'orthogonal': tiles are also cut across y and x, so "
        "that few labelled objects are seen along, across and on end, whichever way they lie. They may be many "
        "more, and an epoch as much longer. For volumes with cubic voxels; the model is used on slices as ever.",
    )
    members: int | None = Field(
        default=None,
        ge=1,
        description="Networks that answer together, each trained from random numbers of its own in a task run of its "
        "own. Where they disagree the model is unsure. Empty: 5 of an SMSNet ensemble, which has 2 or more; one of any "
        "other network.",
    )
    network_settings: dict[str, Any] = Field(
        default={}, description="Keyword arguments of the network (or of each member), over those of the preset."
    )
    tile_shape: tuple[PositiveInt, ...] | None = Field(
        default=None,
        description="Pixels (y, x), or (z, y, x) with 3 dimensions, that the network sees at once; smaller images are "
        "taken whole. Quick: 128 x 128 or 32 x 48 x 48; paper: 256 x 256 or 64 x 64 x 64.",
    )
    margin: int | None = Field(
        default=None,
        ge=0,
        description="Pixels at the border of a tile that are seen and not answered for. Quick: 16 (3 dimensions: 4); "
        "paper: 32 (8).",
    )
    max_tiles: int | None = Field(
        default=None,
        ge=0,
        description="Tiles with labels to train on, drawn at random; 0: all. Quick: 600; paper: 0.",
    )
    epochs: int | None = Field(
        default=None,
        ge=1,
        description="Passes over the training tiles. Quick: as many as make 400 steps, 4 to 200; paper: 300.",
    )
    batch_size: int | None = Field(default=None, ge=1, description="Tiles per step. Quick: 4; paper: 16.")
    learning_rate: float | None = Field(default=None, gt=0, description="Of Adam, at the start. Both: 3e-3 and 1e-3.")
    falls: tuple[float, ...] | None = Field(
        default=None, description="Shares of the epochs after which the learning rate is multiplied by `decay`."
    )
    decay: float | None = Field(default=None, gt=0, le=1, description="Quick: 0.3; paper: 0.1.")
    gradient_clip: float | None = Field(default=None, ge=0, description="Largest norm of all gradients; 0: no limit.")
    averaging: float = Field(
        default=0.0,
        ge=0,
        lt=1,
        description="Share of a running average of the weights that each step keeps; the average is the model. 0.99: "
        "of about the last 100 steps, which quiets the choice of the best epoch. 0: the weights themselves.",
    )
    patience: int | None = Field(
        default=None, ge=0, description="Stop after this many epochs without anything better; 0: never."
    )
    augment: bool = Field(default=True, description="Mirror and turn tiles at random.")
    turn_deg: float = Field(
        default=0.0,
        ge=0,
        le=180,
        description="Training tiles are turned at random in the plane (y, x), either way by up to this angle.",
    )
    stretch: float = Field(
        default=0.0,
        ge=0,
        le=0.5,
        description="Training tiles are stretched or shrunk at random: standard deviation of the logarithm of a factor "
        "along y, and of another along x.",
    )
    bend_px: float = Field(
        default=0.0,
        ge=0,
        le=10,
        description="Training tiles are bent at random: standard deviation of smooth displacements in px.",
    )
    contrast_jitter: float = Field(
        default=0.0,
        ge=0,
        le=1,
        description="Training tiles get another contrast at random: standard deviation of the logarithm of a factor.",
    )
    brightness_jitter: float = Field(
        default=0.0,
        ge=0,
        le=5,
        description="Training tiles get another brightness at random: standard deviation, in those of the images' "
        "values.",
    )
    imitated_rings: float = Field(
        default=0.0,
        ge=0,
        le=20,
        description="Ring artifacts drawn across each training tile, on average, so that the network learns that they "
        "are nothing; 1 for tomograms that have any.",
    )
    ring_gray: float = Field(
        default=1.0,
        ge=0,
        le=10,
        description="Standard deviation of their height, in those of the images' values.",
    )
    class_weights: Literal["none", "inverse", "effective", "median"] | tuple[float, ...] = Field(
        default="none",
        description="What a pixel of each class counts: 'none': all the same; 'inverse' to the labelled pixels of its "
        "class, 'effective', 'median' (see dlsia_core.splits.class_weights); or a number for each class.",
    )
    block: int | None = Field(
        default=None,
        ge=1,
        description="Side in px of the blocks that are shared out to training, validation and test. "
        "Empty: the largest of 64, 48, 32, 24, 16, 12, 8 that gives each set blocks enough of each class.",
    )
    guard: int = Field(default=4, ge=1, description="Pixels between two sets, so that they do not touch.")
    training_share: float = Field(default=0.5, gt=0, lt=1, description="Share of the blocks to learn from.")
    validation_share: float = Field(
        default=0.1,
        gt=0,
        lt=0.5,
        description="Share to choose the best epoch on. What is left is for the test, and to calibrate sets on.",
    )
    judged_tiles: int = Field(
        default=400, ge=1, description="Most tiles with held-out labels that are judged and calibrated on, at random."
    )
    coverage: float | None = Field(
        default=0.9, gt=0, lt=1, description="Promised share of pixels whose set holds the truth. Empty: no sets."
    )
    precision: Literal["32-true", "bf16-mixed"] = Field(default="32-true", description="bf16: faster on newer GPUs.")
    seed: int = Field(default=0, ge=0, description="Of the split, the random graphs, weights and order of tiles.")
    device: Literal["auto", "cpu", "cuda"] = Field(default="auto", description="'auto': a GPU where there is one.")
    memory_gib: float = Field(
        default=8.0, gt=0, description="More tiles than fit are refused; max_tiles takes some of them."
    )
    checkpoint_s: float = Field(default=15.0, ge=0, description="Seconds between checkpoints; 0: each step.")
    max_minutes: float = Field(
        default=24 * 60.0, gt=0, description="A member that takes longer fails, and goes on when run again with more."
    )

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if self.tile_shape is not None and len(self.tile_shape) != self.dimensions:
            raise ValueError(
                f"tile_shape is {self.tile_shape}; wanted {self.dimensions} numbers, as many as dimensions"
            )
        if self.context and self.dimensions == 3:
            raise ValueError(f"context is {self.context} slices; with 3 dimensions the network sees neighbors anyhow")
        if self.training_share + self.validation_share >= 1:
            raise ValueError("training and validation share out all blocks; leave some for the test")
        return self


def values_of(given: int | tuple[int, ...] | str) -> tuple[int, ...]:
    """The values that are named for a class; none for the rest.

    >>> values_of(3), values_of((1, 2)), values_of("rest")
    ((3,), (1, 2), ())
    """
    return () if isinstance(given, str) else (given,) if isinstance(given, int) else tuple(map(int, given))


class CoachSettings(Settings):
    """Which tiles are proposed for labelling."""

    count: int = Field(default=8, ge=1, le=1000, description="Tiles to propose.")
    side: int = Field(default=48, ge=1, description="Side of a tile in px.")
    distance: int = Field(default=16, ge=0, description="Pixels between tiles, and between tiles and what is labelled.")
    slices: int = Field(default=32, ge=1, description="Slices that are looked at, evenly over the volume.")
    device: Literal["auto", "cpu", "cuda"] = Field(default="auto", description="'auto': a GPU where there is one.")
