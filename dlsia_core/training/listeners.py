"""Tells hooks, callback and log how a training goes."""

import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager

from dlsia_core.training.history import EpochRecord, Progress
from dlsia_core.training.hooks import Hook, Start, StepRecord

logger = logging.getLogger(__name__)
EpochCallback = Callable[[EpochRecord, float], None]


class Listeners:
    """All who want to hear of a training; nobody, in all processes but the first."""

    def __init__(self, hooks: Sequence[Hook], on_epoch: EpochCallback | None, first_process: bool) -> None:
        self.hooks = tuple(hooks) if first_process else ()
        self.on_epoch = on_epoch if first_process else None
        self.first_process = first_process

    @contextmanager
    def listening(self, start: Start) -> Iterator[None]:
        """Start and, however it ends, end all hooks."""
        with ExitStack() as ends:
            for hook in self.hooks:
                ends.callback(hook.on_end)
                hook.on_start(start)
            yield

    def step(self, record: StepRecord) -> None:
        for hook in self.hooks:
            hook.on_step(record)

    def epoch(self, progress: Progress, epochs: int) -> None:
        """Tell of the epoch that was just closed."""
        if not self.first_process:
            return
        record = progress.history[-1]
        logger.info(
            "epoch %d: training loss %g, validation %s", record.epoch, record.training_loss, record.validation_loss
        )
        mean_seconds = sum(r.seconds for r in progress.history) / len(progress.history)
        seconds_left = mean_seconds * (epochs - progress.epoch)
        for hook in self.hooks:
            hook.on_epoch(record, seconds_left)
        if self.on_epoch is not None:
            self.on_epoch(record, seconds_left)
