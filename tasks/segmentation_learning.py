"""What a segmenting network learns from and is judged on: images, labels, which of them for what, and the tiles."""

import hashlib
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dlsia_core.errors import ArrayError, SettingError
from dlsia_core.losses import CrossEntropy
from dlsia_core.segmentation import SegmentationRecipe, Window
from dlsia_core.segmentation.label_split import LabelSplit, split_labels
from dlsia_core.segmentation.learning_tiles import tile_label, windows_with
from dlsia_core.segmentation.recipe import intensity_scale
from dlsia_core.splits import class_weights
from dlsia_core.training import Augmented, Disturbed, Examples, LabeledExamples
from tasks.errors import SettingsError
from tasks.segmentation_plan import SegmentationPlan
from tasks.settings.base import digest
from tasks.settings.segmentation import LabelMeaning, VolumeReading
from tasks.volumes import Labels, Volume, open_volume, read_labels

SCALE_SLICES = 16
"""Evenly over the images, that tell center and scale."""
IGNORE = 255


class Learning:
    """Images and labels of one training, and all that follows from them and the plan.

    No dataclass, so that Prefect, to which tasks are given it, does not walk through its arrays.
    """

    def __init__(self, images: Volume, labels: Labels, plan: SegmentationPlan, stacked: str) -> None:
        self.images, self.labels, self.plan = images, labels, plan
        numbers = np.unique(np.linspace(0, images.shape[0] - 1, SCALE_SLICES).round().astype(int)).tolist()
        try:
            center, scale = intensity_scale(images.read_slice(number) for number in numbers)
            self.recipe: SegmentationRecipe = plan.recipe(labels.names, images.shape, center, scale)
            self.split: LabelSplit = split_labels(
                labels.label,
                plan.shares,
                guard=plan.given.guard,
                seed=plan.given.seed,
                block=plan.given.block,
                separate=stacked == "separate",
            )
        except (ArrayError, SettingError) as error:
            raise SettingsError(f"images and labels cannot be shared out or scaled: {error}") from error
        self._windows = self.recipe.windows(images.shape)
        self._require_memory()

    @cached_property
    def training(self) -> Examples:
        """Tiles to learn from, mirrored, turned and disturbed at random as asked for."""
        given, (height, width) = self.plan.given, self.recipe.tile_shape[-2:]
        tiles: Examples = self._examples("training", self.plan.values["max_tiles"])
        if given.augment:
            tiles = Augmented(tiles, given.seed, rotations=height == width, stacked=bool(given.context))
        if given.contrast_jitter or given.brightness_jitter or given.imitated_rings:
            jitter = given.contrast_jitter, given.brightness_jitter
            tiles = Disturbed(tiles, given.seed, *jitter, given.imitated_rings, given.ring_gray)
        return tiles

    @cached_property
    def validation(self) -> Examples | None:
        """Tiles to choose the best epoch on; None where there is no such set."""
        if not self.split.pixels["validation"]:
            return None
        return self._examples("validation", self.plan.values["max_tiles"])

    @cached_property
    def judged(self) -> list[Window]:
        """Windows with labels for calibration and test."""
        there = self.split.where("calibration", "test")
        return windows_with(there, self._windows, self.plan.given.judged_tiles, self.plan.given.seed)

    @cached_property
    def loss(self) -> CrossEntropy:
        """Cross entropy with the class weights that were asked for, found on the training labels."""
        asked, classes = self.plan.given.class_weights, len(self.labels.names)
        if asked == "none":
            return CrossEntropy()
        if isinstance(asked, str):
            label = np.where(self.split.where("training"), self.labels.label, np.uint8(IGNORE))
            return CrossEntropy(tuple(map(float, class_weights(label, classes, asked))))
        if len(asked) != classes:
            raise SettingsError(f"training.class_weights is {asked}; there are {classes} classes: {self.labels.names}")
        return CrossEntropy(tuple(asked))

    @cached_property
    def digest(self) -> str:
        """Names the pixels: labels, what they are used for, and the slices that have any."""
        found = hashlib.sha256(self.labels.label.tobytes())
        found.update(self.split.sets.tobytes())
        for number in np.flatnonzero((self.labels.label != IGNORE).any(axis=(1, 2))).tolist():
            found.update(np.ascontiguousarray(self.images.read_slice(number)).data)
        return digest([found.hexdigest(), list(self.images.shape), self.recipe.to_dict()])

    @property
    def facts(self) -> dict[str, Any]:
        """What a model should say of what it was trained on."""
        split = self.split
        return {
            "images": self.images.source,
            "shape": list(self.images.shape),
            "dtype": str(self.images.dtype),
            "labelled": self.labels.pixels,
            "values": self.labels.meaning.said,
            "pixels": split.pixels,
            "block_px": split.block,
            "guard_px": split.guard,
            "notes": [*split.notes, *self._unused],
        }

    @property
    def _unused(self) -> list[str]:
        """What is labelled to be learned from, and is not, for want of time."""
        there, most = self.split.where("training"), self.plan.values["max_tiles"]
        found, used = windows_with(there, self._windows), windows_with(there, self._windows, most, self.plan.given.seed)
        if len(used) == len(found):
            return []
        pixels = sum(int(there[window.inner].sum()) for window in used)
        return [
            f"{len(used)} of {len(found)} tiles with labels are learned from (training.max_tiles), which hold "
            f"{pixels / there.sum():.0%} of the labelled pixels; 0 takes all."
        ]

    def read(self, window: Window) -> NDArray[Any]:
        """What the network sees of a window, as stored."""
        depth, rows, columns = window.outer
        return self.recipe.tile(self.images.read(depth.start, depth.stop)[:, rows, columns], window)

    def _examples(self, name: str, most: int) -> LabeledExamples:
        there = self.split.where(name)
        chosen = windows_with(there, self._windows, most, self.plan.given.seed)
        images = np.stack([self.recipe.inputs(self.read(window)) for window in chosen])
        labels = [tile_label(self.labels.label, there, window) for window in chosen]
        if self.recipe.ndim == 3:
            return LabeledExamples(images[:, None], np.stack(labels))
        answered = [window.inner_in_outer[0].start for window in chosen]
        return LabeledExamples(images, np.stack([tile[z] for tile, z in zip(labels, answered, strict=True)]))

    def _require_memory(self) -> None:
        most = self.plan.values["max_tiles"]
        count = len(windows_with(self.split.where("training"), self._windows, most))
        _, height, width = self.recipe.spatial_tile
        needed = count * height * width * self.recipe.seen_slices * 5 / 2**30
        if needed > self.plan.given.memory_gib:
            raise SettingsError(
                f"{count:,} training tiles of {self.recipe.tile_shape} px need {needed:.1f} GiB, more than "
                f"training.memory_gib = {self.plan.given.memory_gib:g}; set training.max_tiles, or allow more"
            )


def learning_of(
    images: str, labels: str, meaning: LabelMeaning, reading: VolumeReading, plan: SegmentationPlan
) -> Learning:
    """Look at images and labels, and refuse what nothing can be learned from, before anything is trained."""
    volume = open_volume(images, reading.images_dataset, reading.stacked)
    if plan.given.dimensions == 3 and (reading.stacked == "separate" or volume.shape[0] == 1):
        what = "separate images" if volume.shape[0] > 1 else "one image"
        raise SettingsError(
            f"training.dimensions is 3, and {images} is {what}, in which nothing lies above or below; give a volume, "
            "or dimensions = 2"
        )
    if plan.given.context and reading.stacked == "separate":
        raise SettingsError(
            f"training.context is {plan.given.context}, and {images} is separate images, in which nothing lies above "
            "or below; give a volume, or context = 0"
        )
    found = read_labels(labels, reading.labels_dataset, volume, meaning)
    return Learning(volume, found, plan, reading.stacked)
