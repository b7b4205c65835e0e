"""Familiarity: how far each frame is from those that the model was trained on, and which ones are strangers to it."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from dlsia_core.familiarity import Familiarity
from tasks.errors import StoreError
from tasks.logs import logger_of
from tasks.model_trust import familiarity_of
from tasks.models import ModelRef
from tasks.stage import RunPlan, StageRun, place, run_shards, stage_task
from tasks.store import ArrayRef, ArraySpec, FrameRange, ScanStore, open_store
from tasks.workers import Workers

VERSION = 1
NAMED = 5


@dataclass(frozen=True)
class FamiliarityRefs:
    """The two arrays of the stage, one number and one mark per frame."""

    familiarity: ArrayRef
    unfamiliar: ArrayRef


@dataclass(frozen=True)
class Strangers:
    """Frames unlike those that the model knows: how many, and what a person should know of them."""

    n_frames: int = 0
    warnings: tuple[str, ...] = ()


def place_familiarity(plan: RunPlan, normalized: ArrayRef, model: ModelRef) -> tuple[FamiliarityRefs | None, str]:
    """Find or make the arrays; None, and the reason, where nobody knows what is familiar to the model."""
    familiarity, why_not = familiarity_of(model)
    if familiarity is None:
        return None, why_not
    meaning = "distance from the frames that the model was trained on; about 1 or less: a frame like them"
    marked = {"long_name": f"familiarity is above {familiarity.threshold:.3g}", "threshold": familiarity.threshold}
    specs = [
        ArraySpec("familiarity", (), (), "float32", np.nan, attributes={"long_name": meaning}),
        ArraySpec("unfamiliar", (), (), "bool", False, attributes=marked),
    ]
    stage = {"stage": "familiarity", "version": VERSION, "model": model.digest}
    return FamiliarityRefs(*place(plan, specs, stage, [normalized])), ""


@stage_task("familiarity")
def familiarity_batch(
    frames: FrameRange, normalized: ArrayRef, outputs: FamiliarityRefs, model: ModelRef, workers: Workers
) -> StageRun:
    """Compare the frames that are not done yet."""
    familiarity, why_not = familiarity_of(model)
    if familiarity is None:
        raise StoreError(f"{outputs.familiarity.path} was placed for a model that knows no frames: {why_not}")
    compute = _Compare(normalized.path, familiarity)
    return run_shards([outputs.familiarity, outputs.unfamiliar], frames, compute, workers)


@dataclass(frozen=True)
class _Compare:
    normalized: str
    familiarity: Familiarity

    def __call__(self, store: ScanStore, start: int, stop: int) -> list[npt.NDArray[Any]]:
        distance = self.familiarity.distance(store.read(self.normalized, start, stop))
        return [distance, self.familiarity.unfamiliar(distance)]


def strangers(found: FamiliarityRefs, label: str) -> Strangers:
    """Read which frames are marked, and warn of them in the log; label: the model, as `start_from` takes it."""
    store = open_store(found.familiarity.scan)
    distance, marked = (store.read(ref.path, 0, store.n_frames) for ref in (found.familiarity, found.unfamiliar))
    rows = np.flatnonzero(marked)
    if not rows.size:
        return Strangers()
    worst = rows[np.argsort(-distance[rows], kind="stable")][:NAMED]
    names = store.read("frame_name", 0, store.n_frames)
    listed = ", ".join(f"{names[row]!s} ({distance[row]:.1f})" for row in worst)
    warning = (
        f"{rows.size} of {store.n_frames} frames are unlike those that the model knows, the farthest are {listed}, "
        f"where about 1 is usual; they are marked in `{found.unfamiliar.path}`. What is filled in there, and how sure "
        f"it is said to be, may be wrong; go on from the model with such frames: train_inpainting(source=…, name=…, "
        f"start_from={label!r})"
    )
    logger_of(__name__).warning("%s", warning)
    return Strangers(int(rows.size), (warning,))
