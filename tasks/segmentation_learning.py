"""What a segmenting network learns from and is judged on: images, labels, which of them for what, and the tiles."""

import hashlib
from collections.abc import Sequence
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dlsia_core.errors import ArrayError, SettingError
from dlsia_core.losses import CrossEntropy
from dlsia_core.rings import RingFilter
from dlsia_core.segmentation import SegmentationRecipe, Window
from dlsia_core.segmentation.cuts import ORDERS, Cut, turned_shape
from dlsia_core.segmentation.label_split import LabelSplit, split_labels
from dlsia_core.segmentation.learning_tiles import drawn, tile_label, windows_with
from dlsia_core.segmentation.recipe import intensity_scale
from dlsia_core.splits import class_weights
from dlsia_core.training import Augmented, Disturbed, Examples, LabeledExamples, Warped
from tasks.errors import SettingsError
from tasks.segmentation_plan import SegmentationPlan
from tasks.settings.base import digest
from tasks.settings.segmentation import LabelMeaning, VolumeReading
from tasks.volumes import Labels, Volume, open_volume, read_labels, ring_filter, without_rings

SCALE_SLICES = 16
"""Evenly over the images, that tell center and scale."""
IGNORE = 255


class Learning:
    """Images and labels of one training, and all that follows from them and the plan.

    rings: what took ring artifacts out of the images, if anything did.
    No dataclass, so that Prefect, to which tasks are given it, does not walk through its arrays.
    """

    def __init__(
        self, images: Volume, labels: Labels, plan: SegmentationPlan, stacked: str, rings: RingFilter | None = None
    ) -> None:
        self.images, self.labels, self.plan, self.rings = images, labels, plan, rings
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
        self._orders = ORDERS[plan.given.planes]
        self._require_depth()
        self._require_memory()

    @cached_property
    def training(self) -> Examples:
        """Tiles to learn from, mirrored, turned, warped and disturbed at random as asked for."""
        given, (height, width) = self.plan.given, self.recipe.tile_shape[-2:]
        tiles: Examples = self._examples("training", self._drawn(self._training_cuts))
        if given.augment:
            tiles = Augmented(tiles, given.seed, rotations=height == width, stacked=bool(given.context))
        if given.turn_deg or given.stretch or given.bend_px:
            tiles = Warped(tiles, given.seed, given.turn_deg, given.stretch, given.bend_px)
        if given.contrast_jitter or given.brightness_jitter or given.imitated_rings:
            jitter = given.contrast_jitter, given.brightness_jitter
            tiles = Disturbed(tiles, given.seed, *jitter, given.imitated_rings, given.ring_gray)
        return tiles

    @cached_property
    def validation(self) -> Examples | None:
        """Tiles to choose the best epoch on; None where there is no such set."""
        if not self.split.pixels["validation"]:
            return None
        return self._examples("validation", self._validation_cuts)

    @cached_property
    def judged(self) -> list[Window]:
        """Windows with labels for the test."""
        found = windows_with(self.split.where("test"), self.recipe.windows(self.images.shape))
        return drawn(found, self.plan.given.judged_tiles, self.plan.given.seed)

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
        """Names the pixels: labels, what they are used for, and the slices that are seen."""
        found = hashlib.sha256(self.labels.label.tobytes())
        found.update(self.split.sets.tobytes())
        cuts = [*self._drawn(self._training_cuts), *self._validation_cuts, *(Cut(window) for window in self.judged)]
        seen = {number for cut in cuts for number in range(cut.box[0].start, cut.box[0].stop)}
        for number in sorted(seen):
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
            "rings": None if self.rings is None else self.rings.to_dict(),
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
        found, used, there = self._training_cuts, self._drawn(self._training_cuts), self.split.where("training")
        if len(used) == len(found):
            return []
        seen = np.zeros(there.shape, bool)
        for cut in used:
            cut.turned(seen)[cut.window.inner] = True
        return [
            f"{len(used)} of {len(found)} tiles with labels are learned from (training.max_tiles), which hold "
            f"{(seen & there).sum() / there.sum():.0%} of the labelled pixels; 0 takes all."
        ]

    def read(self, window: Window) -> NDArray[Any]:
        """What the network sees of a window, as stored."""
        depth, rows, columns = window.outer
        return self.recipe.tile(self.images.read(depth.start, depth.stop)[:, rows, columns], window)

    @cached_property
    def _training_cuts(self) -> list[Cut]:
        return self._cuts("training", self._orders)

    @cached_property
    def _validation_cuts(self) -> list[Cut]:
        """Always in the slices, as the model is used."""
        return self._drawn(self._cuts("validation", ORDERS["slices"]))

    def _cuts(self, name: str, orders: Sequence[tuple[int, int, int]]) -> list[Cut]:
        """All tiles that hold labels of a set, from every side that is asked for."""
        there, shape = self.split.where(name), self.images.shape
        return [
            Cut(window, order)
            for order in orders
            for window in windows_with(there.transpose(order), self.recipe.windows(turned_shape(shape, order)))
        ]

    def _drawn(self, cuts: list[Cut]) -> list[Cut]:
        return drawn(cuts, self.plan.values["max_tiles"], self.plan.given.seed)

    def _examples(self, name: str, cuts: list[Cut]) -> LabeledExamples:
        there = self.split.where(name)
        images = np.empty((len(cuts), self.recipe.seen_slices, *self.recipe.tile_shape[-2:]), np.float32)
        for number, part in self.images.boxes([cut.box for cut in cuts]):
            cut = cuts[number]
            images[number] = self.recipe.inputs(self.recipe.tile(cut.turned(part), cut.window))
        labels = [tile_label(self.labels.label, there, cut) for cut in cuts]
        if self.recipe.ndim == 3:
            return LabeledExamples(images[:, None], np.stack(labels))
        answered = [cut.window.inner_in_tile[0].start for cut in cuts]
        return LabeledExamples(images, np.stack([tile[z] for tile, z in zip(labels, answered, strict=True)]))

    def _require_depth(self) -> None:
        """Refuse a volume that is too thin to be cut across from its other sides."""
        tile = self.recipe.spatial_tile
        for order in self._orders:
            shape = turned_shape(self.images.shape, order)
            if any(have < size for have, size in zip(shape, tile, strict=True)):
                raise SettingsError(
                    f"training.planes is {self.plan.given.planes!r}, and {self.images.source} is of "
                    f"{' x '.join(map(str, self.images.shape))} voxels, in which tiles of "
                    f"{' x '.join(map(str, self.recipe.tile_shape))} px do not fit from each side; give a smaller "
                    "training.tile_shape, or planes = 'slices'"
                )

    def _require_memory(self) -> None:
        count = len(self._drawn(self._training_cuts))
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
    neighbors = {"context": 0, "planes": "slices"}
    for key, alone in neighbors.items():
        if getattr(plan.given, key) != alone and reading.stacked == "separate":
            raise SettingsError(
                f"training.{key} is {getattr(plan.given, key)!r}, and {images} is separate images, in which nothing "
                f"lies above or below; give a volume, or {key} = {alone!r}"
            )
    found = read_labels(labels, reading.labels_dataset, volume, meaning)
    rings = ring_filter(volume, reading.rings)
    if rings is not None:
        volume = without_rings(volume, rings)
    return Learning(volume, found, plan, reading.stacked, rings)
