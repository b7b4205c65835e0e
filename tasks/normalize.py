"""Normalize: `counts` and `valid` become `normalized` (frame, row, column), float32, NaN where not measured."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from dlsia_core.resize import AreaResizer, resize_bicubic, resized_coordinates
from tasks.settings.stages import NormalizeSettings
from tasks.stage import ReadableFrames, RunPlan, StageRun, place, run_shards, stage_task
from tasks.store import ArrayRef, ArraySpec, FrameRange, open_store
from tasks.workers import Workers

VERSION = 1


def place_normalized(plan: RunPlan, counts: ArrayRef, valid: ArrayRef, settings: NormalizeSettings) -> ArrayRef:
    """Find or make the array, with the scale's constants among its attributes, and the positions of its pixels."""
    store = open_store(plan.scan)
    frame_shape = tuple(store.attributes["frame_shape"])
    shape = settings.shape or frame_shape
    attributes = {"scale": settings.intensity_scale().to_dict(), "long_name": "normalized counts; NaN: not measured"}
    spec = ArraySpec("normalized", shape, ("row", "column"), "float32", np.nan, attributes=attributes)
    [normalized] = place(plan, [spec], normalize_stage(settings), [counts, valid])
    group = normalized.path.removesuffix("normalized")
    for axis, name, size, resized in zip("yx", ("row", "column"), frame_shape, shape, strict=True):
        units = {"units": "pixel", "long_name": f"position on {axis} of the pixel's center"}
        store.require_axis(group + name, resized_coordinates(size, resized), units)
    return normalized


def normalize_stage(settings: NormalizeSettings) -> dict[str, Any]:
    """What decides the numbers, but for the inputs."""
    return {"stage": "normalize", "version": VERSION, "settings": settings.model_dump(mode="json")}


@stage_task("normalize")
def normalize_batch(
    frames: FrameRange,
    counts: ArrayRef,
    valid: ArrayRef,
    normalized: ArrayRef,
    settings: NormalizeSettings,
    workers: Workers,
) -> StageRun:
    """Normalize the frames that are not done yet."""
    return run_shards([normalized], frames, NormalizeFrames(counts.path, valid.path, settings), workers)


@dataclass(frozen=True)
class NormalizeFrames:
    """Computes frames of `normalized` from those of `counts` and `valid`, whose names are given."""

    counts: str
    valid: str
    settings: NormalizeSettings

    def __call__(self, store: ReadableFrames, start: int, stop: int) -> list[npt.NDArray[Any]]:
        counts, valid = store.read(self.counts, start, stop), store.read(self.valid, start, stop)
        shape = self.settings.shape or counts.shape[1:]
        resized = np.empty((len(counts), *shape), np.float32)
        area = AreaResizer(counts.shape[1:], shape, self.settings.min_coverage)
        for row, (frame, measured) in enumerate(zip(counts, valid, strict=True)):
            # Most frames measure with the same pixels as the one before; their coverage is then the same.
            if row == 0 or not np.array_equal(measured, valid[row - 1]):
                coverage = area.coverage(measured)
            if self.settings.resize == "area":
                resized[row] = area.resize(frame, measured, coverage)[0]
            else:
                resized[row] = resize_bicubic(frame, measured, shape, self.settings.min_coverage, coverage=coverage)
        return [self.settings.intensity_scale().normalize(resized)]
