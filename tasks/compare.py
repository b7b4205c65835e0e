"""Compare: classical methods and trained models fill the gaps of the same frames, and are scored on the same pixels."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from dlsia_core.classical import fill_gaps
from dlsia_core.errors import ArrayError
from dlsia_core.inpainting import InpaintingRecipe, inpaint_frames
from dlsia_core.inpainting_scores import score_frame
from dlsia_core.judged_gaps import Direction
from dlsia_core.metrics import PairMoments
from tasks.compare_book import Book, ScoreRecord, open_book
from tasks.compare_cases import Case, CaseReader
from tasks.compare_plan import ComparedModel, Comparison
from tasks.devices import device_slot
from tasks.errors import SettingsError
from tasks.models import network_of
from tasks.settings.base import digest
from tasks.stage import StageRun, stage_task
from tasks.store import FrameRange
from tasks.workers import Workers, run_over

FloatArray = npt.NDArray[np.float32]


@stage_task("compare")
def compare_batch(places: FrameRange, plan: Comparison, workers: Workers) -> StageRun:
    """Score all methods on some of the compared frames, as far as the book does not hold their scores yet.

    places: positions in `plan.rows`. Classical methods run on all threads, a frame each; models one after the other.
    """
    started = time.monotonic()
    book, reader = open_book(plan.folder), CaseReader(plan)
    wanted = {row: _missing(row, reader, book) for row in plan.rows[places.start : places.stop]}
    todo = [row for row, keys in wanted.items() if keys]
    made: dict[int, list[Case]] = {}

    def keep(row: int, found: "tuple[list[Case], list[ScoreRecord]]") -> None:
        cases, scores = found
        book.enter([case.record for case in cases], scores)
        made[row] = cases

    run_over(_ClassicalScores(reader, wanted), todo, keep, workers)
    cases = [case for row in todo for case in made.pop(row) if case.frame is not None]
    for model in plan.models:
        left = [case for case in cases if book.score(score_key(case.record.key, model_identity(model))) is None]
        if left:
            book.enter([], _model_scores(model, left, plan))
    return StageRun("compare", places, len(todo), time.monotonic() - started, 0)


def score_key(case_key: str, identity: Sequence[object]) -> str:
    """Names everything that a score follows from."""
    return digest([case_key, *identity])


def classical_identity(method: str, row: int, reader: CaseReader) -> list[object]:
    """What decides how a classical method fills a frame."""
    beam = reader.beam(row) if method.startswith("azimuthal") else None
    return [method, beam and [beam.row, beam.column, beam.row_size, beam.column_size]]


def model_identity(model: ComparedModel) -> list[object]:
    """What decides how a model fills a frame: its weights and description, and how frames are cut for it."""
    return ["model", model.ref.digest, list(model.grid.tile_shape), list(model.grid.step)]


def keys_of(row: int, direction: Direction, reader: CaseReader) -> dict[str, str]:
    """The key of each method's score, by the method's name, models first."""
    case_key, plan = reader.key(row, direction), reader.plan
    identities = {model.label: model_identity(model) for model in plan.models}
    identities |= {method: classical_identity(method, row, reader) for method in plan.methods}
    return {name: score_key(case_key, identity) for name, identity in identities.items()}


def fill_with_model(model: ComparedModel, shown: FloatArray, device: object, batch_size: int) -> FloatArray:
    """Predictions for frames (frame, row, column) with NaN."""
    network, description = network_of(model.ref)
    recipe = InpaintingRecipe(**description["recipe"])
    return inpaint_frames(network, recipe, shown, model.grid, device=str(device), batch_size=batch_size)


def _missing(row: int, reader: CaseReader, book: Book) -> frozenset[str]:
    """Keys of cases and scores of a frame that the book does not hold."""
    missing: set[str] = set()
    for direction in reader.directions(row):
        case_key = reader.key(row, direction)
        case = book.case(case_key)
        if case is None:
            missing.add(case_key)
        if case is None or not case.refused:
            missing |= {key for key in keys_of(row, direction, reader).values() if book.score(key) is None}
    return frozenset(missing)


@dataclass(frozen=True)
class _ClassicalScores:
    """Makes the cases of a frame and scores on them the classical methods whose keys are wanted."""

    reader: CaseReader
    wanted: Mapping[int, frozenset[str]]

    def __call__(self, row: int) -> tuple[list[Case], list[ScoreRecord]]:
        cases = [self.reader.case(row, direction) for direction in self.reader.directions(row)]
        return cases, [score for case in cases for score in self._scores(row, case)]

    def _scores(self, row: int, case: Case) -> list[ScoreRecord]:
        frame = case.frame
        if frame is None:
            return []
        found = []
        for method in self.reader.plan.methods:
            key = score_key(case.record.key, classical_identity(method, row, self.reader))
            if key not in self.wanted[row]:
                continue
            try:
                values = fill_gaps(frame.shown, method, self.reader.beam(row)).values
            except ArrayError as error:
                found.append(ScoreRecord(key, method, failed=str(error)))
                continue
            found.append(ScoreRecord(key, method, score_frame(values, frame.truth, frame.judged)))
        return found


def _model_scores(model: ComparedModel, cases: Sequence[Case], plan: Comparison) -> list[ScoreRecord]:
    frames = [case.frame for case in cases if case.frame is not None]
    with device_slot(plan.settings.device) as device:
        shown = np.stack([frame.shown for frame in frames])
        try:
            filled = fill_with_model(model, shown, device, plan.settings.batch_size)
        except ArrayError as error:
            raise SettingsError(f"{model.label} cannot fill these frames: {error}; leave it out") from error
    moments: list[PairMoments] = [
        score_frame(values, frame.truth, frame.judged) for values, frame in zip(filled, frames, strict=True)
    ]
    keys = [score_key(case.record.key, model_identity(model)) for case in cases]
    return [ScoreRecord(key, model.label, score) for key, score in zip(keys, moments, strict=True)]
