"""Learning to fill gaps from a scan's own measured pixels (Chavez et al. 2022, §2.1 and §2.2).

A training example hides some measured pixels of a tile; the network sees the rest and is judged by what was hidden.
With `prefill="linear"` the network corrects a linear interpolation and starts as exactly that; with "zero" it works
blind, as in the paper. Pixels that the network was shown have no part in the loss with "linear": their correction is
0, and with a weight of only 0.1 that answer won everywhere, so that nothing was learned.
"""

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from dlsia_core.errors import ArrayError, SettingError
from dlsia_core.gaps import fill_linear
from dlsia_core.networks import build_network
from dlsia_core.networks.inference import batch_slices, run_in_batches
from dlsia_core.training import Batch
from dlsia_core.training.examples import array_digest, random_state

FloatArray = NDArray[np.float32]
BoolArray = NDArray[np.bool_]
PREFILLS = ("linear", "zero")


@dataclass(frozen=True)
class InpaintingRecipe:
    """How a tile becomes the network's input, and its output a prediction; stored with the model.

    prefill: what stands where nothing was measured: "linear" (interpolated; a second channel says 1 = measured; the
        network corrects the interpolation and nothing else, and the loss asks for hidden pixels only), or "zero" (the
        center value, one channel: the network is not told where the gaps are; plain L1 over the tile).
    center, scale: in units of the tiles; the network works on (value - center) / scale.
    """

    prefill: str = "linear"
    center: float = 0.0
    scale: float = 1.0

    def __post_init__(self) -> None:
        if self.prefill not in PREFILLS:
            raise SettingError(f"prefill is {self.prefill!r}; it must be one of {PREFILLS}")
        if not (np.isfinite(self.center) and np.isfinite(self.scale) and self.scale > 0):
            raise SettingError(f"center is {self.center} and scale {self.scale}; wanted finite, scale greater than 0")

    @classmethod
    def from_tiles(cls, tiles: FloatArray, prefill: str = "linear") -> "InpaintingRecipe":
        """Mean and standard deviation of all measured pixels; scale 1 where they are all the same.

        >>> InpaintingRecipe.from_tiles(np.array([[[1.0, 3.0, np.nan]]], dtype=np.float32))
        InpaintingRecipe(prefill='linear', center=2.0, scale=1.0)
        """
        measured = tiles[np.isfinite(tiles)]
        if not measured.size:
            raise ArrayError(f"tiles of shape {tiles.shape} hold no measured pixel; a training needs some")
        center, scale = measured.mean(dtype=np.float64), measured.std(dtype=np.float64)
        return cls(prefill, float(center), float(scale) or 1.0)

    @property
    def channels(self) -> int:
        """Channels of the network's input."""
        return 2 if self.prefill == "linear" else 1

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)

    def prepare(self, values: FloatArray) -> tuple[FloatArray, FloatArray]:
        """One tile (tile_row, tile_column), NaN = not shown -> input (channel, ...) and reference (...), float32.

        The prediction is reference + scale * output of the network, with linear prefill only where nothing was shown.
        """
        shown = np.isfinite(values)
        reference = np.full(values.shape, self.center, np.float32)
        if self.prefill == "linear" and shown.any():
            reference = fill_linear(values).astype(np.float32, copy=False)
        filled = np.where(shown, values, reference)
        standardized = ((filled - np.float32(self.center)) / np.float32(self.scale)).astype(np.float32)
        return np.stack([standardized, shown.astype(np.float32)][: self.channels]), reference


