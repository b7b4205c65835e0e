"""What a store holds already of what a run would compute, found by lineage as stages find it; nothing is written."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tasks.encode import encode_stage, own_encoder
from tasks.infer import infer_stage
from tasks.ingest import counts_ref, valid_ref
from tasks.learning import finished_model
from tasks.models import ModelRef
from tasks.normalize import normalize_stage
from tasks.planning import StageSettings
from tasks.settings.base import digest
from tasks.settings.ingest import IngestSettings
from tasks.stage import RunPlan
from tasks.stitch import stitch_stage
from tasks.store import ArrayRef, FrameRange, ScanRef, ScanStore, shard_lineage
from tasks.tile import tile_stage
from tasks.train import own_model


@dataclass
class Done:
    """Frames that each stage has finished, and the models that are there."""

    frames: dict[str, int] = field(default_factory=dict)
    model: ModelRef | None = None
    encoder: ModelRef | None = None


def find_done(path: Path, ingest: IngestSettings, stages: StageSettings, given: ModelRef | None) -> Done:
    """Look through the store at the path, if there is one; `given`: the model that the run was given."""
    done = Done(model=given)
    if not (path / "zarr.json").exists():
        return done
    store, scan = ScanStore(path), ScanRef(str(path))
    plan = RunPlan(scan, {})

    def look(stage: dict[str, Any], array: str, *inputs: ArrayRef) -> ArrayRef:
        ref = ArrayRef(scan, array, digest({**stage, "inputs": [one.lineage for one in inputs]}))
        done.frames[stage["stage"]] = _finished(store, ref)
        return ref

    done.frames["ingest"] = len(store.frames.ingested)
    counts, valid = counts_ref(scan), valid_ref(scan, ingest)
    normalized = look(normalize_stage(stages.normalize), "normalized", counts, valid)
    tiles = look(tile_stage(stages.tile), "tiles", normalized)
    stitched = look(stitch_stage(stages.stitch), "inpainted", normalized)
    for model in [given] if given else [own_model(plan, tiles, stages), *_ready(store)]:
        if model is not None and not done.frames["stitch"]:
            done.model = model
            predictions = look(infer_stage(model), "predictions", tiles)
            stitched = look(stitch_stage(stages.stitch), "inpainted", normalized, predictions)
    done.encoder = own_encoder(plan, stitched, stages.encode)
    if done.encoder is not None:
        look(encode_stage(done.encoder), "latent", stitched)
    return done


def _ready(store: ScanStore) -> list[ModelRef | None]:
    return [finished_model(folder) for folder in sorted((store.path / "models").glob("ready-*"))]


def _finished(store: ScanStore, ref: ArrayRef) -> int:
    """Frames of an array of this lineage, under whichever settings' group it lies, whose shards are committed."""
    for path, array in store.frame_arrays().items():
        if path.split("/")[-1] == ref.path and array.attrs.get("lineage") == ref.lineage and array.shards:
            frames = store.frames.ingested
            return sum(
                stop - start
                for shard, start, stop in FrameRange(0, len(frames)).shards(array.shards[0])
                if store.is_committed(path, shard, stop, shard_lineage(ref, frames[start:stop]))
            )
    return 0
