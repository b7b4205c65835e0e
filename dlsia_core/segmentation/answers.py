"""What a network, or an ensemble of them, says of the classes of pixels: mean and spread of its probabilities."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from dlsia_core.errors import ArrayError
from dlsia_core.networks import Ensemble
from dlsia_core.networks.inference import deterministic, evaluating, to_device
from dlsia_core.segmentation.recipe import SegmentationRecipe

FloatArray = NDArray[np.float32]


@dataclass(frozen=True)
class ClassStatistics:
    """mean, std: (class, z, y, x) float32: of the members' probabilities; std is 0 where there is one network only."""

    mean: FloatArray
    std: FloatArray

    @property
    def label(self) -> NDArray[np.uint8]:
        """The most probable class of each pixel, (z, y, x) uint8; the first of equal ones."""
        return np.asarray(self.mean.argmax(axis=0), np.uint8)


def answer_tiles(
    network: nn.Module, recipe: SegmentationRecipe, tiles: NDArray[Any], device: str | torch.device = "cpu"
) -> ClassStatistics:
    """Mean and standard deviation over members (divided by M - 1) for tiles, with a tile axis: (tile, class, z, y, x).

    tiles: (tile, z, y, x) of any real type, as `SegmentationRecipe.tile` gives them; for a recipe of slices the answer
    is one slice thick.
    On the CPU each tile is run alone, so that its bits do not depend on the batch; on a GPU they may, by rounding.
    Raises ArrayError for tiles of other axes.
    """
    if tiles.ndim != 4 or (recipe.ndim == 2 and tiles.shape[1] != recipe.seen_slices):
        depth = str(recipe.seen_slices) if recipe.ndim == 2 else "z"
        raise ArrayError(f"tiles have shape {tiles.shape}; wanted (tile, {depth}, y, x)")
    device = torch.device(device)
    to_device(network, device)
    inputs = torch.from_numpy(recipe.inputs(tiles))
    inputs = inputs if recipe.ndim == 2 else inputs[:, None]
    parts = list(inputs[:, None]) if device.type == "cpu" else [inputs]
    with evaluating(network), torch.inference_mode(), deterministic(device):
        answers = [_statistics(network, part.reshape(-1, *inputs.shape[1:]).to(device)) for part in parts]
    mean, std = (torch.cat([answer[k].cpu() for answer in answers]).numpy() for k in range(2))
    return ClassStatistics(*(values if recipe.ndim == 3 else values[:, :, None] for values in (mean, std)))


def segment(
    network: nn.Module, recipe: SegmentationRecipe, volume: NDArray[Any], device: str | torch.device = "cpu"
) -> ClassStatistics:
    """Answers for a whole volume (z, y, x) in memory, (class, z, y, x): each pixel from the one window it lies in."""
    depth, height, width = volume.shape
    shape = (len(recipe.classes), depth, height, width)
    mean, std = np.empty(shape, np.float32), np.empty(shape, np.float32)
    for window in recipe.windows((depth, height, width)):
        answer = answer_tiles(network, recipe, recipe.tile(volume[window.outer], window)[None], device)
        here = (slice(None), *window.inner)
        mean[here] = answer.mean[0][:, *recipe.answered(window)]
        std[here] = answer.std[0][:, *recipe.answered(window)]
    return ClassStatistics(mean, std)


def _statistics(network: nn.Module, inputs: Tensor) -> tuple[Tensor, Tensor]:
    if isinstance(network, Ensemble) and len(network.members) > 1:
        found = network.statistics(inputs, "softmax")
        return found.mean, found.std
    probabilities = network(inputs).float().softmax(dim=1)
    return probabilities, torch.zeros_like(probabilities)
