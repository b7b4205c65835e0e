"""Curves of a training in TensorBoard; needs the package `tensorboard`, which nothing else here does."""

from pathlib import Path
from typing import Any

from dlsia_core.training.history import EpochRecord
from dlsia_core.training.hooks import Hook, Start, StepRecord


class TensorBoardLog(Hook):
    """Writes losses, learning rate and metrics to `folder`/epochs, and those of each step to `folder`/steps.

    Two folders, because a resumed training takes back what it will write again, from one step on and from one epoch on.
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
        self.folder = Path(folder)
        self.open: Any = SummaryWriter
        self.epochs: Any = None
        self.steps: Any = None

    def on_start(self, start: Start) -> None:
        self.epochs = self.open(str(self.folder / "epochs"), purge_step=len(start.history))
        self.steps = self.open(str(self.folder / "steps"), purge_step=start.finished_steps)

    def on_step(self, record: StepRecord) -> None:
        step = record.epoch * record.steps + record.step
        self.steps.add_scalar("loss", record.loss, step)
        self.steps.add_scalar("learning_rate", record.learning_rate, step)

    def on_epoch(self, record: EpochRecord, seconds_left: float) -> None:  # noqa: ARG002 - contract of Hook
        numbers = {"training_loss": record.training_loss, "validation_loss": record.validation_loss}
        numbers |= {"learning_rate": record.learning_rate, **record.metrics}
        for name, value in numbers.items():
            if value is not None:
                self.epochs.add_scalar(name, value, record.epoch)
        self.epochs.flush()

    def on_end(self) -> None:
        for writer in (self.epochs, self.steps):
            if writer is not None:
                writer.close()
