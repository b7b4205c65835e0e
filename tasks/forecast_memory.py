"""The most memory that a run takes, from the sizes of shards, and what the machine has."""

from pathlib import Path

from tasks.forecast_sample import Sample
from tasks.planning import StageSettings
from tasks.store import store_shard_frames
from tasks.workers import Workers

PROCESS_BYTES = 700 * 2**20
"""Of a process that has imported torch, Prefect and the stages, before it holds a frame."""
TRAINING_COPIES = 6
"""The training tiles, their parts that are trained and validated on, and what a step makes of a batch."""


def needed_memory(sample: Sample, stages: StageSettings, workers: Workers, n_frames: int) -> int:
    """Bytes of the process at its largest: ingest, normalize and tile at once, or a training, or inference.

    Each thread holds a shard of what its stage reads and twice of what it makes, which is compressed while it is there.
    """
    size = {name: int(array[0].nbytes) for name, array in sample.arrays.items()}
    shard = store_shard_frames(size["counts"])
    raw = size["counts"] + size["valid"]
    threads = int(min(workers.n_threads, -(-n_frames // shard)))
    held = min(shard, n_frames)
    taking = threads * held * (2 * raw + (raw + 2 * size["normalized"]) + (size["normalized"] + 2 * size["tiles"]))
    learning = TRAINING_COPIES * stages.train.max_tiles * size["tiles"] // sample.arrays["tiles"].shape[1]
    filling = held * 3 * size["tiles"] + threads * held * (size["tiles"] + 4 * size["inpainted"])
    return int(PROCESS_BYTES + max(taking, learning, filling))


def available_memory() -> int | None:
    """Bytes that a new process can have; None where the system does not tell (it has no /proc)."""
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
    except OSError:
        return None
    return next(1024 * int(line.split()[1]) for line in lines if line.startswith("MemAvailable:"))
