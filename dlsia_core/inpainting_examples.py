"""Tiles to learn filling gaps from: some measured pixels are hidden, and the network is judged by them.

A training example hides some measured pixels of a tile (Chavez et al. 2022, section 2.1). With `prefill="linear"`
pixels that the network was shown have no part in the loss: their correction is 0, and with a weight of only 0.1 that
answer won everywhere, so that nothing was learned.
"""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from numpy.typing import NDArray

from dlsia_core.errors import ArrayError, SettingError
from dlsia_core.inpainting import InpaintingRecipe
from dlsia_core.training import Batch, SliceableArray
from dlsia_core.training.examples import array_digest, random_state

FloatArray = NDArray[np.float32]
BoolArray = NDArray[np.bool_]


@dataclass(frozen=True)
class HiddenPixelExamples:
    """Tiles with hidden pixels, as `fit` wants them; a function of (seed, epoch, index) alone.

    tiles: (tile, tile_row, tile_column) float32, NaN = not measured: a NumPy array, or anything that gives rows of one
        tile when asked `tiles[index, start:stop]`, so that tiles need not fit in memory.
    hidden: (map, tile_row, tile_column) bool, True = hide; each example and epoch takes one of the maps at random.
    crop_rows: train on that many neighboring rows of a tile, at a random place; None = whole tiles. A tile then gives
        as many examples as crops fit in, so that an epoch costs the same; more and smaller steps learn faster.
    digest_of_source: what tells these tiles from others; None only for NumPy arrays, whose values are hashed. The same
        tiles with the same digest are the same training, whether they are in memory or not.
    Raises ArrayError where shapes do not fit, SettingError for a weight, crop or digest that is not allowed.
    """

    tiles: SliceableArray
    hidden: BoolArray
    recipe: InpaintingRecipe
    seed: int = 0
    crop_rows: int | None = None
    digest_of_source: str | None = None

    def __post_init__(self) -> None:
        shape = tuple(self.tiles.shape)
        if len(shape) != 3 or not shape[0]:
            raise ArrayError(f"tiles have shape {shape}; wanted (tile, tile_row, tile_column), at least one")
        if self.hidden.ndim != 3 or not len(self.hidden) or self.hidden.shape[1:] != shape[1:]:
            raise ArrayError(
                f"hidden has shape {self.hidden.shape}; wanted (map, tile_row, tile_column), at least one map, for "
                f"tiles of {shape[1:]}"
            )
        if self.hidden.dtype != np.bool_:
            raise ArrayError(f"hidden is {self.hidden.dtype}; wanted bool, True = hide")
        if self.crop_rows is not None and not 1 <= self.crop_rows <= shape[1]:
            raise SettingError(f"crop_rows is {self.crop_rows}; it must be 1 to {shape[1]}, or None")
        if self.digest_of_source is None and not isinstance(self.tiles, np.ndarray):
            raise SettingError(
                "digest_of_source is None and tiles are no NumPy array; give what tells them from others"
            )

    def __len__(self) -> int:
        return int(self.tiles.shape[0]) * self._crops

    @property
    def _crops(self) -> int:
        """Examples of each tile."""
        rows = int(self.tiles.shape[1])
        return rows // (self.crop_rows or rows)

    def batch(self, epoch: int, indices: NDArray[np.int64]) -> Batch:
        examples = [self._example(epoch, int(index)) for index in indices]
        inputs, target, weight = (torch.from_numpy(np.stack(part)) for part in zip(*examples, strict=True))
        return Batch(inputs, target[:, None], weight[:, None])

    def _example(self, epoch: int, index: int) -> tuple[FloatArray, FloatArray, FloatArray]:
        rng = random_state(self.seed, epoch, index)
        rows = int(self.tiles.shape[1])
        height = self.crop_rows or rows
        start = int(rng.integers(rows - height + 1))
        values = np.asarray(self.tiles[index // self._crops, start : start + height])
        hidden = self.hidden[rng.integers(len(self.hidden)), start : start + height]
        inputs, reference = self.recipe.prepare(np.where(hidden, np.float32(np.nan), values))
        counted = np.isfinite(values) & hidden if self.recipe.prefill == "linear" else np.isfinite(values)
        target = np.nan_to_num((values - reference) / np.float32(self.recipe.scale))
        return inputs, target, counted.astype(np.float32)

    @cached_property
    def digest(self) -> str:
        settings = f"{self.recipe} {self.seed} {self.crop_rows}"
        if self.digest_of_source is None:
            return f"{array_digest(np.asarray(self.tiles), self.hidden)} {settings}"
        return f"{self.digest_of_source} {tuple(self.tiles.shape)} {array_digest(self.hidden)} {settings}"
