"""Try the stages on a scan's first frames, in memory: what a frame costs, in seconds and in bytes.

The frames are really read, verified, normalized, tiled, inpainted, encoded and compressed, by the code that a run would
use, on as many threads. Nothing is written.
"""

import json
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np
import torch

from dlsia_core.inpainting import InpaintingRecipe, build_inpainter, predict
from dlsia_core.latent import FrameRecipe, encode_frames
from dlsia_core.networks import ConvAutoencoder, build_network
from dlsia_core.tiling import TileGrid
from tasks.forecast_training import seconds_of_encoder_training, seconds_of_training
from tasks.intake import read_file
from tasks.models import ModelRef, network_of
from tasks.networks import encoder_config, inpainter_config, pooled_size
from tasks.normalize import NormalizeFrames
from tasks.planning import StageSettings
from tasks.settings.ingest import IngestSettings
from tasks.settings.stages import EncodeSettings
from tasks.stage import ReadableFrames, Values
from tasks.stitch import StitchFrames
from tasks.store import FrameRecord, FrameState, ScanStore
from tasks.store.ledger import FrameLedger
from tasks.store.sizes import stored_bytes
from tasks.tile import CutFrames
from tasks.workers import Workers, run_over

Compute = Callable[[ReadableFrames, int, int], Sequence[Values]]


@dataclass(frozen=True)
class Cost:
    """What a stage needs: seconds and stored bytes for each frame, and seconds for the whole scan."""

    seconds: float
    stored_bytes: float = 0.0
    once_s: float = 0.0


@dataclass
class Sample:
    """Arrays (frame, …) of a few frames; stages read them as they read those of a store."""

    arrays: dict[str, Values]
    attributes: dict[str, Any]
    costs: dict[str, Cost] = field(default_factory=dict)

    def read(self, name: str, start: int, stop: int) -> Values:
        """Frames start to stop of an array, (frame, …)."""
        return self.arrays[name][start:stop]

    def __len__(self) -> int:
        return len(self.arrays["counts"])


def sample_of_files(
    records: Sequence[FrameRecord], shape: tuple[int, int], dtype: str, settings: IngestSettings, workers: Workers
) -> Sample:
    """Read pending frames as ingest does; those that cannot be read are left out."""
    counts, valid = np.empty((len(records), *shape), dtype), np.empty((len(records), *shape), bool)
    states: list[FrameRecord] = [*records]
    groups = [list(group) for _, group in groupby(range(len(records)), lambda row: records[row].file)]
    ledger = FrameLedger(Path("/nonexistent"))

    def read(rows: list[int]) -> int:
        part = slice(rows[0], rows[-1] + 1)
        states[part] = read_file(records[part], counts[part], valid[part], settings, ledger)
        return stored_bytes(counts[part], settings.compression) + stored_bytes(valid[part])

    sizes: list[int] = []
    started = time.perf_counter()
    run_over(read, groups, lambda _, size: sizes.append(size), workers)
    seconds = time.perf_counter() - started
    whole = [row for row, record in enumerate(states) if record.state is FrameState.INGESTED]
    sample = Sample({"counts": counts[whole], "valid": valid[whole]}, {"frame_shape": list(shape)})
    # A frame has a line in the ledger when it is seen and one when it is ingested, which holds its whole header.
    lines = sum(len(json.dumps(asdict(record), default=str)) for record in (*records, *states))
    sample.costs["ingest"] = Cost(seconds / len(records), (sum(sizes) + lines) / len(records))
    return sample


def sample_of_store(store: ScanStore, n_frames: int) -> Sample:
    """The first frames of a store that has all frames of its source already."""
    arrays = {name: store.read(name, 0, n_frames) for name in ("counts", "valid")}
    return Sample(arrays, {"frame_shape": store.attributes["frame_shape"]}, {"ingest": Cost(0.0)})


