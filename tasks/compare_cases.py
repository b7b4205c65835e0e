"""The frames of a comparison as the methods get them: gaps, truth, judged pixels, and the noise on these."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt

from dlsia_core.classical import BeamGeometry
from dlsia_core.errors import ArrayError
from dlsia_core.exposures import MergedExposures, align
from dlsia_core.gaps import gap_columns
from dlsia_core.intensity import LogScale
from dlsia_core.judged_frames import JudgedFrame, draw_vertical_gaps, horizontal_frame, merge_pair, vertical_frame
from dlsia_core.judged_gaps import Direction
from dlsia_core.noise_floor import local_expectation, poisson_floor, two_exposure_floor
from dlsia_core.resize import AreaResizer, resize_bicubic
from tasks.compare_beam import beam_of
from tasks.compare_book import CaseRecord
from tasks.compare_plan import Comparison, generator_of
from tasks.settings.base import digest
from tasks.settings.stages import NormalizeSettings
from tasks.store import FrameRecord, ScanRef, open_store

VERSION = 1
FloatArray = npt.NDArray[np.float32]
BoolArray = npt.NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class Case:
    """A judged frame and its record; `frame` is None where the record says why there is nothing to judge."""

    record: CaseRecord
    frame: JudgedFrame | None


@dataclass(frozen=True)
class CaseReader:
    """Makes the cases of single frames; each depends on its frame, its second exposure and the settings alone."""

    plan: Comparison

    @property
    def _records(self) -> Sequence[FrameRecord]:
        return open_store(self.plan.frames.normalized.scan).frames.ingested

    @property
    def normalize(self) -> NormalizeSettings:
        return NormalizeSettings.model_validate(self.plan.frames.facts["normalize"])

    def directions(self, row: int) -> tuple[Direction, ...]:
        """In which gaps a frame is judged: in horizontal ones only with a second exposure."""
        paired = self.plan.pairing is not None and row in self.plan.pairing.second_of
        return tuple(d for d in self.plan.directions if d == "vertical" or paired)

    def key(self, row: int, direction: Direction) -> str:
        """Names everything that a case follows from."""
        plan, settings = self.plan, self.plan.settings
        facts: dict[str, Any] = {
            "stage": "compare",
            "version": VERSION,
            "gaps": direction,
            "normalized": plan.frames.normalized.lineage,
            "frame": _content(self._records[row]),
            "noise_floor": settings.noise_floor,
        }
        if direction == "vertical":
            facts |= {"seed": settings.seed, "columns": gap_columns(plan.frames.measured)}
        else:
            second = open_store(self._second)
            facts |= {
                "second": _content(second.frames.ingested[self._second_row(row)]),
                "validity": second.attributes["ingest"]["validity"],
                "pair": [settings.shift_px, settings.flux, asdict(settings.pair_limits)],
            }
        return digest(facts)

    def beam(self, row: int) -> BeamGeometry | None:
        """The beam on a normalized frame."""
        center = beam_of(self._records[row], self.plan.settings.beam_center_px)
        return center and BeamGeometry(*center).resized(self._frame_shape, self.plan.frames.shape)

    def case(self, row: int, direction: Direction) -> Case:
        """Read a frame and make what the methods get."""
        name = _name(self._records[row])
        empty = CaseRecord(self.key(row, direction), name, direction)
        read = self._vertical if direction == "vertical" else self._horizontal
        try:
            return read(row, empty)
        except ArrayError as error:
            return Case(replace(empty, refused=str(error), pair=self._refused_pair(row, direction)), None)

    def _vertical(self, row: int, empty: CaseRecord) -> Case:
        record = self._records[row]
        rng = generator_of(self.plan.settings.seed, record.sha256, record.index)
        frame = vertical_frame(self.plan.frames.read(row), draw_vertical_gaps(self.plan.frames.measured, rng))
        counts, valid = self._exposure(self.plan.frames.normalized.scan, row)
        return self._case(frame, empty, counts, valid, None, 1.0)

    def _horizontal(self, row: int, empty: CaseRecord) -> Case:
        first, second = (
            self._exposure(self.plan.frames.normalized.scan, row),
            self._exposure(self._second, self._second_row(row)),
        )
        settings = self.plan.settings
        merged, factor = merge_pair(
            first[0], second[0], first[1], second[1],
            shift=settings.shift_px, flux=settings.flux, limits=settings.pair_limits, scale=_log_scale(self.normalize),
        )  # fmt: skip
        truth = normalized_frame(merged.counts, merged.valid, self.normalize)
        frame = horizontal_frame(self.plan.frames.read(row), truth)
        facts = self._pair_facts(row, merged, factor, first, second)
        return self._case(frame, empty, merged.counts, merged.valid, facts, factor)

    def _case(
        self,
        frame: JudgedFrame,
        empty: CaseRecord,
        counts: npt.NDArray[Any],
        valid: BoolArray,
        pair: dict[str, Any] | None,
        factor: float,
    ) -> Case:
        floor = None
        if self.plan.settings.noise_floor and self.normalize.resize == "area":
            expected = local_expectation(counts, valid)
            scale, resizer = self.normalize.intensity_scale(), resizer_for(counts.shape, self.normalize)
            # Counts that were multiplied by a factor vary by its root more than counts of their size.
            floor = poisson_floor(expected, valid, resizer, scale, frame.judged).l1 * factor**0.5
        return Case(replace(empty, n_pixels=int(frame.judged.sum()), floor=floor, pair=pair), frame)

    def _pair_facts(
        self,
        row: int,
        merged: MergedExposures,
        factor: float,
        first: tuple[npt.NDArray[Any], BoolArray],
        second: tuple[npt.NDArray[Any], BoolArray],
    ) -> dict[str, Any]:
        """What the report says of a pair; the exposures against each other as frames are compared, normalized."""
        agreement, facts = merged.agreement, self._refused_pair(row, "horizontal")
        between: dict[str, float | None] = {"exposures_l1": None, "exposures_r": None}
        if self.plan.settings.noise_floor and self.normalize.resize == "area":
            moved, moved_valid = align(second[0], second[1], merged.shift)
            resizer = resizer_for(moved.shape, self.normalize)
            scale = self.normalize.intensity_scale()
            floor = two_exposure_floor(first[0], moved * agreement.flux_ratio, first[1], moved_valid, resizer, scale)
            between = {"exposures_l1": floor.l1, "exposures_r": floor.pearson_r}
        return {
            **(facts or {}),
            "shift": list(merged.shift),
            "margin": merged.search.margin if merged.search else None,
            "common_pixels": agreement.n_pixels,
            "flux_ratio": agreement.flux_ratio,
            "flux_error": agreement.flux_error,
            "factor": factor,
            "chi_square": agreement.chi_square,
            **between,
        }

    def _refused_pair(self, row: int, direction: Direction) -> dict[str, Any] | None:
        if direction == "vertical":
            return None
        return {"second": _name(open_store(self._second).frames.ingested[self._second_row(row)])}

    @property
    def _frame_shape(self) -> tuple[int, int]:
        rows, columns = open_store(self.plan.frames.normalized.scan).attributes["frame_shape"]
        return int(rows), int(columns)

    @property
    def _second(self) -> ScanRef:
        assert self.plan.second is not None
        return self.plan.second

    def _second_row(self, row: int) -> int:
        assert self.plan.pairing is not None
        return self.plan.pairing.second_of[row]

    @staticmethod
    def _exposure(scan: ScanRef, row: int) -> tuple[npt.NDArray[Any], BoolArray]:
        store = open_store(scan)
        return store.read("counts", row, row + 1)[0], store.read("valid", row, row + 1)[0]


def normalized_frame(counts: npt.NDArray[Any], valid: BoolArray, settings: NormalizeSettings) -> FloatArray:
    """One frame (y, x) as the stage `normalize` makes it: (row, column) float32, NaN = not measured."""
    shape = settings.shape or counts.shape
    if settings.resize == "area":
        resized = resizer_for(counts.shape, settings).resize(counts, valid)[0]
    else:
        resized = resize_bicubic(counts, valid, shape, settings.min_coverage)
    return settings.intensity_scale().normalize(resized)


def resizer_for(frame_shape: tuple[int, ...], settings: NormalizeSettings) -> AreaResizer:
    """The resizer of frames of a shape (y, x)."""
    frame = (int(frame_shape[0]), int(frame_shape[1]))
    return _resizer(frame, settings.shape or frame, settings.min_coverage)


@lru_cache(maxsize=4)
def _resizer(frame: tuple[int, int], resized: tuple[int, int], min_coverage: float) -> AreaResizer:
    return AreaResizer(frame, resized, min_coverage)


def _log_scale(settings: NormalizeSettings) -> LogScale:
    """The scale of the agreement of two exposures, which is logarithmic whatever the frames' scale is."""
    return LogScale(settings.unit_counts, settings.ceiling_counts)


def _content(record: FrameRecord) -> list[Any]:
    return [record.sha256, record.index, record.crc32c]


def _name(record: FrameRecord) -> str:
    name = record.file.rpartition("/")[2]
    return f"{name}[{record.index}]" if record.header.get("n_frames_in_file", 1) > 1 else name
