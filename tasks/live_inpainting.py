"""Inpaint a growing scan in the time that ingest leaves, where a model was given: nothing else is known to be final."""

from dataclasses import dataclass

from dlsia_core.tiling import TileGrid
from tasks.familiarity import FamiliarityRefs, familiarity_batch, place_familiarity
from tasks.infer import infer_batch, place_predictions
from tasks.model_registry import NamedModel
from tasks.models import ModelRef, find_model
from tasks.planning import StageSettings, needs
from tasks.stage import RunPlan
from tasks.stitch import place_stitched, stitch_batch
from tasks.store import ArrayRef, FrameRange, open_store
from tasks.tile import grid_of, place_tiles, tile_batch
from tasks.train import nothing_to_inpaint
from tasks.uncertainty import place_uncertainty, uncertainty_batch
from tasks.workers import Workers


@dataclass(frozen=True)
class _Arrays:
    tiles: ArrayRef
    familiarity: FamiliarityRefs | None
    predictions: ArrayRef
    inpainted: ArrayRef
    provenance: ArrayRef
    uncertainty: ArrayRef | None


class LiveInpainting:
    """The stages of process_scan from tiles to errors, one whole shard at a time, into the same arrays.

    A model that is trained on the scan, or chosen for it, depends on frames that are still to come. So only a model
    that was given is used before the end.
    """

    def __init__(
        self, plan: RunPlan, normalized: ArrayRef, stages: StageSettings, given: NamedModel, workers: Workers
    ) -> None:
        self._plan, self._normalized, self._stages, self._workers = plan, normalized, stages, workers
        self._grid: TileGrid = grid_of(normalized, stages.tile)
        self._model: ModelRef = find_model(given.folder, needs(stages.normalize), self._grid.tile_shape)
        self._arrays: _Arrays | None = None
        self.n_frames = 0
        """Frames that are inpainted."""

    def advance(self, n_normalized: int) -> bool:
        """Inpaint the next shard, if it is full and normalized; False where there is nothing to do."""
        store = open_store(self._plan.scan)
        frames = FrameRange(self.n_frames, self.n_frames + store.shard_frames)
        if frames.stop > n_normalized:
            return False
        if self._arrays is None:
            if nothing_to_inpaint(self._normalized):
                return False
            self._arrays = self._place()
        self._inpaint(frames, self._arrays)
        self.n_frames = frames.stop
        return True

    def _place(self) -> _Arrays:
        plan, normalized, model = self._plan, self._normalized, self._model
        tiles = place_tiles(plan, normalized, self._grid, self._stages.tile)
        familiarity, _ = place_familiarity(plan, normalized, model)
        predictions = place_predictions(plan, tiles, model)
        inpainted, provenance = place_stitched(plan, normalized, predictions, self._stages.stitch)
        uncertainty, _ = place_uncertainty(plan, inpainted, model)
        return _Arrays(tiles, familiarity, predictions, inpainted, provenance, uncertainty)

    def _inpaint(self, frames: FrameRange, arrays: _Arrays) -> None:
        normalized, model, workers = self._normalized, self._model, self._workers
        tile_batch.fn(frames, normalized, arrays.tiles, self._grid, workers)
        if arrays.familiarity is not None:
            familiarity_batch.fn(frames, normalized, arrays.familiarity, model, workers)
        infer_batch.fn(frames, arrays.tiles, arrays.predictions, model, self._stages.infer)
        outputs = (arrays.inpainted, arrays.provenance)
        stitch_batch.fn(frames, normalized, arrays.predictions, outputs, self._grid, self._stages.stitch, workers)
        if arrays.uncertainty is not None:
            uncertainty_batch.fn(frames, *outputs, arrays.uncertainty, model, workers)