def try_stages(sample: Sample, stages: StageSettings, workers: Workers, model: ModelRef | None, n_frames: int) -> None:
    """Compute all arrays of the sample, and note what each stage costs a scan of n_frames.

    Without a model one is made, and a pass of its training timed.
    """
    device = torch.device("cuda" if stages.infer.device != "cpu" and torch.cuda.is_available() else "cpu")
    _try(sample, "normalize", ["normalized"], NormalizeFrames("counts", "valid", stages.normalize), workers)
    rows, columns = sample.arrays["normalized"].shape[1:]
    grid = stages.tile.grid((rows, columns))
    _try(sample, "tile", ["tiles"], CutFrames("normalized", grid), workers)
    measured = np.isfinite(sample.arrays["normalized"])
    predictions = None if measured.all() or not measured.any() else "predictions"
    if predictions:
        _try_inference(sample, stages, grid, device, model, n_frames)
    stitch = StitchFrames("normalized", predictions, grid, stages.stitch)
    _try(sample, "stitch", ["inpainted", "provenance"], stitch, workers)
    _try_encoder(sample, stages.encode, device, n_frames)


def _try(sample: Sample, stage: str, names: Sequence[str], compute: Compute, workers: Workers) -> None:
    """Compute on the stage's threads, a frame at a time."""
    found: dict[int, tuple[Sequence[Values], int]] = {}

    def piece(frame: int) -> tuple[Sequence[Values], int]:
        arrays = compute(sample, frame, frame + 1)
        return arrays, sum(stored_bytes(array) for array in arrays)

    started = time.perf_counter()
    run_over(piece, range(len(sample)), found.__setitem__, workers)
    seconds = time.perf_counter() - started
    for place, name in enumerate(names):
        sample.arrays[name] = np.concatenate([found[frame][0][place] for frame in range(len(sample))])
    size = sum(size for _, size in found.values())
    sample.costs[stage] = Cost(seconds / len(sample), size / len(sample))


def _try_inference(
    sample: Sample, stages: StageSettings, grid: TileGrid, device: torch.device, model: ModelRef | None, n_frames: int
) -> None:
    tiles = sample.arrays["tiles"]
    if model is None:
        recipe = InpaintingRecipe.from_tiles(tiles, stages.train.prefill)
        network = build_inpainter(inpainter_config(stages.train), recipe, stages.train.seed)
        normalized = sample.arrays["normalized"]
        once_s = seconds_of_training(n_frames, normalized, tiles, grid, stages.train, recipe, device)
        sample.costs["train"] = Cost(0.0, once_s=once_s)
    else:
        network, description = network_of(model)
        recipe = InpaintingRecipe(**description["recipe"])

    def infer(store: ReadableFrames, start: int, stop: int) -> list[Values]:
        part = store.read("tiles", start, stop)
        flat = part.reshape(-1, *part.shape[2:])
        return [predict(network, flat, recipe, device=device, batch_size=stages.infer.batch_size).reshape(part.shape)]

    infer(sample, 0, 1)  # the first call of a network also prepares it
    _try(sample, "infer", ["predictions"], infer, Workers(threads=1))


def _try_encoder(sample: Sample, settings: EncodeSettings, device: torch.device, n_frames: int) -> None:
    frames = sample.arrays["inpainted"]
    size = pooled_size(settings, (frames.shape[1], frames.shape[2]))
    recipe = FrameRecipe.from_frames(frames, size)
    network = build_network(encoder_config(settings, size), settings.seed)
    assert isinstance(network, ConvAutoencoder)
    once_s = seconds_of_encoder_training(n_frames, network, recipe.prepare(frames), settings, device)

    def encode(store: ReadableFrames, start: int, stop: int) -> list[Values]:
        return [encode_frames(network, store.read("inpainted", start, stop), recipe, device=device)]

    _try(sample, "encode", ["latent"], encode, Workers(threads=1))
    sample.costs["train-encoder"] = Cost(0.0, once_s=once_s)
