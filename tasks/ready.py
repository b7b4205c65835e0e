"""Which model fills a scan's gaps: one that was given, one that comes with the project and fits, or the scan's own."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from dlsia_core.networks import model_digest
from dlsia_core.networks.storage import write_atomically
from dlsia_core.tiling import TileGrid
from tasks.held_out import spread
from tasks.logs import logger_of
from tasks.model_registry import MODEL_FILES, NamedModel
from tasks.model_trust import familiarity_in
from tasks.models import ModelRef, find_model
from tasks.normalized_frames import LOOKED_AT, NormalizedFrames
from tasks.planning import StageSettings
from tasks.settings.stages import NormalizeSettings
from tasks.stage import RunPlan
from tasks.store import ArrayRef, open_store
from tasks.tile import grid_of
from tasks.train import has_begun

READY_MODELS = Path(__file__).parent / "ready_models"
NEAR_PX = 1
"""Rows or columns by which the edge of a gap may lie elsewhere: the resized edge depends on what a frame measures."""


@dataclass(frozen=True)
class Choice:
    """The model that was chosen, None for one that is trained on the scan itself; why; what a person should know."""

    model: ModelRef | None
    why: str
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True)
class Wanted:
    """What a model must be made for, to fit a scan."""

    frames: NormalizedFrames
    normalize: NormalizeSettings
    grid: TileGrid

    def misfit(self, facts: dict[str, Any]) -> str | None:
        """Why a model with this description does not fit; None if it does."""
        own = self.frames.facts
        for key, what in (("scale", "the scale of the counts"), ("normalize", "the normalization")):
            if facts.get(key) != own[key]:
                return f"{what} is {own[key]}, and its is {facts.get(key)}"
        if tuple(facts.get("tile_shape", ())) != self.grid.tile_shape:
            return f"tiles are {self.grid.tile_shape}, and its are {facts.get('tile_shape')}"
        return other_detector(facts, own["detector"])


def other_detector(facts: dict[str, Any], detector: dict[str, Any]) -> str | None:
    """How the gaps of a detector differ from those that a model knows; None if they do not, or nobody knows.

    >>> known = {"name": "A", "normalized_shape": [8, 9], "gap_rows": [], "gap_columns": [[3, 5]]}
    >>> other_detector({"detector": known}, known | {"gap_columns": [[3, 6]]})
    >>> other_detector({"detector": known}, known | {"gap_columns": [[3, 7]]})
    'columns without pixels are 3-7, and it was trained on A with 3-5'
    """
    known = facts.get("detector")
    if known is None:
        return None
    if known["normalized_shape"] != detector["normalized_shape"]:
        return f"frames are {detector['normalized_shape']}, and it was trained on {known['normalized_shape']}"
    for key, what in (("gap_rows", "rows"), ("gap_columns", "columns")):
        here, there = detector[key], known[key]
        if len(here) != len(there) or any(
            abs(a - b) > NEAR_PX for x, y in zip(here, there, strict=True) for a, b in zip(x, y, strict=True)
        ):
            name = known["name"] or "a detector without a name"
            return f"{what} without pixels are {_runs(here)}, and it was trained on {name} with {_runs(there)}"
    return None


def why_unfamiliar(facts: dict[str, Any], frames: NormalizedFrames) -> str | None:
    """Why the frames of a scan are unlike those that a model was trained on; None if most of them are alike.

    Some frames, evenly over the scan, are looked at. A model whose description holds no familiarity cannot tell, and
    then its detector decides alone.
    """
    familiarity, _ = familiarity_in(facts)
    if familiarity is None:
        return None
    numbers = spread(list(range(frames.n_frames)), LOOKED_AT)
    distance = np.concatenate([familiarity.distance(frames.read(number)[None]) for number in numbers])
    unlike = int(familiarity.unfamiliar(distance).sum())
    if 2 * unlike <= len(numbers):
        return None
    return f"{unlike} of {len(numbers)} frames that were looked at are unlike those that it was trained on"


def choose_model(
    plan: RunPlan, normalized: ArrayRef, tiles: ArrayRef, stages: StageSettings, given: NamedModel | None
) -> Choice:
    """The model that fills the gaps of a scan; the log says which, and why.

    A scan that has a model of its own, or has begun to train one, keeps to it. A ready model that was chosen is copied
    into the store and stays: frames that come later are filled by the same one.
    """
    frames = NormalizedFrames(normalized, open_store(plan.scan).n_frames)
    wanted = Wanted(frames, stages.normalize, grid_of(normalized, stages.tile))
    if given is not None:
        choice = _given(given, wanted)
    elif stages.train.ready_models and not has_begun(plan, tiles, stages):
        choice = _ready(wanted)
    else:
        choice = Choice(None, "")
    log = logger_of(__name__)
    if choice.why:
        log.info("inpainting: %s", choice.why)
    for warning in choice.warnings:
        log.warning("%s", warning)
    return choice


def _given(given: NamedModel, wanted: Wanted) -> Choice:
    needs = {"scale": wanted.normalize.intensity_scale().to_dict()}
    model = find_model(given.folder, needs, wanted.grid.tile_shape)
    facts = _facts(given.folder)
    why = f"a model was given: {given.label}"
    other = other_detector(facts, wanted.frames.facts["detector"])
    if other is None:
        return Choice(model, why)
    warning = (
        f"model {given.label} was trained on another detector: {other}. What it fills in may be wrong; go on from it "
        f"with frames of this one: train_inpainting(source=…, name=…, start_from={given.label!r})"
    )
    return Choice(model, why, (warning,))


def _ready(wanted: Wanted) -> Choice:
    """The first ready model that fits, those that the store has already first."""
    held = open_store(wanted.frames.normalized.scan).path / "models"
    for file in sorted(held.glob("ready-*/model.json")):
        folder = file.parent
        if wanted.misfit(_facts(folder)) is None:
            return Choice(ModelRef(str(folder), model_digest(folder)), _reason(folder.name.rsplit("-", 1)[0]))
    refused = []
    for folder in ready_models():
        facts = _facts(folder)
        misfit = wanted.misfit(facts) or why_unfamiliar(facts, wanted.frames)
        if misfit is None:
            copy = _copy(folder, held)
            return Choice(ModelRef(str(copy), model_digest(copy)), _reason(f"ready-{folder.name}"))
        refused.append(f"the ready model {folder.name} does not fit: {misfit}")
    return Choice(None, "; ".join(refused))


def ready_models() -> Sequence[Path]:
    """Folders of the models that come with the project."""
    return sorted(path.parent for path in READY_MODELS.glob("*/model.json"))


def _copy(folder: Path, held: Path) -> Path:
    """The description comes last: without it there is no model."""
    copy = held / f"ready-{folder.name}-{model_digest(folder)[:12]}"
    copy.mkdir(parents=True, exist_ok=True)
    for name in MODEL_FILES:
        write_atomically(copy / name, (folder / name).read_bytes())
    return copy


def _reason(name: str) -> str:
    return f"the {name.replace('-', ' model ', 1)} fits: same gaps, scale and size"


def _facts(folder: Path) -> dict[str, Any]:
    return dict(json.loads((folder / "model.json").read_text())["metadata"])


def _runs(gaps: Sequence[Sequence[int]]) -> str:
    return ", ".join(f"{start}-{stop}" for start, stop in gaps) or "none"
