"""Train: an inpainting network learns from the scan's own measured pixels, where no model is given."""

import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from dlsia_core.hiding import HidingPlan
from dlsia_core.inpainting import InpaintingRecipe, build_inpainter, inpaint_frames
from dlsia_core.inpainting_examples import HiddenPixelExamples
from dlsia_core.inpainting_quality import quality_on_hidden
from dlsia_core.training import FitResult, fit, weighted_l1
from dlsia_core.training import TrainSettings as FitSettings
from tasks.devices import device_slot
from tasks.errors import StoreError
from tasks.learning import (
    curve_of,
    finish,
    finished_model,
    model_folder,
    resumable,
    settings_that_count,
)
from tasks.model_trust import CALIBRATION_FRAMES, familiarity_facts, uncertainty_facts
from tasks.models import ModelRef
from tasks.networks import inpainter_config
from tasks.normalized_frames import NormalizedFrames
from tasks.planning import StageSettings, needs
from tasks.settings.stages import TrainSettings
from tasks.stage import RunPlan, StageRun, noted, stage_task
from tasks.store import ArrayRef, FrameRange, ScanStore, open_store
from tasks.tile import grid_of, tiles_of
from tasks.training_progress import TrainingProgress

VERSION = 1
HIDDEN_MAPS = 64


def nothing_to_inpaint(normalized: ArrayRef) -> str | None:
    """Why inpainting makes no sense for the scan, or None if it does."""
    store = open_store(normalized.scan)
    has_gap = has_measured = False
    for _, start, stop in FrameRange(0, store.n_frames).shards(store.shard_frames):
        missing = np.isnan(store.read(normalized.path, start, stop))
        has_gap, has_measured = has_gap or bool(missing.any()), has_measured or not missing.all()
        if has_gap and has_measured:
            return None
    return "no frame has a measured pixel" if has_gap else "the frames have no gaps"


@stage_task("train")
def train_on_scan(
    plan: RunPlan, normalized: ArrayRef, tiles: ArrayRef, stages: StageSettings
) -> tuple[StageRun, ModelRef]:
    """Train, or find the model that was trained with these settings; goes on where a killed training was.

    The model belongs to the store: frames that are added later are inpainted with it, not with a new one.
    """
    started = time.monotonic()
    settings, origin = stages.train, _origin(tiles, stages)
    folder = model_folder(plan.scan, "inpainting", origin)
    if model := finished_model(folder):
        return StageRun("train", FrameRange(0, 0), 0, 0.0, 0), model
    learning = _learning_set(open_store(plan.scan), normalized, tiles, stages)
    recipe = InpaintingRecipe.from_tiles(learning.training, settings.prefill)
    unseen = learning.hiding.draw(len(learning.validation), settings.seed + 1)
    with device_slot(stages.infer.device) as device:
        fitted = resumable(
            folder / "checkpoint",
            lambda checkpoint: _fit(learning, recipe, unseen, stages, checkpoint, device),
        )
        quality = quality_on_hidden(fitted.network, learning.validation, unseen, recipe, device=device)
        trust = _trust(learning, fitted, recipe, stages, device)
    description = {
        **needs(stages.normalize),
        "recipe": recipe.to_dict(),
        "origin": origin,
        "tile_shape": list(learning.hiding.tile_shape),
        "trained_on": learning.summary(),
        "curve": curve_of("inpainting network", fitted, "L1, standardized"),
        "quality": quality,
        **trust,
    }
    model = finish(folder, fitted, description)
    run = StageRun("train", FrameRange(0, learning.n_frames), learning.n_frames, time.monotonic() - started, 0)
    return noted(plan.scan, run), model


def has_begun(plan: RunPlan, tiles: ArrayRef, stages: StageSettings) -> bool:
    """Whether the scan has a model of its own, or one in training, that was begun with these settings."""
    return model_folder(plan.scan, "inpainting", _origin(tiles, stages)).exists()


def own_model(plan: RunPlan, tiles: ArrayRef, stages: StageSettings) -> ModelRef | None:
    """The scan's own model of these settings, if its training has ended."""
    return finished_model(model_folder(plan.scan, "inpainting", _origin(tiles, stages)))


def _origin(tiles: ArrayRef, stages: StageSettings) -> dict[str, Any]:
    """All that decides the scan's own model, but for its frames."""
    settings = settings_that_count(stages.train)
    return {"stage": "train", "version": VERSION, "settings": settings, "tiles": tiles.lineage}


def _fit(
    learning: "_LearningSet",
    recipe: InpaintingRecipe,
    unseen: npt.NDArray[np.bool_],
    stages: StageSettings,
    checkpoint: Path,
    device: torch.device,
) -> FitResult:
    """Train a TUNet; `unseen` is what is hidden from it in the validation tiles."""
    settings = stages.train
    hidden = learning.hiding.draw(HIDDEN_MAPS, settings.seed)
    crop_rows = _crop_rows(settings, learning.hiding.tile_shape[0])
    return fit(
        build_inpainter(inpainter_config(settings), recipe, settings.seed),
        HiddenPixelExamples(learning.training, hidden, recipe, settings.seed, crop_rows),
        weighted_l1,
        _fit_settings(settings),
        validation=HiddenPixelExamples(learning.validation, unseen, recipe, settings.seed),
        checkpoint_folder=checkpoint,
        device=device,
        hooks=(TrainingProgress("inpainting network"),),
        checkpoint_seconds=settings.checkpoint_s,
        max_seconds=60 * settings.max_minutes,
    )


