"""What trainings on a scan share: their place in the store, going on after a kill, and what they tell."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

from dlsia_core.networks import model_digest, save_network
from dlsia_core.training import CheckpointMismatchError, EpochRecord, FitResult
from tasks.logs import logger_of
from tasks.models import ModelRef
from tasks.settings.base import digest
from tasks.settings.stages import EncodeSettings, TrainSettings
from tasks.store import ScanRef, open_store


def settings_that_count(settings: TrainSettings | EncodeSettings) -> dict[str, Any]:
    """All that decide the weights; not time limit and checkpoints: with more time a training goes on where it was.

    Nor whether a ready model may be used instead: stores made before there were any keep their models.
    """
    return settings.model_dump(mode="json", exclude={"checkpoint_s", "max_minutes", "ready_models"})


def model_folder(scan: ScanRef, kind: str, origin: dict[str, Any]) -> Path:
    """Where a scan's own model lies; its name holds the settings it is trained with, and not the frames.

    So frames that are added later are processed with the model that is there, and all frames with the same one.
    """
    return open_store(scan).path / "models" / f"{kind}-{digest(origin)[:12]}"


def finished_model(folder: Path) -> ModelRef | None:
    """The model, if its training has ended."""
    return ModelRef(str(folder), model_digest(folder)) if (folder / "model.json").exists() else None


def resumable(checkpoint: Path, train: Callable[[Path], FitResult]) -> FitResult:
    """Train from the checkpoint, if it belongs to this very training; from the start if frames were added since."""
    try:
        return train(checkpoint)
    except CheckpointMismatchError as error:
        logger_of(__name__).warning("the checkpoint is of another training and is discarded: %s", error)
        shutil.rmtree(checkpoint)
        return train(checkpoint)


def finish(folder: Path, fitted: FitResult, description: dict[str, Any]) -> ModelRef:
    """Write the model; its checkpoint has served."""
    weights_digest = save_network(folder, fitted.network, description)
    shutil.rmtree(folder / "checkpoint", ignore_errors=True)
    return ModelRef(str(folder), weights_digest)


def curve_of(name: str, fitted: FitResult, unit: str) -> dict[str, Any]:
    """Losses by epoch as the report shows them."""
    validation = [record.validation_loss for record in fitted.history]
    return {
        "name": name,
        "train": [record.training_loss for record in fitted.history],
        "validation": [loss for loss in validation if loss is not None],
        "best_epoch": fitted.best_epoch,
        "unit": unit,
    }


def log_epoch(name: str, epochs: int) -> Callable[[EpochRecord, float], None]:
    """A callback that says how the training goes."""

    def log(record: EpochRecord, seconds_left: float) -> None:
        logger_of(__name__).info(
            "%s: epoch %d of %d, loss %.5f, validation %s, %.0f s left",
            name,
            record.epoch + 1,
            epochs,
            record.training_loss,
            "-" if record.validation_loss is None else f"{record.validation_loss:.5f}",
            seconds_left,
        )

    return log
