"""Curves of a training in TensorBoard; needs the package `tensorboard`, which nothing else here does."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from dlsia_core.training.history import EpochRecord
from dlsia_core.training.hooks import Hook, StepRecord


class TensorBoardLog(Hook):
    """Writes losses, learning rate and metrics by epoch, and each step's loss, into `folder`.

    A resume writes what was lost with a kill once more, and TensorBoard shows the later ones only.
    Raises ModuleNotFoundError, at once, where `tensorboard` is not installed.
    """

    def __init__(self, folder: str | Path) -> None:
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ModuleNotFoundError as error:
            raise ModuleNotFoundError(
                "TensorBoardLog needs the package tensorboard: pip install tensorboard; CsvLog needs nothing",
                name=error.name,
            ) from error
        self.folder, self.open = str(folder), SummaryWriter
        self.writer: Any = None

    def on_start(self, epochs: int, steps: int, history: Sequence[EpochRecord]) -> None:  # noqa: ARG002
        self.writer = self.open(self.folder, purge_step=len(history) * steps)

    def on_step(self, record: StepRecord) -> None:
        step = record.epoch * record.steps + record.step
        self.writer.add_scalar("step/loss", record.loss, step)
        self.writer.add_scalar("step/learning_rate", record.learning_rate, step)

    def on_epoch(self, record: EpochRecord, seconds_left: float) -> None:  # noqa: ARG002
        numbers = {"training_loss": record.training_loss, "validation_loss": record.validation_loss}
        for name, value in (numbers | dict(record.metrics)).items():
            if value is not None:
                self.writer.add_scalar(f"epoch/{name}", value, record.epoch)
        self.writer.flush()

    def on_end(self) -> None:
        if self.writer is not None:
            self.writer.close()
