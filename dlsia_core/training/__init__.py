"""One training loop for all networks: reproducible, resumable after a kill, best weights kept."""

from dlsia_core.losses import Loss, weighted_l1, weighted_l2
from dlsia_core.training.changed import Augmented, Subset
from dlsia_core.training.checkpoint import network_of_checkpoint, read_checkpoint
from dlsia_core.training.disturbed import Disturbed
from dlsia_core.training.errors import (
    CheckpointMismatchError,
    TrainingDivergedError,
    TrainingError,
    TrainingTimeoutError,
)
from dlsia_core.training.examples import ArrayExamples, Batch, Examples, LabeledExamples
from dlsia_core.training.fit import FitResult, fit
from dlsia_core.training.history import EpochRecord
from dlsia_core.training.hooks import CsvLog, Hook, ProgressBar, Start, StepRecord
from dlsia_core.training.metrics import Metric
from dlsia_core.training.schedules import Cosine, Exponential, OneCycle, Plateau, Schedule, Steps, WarmUp
from dlsia_core.training.settings import TrainSettings
from dlsia_core.training.tensorboard import TensorBoardLog
from dlsia_core.training.tiled import SliceableArray, TiledExamples
from dlsia_core.training.warped import Warped

__all__ = [
    "ArrayExamples",
    "Augmented",
    "Batch",
    "CheckpointMismatchError",
    "Cosine",
    "CsvLog",
    "Disturbed",
    "EpochRecord",
    "Examples",
    "Exponential",
    "FitResult",
    "Hook",
    "LabeledExamples",
    "Loss",
    "Metric",
    "OneCycle",
    "Plateau",
    "ProgressBar",
    "Schedule",
    "SliceableArray",
    "Start",
    "StepRecord",
    "Steps",
    "Subset",
    "TensorBoardLog",
    "TiledExamples",
    "TrainSettings",
    "TrainingDivergedError",
    "TrainingError",
    "TrainingTimeoutError",
    "WarmUp",
    "Warped",
    "fit",
    "network_of_checkpoint",
    "read_checkpoint",
    "weighted_l1",
    "weighted_l2",
]
