"""Infer: `tiles` become `predictions`, the network's opinion on every pixel of every tile."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from dlsia_core.inpainting import InpaintingRecipe, predict
from tasks.devices import device_slot
from tasks.models import ModelRef, network_of
from tasks.settings.stages import InferSettings
from tasks.stage import RunPlan, StageRun, has_committed, place, run_shards, stage_task
from tasks.store import ArrayRef, ArraySpec, FrameRange, ScanStore, open_store
from tasks.tile import AXES, tiles_of
from tasks.workers import Workers

VERSION = 1
ONE_AT_A_TIME = Workers(threads=1)
"""torch uses all cores, or the GPU, for one shard."""


def place_predictions(plan: RunPlan, tiles: ArrayRef, model: ModelRef) -> ArrayRef:
    """Find or make the array; its lineage holds the model's weights."""
    shape = open_store(plan.scan).array(tiles.path).shape[1:]
    spec = ArraySpec("predictions", shape, AXES, "float32", np.nan)
    return place(plan, [spec], infer_stage(model), [tiles])[0]


def infer_stage(model: ModelRef) -> dict[str, Any]:
    """What decides the numbers, but for the inputs."""
    return {"stage": "infer", "version": VERSION, "model": model.digest}


@stage_task("infer")
def infer_batch(
    frames: FrameRange,
    tiles: ArrayRef,
    predictions: ArrayRef,
    model: ModelRef,
    settings: InferSettings,
    needed_for: Sequence[ArrayRef] = (),
) -> StageRun:
    """Predict the tiles of the frames that are not done yet.

    needed_for: arrays that are made of the predictions; where they are done, predictions that were pruned stay so.
    """

    def spared(start: int, stop: int) -> bool:
        return bool(needed_for) and has_committed(needed_for, start, stop)

    with device_slot(settings.device) as device:
        compute = InferTiles(tiles.path, model, str(device), settings.batch_size)
        return run_shards([predictions], frames, compute, ONE_AT_A_TIME, spared)


@dataclass(frozen=True)
class InferTiles:
    """Computes the predictions for tiles, whose array's name is given."""

    tiles: str
    model: ModelRef
    device: str
    batch_size: int

    def __call__(self, store: ScanStore, start: int, stop: int) -> list[npt.NDArray[Any]]:
        tiles = tiles_of(store, self.tiles, start, stop)
        network, description = network_of(self.model)
        flat = tiles.reshape(-1, *tiles.shape[2:])
        recipe = InpaintingRecipe(**description["recipe"])
        predicted = predict(network, flat, recipe, device=self.device, batch_size=self.batch_size)
        return [predicted.reshape(tiles.shape)]
