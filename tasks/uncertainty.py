"""Uncertainty: how wrong each inpainted value may be, from the calibration that the model brings with it."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from dlsia_core.inpainting_uncertainty import InpaintingUncertainty
from tasks.model_trust import uncertainty_of
from tasks.models import ModelRef
from tasks.stage import RunPlan, StageRun, place, run_shards, stage_task
from tasks.store import ArrayRef, ArraySpec, FrameRange, ScanStore, open_store
from tasks.workers import Workers

VERSION = 1
MEANING = (
    "half the width of the interval around `inpainted` that holds the true value as often as promised; 0: measured; "
    "NaN: dead, not processed, or farther from any measured pixel than errors are known"
)


def place_uncertainty(plan: RunPlan, inpainted: ArrayRef, model: ModelRef) -> tuple[ArrayRef | None, str]:
    """Find or make the array; None, and the reason, where the model has no calibrated error."""
    uncertainty = uncertainty_of(model)
    if not uncertainty.calibrated:
        return None, uncertainty.reason
    shape = open_store(plan.scan).array(inpainted.path).shape[1:]
    attributes = {
        "long_name": MEANING,
        "promised_coverage": uncertainty.coverage,
        "calibration": uncertainty.statement,
    }
    spec = ArraySpec("uncertainty", shape, ("row", "column"), "float32", np.nan, attributes=attributes)
    stage = {"stage": "uncertainty", "version": VERSION, "model": model.digest}
    return place(plan, [spec], stage, [inpainted])[0], ""


@stage_task("uncertainty")
def uncertainty_batch(
    frames: FrameRange,
    inpainted: ArrayRef,
    provenance: ArrayRef,
    uncertainty: ArrayRef,
    model: ModelRef,
    workers: Workers,
) -> StageRun:
    """Find the errors of the frames that are not done yet."""
    compute = _Uncertainty(inpainted.path, provenance.path, uncertainty_of(model))
    return run_shards([uncertainty], frames, compute, workers)


@dataclass(frozen=True)
class _Uncertainty:
    inpainted: str
    provenance: str
    calibration: InpaintingUncertainty

    def __call__(self, store: ScanStore, start: int, stop: int) -> list[npt.NDArray[Any]]:
        filled, origin = (store.read(path, start, stop) for path in (self.inpainted, self.provenance))
        return [self.calibration.half_widths(filled, origin)]
