"""Encode: frames become `latent` (frame, latent), by a convolutional autoencoder that learns from the scan itself."""

import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np
import numpy.typing as npt

from dlsia_core.latent import FrameRecipe, encode_frames, pool_frames
from dlsia_core.networks import ConvAutoencoder, build_network
from dlsia_core.training import ArrayExamples, fit, weighted_l2
from dlsia_core.training import TrainSettings as FitSettings
from tasks.devices import device_slot
from tasks.infer import ONE_AT_A_TIME
from tasks.learning import (
    curve_of,
    finish,
    finished_model,
    model_folder,
    resumable,
    settings_that_count,
)
from tasks.models import ModelRef, network_of
from tasks.networks import encoder_config, pooled_size
from tasks.settings.stages import EncodeSettings
from tasks.stage import RunPlan, StageRun, noted, place, run_shards, stage_task
from tasks.store import ArrayRef, ArraySpec, FrameRange, ScanStore, open_store
from tasks.training_progress import TrainingProgress

VERSION = 1
MIN_FRAMES_TO_ENCODE = 2


@stage_task("train-encoder")
def train_encoder(
    plan: RunPlan, inpainted: ArrayRef, settings: EncodeSettings, device_name: str
) -> tuple[StageRun, ModelRef]:
    """Train the autoencoder on frames spread evenly over the scan, or find the one that was trained."""
    started = time.monotonic()
    folder = _folder(plan, inpainted, settings)
    if model := finished_model(folder):
        return StageRun("train-encoder", FrameRange(0, 0), 0, 0.0, 0), model
    frames, recipe = _learning_set(open_store(plan.scan), inpainted, settings)
    network = build_network(encoder_config(settings, recipe.size), settings.seed)
    with device_slot(device_name) as device:
        fitted = resumable(
            folder / "checkpoint",
            lambda checkpoint: fit(
                network,
                ArrayExamples(frames),
                weighted_l2,
                FitSettings(settings.epochs, settings.batch_size, settings.learning_rate, seed=settings.seed),
                checkpoint_folder=checkpoint,
                device=device,
                hooks=(TrainingProgress("autoencoder"),),
                checkpoint_seconds=settings.checkpoint_s,
                max_seconds=60 * settings.max_minutes,
            ),
        )
    description = {
        "recipe": recipe.to_dict(),
        "trained_on": {"frames": len(frames)},
        "curve": curve_of("autoencoder", fitted, "mean square error, standardized"),
    }
    model = finish(folder, fitted, description)
    frames_seen = FrameRange(0, len(frames))
    run = StageRun("train-encoder", frames_seen, len(frames), time.monotonic() - started, 0)
    return noted(plan.scan, run), model


def own_encoder(plan: RunPlan, inpainted: ArrayRef, settings: EncodeSettings) -> ModelRef | None:
    """The scan's encoder of these settings, if its training has ended."""
    return finished_model(_folder(plan, inpainted, settings))


def _folder(plan: RunPlan, inpainted: ArrayRef, settings: EncodeSettings) -> Path:
    lineage = {"settings": settings_that_count(settings), "frames": inpainted.lineage}
    return model_folder(plan.scan, "encoder", {"stage": "encode", "version": VERSION, **lineage})


def _learning_set(
    store: ScanStore, inpainted: ArrayRef, settings: EncodeSettings
) -> tuple[npt.NDArray[np.float32], FrameRecipe]:
    """Network inputs (frame, channel, row, column), pooled frame by frame as they are read."""
    rows = np.linspace(0, store.n_frames - 1, min(settings.max_frames, store.n_frames)).round().astype(int)
    shape = store.array(inpainted.path).shape[1:]
    size = pooled_size(settings, (shape[0], shape[1]))
    pooled = np.concatenate(
        [pool_frames(store.read(inpainted.path, int(row), int(row) + 1), size) for row in np.unique(rows)]
    )
    recipe = FrameRecipe.from_frames(pooled, size)
    return recipe.prepare(pooled), recipe


def place_latent(plan: RunPlan, inpainted: ArrayRef, encoder: ModelRef, settings: EncodeSettings) -> ArrayRef:
    """Find or make the array; its lineage holds the encoder's weights."""
    spec = ArraySpec("latent", (settings.latent,), ("latent_component",), "float32", np.nan)
    return place(plan, [spec], encode_stage(encoder), [inpainted])[0]


def encode_stage(encoder: ModelRef) -> dict[str, Any]:
    """What decides the numbers, but for the inputs."""
    return {"stage": "encode", "version": VERSION, "model": encoder.digest}


@stage_task("encode")
def encode_batch(
    frames: FrameRange, inpainted: ArrayRef, latent: ArrayRef, encoder: ModelRef, device_name: str
) -> StageRun:
    """Encode the frames that are not done yet."""
    with device_slot(device_name) as device:
        return run_shards([latent], frames, _Encode(inpainted.path, encoder, str(device)), ONE_AT_A_TIME)


@dataclass(frozen=True)
class _Encode:
    inpainted: str
    encoder: ModelRef
    device: str

    def __call__(self, store: ScanStore, start: int, stop: int) -> list[npt.NDArray[Any]]:
        network, description = network_of(self.encoder)
        recipe = FrameRecipe.from_dict(description["recipe"])
        frames = store.read(self.inpainted, start, stop)
        return [encode_frames(cast(ConvAutoencoder, network), frames, recipe, device=self.device)]
