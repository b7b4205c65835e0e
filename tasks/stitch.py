"""Stitch: `predictions` become `inpainted`; measured pixels come back unchanged; `provenance` says what is what."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from dlsia_core.gaps import DEAD, INPAINTED, MEASURED, provenance
from dlsia_core.stitching import merge_measured, stitch
from dlsia_core.tiling import TileGrid
from tasks.settings.stages import StitchSettings
from tasks.stage import ReadableFrames, RunPlan, StageRun, place, run_shards, stage_task
from tasks.store import ArrayRef, ArraySpec, FrameRange, open_store
from tasks.workers import Workers

VERSION = 1
NOT_PROCESSED = 255


def place_stitched(
    plan: RunPlan, normalized: ArrayRef, predictions: ArrayRef | None, settings: StitchSettings
) -> tuple[ArrayRef, ArrayRef]:
    """Find or make `inpainted` and `provenance`; without predictions nothing is inpainted."""
    shape = open_store(plan.scan).array(normalized.path).shape[1:]
    attributes = {
        "flag_values": [MEASURED, INPAINTED, DEAD, NOT_PROCESSED],
        "flag_meanings": "measured inpainted dead not_processed",
    }
    specs = [
        ArraySpec("inpainted", shape, ("row", "column"), "float32", np.nan),
        ArraySpec("provenance", shape, ("row", "column"), "uint8", NOT_PROCESSED, attributes=attributes),
    ]
    inputs = [normalized] if predictions is None else [normalized, predictions]
    inpainted, origin = place(plan, specs, stitch_stage(settings), inputs)
    return inpainted, origin


def stitch_stage(settings: StitchSettings) -> dict[str, Any]:
    """What decides the numbers, but for the inputs."""
    return {"stage": "stitch", "version": VERSION, "settings": settings.model_dump(mode="json")}


@stage_task("stitch")
def stitch_batch(
    frames: FrameRange,
    normalized: ArrayRef,
    predictions: ArrayRef | None,
    outputs: tuple[ArrayRef, ArrayRef],
    grid: TileGrid,
    settings: StitchSettings,
    workers: Workers,
) -> StageRun:
    """Stitch the frames that are not done yet."""
    path = None if predictions is None else predictions.path
    return run_shards(outputs, frames, StitchFrames(normalized.path, path, grid, settings), workers)


@dataclass(frozen=True)
class StitchFrames:
    """Computes `inpainted` and `provenance`; None: without predictions."""

    normalized: str
    predictions: str | None
    grid: TileGrid
    settings: StitchSettings

    def __call__(self, store: ReadableFrames, start: int, stop: int) -> list[npt.NDArray[Any]]:
        normalized = store.read(self.normalized, start, stop)
        reach = reach_in_rows(self.settings.reach_px, store.attributes["frame_shape"], normalized.shape[1:])
        origin = np.empty(normalized.shape, np.uint8)
        measured = ~np.isnan(normalized)
        for row, here in enumerate(measured):
            # Distances are costly, and most frames measure with the same pixels as the one before.
            same = row > 0 and np.array_equal(here, measured[row - 1])
            origin[row] = origin[row - 1] if same else provenance(here, reach)
        if self.predictions is None:
            return [normalized, np.where(origin == MEASURED, origin, DEAD).astype(np.uint8)]
        stitched = stitch(store.read(self.predictions, start, stop), self.grid, self.settings.window)
        return [merge_measured(stitched, normalized, origin), origin]


def reach_in_rows(reach_px: float, frame_shape: Sequence[int], resized_shape: Sequence[int]) -> float:
    """A distance in detector pixels as one in pixels of the resized frame, along the axis that was reduced less.

    >>> round(reach_in_rows(24, (1679, 1475), (512, 512)), 2)
    8.33
    """
    return reach_px * max(resized / frame for frame, resized in zip(frame_shape, resized_shape, strict=True))
