"""What a caller can have done while a training runs: a progress bar, a table of all epochs, anything of their own."""

import csv
import io
import math
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TextIO

from tqdm import tqdm  # type: ignore[import-untyped]

from dlsia_core.networks.storage import write_atomically
from dlsia_core.training.history import EpochRecord


@dataclass(frozen=True)
class Start:
    """epochs: in all; steps: of an epoch; history, step: epochs, and steps of the next one, that are done already."""

    epochs: int
    steps: int
    history: tuple[EpochRecord, ...] = ()
    step: int = 0

    @property
    def finished_steps(self) -> int:
        return len(self.history) * self.steps + self.step


@dataclass(frozen=True)
class StepRecord:
    """One finished step; epoch and step from 0; steps: of an epoch; loss: of this batch."""

    epoch: int
    step: int
    steps: int
    learning_rate: float
    loss: float


class Hook:
    """Override what you need. A hook sees the training and cannot change it; what it raises ends the training.

    Of several processes the first one calls the hooks.
    """

    def on_start(self, start: Start) -> None:
        """Before the first step."""

    def on_step(self, record: StepRecord) -> None:
        """After each step."""

    def on_epoch(self, record: EpochRecord, seconds_left: float) -> None:
        """After each epoch; seconds_left: estimated for all epochs that are still to do."""

    def on_end(self) -> None:
        """At the end, also when an error ends the training."""


class ProgressBar(Hook):
    """A bar over all steps with their rate and the time left, in a terminal or a notebook.

    file: a text stream; None = standard error.
    """

    def __init__(self, file: TextIO | None = None) -> None:
        self.file = file
        self.bar: Any = None

    def on_start(self, start: Start) -> None:
        total, file = start.epochs * start.steps, self.file or sys.stderr
        self.bar = tqdm(total=total, initial=start.finished_steps, unit="step", file=file, desc="training")

    def on_step(self, record: StepRecord) -> None:  # noqa: ARG002 - each step is one
        self.bar.update()

    def on_epoch(self, record: EpochRecord, seconds_left: float) -> None:  # noqa: ARG002 - the bar has its own estimate
        self.bar.set_postfix(epoch=record.epoch + 1, loss=f"{record.loss:.4g}", refresh=False)

    def on_end(self) -> None:
        if self.bar is not None:
            self.bar.close()


class CsvLog(Hook):
    """A table of all epochs in `path`, written anew after each: a resume leaves no line out and none twice."""

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self.history: list[EpochRecord] = []

    def on_start(self, start: Start) -> None:
        self.history = list(start.history)
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self._write()

    def on_epoch(self, record: EpochRecord, seconds_left: float) -> None:  # noqa: ARG002
        self.history.append(record)
        self._write()

    def _write(self) -> None:
        write_atomically(self.path, table(self.history).encode())


def table(history: Sequence[EpochRecord]) -> str:
    """All epochs as CSV, an empty field where there is no number.

    >>> print(table([EpochRecord(0, 0.1, 2.0, None, 1.5, {"f1": 0.5})]), end="")
    epoch,learning_rate,training_loss,validation_loss,seconds,f1
    0,0.1,2.0,,1.5,0.5
    """
    names = list(dict.fromkeys(name for record in history for name in record.metrics))
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["epoch", "learning_rate", "training_loss", "validation_loss", "seconds", *names])
    for record in history:
        losses = [record.training_loss, record.validation_loss]
        metrics = [record.metrics.get(name, math.nan) for name in names]
        numbers = [record.learning_rate, *losses, record.seconds, *metrics]
        writer.writerow([record.epoch, *("" if v is None or math.isnan(v) else v for v in numbers)])
    return text.getvalue()
