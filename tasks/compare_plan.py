"""What a comparison compares: methods, models, frames that no model was trained on; checked before any work."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from dlsia_core.classical import CLASSICAL_METHODS
from dlsia_core.errors import ArrayError, SettingError
from dlsia_core.judged_frames import has_gaps
from dlsia_core.judged_gaps import Direction
from dlsia_core.tiling import TileGrid
from tasks.compare_beam import beam_of
from tasks.compare_pairs import Pairing, pair_frames
from tasks.devices import check_device
from tasks.errors import SettingsError
from tasks.held_out import spread
from tasks.model_registry import named_model
from tasks.models import ModelRef, find_model, network_of
from tasks.normalized_frames import NormalizedFrames
from tasks.settings.comparison import CompareSettings
from tasks.settings.stages import TileSettings
from tasks.store import FrameState, ScanRef, open_store

NO_SECOND_EXPOSURES = "No second exposures were given, so horizontal gaps have no truth and are not judged."


@dataclass(frozen=True)
class ComparedModel:
    """A model under the name that results call it by, and the tiles that frames are cut into for it."""

    label: str
    ref: ModelRef
    grid: TileGrid


@dataclass(frozen=True)
class Comparison:
    """Everything that decides the figures.

    rows: of the frames to judge on. methods: classical ones. directions: of the gaps that can be judged.
    second, pairing: the scan of the second exposures, and which belongs to which.
    """

    folder: Path
    frames: NormalizedFrames
    second: ScanRef | None
    pairing: Pairing | None
    rows: tuple[int, ...]
    methods: tuple[str, ...]
    models: tuple[ComparedModel, ...]
    directions: tuple[Direction, ...]
    settings: CompareSettings

    @property
    def labels(self) -> tuple[str, ...]:
        """All methods as results name them, models first."""
        return (*(model.label for model in self.models), *self.methods)


def compared_models(
    asked: Sequence[str], scale: dict[str, Any], shape: tuple[int, int] | None, settings: CompareSettings
) -> tuple[ComparedModel, ...]:
    """Find the models and check that they fit frames of a scale and, where it is known, a shape (row, column).

    Raises `SettingsError` for a missing model, one of another scale, tiles that do not fit, and models named twice.
    """
    check_device(settings.device)
    found: list[ComparedModel] = []
    for name in asked:
        named = named_model(name)
        ref = find_model(named.folder, {"scale": scale})
        if named.label in CLASSICAL_METHODS or named.label in [model.label for model in found]:
            raise SettingsError(f"two methods would be called {named.label!r}; name each model once")
        found.append(ComparedModel(named.label, ref, _grid(named.label, ref, shape)))
    if not found and settings.methods == ():
        raise SettingsError("neither models nor classical methods are given; there is nothing to compare")
    return tuple(found)


def _grid(label: str, ref: ModelRef, shape: tuple[int, int] | None) -> TileGrid:
    description = network_of(ref)[1]
    tiles = TileSettings(shape=description.get("tile_shape"), step=description.get("tile_step"))
    try:
        return tiles.grid(shape or tiles.shape or (512, 512))
    except (ArrayError, SettingError) as error:
        raise SettingsError(
            f"the tiles of {label!r} do not fit the normalized frames of {shape}: {error}; give normalize the shape "
            "that the model was trained with, or leave the model out"
        ) from error


def planned_comparison(
    folder: Path,
    source: str,
    frames: NormalizedFrames,
    second: ScanRef | None,
    models: tuple[ComparedModel, ...],
    settings: CompareSettings,
) -> tuple[Comparison, tuple[str, ...]]:
    """Choose frames and methods; returns what people must know of the choice, too.

    Raises `SettingsError` where no frame is left to judge on, where the detector has no gaps to judge, and for second
    exposures of another shape.
    """
    notes = [*_quarantined(frames.normalized.scan, "source"), *_quarantined(second, "second_exposure")]
    pairing = _pairing(frames, second, notes)
    directions = _directions(frames, second)
    if second is None:
        notes.append(NO_SECOND_EXPOSURES)
    elif "vertical" not in directions:
        notes.append("The detector has no vertical gaps to imitate over measured pixels, so none are judged.")
    rows = _held_out(frames, source, models, notes)
    if settings.max_frames and len(rows) > settings.max_frames:
        notes.append(f"{settings.max_frames} of {len(rows)} frames are judged (max_frames), evenly over them.")
        rows = spread(rows, settings.max_frames)
    notes += _alone(frames, pairing, rows)
    methods = _methods(frames, rows, settings, notes)
    if not methods and not models:
        raise SettingsError(
            f"no method is left of {list(settings.methods or ())}: {' '.join(notes)} Give compare.beam_center_px"
        )
    _note_other_conditions(frames, models, notes)
    plan = Comparison(folder, frames, second, pairing, tuple(rows), methods, models, directions, settings)
    return plan, tuple(notes)


def _quarantined(scan: ScanRef | None, name: str) -> list[str]:
    refused = open_store(scan).frames.in_state(FrameState.QUARANTINED) if scan else []
    listed = "; ".join(f"{Path(record.file).name}: {record.reason}" for record in refused[:5])
    more = "; ..." if len(refused) > 5 else ""
    return [f"{len(refused)} frames of {name} could not be read ({listed}{more})."] if refused else []


def _pairing(frames: NormalizedFrames, second: ScanRef | None, notes: list[str]) -> Pairing | None:
    if second is None:
        return None
    first_store, second_store = open_store(frames.normalized.scan), open_store(second)
    shapes = [tuple(store.attributes["frame_shape"]) for store in (first_store, second_store)]
    check_second_shape(*shapes)
    pairing = pair_frames(first_store.frames.ingested[: frames.n_frames], second_store.frames.ingested)
    if pairing.rule == "order":
        notes.append("Second exposures are paired in order, because neither file names nor frame numbers agree.")
    return pairing


def _alone(frames: NormalizedFrames, pairing: Pairing | None, rows: Sequence[int]) -> list[str]:
    """What to say of frames without a second exposure."""
    records = open_store(frames.normalized.scan).frames.ingested
    alone = [Path(records[row].file).name for row in rows if pairing and row not in pairing.second_of]
    if pairing is None or not alone:
        return []
    named = ", ".join(alone[:5]) + (", ..." if len(alone) > 5 else "")
    return [f"{len(alone)} of {len(rows)} frames have no second exposure, by {pairing.rule}: {named}."]


def check_second_shape(shape: tuple[int, ...], second_shape: tuple[int, ...]) -> None:
    """Raise `SettingsError` for second exposures that another detector took."""
    if shape != second_shape:
        raise SettingsError(
            f"the frames of second_exposure are {second_shape[0]} x {second_shape[1]} px and those of the source "
            f"{shape[0]} x {shape[1]}; two exposures of one sample are taken with the same detector"
        )


def _directions(frames: NormalizedFrames, second: ScanRef | None) -> tuple[Direction, ...]:
    measured = frames.measured
    if second is not None and not has_gaps(measured, "horizontal"):
        raise SettingsError(
            "the detector has no horizontal gaps that second exposures could show; leave second_exposure out"
        )
    wanted: tuple[Direction, ...] = ("horizontal", "vertical")
    found = tuple(d for d in wanted if (d == "vertical" or second is not None) and has_gaps(measured, d))
    if not found:
        raise SettingsError(
            f"nothing can be judged on {frames.normalized.scan.path}: the detector has no vertical gaps to imitate "
            "over measured pixels, and no second exposures are given that show the horizontal ones"
        )
    return found


def _held_out(frames: NormalizedFrames, source: str, models: tuple[ComparedModel, ...], notes: list[str]) -> list[int]:
    rows = set(range(frames.n_frames))
    for model in models:
        used, note = trained_rows(model, frames, source)
        rows -= used
        if note:
            notes.append(note)
        if not rows:
            raise SettingsError(
                f"no frame is left to judge on: {model.label!r} and the models before it were trained on all "
                f"{frames.n_frames} frames of the source; give frames that they have not seen"
            )
    return sorted(rows)


def trained_rows(model: ComparedModel, frames: NormalizedFrames, source: str) -> tuple[set[int], str]:
    """Rows that a model learned from or was chosen by, and what to say of it; no rows where nobody can tell.

    A model holds the frames that its split left for figures, and a name for the pixels of all frames that it was given.
    """
    description = network_of(model.ref)[1]
    split, origin = description.get("split") or {"n_frames": 0}, description.get("origin", {})
    n_frames = split["n_frames"]
    is_prefix = 0 < n_frames <= frames.n_frames
    if is_prefix and NormalizedFrames(frames.normalized, n_frames).lineage == origin.get("frames"):
        used = set(range(n_frames)) - (set(split["test"]) if split["holds_out"] else set())
        return used, f"{model.label} learned from {len(used)} of these frames; they are not judged."
    store = Path(frames.normalized.scan.path)
    doubtful = Path(model.ref.folder).is_relative_to(store) or description.get("trained_on", {}).get("source") == source
    why = "was trained on frames of this source, and does not tell on which of those that are judged"
    return set(), f"{model.label} {why}: its figures may flatter it." if doubtful else ""


def _methods(
    frames: NormalizedFrames, rows: Sequence[int], settings: CompareSettings, notes: list[str]
) -> tuple[str, ...]:
    wanted = tuple(CLASSICAL_METHODS) if settings.methods is None else settings.methods
    needy = [name for name in wanted if CLASSICAL_METHODS[name].needs_beam]
    if not needy:
        return wanted
    records = open_store(frames.normalized.scan).frames.ingested
    unknown = [row for row in rows if beam_of(records[row], settings.beam_center_px) is None]
    if not unknown:
        return wanted
    notes.append(
        f"{' and '.join(needy)} are left out: the beam center of {len(unknown)} of {len(rows)} frames is not known."
    )
    return tuple(name for name in wanted if name not in needy)


def _note_other_conditions(frames: NormalizedFrames, models: tuple[ComparedModel, ...], notes: list[str]) -> None:
    """Models trained under other conditions are compared, and the reader is told."""
    facts = frames.facts
    for model in models:
        description = network_of(model.ref)[1]
        own = description.get("normalize")
        if own is not None and own != facts["normalize"]:
            differing = sorted(key for key in own if own[key] != facts["normalize"].get(key))
            notes.append(f"{model.label} was trained on frames of another normalization ({', '.join(differing)}).")
        detector = description.get("detector")
        gaps = ("normalized_shape", "gap_rows", "gap_columns")
        if detector is not None and any(detector.get(key) != facts["detector"][key] for key in gaps):
            notes.append(f"{model.label} was trained on a detector with gaps at other places.")


def generator_of(seed: int, sha256: str, index: int) -> np.random.Generator:
    """Random numbers of a frame, whatever scan it is in and whichever frames are beside it."""
    return np.random.default_rng([seed, int(sha256[:15] or "0", 16), index])
