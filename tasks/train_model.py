"""Train an inpainting model on the frames of a source, to be registered and used on other scans."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import torch

from dlsia_core.gaps import INPAINTED, MEASURED
from dlsia_core.inpainting import InpaintingRecipe
from dlsia_core.networks import network_config
from dlsia_core.networks.storage import write_atomically
from dlsia_core.stitching import merge_measured
from dlsia_core.training import CsvLog, FitResult, Hook, TrainingDivergedError, fit, weighted_l1
from tasks.devices import device_slot
from tasks.held_out import TrainedNetwork, readable, spread
from tasks.learning import curve_of, finish, finished_model, resumable
from tasks.learning_set import LearningSet, learning_set
from tasks.model_card import data_facts, training_facts
from tasks.model_parts import model_parts
from tasks.models import ModelRef
from tasks.normalized_frames import NormalizedFrames
from tasks.report import FramePair
from tasks.report.model_page import write_model_page
from tasks.settings.base import digest
from tasks.stage import stage_task
from tasks.store.lock import writer_lock
from tasks.training_plan import TrainingPlan
from tasks.training_progress import TrainingProgress

VERSION = 1
PICTURES = 2


def origin_of(frames: NormalizedFrames, plan: TrainingPlan) -> dict[str, Any]:
    """All that decides a model."""
    return {"stage": "train-inpainting", "version": VERSION, "plan": plan.identity, "frames": frames.lineage}


def work_folder(folder: Path, frames: NormalizedFrames, plan: TrainingPlan) -> Path:
    """Where a training keeps its state and, once it has ended, its model; the same training has the same folder."""
    return folder / f"training-{digest(origin_of(frames, plan))[:12]}"


@stage_task("train-inpainting")
def train_inpainter(
    frames: NormalizedFrames, plan: TrainingPlan, folder: Path, name: str, source: str, hooks: tuple[Hook, ...] = ()
) -> ModelRef:
    """Train, or find the model that was trained so; goes on where a killed training was.

    folder: the caller's; the training has its own one inside. name, source: what people call model and frames.
    hooks: see the training as it goes; what one raises ends it, and the state stays.
    Raises `SettingsError` for frames that nothing can be learned from, `StoreError` where another run trains the same
    model just now, `TrainingError` (the last good checkpoint stays).
    """
    work = work_folder(folder, frames, plan)
    with writer_lock(work / "lock"):
        if model := finished_model(work):
            return model
        learning = learning_set(frames, plan)
        recipe = learning.recipe()
        with device_slot(plan.given.device) as device:
            listeners = (CsvLog(work / "training.csv"), TrainingProgress(name), *hooks)
            fitted = resumable(work / "checkpoint", lambda state: _fit(learning, recipe, state, device, listeners))
            trained = TrainedNetwork(
                fitted.network, recipe, learning.grid, frames, learning.split, plan.given.judged_frames, device
            )
            parts = model_parts(trained)
            pictures = _pictures(trained)
        facts = {**_facts(learning, recipe, source), "curve": curve_of(name, fitted, "L1, standardized"), **parts}
        facts["quality"] = readable(parts["scores"])
        effort = _effort(fitted, device)
        write_atomically(work / "training.json", json.dumps(effort, indent=2, sort_keys=True).encode())
        shown = {**data_facts(facts), **training_facts(network_config(fitted.network), facts, effort)}
        write_model_page(work / "report.html", name, shown, facts, pictures)
        return finish(work, fitted, facts)


def _fit(
    learning: LearningSet,
    recipe: InpaintingRecipe,
    checkpoint: Path,
    device: torch.device,
    hooks: tuple[Hook, ...],
) -> FitResult:
    plan = learning.plan
    try:
        return fit(
            plan.build(recipe, learning.grid.tile_shape),
            learning.training_examples(recipe),
            weighted_l1,
            plan.fit_settings(),
            validation=learning.validation_examples(recipe),
            checkpoint_folder=checkpoint,
            device=device,
            hooks=hooks,
            checkpoint_seconds=plan.given.checkpoint_s,
            max_seconds=60 * plan.given.max_minutes,
            prefetch=learning.read_ahead(device),
        )
    except TrainingDivergedError as error:
        where = f"it is in {checkpoint}" if checkpoint.exists() else "none was written yet"
        raise TrainingDivergedError(
            f"{error}. Of the last good checkpoint: {where}. Run again with training.learning_rate below "
            f"{plan.values['learning_rate']:g}, or training.gradient_clip"
        ) from error


def _facts(learning: LearningSet, recipe: InpaintingRecipe, source: str) -> dict[str, Any]:
    """What whoever uses the model must know of how it came about."""
    plan, frames = learning.plan, learning.frames
    return {
        **frames.facts,
        "kind": "inpainting",
        "recipe": recipe.to_dict(),
        "tile_shape": list(learning.grid.tile_shape),
        "tile_step": list(learning.grid.step),
        "origin": origin_of(frames, plan),
        "started_from": plan.start and plan.start.label,
        "split": learning.split.to_dict(),
        "trained_on": {"source": source, **learning.summary()},
    }


def _effort(fitted: FitResult, device: torch.device) -> dict[str, Any]:
    """What it took: not in the model's description, so that the same training gives the same model wherever it ran."""
    on = torch.cuda.get_device_name(device) if device.type == "cuda" else f"CPU, {torch.get_num_threads()} threads"
    return {
        "device": on,
        "seconds": round(sum(record.seconds for record in fitted.history), 1),
        "epochs": len(fitted.history),
        "stopped": fitted.stopped,
        "torch": torch.__version__,
    }


def _pictures(trained: TrainedNetwork) -> list[FramePair]:
    """Some test frames as they are and with their gaps filled."""
    pairs = []
    for number in spread(trained.split.test, PICTURES):
        frame = trained.frames.read(number)
        origin = np.where(np.isfinite(frame), MEASURED, INPAINTED).astype(np.uint8)
        filled = merge_measured(trained.fill(frame), frame, origin)
        pairs.append(FramePair(f"frame {number}", frame, filled, origin))
    return pairs
