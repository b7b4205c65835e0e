"""Forecast: what a run of process_scan would do, and the disk, memory and time that it takes; nothing is written."""

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pydantic import Field

from tasks.encode import MIN_FRAMES_TO_ENCODE
from tasks.errors import SourceError
from tasks.forecast_done import Done, find_done
from tasks.forecast_memory import available_memory, needed_memory
from tasks.forecast_sample import Sample, sample_of_files, sample_of_store, try_stages
from tasks.models import ModelRef
from tasks.planning import StageSettings
from tasks.settings import Settings
from tasks.settings.ingest import IngestSettings
from tasks.store import FrameState, ScanStore
from tasks.survey import Survey
from tasks.workers import Workers

SPARE = 1.1
"""Disk and memory are called short where less than a tenth of what is needed would be left over."""


class StageForecast(Settings):
    """What is left to do for a stage."""

    stage: str
    done_frames: int = Field(description="Frames that the store holds already, with these settings.")
    frames: int = Field(description="Frames that are still to be done.")
    seconds: float = Field(description="At the speed of the frames that were tried.")
    disk_bytes: int


class ScanForecast(Settings):
    """What a run would do; a stage that is not listed takes little, or makes no sense for the scan."""

    source: str
    store: str
    new_frames: int = Field(description="Frames that are not in the store.")
    held_frames: int = Field(description="Frames that are.")
    refused: dict[str, int] = Field(description="New files that a run would leave out, by state.")
    tried_frames: int = Field(description="Frames that were read and processed for this forecast.")
    stages: tuple[StageForecast, ...]
    disk_bytes: int
    free_disk_bytes: int
    memory_bytes: int
    free_memory_bytes: int | None
    warnings: tuple[str, ...] = ()

    @property
    def seconds(self) -> float:
        """Of all stages; clusters, map and report, at most a minute for thousands of frames, are not in it."""
        return sum(stage.seconds for stage in self.stages)

    @property
    def problems(self) -> tuple[str, ...]:
        """Why the run would not end well."""
        found = []
        if self.disk_bytes * SPARE > self.free_disk_bytes:
            free = f"{self.free_disk_bytes / 1e9:.3g} GB are free at {self.store}"
            found.append(f"the disk is too small: {self.disk_bytes / 1e9:.3g} GB will be written, {free}")
        if self.free_memory_bytes is not None and self.memory_bytes * SPARE > self.free_memory_bytes:
            free = f"{self.free_memory_bytes / 1e9:.3g} GB are available; lower workers.threads"
            found.append(f"the memory is too small: {self.memory_bytes / 1e9:.3g} GB will be needed, {free}")
        return tuple(found)

    @property
    def table(self) -> list[dict[str, Any]]:
        """A row for each stage."""
        return [
            {
                "stage": part.stage,
                "frames done": part.done_frames,
                "frames to do": part.frames,
                "seconds": round(part.seconds, 1),
                "disk, MB": round(part.disk_bytes / 1e6, 2),
            }
            for part in self.stages
        ]

    @property
    def text(self) -> str:
        """Sentence and table for a terminal."""
        rows = [list(self.table[0]), *([str(value) for value in row.values()] for row in self.table)]
        lines = ["".join(f"{cell:>16}" for cell in row) for row in rows]
        return "\n".join([*lines, *(f"warning: {warning}" for warning in self.warnings), self.sentence])

    @property
    def sentence(self) -> str:
        """The forecast in one line."""
        refused = [f"{count} {state}" for state, count in self.refused.items() if count]
        new = ", ".join([f"{self.new_frames} new frames", *refused, f"{self.held_frames} in the store"])
        needs = f"{self.disk_bytes / 1e9:.3g} GB of disk, {self.memory_bytes / 1e9:.3g} GB of memory"
        left = f"about {_duration(self.seconds)}, {needs}" if any(s.frames for s in self.stages) else "nothing to do"
        return "; ".join([new, left, *self.problems])


def forecast_scan(
    source: str,
    path: Path,
    found: Survey,
    ingest: IngestSettings,
    stages: StageSettings,
    workers: Workers,
    given: ModelRef | None,
    sample_frames: int,
) -> ScanForecast:
    """Try the first frames, and scale what they cost to all that is left; `given`: the model that the run was given.

    Raises `SourceError` where none of the tried frames can be read.
    """
    done = find_done(path, ingest, stages, given)
    here = Workers(threads=workers.threads)  # what a cluster would do is tried on this machine
    pending = [record for record in found.new if record.state is FrameState.PENDING]
    held = done.frames.get("ingest", 0)
    n_frames = held + len(pending)
    if pending and found.shape and found.dtype:
        sample = sample_of_files(pending[:sample_frames], found.shape, found.dtype, ingest, here)
    elif held:
        sample = sample_of_store(ScanStore(path), min(held, sample_frames))
    else:
        sample = None
    if not sample:
        raise SourceError(f"none of the first {sample_frames} frames of {source!r} can be read; ingest_scan says why")
    try_stages(sample, stages, here, done.model, n_frames)
    parts = tuple(_stages(sample, done, n_frames))
    refused = [state for state in (record.state for record in found.new) if state is not FrameState.PENDING]
    return ScanForecast(
        source=source,
        store=str(path),
        new_frames=len(pending),
        held_frames=held,
        refused={state.value: refused.count(state) for state in sorted(set(refused))},
        tried_frames=len(sample),
        stages=parts,
        disk_bytes=sum(part.disk_bytes for part in parts),
        free_disk_bytes=_free_disk(path),
        memory_bytes=needed_memory(sample, stages, here, n_frames),
        free_memory_bytes=available_memory(),
        warnings=found.warnings,
    )


def _stages(sample: Sample, done: Done, n_frames: int) -> Iterator[StageForecast]:
    once = {"train": done.model, "train-encoder": done.encoder}
    for stage, cost in sample.costs.items():
        if n_frames < MIN_FRAMES_TO_ENCODE and stage in ("encode", "train-encoder"):
            continue
        finished = done.frames.get(stage, 0)
        left = n_frames - finished
        if stage in once:
            finished, left = (n_frames, 0) if once[stage] else (0, n_frames)
        yield StageForecast(
            stage=stage,
            done_frames=finished,
            frames=left,
            seconds=left * cost.seconds + (cost.once_s if left else 0.0),
            disk_bytes=int(left * cost.stored_bytes),
        )


def _free_disk(path: Path) -> int:
    return shutil.disk_usage(next(folder for folder in (path, *path.parents) if folder.exists())).free


def _duration(seconds: float) -> str:
    """A time that a person can grasp.

    >>> _duration(42), _duration(600), _duration(9000)
    ('42 s', '10 min', '2.5 h')
    """
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"
