"""The frames of a study of latent spaces: as measured, as they truly are, and as inpainted; batch by batch, on disk."""

import os
import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from dlsia_core.gaps import fill_linear
from dlsia_core.imitated_gaps import imitated_gaps
from dlsia_core.latent import pool_frames
from dlsia_core.neighbor_study import CorrelationSums
from tasks.compare import fill_with_model, model_identity
from tasks.compare_cases import CaseReader
from tasks.compare_plan import Comparison
from tasks.devices import device_slot
from tasks.networks import pooled_size
from tasks.settings.base import digest
from tasks.settings.study import StudySettings
from tasks.stage import StageRun, stage_task
from tasks.store import FrameRange

VERSION = 1
TRUTH, MASKED, LINEAR = "ground truth", "masked", "linear"
PIXELS_AT_ONCE = 2**14

FloatArray = npt.NDArray[np.float32]
BoolArray = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class Study:
    """What is studied: the frames, pairs and models of a comparison."""

    comparison: Comparison
    settings: StudySettings

    @property
    def fills(self) -> tuple[str, ...]:
        """What gaps are filled by: the models; linear interpolation where there are none."""
        return tuple(model.label for model in self.comparison.models) or (LINEAR,)

    @property
    def spaces(self) -> tuple[str, ...]:
        """All latent spaces."""
        return (TRUTH, MASKED, *self.fills)

    @property
    def paired(self) -> bool:
        """Whether the truth comes from second exposures, and not from the frames themselves."""
        return self.comparison.second is not None

    @property
    def rows(self) -> tuple[int, ...]:
        """Frames that have a truth."""
        reader = CaseReader(self.comparison)
        return tuple(r for r in self.comparison.rows if not self.paired or "horizontal" in reader.directions(r))

    @property
    def size(self) -> tuple[int, int]:
        """Rows and columns to which frames are averaged."""
        return pooled_size(self.settings.encoder, self.comparison.frames.shape)

    @cached_property
    def folder(self) -> Path:
        """Where the frames lie; the same frames, gaps and models have the same folder."""
        reader = CaseReader(self.comparison)
        keys = [reader.key(row, "horizontal" if self.paired else "vertical") for row in self.rows]
        models = [model_identity(model) for model in self.comparison.models]
        facts = [VERSION, keys, models, self.settings.seed, self.settings.masked_fill, self.size]
        return self.comparison.folder / "study" / digest([*facts, self.settings.batch_frames])[:12]

    @cached_property
    def hidden(self) -> BoolArray:
        """The artificial gaps (row, column), the same in all frames, as those of a detector are."""
        return imitated_gaps(self.comparison.frames.measured, np.random.default_rng(self.settings.seed))


@stage_task("study-frames")
def study_batch(places: FrameRange, study: Study) -> StageRun:
    """Make all kinds of some frames, unless they are there; places: positions in `study.rows`."""
    started = time.monotonic()
    done = study.folder / f"frames-{places.start:06d}.npz"
    if done.exists():
        return StageRun("study-frames", places, 0, 0.0, 0)
    kept, shown, pooled = [], [], {space: [] for space in study.spaces}  # type: ignore[var-annotated]
    with device_slot(study.settings.device) as device:
        for row in study.rows[places.start : places.stop]:
            if (pair := _shown_and_truth(study, row)) is None:
                continue
            kept.append(row)
            shown.append(pair[0])
            for space, frame in _kinds(study, *pair, str(device)).items():
                pooled[space].append(pool_frames(frame[None], study.size)[0])
    empty = np.empty((0, *study.size), np.float32)
    arrays = {f"space-{n}": np.stack(pooled[space] or [*empty]) if kept else empty for n, space in enumerate(pooled)}
    whole = np.stack(shown) if kept else np.empty((0, *study.comparison.frames.shape), np.float32)
    study.folder.mkdir(parents=True, exist_ok=True)
    _write(study.folder / f"shown-{places.start:06d}.npy", lambda file: np.save(file, whole, allow_pickle=False))
    _write(done, lambda file: np.savez(file, allow_pickle=False, rows=np.array(kept, np.int64), **arrays))
    return StageRun("study-frames", places, len(kept), time.monotonic() - started, whole.nbytes)


def _shown_and_truth(study: Study, row: int) -> tuple[FloatArray, FloatArray] | None:
    """A frame as measured and as it is, NaN = unknown; None where nothing measured lies in its gaps."""
    if study.paired:
        case = CaseReader(study.comparison).case(row, "horizontal").frame
        if case is None:
            return None
        return np.where(np.isfinite(case.truth), case.shown, np.float32(np.nan)), case.truth
    truth = study.comparison.frames.read(row)
    shown = np.where(study.hidden, np.float32(np.nan), truth)
    some = np.isfinite(shown).any() and (np.isfinite(truth) & study.hidden).any()
    return (shown, truth) if some else None


def _kinds(study: Study, shown: FloatArray, truth: FloatArray, device: str) -> dict[str, FloatArray]:
    """All kinds of a frame; what nobody knows is unknown in all of them, so that they differ in the gaps alone."""
    gap = np.isnan(shown) & np.isfinite(truth)
    stand_in = np.float32(0.0 if study.settings.masked_fill == "zero" else np.nanmean(shown, dtype=np.float64))
    fills = {
        model.label: fill_with_model(model, shown[None], device, study.settings.batch_size)[0]
        for model in study.comparison.models
    } or {LINEAR: fill_linear(shown)}
    filled = {label: np.where(gap, values, shown).astype(np.float32) for label, values in fills.items()}
    return {TRUTH: truth, MASKED: np.where(gap, stand_in, shown).astype(np.float32), **filled}


@dataclass(frozen=True, eq=False)
class StudiedFrames:
    """rows: of the source. pooled: (frame, row, column) by latent space. correlations: (frame, frame)."""

    rows: npt.NDArray[np.int64]
    pooled: dict[str, FloatArray]
    correlations: npt.NDArray[np.float64]


@stage_task("study-correlations")
def studied_frames(study: Study, batches: Sequence[FrameRange]) -> StudiedFrames:
    """All batches together, and how the frames correlate on what was measured outside the gaps."""
    starts = [batch.start for batch in batches]
    held = [_read(study.folder / f"frames-{start:06d}.npz") for start in starts]
    rows = np.concatenate([part["rows"] for part in held])
    pooled = {space: np.concatenate([part[f"space-{n}"] for part in held]) for n, space in enumerate(study.spaces)}
    shown = [np.load(study.folder / f"shown-{start:06d}.npy", "r", allow_pickle=False) for start in starts]
    flat = [part.reshape(len(part), int(np.prod(part.shape[1:]))) for part in shown]
    sums = CorrelationSums(len(rows))
    for start in range(0, flat[0].shape[1], PIXELS_AT_ONCE):
        sums.add(np.concatenate([part[:, start : start + PIXELS_AT_ONCE] for part in flat]))
    return StudiedFrames(rows, pooled, sums.correlations())


def _read(path: Path) -> dict[str, Any]:
    with np.load(path, allow_pickle=False) as file:
        return dict(file)


def _write(path: Path, write: Any) -> None:
    """Write whole or not at all."""
    part = path.with_name(f".{path.name}.part")
    with part.open("wb") as file:
        write(file)
        file.flush()
        os.fsync(file.fileno())
    part.replace(path)