def _trust(
    learning: "_LearningSet", fitted: FitResult, recipe: InpaintingRecipe, stages: StageSettings, device: torch.device
) -> dict[str, Any]:
    """Errors on frames that were not trained on, and what is usual in the scan."""
    frames, seed = learning.frames, stages.train.seed + 2
    grid = grid_of(frames.normalized, stages.tile)

    def fill(frame: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        filled = inpaint_frames(fitted.network, recipe, frame[None], grid, device=device)
        return np.asarray(filled[0])

    return {
        "uncertainty": uncertainty_facts(frames, learning.not_trained_on, CALIBRATION_FRAMES, fill, seed),
        "familiarity": familiarity_facts(frames, seed),
    }


def _crop_rows(settings: TrainSettings, tile_rows: int) -> int | None:
    return None if settings.crop_rows is None or settings.crop_rows >= tile_rows else settings.crop_rows


def _fit_settings(settings: TrainSettings) -> FitSettings:
    return FitSettings(
        settings.epochs,
        settings.batch_size,
        settings.learning_rate,
        milestones=(0.6 * settings.epochs, 0.85 * settings.epochs),
        decay=0.3,
        gradient_clip=1.0,
        seed=settings.seed,
    )


@dataclass(frozen=True)
class _LearningSet:
    """Tiles (tile, tile_row, tile_column) to train and to validate on, and from which of the frames they come.

    n_frames: of training and validation. not_trained_on: all frames that no weight is learned from.
    """

    hiding: HidingPlan
    training: npt.NDArray[np.float32]
    validation: npt.NDArray[np.float32]
    frames: NormalizedFrames
    n_frames: int
    not_trained_on: tuple[int, ...]

    def summary(self) -> dict[str, int]:
        return {"frames": self.n_frames, "tiles": len(self.training), "tiles_held_out": len(self.validation)}


def _learning_set(store: ScanStore, normalized: ArrayRef, tiles: ArrayRef, stages: StageSettings) -> _LearningSet:
    """Take frames evenly over the scan, and hold out whole frames where there are three or more.

    So the loss that chooses the best weights is measured on frames that were not trained on. Shorter scans hold out
    tiles; a single tile is validated on itself, with other pixels hidden.
    """
    hiding = HidingPlan.from_valid(_first_with_gaps(store, normalized), grid_of(normalized, stages.tile))
    n_wanted = max(1, stages.train.max_tiles // len(hiding.tiles))
    rows = np.unique(np.linspace(0, store.n_frames - 1, min(n_wanted, store.n_frames)).round().astype(int))
    chosen = np.stack([tiles_of(store, tiles.path, int(row), int(row) + 1)[0][list(hiding.tiles)] for row in rows])
    groups = chosen if len(chosen) > 2 else chosen.reshape(-1, 1, *chosen.shape[2:])
    held_out = spread_evenly(len(groups), stages.train.validation_share)
    training, validation = (_with_pixels(groups[part]) for part in (~held_out, held_out))
    learned = rows[~held_out] if len(chosen) > 2 and len(training) else rows
    others = np.setdiff1d(np.arange(store.n_frames), learned)
    return _LearningSet(
        hiding,
        training if len(training) else validation,
        validation,
        NormalizedFrames(normalized, store.n_frames),
        len(rows),
        tuple(others.tolist()),
    )


def _first_with_gaps(store: ScanStore, normalized: ArrayRef) -> npt.NDArray[np.bool_]:
    """Measured pixels (row, column) of the first frame that has a gap."""
    for _, start, stop in FrameRange(0, store.n_frames).shards(store.shard_frames):
        for measured in ~np.isnan(store.read(normalized.path, start, stop)):
            if not measured.all():
                return np.asarray(measured)
    raise StoreError(f"{store.path}/{normalized.path} has no gaps to learn to fill; leave training out")


def _with_pixels(groups: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """The tiles of all groups of which at least half was measured, or all of them if there is none."""
    tiles = groups.reshape(-1, *groups.shape[2:])
    measured = 1 - np.isnan(tiles).mean(axis=(1, 2)) >= 0.5
    return np.asarray(tiles[measured] if measured.any() else tiles)


def spread_evenly(n: int, share: float) -> npt.NDArray[np.bool_]:
    """Mark a share of n places, at least one, evenly spread.

    >>> spread_evenly(6, 0.3).astype(int).tolist()
    [0, 1, 0, 0, 1, 0]
    """
    n_chosen = max(1, round(share * n))
    places = ((np.arange(n_chosen) + 0.5) * n / n_chosen).astype(int)
    return np.isin(np.arange(n), places)
