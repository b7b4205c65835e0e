"""How long trainings will take, from one pass over the tiles and frames of a sample, in memory."""

import time

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from dlsia_core.hiding import HidingPlan
from dlsia_core.inpainting import InpaintingRecipe, build_inpainter
from dlsia_core.inpainting_examples import HiddenPixelExamples
from dlsia_core.losses import Loss
from dlsia_core.tiling import TileGrid
from dlsia_core.training import ArrayExamples, Examples, fit, weighted_l1, weighted_l2
from dlsia_core.training import TrainSettings as FitSettings
from tasks.networks import inpainter_config
from tasks.settings.stages import EncodeSettings, TrainSettings

FloatArray = npt.NDArray[np.float32]


def seconds_of_training(
    n_frames: int,
    normalized: FloatArray,
    tiles: FloatArray,
    grid: TileGrid,
    settings: TrainSettings,
    recipe: InpaintingRecipe,
    device: torch.device,
) -> float:
    """For the inpainting network of a scan of n_frames, in all epochs.

    normalized (frame, row, column) and tiles (frame, tile, tile_row, tile_column) of the sample, NaN = not measured.
    """
    with_gaps = next(frame for frame in np.isfinite(normalized) if not frame.all())
    hiding = HidingPlan.from_valid(with_gaps, grid)
    some = tiles[:, list(hiding.tiles)].reshape(-1, *tiles.shape[2:])[: settings.max_tiles]
    rows = settings.crop_rows
    crop_rows = None if rows is None or rows >= grid.tile_shape[0] else rows
    examples = HiddenPixelExamples(some, hiding.draw(1, settings.seed), recipe, settings.seed, crop_rows)
    network = build_inpainter(inpainter_config(settings), recipe, settings.seed)
    pass_s = _seconds_of_a_pass(network, examples, weighted_l1, settings.batch_size, device)
    n_tiles = len(hiding.tiles) * min(n_frames, max(1, settings.max_tiles // len(hiding.tiles)))
    return pass_s / len(some) * n_tiles * settings.epochs


def seconds_of_encoder_training(
    n_frames: int, network: nn.Module, inputs: FloatArray, settings: EncodeSettings, device: torch.device
) -> float:
    """For the encoder of a scan of n_frames, in all epochs; inputs (frame, channel, row, column) of the sample."""
    pass_s = _seconds_of_a_pass(network, ArrayExamples(inputs), weighted_l2, settings.batch_size, device)
    return pass_s / len(inputs) * min(n_frames, settings.max_frames) * settings.epochs


def _seconds_of_a_pass(
    network: nn.Module, examples: Examples, loss: Loss, batch_size: int, device: torch.device
) -> float:
    """The second of two epochs: the first one also makes the network's plans for its input."""
    ends: list[float] = []
    fit(
        network,
        examples,
        loss,
        FitSettings(epochs=2, batch_size=batch_size),
        device=device,
        on_epoch=lambda *_: ends.append(time.perf_counter()),
    )
    return ends[1] - ends[0]
