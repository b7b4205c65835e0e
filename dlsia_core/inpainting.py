"""Filling gaps with a network: what it is given, what it answers, tiles and whole frames (Chavez et al. 2022, §2).

With `prefill="linear"` the network corrects a linear interpolation and starts as exactly that; with "zero" it works
blind, as in the paper. What it learns from is in `dlsia_core.inpainting_examples`.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from dlsia_core.errors import ArrayError, SettingError
from dlsia_core.gaps import fill_linear
from dlsia_core.networks import build_network, network_config
from dlsia_core.networks.inference import batch_slices, run_in_batches
from dlsia_core.stitching import Window, stitch
from dlsia_core.tiling import TileGrid

FloatArray = NDArray[np.float32]
PREFILLS = ("linear", "zero")


@dataclass(frozen=True)
class InpaintingRecipe:
    """How a tile becomes the network's input, and its output a prediction; stored with the model.

    prefill: what stands where nothing was measured: "linear" (interpolated; a second channel says 1 = measured; the
        network corrects the interpolation and nothing else, and the loss asks for hidden pixels only), or "zero" (the
        center value; plain L1 over the tile).
    center, scale: in units of the tiles; the network works on (value - center) / scale.
    validity_channel: with "zero", whether there is a second channel that says 1 = measured. Without it the network is
        not told where the gaps are, as in the paper. With "linear" the channel is always there.
    """

    prefill: str = "linear"
    center: float = 0.0
    scale: float = 1.0
    validity_channel: bool = False

    def __post_init__(self) -> None:
        if self.prefill not in PREFILLS:
            raise SettingError(f"prefill is {self.prefill!r}; it must be one of {PREFILLS}")
        if not (np.isfinite(self.center) and np.isfinite(self.scale) and self.scale > 0):
            raise SettingError(f"center is {self.center} and scale {self.scale}; wanted finite, scale greater than 0")

    @classmethod
    def from_tiles(cls, tiles: FloatArray, prefill: str = "linear") -> "InpaintingRecipe":
        """Mean and standard deviation of all measured pixels; scale 1 where they are all the same.

        >>> recipe = InpaintingRecipe.from_tiles(np.array([[[1.0, 3.0, np.nan]]], dtype=np.float32))
        >>> recipe.center, recipe.scale
        (2.0, 1.0)
        """
        measured = tiles[np.isfinite(tiles)]
        if not measured.size:
            raise ArrayError(f"tiles of shape {tiles.shape} hold no measured pixel; a training needs some")
        center, scale = measured.mean(dtype=np.float64), measured.std(dtype=np.float64)
        return cls(prefill, float(center), float(scale) or 1.0)

    @classmethod
    def from_parts(
        cls, parts: Iterable[FloatArray], prefill: str = "linear", validity_channel: bool = False
    ) -> "InpaintingRecipe":
        """As `from_tiles`, for tiles that come part by part, so that they need not fit in memory together.

        >>> parts = [np.array([[1.0, np.nan]], dtype=np.float32), np.array([[3.0, 5.0]], dtype=np.float32)]
        >>> recipe = InpaintingRecipe.from_parts(parts)
        >>> recipe.center, round(recipe.scale, 6)  # √(8 / 3)
        (3.0, 1.632993)
        """
        count, mean, spread = 0, 0.0, 0.0
        for part in parts:
            measured = part[np.isfinite(part)]
            if measured.size:
                # Squares about the parts' means, not sums of squares, which would lose small variances.
                count, before = count + measured.size, count
                step = float(measured.mean(dtype=np.float64)) - mean
                own = float(measured.var(dtype=np.float64)) * measured.size
                spread += own + step**2 * before * measured.size / count
                mean += step * measured.size / count
        if not count:
            raise ArrayError("no tile holds a measured pixel; a training needs some")
        return cls(prefill, mean, (spread / count) ** 0.5 or 1.0, validity_channel)

    @property
    def channels(self) -> int:
        """Channels of what `prepare` gives."""
        return 2 if self.prefill == "linear" or self.validity_channel else 1

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


def inpainter_channels(name: str, recipe: InpaintingRecipe) -> dict[str, int]:
    """`in_channels` and `out_channels` of a network that works by the recipe.

    Raises SettingError for PartialConvUNet without a channel of validity, its last one, which it does not count.

    >>> inpainter_channels("TUNet", InpaintingRecipe("zero")), inpainter_channels("PartialConvUNet", InpaintingRecipe())
    ({'in_channels': 1, 'out_channels': 1}, {'in_channels': 1, 'out_channels': 1})
    """
    counts_validity = name != "PartialConvUNet"
    if not counts_validity and recipe.channels < 2:
        raise SettingError(
            f"{name} must be told what was measured; give a recipe with validity_channel=True, or prefill 'linear'"
        )
    return {"in_channels": recipe.channels - (not counts_validity), "out_channels": 1}


def require_inpainter(network: nn.Module, recipe: InpaintingRecipe) -> None:
    """Raise SettingError for a network, made by `build_network` or loaded, that does not work by the recipe.

    With linear prefill the network must have a layer named `head`: what starts at zero is the linear interpolation.
    """
    config = network_config(network)
    name = str(config["network"])
    for key, wanted in inpainter_channels(name, recipe).items():
        if config[key] != wanted:
            raise SettingError(
                f"the network {name} has {key} = {config[key]}, and prefill {recipe.prefill!r} with validity_channel = "
                f"{recipe.validity_channel} needs {wanted}"
            )
    if config.get("ndim") == 3 or len(config.get("input_shape") or ()) == 3:
        raise SettingError(f"the network {name} is three-dimensional, and frames have two axes; build it with ndim=2")
    if recipe.prefill == "linear" and not isinstance(getattr(network, "head", None), nn.Module):
        raise SettingError(
            f"{name} has no layer `head` to start at zero, as prefill 'linear' needs; take prefill 'zero', or TUNet"
        )


def build_inpainter(config: Mapping[str, Any], recipe: InpaintingRecipe, seed: int) -> nn.Module:
    """A network with the recipe's input channels, one output, and, with linear prefill, a last layer of zeros.

    config: as for `build_network`, without "in_channels" and "out_channels". With linear prefill such a network
    predicts, untrained, the linear interpolation itself, so that a short training can only improve on it.
    Raises SettingError as `build_network` and `require_inpainter` do.
    """
    network = build_network({**config, **inpainter_channels(str(config.get("network")), recipe)}, seed)
    require_inpainter(network, recipe)
    if recipe.prefill == "linear":
        for parameter in network.get_submodule("head").parameters():
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


def inpaint_frames(
    network: nn.Module,
    recipe: InpaintingRecipe,
    frames: FloatArray,
    grid: TileGrid,
    window: Window = "box",
    *,
    device: str | torch.device = "cpu",
    batch_size: int = 14,
) -> FloatArray:
    """Predictions for all pixels of whole frames: (frame, row, column), NaN = not measured -> same shape, float32.

    Cut into tiles, `predict`ed, and stitched, as the stages of a scan do; measured pixels are not put back. Memory is
    that of the result and of the tiles of one frame, or of as many frames as give `batch_size` tiles.
    Raises ArrayError for frames that do not fit the grid, and as `predict` does.

    >>> frame = np.array([[[1.0, np.nan, 3.0, 4.0]]], dtype=np.float32)
    >>> recipe, grid = InpaintingRecipe(), TileGrid((1, 4), (1, 3), (1, 1))
    >>> network = build_inpainter({"network": "TUNet", "depth": 1, "base_channels": 2}, recipe, seed=0)
    >>> inpaint_frames(network, recipe, frame, grid).tolist()  # untrained it interpolates; its two tiles say 2 and 3
    [[[1.0, 2.5, 3.0, 4.0]]]
    """
    if frames.ndim != 3 or frames.shape[1:] != grid.frame_shape:
        raise ArrayError(f"frames have shape {frames.shape}; wanted (frame, row, column) of {grid.frame_shape} px")
    predictions = np.empty(frames.shape, np.float32)
    for part in batch_slices(len(frames), max(1, batch_size // grid.n_tiles)):
        tiles = grid.cut(frames[part])
        flat = tiles.reshape(-1, *grid.tile_shape)
        predicted = predict(network, flat, recipe, device=device, batch_size=batch_size)
        predictions[part] = stitch(predicted.reshape(tiles.shape), grid, window)
    return predictions
