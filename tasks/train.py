"""Train: an inpainting network learns from the scan's own measured pixels, where no model is given."""

import time

import numpy as np
import numpy.typing as npt

from dlsia_core.hiding import HidingPlan
from dlsia_core.inpainting import HiddenPixelExamples, InpaintingRecipe, build_inpainter
from dlsia_core.inpainting_quality import quality_on_hidden
from dlsia_core.training import TrainSettings as FitSettings
from dlsia_core.training import fit, weighted_l1
from tasks.devices import device_slot
from tasks.learning import curve_of, finish, finished_model, log_epoch, model_folder, resumable
from tasks.models import ModelRef
from tasks.planning import StageSettings, needs
from tasks.settings.stages import TrainSettings
from tasks.stage import RunPlan, StageRun, stage_task
from tasks.store import ArrayRef, FrameRange, ScanStore, open_store
from tasks.tile import grid_of

VERSION = 1
HIDDEN_MAPS = 64


def gaps_to_fill(normalized: ArrayRef) -> bool:
    """True if any frame of the scan has a pixel without a value."""
    store = open_store(normalized.scan)
    shards = FrameRange(0, store.n_frames).shards(store.shard_frames)
    return any(np.isnan(store.read(normalized.path, start, stop)).any() for _, start, stop in shards)


@stage_task("train")
def train_on_scan(
    plan: RunPlan, normalized: ArrayRef, tiles: ArrayRef, stages: StageSettings
) -> tuple[StageRun, ModelRef]:
    """Train, or find the model that was trained with these settings; goes on where a killed training was.

    The model belongs to the store: frames that are added later are inpainted with it, not with a new one.
    """
    started = time.monotonic()
    settings = stages.train
    origin = {
        "stage": "train",
        "version": VERSION,
        "settings": settings.model_dump(mode="json"),
        "tiles": tiles.lineage,
    }
    folder = model_folder(plan.scan, "inpainting", origin)
    if model := finished_model(folder):
        return StageRun("train", FrameRange(0, 0), 0, 0.0, 0), model
    hiding, training, validation = _learning_set(open_store(plan.scan), normalized, tiles, stages)
    recipe = InpaintingRecipe.from_tiles(training, settings.prefill)
    network = build_inpainter(
        {
            "network": "TUNet",
            "depth": settings.depth,
            "base_channels": settings.base_channels,
            "growth_rate": settings.growth_rate,
            "activation": "silu",
        },
        recipe,
        settings.seed,
    )
    hidden = hiding.draw(HIDDEN_MAPS, settings.seed)
    unseen = hiding.draw(len(validation), settings.seed + 1)
    with device_slot(stages.infer.device) as device:
        fitted = resumable(
            folder / "checkpoint",
            lambda checkpoint: fit(
                network,
                HiddenPixelExamples(training, hidden, recipe, settings.seed, _crop_rows(stages)),
                weighted_l1,
                _fit_settings(settings),
                validation=HiddenPixelExamples(validation, unseen, recipe, settings.seed),
                checkpoint_folder=checkpoint,
                device=device,
                on_epoch=log_epoch("inpainting network", settings.epochs),
                max_seconds=60 * settings.max_minutes,
            ),
        )
        quality = quality_on_hidden(fitted.network, validation, unseen, recipe, device=device)
    description = {
        **needs(stages.normalize),
        "recipe": recipe.to_dict(),
        "origin": origin,
        "tile_shape": list(stages.tile.shape),
        "trained_on": {"tiles": len(training), "held_out": len(validation)},
        "curve": curve_of("inpainting network", fitted, "L1 on hidden pixels, in standard deviations of the tiles"),
        "quality": quality,
    }
    model = finish(folder, fitted, description)
    return StageRun("train", FrameRange(0, len(training)), len(training), time.monotonic() - started, 0), model


def _crop_rows(stages: StageSettings) -> int | None:
    rows = stages.train.crop_rows
    return None if rows is None or rows >= stages.tile.shape[0] else rows


def _fit_settings(settings: TrainSettings) -> FitSettings:
    falls = (round(0.6 * settings.epochs), round(0.85 * settings.epochs))
    return FitSettings(
        settings.epochs,
        settings.batch_size,
        settings.learning_rate,
        milestones=tuple(sorted({epoch for epoch in falls if 0 < epoch < settings.epochs})),
        decay=0.3,
        gradient_clip=1.0,
        seed=settings.seed,
    )


def _learning_set(
    store: ScanStore, normalized: ArrayRef, tiles: ArrayRef, stages: StageSettings
) -> tuple[HidingPlan, npt.NDArray[np.float32], npt.NDArray[np.float32]]:
    """Tiles to train and to validate on, (tile, tile_row, tile_column), from frames spread evenly over the scan.

    Whole frames are held out where there are enough of them, so that the loss that chooses the best weights is
    measured on frames that were not trained on.
    """
    settings = stages.train
    grid = grid_of(normalized, stages.tile)
    first = next(
        frame
        for _, start, stop in FrameRange(0, store.n_frames).shards(store.shard_frames)
        for frame in store.read(normalized.path, start, stop)
        if np.isnan(frame).any()
    )
    hiding = HidingPlan.from_valid(~np.isnan(first), grid)
    n_wanted = max(1, settings.max_tiles // len(hiding.tiles))
    rows = np.unique(np.linspace(0, store.n_frames - 1, min(n_wanted, store.n_frames)).round().astype(int))
    chosen = np.concatenate([store.read(tiles.path, int(row), int(row) + 1)[0][list(hiding.tiles)] for row in rows])
    chosen = chosen[: settings.max_tiles]
    n_held_out = max(1, round(settings.validation_share * len(chosen)))
    per_frame = len(hiding.tiles)
    if len(chosen) > 2 * per_frame:
        n_held_out = max(1, n_held_out // per_frame) * per_frame
    if len(chosen) == 1:
        return hiding, chosen, chosen
    held_out = _spread(len(chosen), n_held_out, per_frame if len(chosen) > 2 * per_frame else 1)
    return hiding, chosen[~held_out], chosen[held_out]


def _spread(n_tiles: int, n_held_out: int, group: int) -> npt.NDArray[np.bool_]:
    """Hold out whole groups of tiles, evenly over the scan.

    >>> _spread(12, 3, 3).astype(int).tolist()
    [0, 0, 0, 0, 0, 0, 1, 1, 1, 0, 0, 0]
    """
    n_groups = -(-n_tiles // group)
    n_chosen = max(1, n_held_out // group)
    groups = ((np.arange(n_chosen) + 0.5) * n_groups / n_chosen).astype(int)
    return np.isin(np.arange(n_tiles) // group, groups)
