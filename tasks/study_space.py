"""One latent space of a study: an autoencoder trained on one kind of the frames, and the vectors that it gives them."""

from pathlib import Path
from typing import cast

import numpy as np
import numpy.typing as npt
import torch

from dlsia_core.latent import FrameRecipe, encode_frames
from dlsia_core.networks import ConvAutoencoder, build_network, load_network
from dlsia_core.training import ArrayExamples, FitResult, fit, weighted_l2
from dlsia_core.training import TrainSettings as FitSettings
from tasks.devices import device_slot
from tasks.held_out import spread
from tasks.learning import curve_of, finish, finished_model, log_epoch, resumable, settings_that_count
from tasks.networks import encoder_config
from tasks.settings.base import digest
from tasks.stage import stage_task
from tasks.study_frames import StudiedFrames, Study

FloatArray = npt.NDArray[np.float32]


@stage_task("study-encoder")
def study_space(study: Study, frames: StudiedFrames, space: str) -> FloatArray:
    """Latent vectors (frame, latent) of all frames; the autoencoder is trained, or found trained."""
    pooled = frames.pooled[space]
    folder = space_folder(study, space)
    with device_slot(study.settings.device) as device:
        if finished_model(folder) is None:
            recipe = FrameRecipe.from_frames(pooled, study.size)
            fitted = resumable(
                folder / "checkpoint", lambda state: _fit(study, recipe.prepare(pooled), space, state, device)
            )
            curve = curve_of(space, fitted, "mean square error, standardized")
            finish(folder, fitted, {"recipe": recipe.to_dict(), "curve": curve})
        network, description = load_network(folder)
        recipe = FrameRecipe.from_dict(description["recipe"])
        return encode_frames(cast(ConvAutoencoder, network), pooled, recipe, device=device)


def space_folder(study: Study, space: str) -> Path:
    """Where the autoencoder lies; its name holds the settings it is trained with."""
    name = digest([space, settings_that_count(study.settings.encoder)])[:12]
    return study.folder / f"encoder-{name}"


def _fit(study: Study, inputs: FloatArray, space: str, checkpoint: Path, device: torch.device) -> FitResult:
    settings = study.settings.encoder
    learned = inputs[spread(list(range(len(inputs))), settings.max_frames)]
    return fit(
        build_network(encoder_config(settings, study.size), settings.seed),
        ArrayExamples(learned),
        weighted_l2,
        FitSettings(settings.epochs, settings.batch_size, settings.learning_rate, seed=settings.seed),
        checkpoint_folder=checkpoint,
        device=device,
        on_epoch=log_epoch(f"autoencoder of {space}", settings.epochs),
        checkpoint_seconds=settings.checkpoint_s,
        max_seconds=60 * settings.max_minutes,
    )
