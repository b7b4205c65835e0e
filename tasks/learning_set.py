"""What a model for the registry learns from: tiles of whole frames, and gaps of the detector to hide in them."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch

from dlsia_core.errors import ArrayError
from dlsia_core.hiding import HidingPlan
from dlsia_core.inpainting import InpaintingRecipe
from dlsia_core.inpainting_examples import HiddenPixelExamples
from dlsia_core.tiling import TileGrid
from tasks.errors import SettingsError
from tasks.held_out import FrameSplit, spread
from tasks.normalized_frames import NormalizedFrames, StoredTiles
from tasks.training_plan import TrainingPlan

HIDDEN_MAPS = 64
READ_AHEAD = 2
"""Batches, where tiles are read from the store, or a GPU would wait for them."""


@dataclass(frozen=True)
class LearningSet:
    """Tiles to train on and to choose the best epoch by, and what to hide in them."""

    plan: TrainingPlan
    frames: NormalizedFrames
    grid: TileGrid
    split: FrameSplit
    hiding: HidingPlan
    training: StoredTiles
    validation: StoredTiles

    def recipe(self) -> InpaintingRecipe:
        """That of the model that the training starts from, or a new one with center and scale of the training tiles."""
        blank = self.plan.recipe
        if self.plan.start is not None:
            return blank
        return InpaintingRecipe.from_parts(self.training.parts(), blank.prefill, blank.validity_channel)

    def training_examples(self, recipe: InpaintingRecipe) -> HiddenPixelExamples:
        rows, crop_rows = self.grid.tile_shape[0], self.plan.values["crop_rows"]
        return self._examples(self.training, recipe, 0, crop_rows if 0 < crop_rows < rows else None)

    def validation_examples(self, recipe: InpaintingRecipe) -> HiddenPixelExamples:
        """Whole tiles, with other gaps than those of the training."""
        return self._examples(self.validation, recipe, 1, None)

    def _examples(
        self, tiles: StoredTiles, recipe: InpaintingRecipe, stream: int, crop_rows: int | None
    ) -> HiddenPixelExamples:
        seed = self.plan.given.seed
        hidden = self.hiding.draw(HIDDEN_MAPS, seed + stream)
        values = tiles.in_memory() if self.fits_in_memory(tiles) else tiles
        return HiddenPixelExamples(values, hidden, recipe, seed, crop_rows, tiles.digest)

    def fits_in_memory(self, tiles: StoredTiles) -> bool:
        """Whether tiles are read once, or each time that they are needed; the training is the same."""
        return tiles.n_bytes <= self.plan.given.memory_gib * 2**30

    def read_ahead(self, device: torch.device) -> int:
        """Batches to prepare while the network computes; the training is the same."""
        return READ_AHEAD if device.type == "cuda" or not self.fits_in_memory(self.training) else 0

    def summary(self) -> dict[str, int]:
        return {
            "frames": len(np.unique(self.training.places[:, 0])),
            "tiles": len(self.training.places),
            "tiles_held_out": len(self.validation.places),
        }


def learning_set(frames: NormalizedFrames, plan: TrainingPlan) -> LearningSet:
    """Choose frames and tiles.

    Raises `SettingsError` where the training set would be empty: no gaps to imitate, or nothing measured; and for a
    scale of the counts that is not that of the model to start from.
    """
    if plan.start is not None and plan.start.scale != frames.facts["scale"]:
        raise SettingsError(
            f"the model {plan.start.label!r} was trained on the scale {plan.start.scale}, and the frames have "
            f"{frames.facts['scale']}; give normalize the model's constants, or train without start_from"
        )
    grid, values, given = plan.grid(frames.shape), plan.values, plan.given
    try:
        hiding = HidingPlan.from_valid(frames.measured, grid)
    except ArrayError as error:
        raise SettingsError(
            f"the training set is empty: {frames.normalized.scan.path} has no gaps to imitate ({error}); give frames "
            "of the detector whose gaps are to be filled"
        ) from error
    split = FrameSplit(frames.n_frames, given.seed, given.validation_share, given.test_share)

    def tiles(part: list[int], most: int) -> StoredTiles:
        chosen = spread(part, max(1, most // len(hiding.tiles))) if most else part
        return _tiles_with_pixels(frames, grid, hiding.tiles, chosen)

    training = tiles(split.training, values["max_tiles"])
    return LearningSet(
        plan, frames, grid, split, hiding, training, tiles(split.validation, values["max_validation_tiles"])
    )


def _tiles_with_pixels(
    frames: NormalizedFrames, grid: TileGrid, numbers: tuple[int, ...], chosen: list[int]
) -> StoredTiles:
    """The tiles of some frames of which at least half was measured; all with any pixel, if there is none."""
    places = np.array([(frame, number) for frame in chosen for number in numbers], dtype=np.int64)
    share = np.concatenate([_measured_share(frames.read(frame), grid, numbers) for frame in chosen])
    enough = share >= 0.5 if (share >= 0.5).any() else share > 0
    if not enough.any():
        raise SettingsError(
            f"the training set is empty: no tile of {grid.tile_shape[0]} x {grid.tile_shape[1]} in frames {chosen} of "
            f"{frames.normalized.scan.path} holds a measured pixel; give other frames"
        )
    return StoredTiles(frames, grid, places[enough])


def _measured_share(
    frame: npt.NDArray[np.float32], grid: TileGrid, numbers: tuple[int, ...]
) -> npt.NDArray[np.float64]:
    shares: npt.NDArray[np.float64] = np.isfinite(grid.cut(frame)[list(numbers)]).mean(axis=(1, 2))
    return shares