@dataclass(frozen=True)
class HiddenPixelExamples:
    """Tiles with hidden pixels, as `fit` wants them; a function of (seed, epoch, index) alone.

    tiles: (tile, tile_row, tile_column) float32, NaN = not measured.
    hidden: (map, tile_row, tile_column) bool, True = hide; each example and epoch takes one of the maps at random.
    crop_rows: train on that many neighboring rows of a tile, at a random place; None = whole tiles. A tile then gives
        as many examples as crops fit in, so that an epoch costs the same; more and smaller steps learn faster.
    Raises ArrayError where shapes do not fit, SettingError for a weight or crop that is not allowed.
    """

    tiles: FloatArray
    hidden: BoolArray
    recipe: InpaintingRecipe
    seed: int = 0
    crop_rows: int | None = None

    def __post_init__(self) -> None:
        if self.tiles.ndim != 3 or not len(self.tiles):
            raise ArrayError(f"tiles have shape {self.tiles.shape}; wanted (tile, tile_row, tile_column), at least one")
        if self.hidden.ndim != 3 or not len(self.hidden) or self.hidden.shape[1:] != self.tiles.shape[1:]:
            raise ArrayError(
                f"hidden has shape {self.hidden.shape}; wanted (map, tile_row, tile_column), at least one map, for "
                f"tiles of {self.tiles.shape[1:]}"
            )
        if self.hidden.dtype != np.bool_:
            raise ArrayError(f"hidden is {self.hidden.dtype}; wanted bool, True = hide")
        if self.crop_rows is not None and not 1 <= self.crop_rows <= self.tiles.shape[1]:
            raise SettingError(f"crop_rows is {self.crop_rows}; it must be 1 to {self.tiles.shape[1]}, or None")

    def __len__(self) -> int:
        return len(self.tiles) * self._crops

    @property
    def _crops(self) -> int:
        """Examples of each tile."""
        rows: int = self.tiles.shape[1]
        return rows // (self.crop_rows or rows)

    def batch(self, epoch: int, indices: NDArray[np.int64]) -> Batch:
        examples = [self._example(epoch, int(index)) for index in indices]
        inputs, target, weight = (torch.from_numpy(np.stack(part)) for part in zip(*examples, strict=True))
        return Batch(inputs, target[:, None], weight[:, None])

    def _example(self, epoch: int, index: int) -> tuple[FloatArray, FloatArray, FloatArray]:
        rng = random_state(self.seed, epoch, index)
        rows = self.tiles.shape[1]
        height = self.crop_rows or rows
        start = int(rng.integers(rows - height + 1))
        values = self.tiles[index // self._crops, start : start + height]
        hidden = self.hidden[rng.integers(len(self.hidden)), start : start + height]
        inputs, reference = self.recipe.prepare(np.where(hidden, np.float32(np.nan), values))
        counted = np.isfinite(values) & hidden if self.recipe.prefill == "linear" else np.isfinite(values)
        target = np.nan_to_num((values - reference) / np.float32(self.recipe.scale))
        return inputs, target, counted.astype(np.float32)

    @cached_property
    def digest(self) -> str:
        settings = f"{self.recipe} {self.seed} {self.crop_rows}"
        return f"{array_digest(self.tiles, self.hidden)} {settings}"


def build_inpainter(config: Mapping[str, Any], recipe: InpaintingRecipe, seed: int) -> nn.Module:
    """A network with the recipe's input channels, one output, and, with linear prefill, a last layer of zeros.

    config: as for `build_network`, without "in_channels" and "out_channels". Untrained, such a network predicts the
    linear interpolation itself, so that a short training can only improve on it.
    Raises SettingError where the network has no layer named `head`.
    """
    network = build_network({**config, "in_channels": recipe.channels, "out_channels": 1}, seed)
    head = getattr(network, "head", None)
    if not isinstance(head, nn.Module):
        raise SettingError(f"{config.get('network')} has no layer `head` to start at zero; use TUNet")
    if recipe.prefill == "linear":
        for parameter in head.parameters():
            nn.init.zeros_(parameter)
    return network


def predict(
    network: nn.Module,
    tiles: FloatArray,
    recipe: InpaintingRecipe,
    *,
    device: str | torch.device = "cpu",
    batch_size: int = 8,
) -> FloatArray:
    """Predictions for all pixels: (tile, tile_row, tile_column), NaN = not measured -> same shape, float32, finite.

    A tile's prediction depends on that tile alone, neither on its batch nor on the order (on a GPU: but for rounding).
    With linear prefill measured pixels come back as they are; a tile without any gets a correction of the center value.
    Raises ArrayError for another number of axes, infinite values or predictions that are no numbers.
    """
    if tiles.ndim != 3 or np.isinf(tiles).any():
        raise ArrayError(f"tiles have shape {tiles.shape}; wanted (tile, tile_row, tile_column), finite or NaN")
    slices = batch_slices(len(tiles), batch_size)
    predictions = np.empty(tiles.shape, np.float32)

    def correction(x: torch.Tensor) -> torch.Tensor:
        output: torch.Tensor = network(x)[:, 0]
        return output * (1 - x[:, 1]) if recipe.prefill == "linear" else output

    def inputs() -> Iterator[torch.Tensor]:
        for part in slices:
            prepared = [recipe.prepare(tile) for tile in tiles[part]]
            predictions[part] = np.stack([reference for _, reference in prepared])
            yield torch.from_numpy(np.stack([channels for channels, _ in prepared]))

    for part, output in zip(slices, run_in_batches(network, correction, inputs(), device), strict=True):
        predictions[part] += np.float32(recipe.scale) * output.numpy()
    if not np.isfinite(predictions).all():
        raise ArrayError("the network's predictions are not all finite; its weights or the recipe do not fit the tiles")
    return predictions
