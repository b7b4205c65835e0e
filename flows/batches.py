"""Batches of frames that flow through the stages while later frames are still being ingested."""

import time
from collections.abc import Callable, Iterator, Sequence
from typing import cast
from uuid import UUID

from prefect.artifacts import create_progress_artifact, update_progress_artifact
from prefect.futures import PrefectFuture, wait

from tasks.ingest import ingest_batch
from tasks.logs import logger_of
from tasks.settings.ingest import IngestSettings
from tasks.stage import StageRun
from tasks.store import FrameRange, FrameState, ScanRef, open_store
from tasks.workers import Workers

SHORT_S = 2.0
"""A line in the log and a bar cost what ten frames cost to ingest."""
PAUSE_S = 1.0
"""Nobody reads more often how far a stage is."""


def batches_of(n_frames: int, batch_frames: int) -> list[FrameRange]:
    """Cut a scan into the frame ranges of single task runs.

    >>> batches_of(600, 256)
    [FrameRange(start=0, stop=256), FrameRange(start=256, stop=512), FrameRange(start=512, stop=600)]
    """
    return [FrameRange(start, min(start + batch_frames, n_frames)) for start in range(0, n_frames, batch_frames)]


def ingested_batches(scan: ScanRef, settings: IngestSettings, workers: Workers) -> Iterator[StageRun]:
    """Yield a run for each batch that the store holds already, then one for each batch as it is ingested."""
    frames = open_store(scan).frames
    held = batches_of(len(frames.ingested), settings.batch_frames)
    pending = total = len(frames.in_state(FrameState.PENDING))
    if pending and held and len(held[-1]) < settings.batch_frames:
        held.pop()  # it is about to grow
    for batch in held:
        yield StageRun("ingest", batch, 0, 0.0, 0)
    progress = Progress("ingest", total)
    while pending:
        run = ingest_batch(scan, settings, workers)
        left = len(frames.in_state(FrameState.PENDING))
        progress.advance(pending - left)
        pending = left
        if len(run.frames):
            yield run


def gather(futures: Sequence[PrefectFuture[StageRun]], progress: "Progress | None" = None) -> list[StageRun]:
    """Wait for all task runs, then return their results or raise what the first failed one raised."""
    results: list[StageRun] = []
    try:
        for future in futures:
            results.append(future.result())
            if progress:
                progress.advance(len(results[-1].frames))
    finally:
        # Nothing may write to the store after the flow has given up its lock.
        wait(list(futures))
    return results


class Progress:
    """Frames done, rate and time left of one stage, as log lines and as a bar in the Prefect UI, once a second at most.

    What is done at once and in less than `SHORT_S`, as a stage of a short scan is, needs neither: its task run tells.
    """

    def __init__(
        self, stage: str, n_frames: int, unit: str = "frames", clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.stage, self.total, self.unit, self.done = stage, n_frames, unit, 0
        self._clock, self._started = clock, clock()
        self._shown: float | None = None
        self._artifact: UUID | None = None

    def advance(self, frames: int) -> None:
        """Count frames as done and say so."""
        self.done += frames
        now = self._clock()
        if is_due(now - self._started, None if self._shown is None else now - self._shown, self.done >= self.total):
            self._shown = now
            self._show(max(now - self._started, 1e-9))

    def _show(self, seconds: float) -> None:
        left = (self.total - self.done) * seconds / max(self.done, 1)
        rate = self.done / seconds
        logger_of(__name__).info(
            f"%s: %d of %d {self.unit}, %.3g {self.unit}/s, %.0f s left", self.stage, self.done, self.total, rate, left
        )
        share = min(100.0, 100.0 * self.done / max(self.total, 1))
        if self._artifact is None:
            self._artifact = cast(UUID, create_progress_artifact(share, f"{self.stage}-progress", self.stage))
        else:
            update_progress_artifact(self._artifact, share)


def is_due(since_start_s: float, since_shown_s: float | None, is_done: bool) -> bool:
    """Whether to say how far a stage is; since_shown_s: None = nothing was said yet.

    >>> [is_due(since_start, None, is_done=True) for since_start in (1.5, 2.5)]  # all of it in one step
    [False, True]
    >>> [is_due(5.0, since_shown, is_done=False) for since_shown in (None, 0.5, 1.0)]
    [True, False, True]
    >>> is_due(5.0, 0.5, is_done=True)  # the last word
    True
    """
    if since_shown_s is None:
        return not is_done or since_start_s >= SHORT_S
    return is_done or since_shown_s >= PAUSE_S
