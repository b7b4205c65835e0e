"""One training loop for all networks: reproducible, resumable after a kill, best weights kept."""

from dlsia_core.training.checkpoint import read_checkpoint
from dlsia_core.training.errors import (
    CheckpointMismatchError,
    TrainingDivergedError,
    TrainingError,
    TrainingTimeoutError,
)
from dlsia_core.training.examples import ArrayExamples, Batch, Examples
from dlsia_core.training.fit import FitResult, fit
from dlsia_core.training.history import EpochRecord
from dlsia_core.training.losses import Loss, weighted_l1, weighted_l2
from dlsia_core.training.settings import TrainSettings

__all__ = [
    "ArrayExamples",
    "Batch",
    "CheckpointMismatchError",
    "EpochRecord",
    "Examples",
    "FitResult",
    "Loss",
    "TrainSettings",
    "TrainingDivergedError",
    "TrainingError",
    "TrainingTimeoutError",
    "fit",
    "read_checkpoint",
    "weighted_l1",
    "weighted_l2",
]
