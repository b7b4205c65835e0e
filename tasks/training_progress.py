"""How a training goes: a bar in the Prefect UI with rate and time left, and log lines."""

import time
from collections.abc import Callable
from typing import cast
from uuid import UUID

from prefect.artifacts import create_progress_artifact, update_progress_artifact
from prefect.context import FlowRunContext, TaskRunContext

from dlsia_core.training import EpochRecord, Hook, StepRecord
from dlsia_core.training.hooks import Start
from tasks.logs import logger_of

EVERY_S = 2.0
"""Each change of the bar is a request to the server."""


class TrainingProgress(Hook):
    """Shows steps done, steps per second and the time left of a training; outside of a run of Prefect it only logs.

    The time left is an upper bound where a training may stop early.
    """

    def __init__(self, name: str, clock: Callable[[], float] = time.monotonic) -> None:
        self.name, self.clock = name, clock
        self.artifact: UUID | None = None
        self.start = Start(1, 1)
        self.done = 0
        self.began = self.shown = 0.0

    def on_start(self, start: Start) -> None:
        self.start, self.done = start, start.finished_steps
        self.began = self.shown = self.clock()
        if FlowRunContext.get() or TaskRunContext.get():
            text = f"{self.name}: {start.epochs} epochs of {start.steps} steps"
            self.artifact = cast(UUID, create_progress_artifact(self._percent, "training-progress", text))

    def on_step(self, record: StepRecord) -> None:
        self.done += 1
        if self.clock() - self.shown >= EVERY_S:
            self._show(f"loss {record.loss:.5f}")

    def on_epoch(self, record: EpochRecord, seconds_left: float) -> None:
        validation = "-" if record.validation_loss is None else f"{record.validation_loss:.5f}"
        logger_of(__name__).info(
            "%s: epoch %d of %d, loss %.5f, validation %s, %.0f s left",
            self.name, record.epoch + 1, self.start.epochs, record.training_loss, validation, seconds_left,
        )  # fmt: skip

    def on_end(self) -> None:
        self._show("ended")

    @property
    def text(self) -> str:
        """Steps, rate and time left; a resumed training counts only its own steps for the rate."""
        total = self.start.epochs * self.start.steps
        seconds = max(self.clock() - self.began, 1e-9)
        rate = (self.done - self.start.finished_steps) / seconds
        left = f"{(total - self.done) / rate:.0f} s left" if rate else "time left unknown"
        return f"{self.name}: step {self.done} of {total}, {rate:.2f} steps/s, {left}"

    @property
    def _percent(self) -> float:
        return min(100.0, 100 * self.done / max(self.start.epochs * self.start.steps, 1))

    def _show(self, remark: str) -> None:
        self.shown = self.clock()
        if self.artifact is not None:
            update_progress_artifact(self.artifact, self._percent, description=f"{self.text}; {remark}")
