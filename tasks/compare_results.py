"""What a comparison found, in tables: Table 1 of Chavez et al. 2022 with intervals, every frame, every pair."""

import csv
import io
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from dlsia_core.inpainting_intervals import l1_ratio, pearson_interval
from dlsia_core.inpainting_scores import MethodScore, compare_methods
from dlsia_core.metrics import PairMoments
from dlsia_core.networks.storage import write_atomically
from tasks.compare import keys_of
from tasks.compare_book import CaseRecord, open_book
from tasks.compare_cases import CaseReader
from tasks.compare_plan import Comparison
from tasks.errors import SettingsError
from tasks.report.comparison import ComparedPair, Scored

COLUMNS = (
    "method", "gaps", "n_frames", "n_pixels", "l1", "l1_low", "l1_high", "pearson_r", "l1_over_biharmonic",
    "l1_over_linear", "noise_floor",
)  # fmt: skip
"""Of results.csv."""
Row = dict[str, Any]


@dataclass(frozen=True)
class JudgedCase:
    """A frame with gaps that every method has filled, or why it counts for none."""

    row: int
    case: CaseRecord
    moments: Mapping[str, PairMoments]
    left_out: str

    @property
    def counts(self) -> bool:
        return not self.left_out


@dataclass(frozen=True)
class Findings:
    """All of a comparison's figures.

    cases: frame by frame. scored: one for each method and direction of gaps, in the order of the report.
    """

    plan: Comparison
    cases: tuple[JudgedCase, ...]
    scored: tuple[Scored, ...]

    def of(self, gaps: str) -> list[JudgedCase]:
        """The cases of a direction that count."""
        return [case for case in self.cases if case.case.gaps == gaps and case.counts]

    @property
    def subject(self) -> str:
        """The best model, or without models the best method."""
        totals: dict[str, float] = {}
        for scored in self.scored:
            if scored.is_model or not self.plan.models:
                totals[scored.score.method] = totals.get(scored.score.method, 0.0) + scored.score.l1
        return min(totals, key=lambda method: totals[method])

    @property
    def pairs(self) -> tuple[ComparedPair, ...]:
        """All pairs of exposures, refused ones too."""
        return tuple(_pair(case) for case in self.cases if case.case.pair is not None)


def findings(plan: Comparison) -> Findings:
    """Add up what the book holds for the plan.

    Raises `SettingsError` where nothing was left to score, with the first reasons.
    """
    book, reader = open_book(plan.folder), CaseReader(plan)
    cases: list[JudgedCase] = []
    for row in plan.rows:
        for direction in reader.directions(row):
            case = book.case(reader.key(row, direction))
            if case is None:
                raise RuntimeError(f"frame {row} has not been compared in {direction} gaps")
            scores = {name: book.score(key) for name, key in keys_of(row, direction, reader).items()}
            failed = [f"{score.method}: {score.failed}" for score in scores.values() if score and score.failed]
            moments = {name: score.moments for name, score in scores.items() if score is not None}
            cases.append(JudgedCase(row, case, moments, case.refused or "; ".join(failed)))
    if not any(case.counts for case in cases):
        reasons = "\n".join(f"  {case.case.frame}, {case.case.gaps} gaps: {case.left_out}" for case in cases[:5])
        raise SettingsError(f"nothing could be judged in any of {len(plan.rows)} frames; the first reasons:\n{reasons}")
    return Findings(plan, tuple(cases), tuple(_scored(plan, cases)))


def _scored(plan: Comparison, cases: Sequence[JudgedCase]) -> list[Scored]:
    settings, rows = plan.settings, []
    draw = {"seed": settings.seed, "confidence": settings.confidence, "resamples": settings.resamples}
    for gaps in plan.directions:
        own = [case for case in cases if case.case.gaps == gaps and case.counts]
        if not own:
            continue
        scores = {label: [case.moments[label] for case in own] for label in plan.labels}
        table = compare_methods(scores, gaps, noise_floor=_floor(own), **draw)  # type: ignore[arg-type]
        best = best_classical(plan, table)
        for row in table:
            r = pearson_interval(scores[row.method], **draw)  # type: ignore[arg-type]
            ratio = None
            if best is not None and best != row.method and row.method not in plan.methods:
                ratio = l1_ratio(scores[row.method], scores[best], **draw)  # type: ignore[arg-type]
            rows.append(Scored(row, r, best if ratio else None, ratio, is_model=row.method not in plan.methods))
    return rows


def best_classical(plan: Comparison, table: Sequence[MethodScore]) -> str | None:
    """The classical method with the smallest L1 in some gaps, if there is any."""
    known = [row for row in table if row.method in plan.methods and row.l1 > 0]
    return min(known, key=lambda row: row.l1).method if known else None


def _floor(cases: Sequence[JudgedCase]) -> float | None:
    """L1 of the noise over all judged pixels."""
    floors = [(case.case.floor, case.case.n_pixels) for case in cases]
    if any(floor is None for floor, _ in floors):
        return None
    return sum(floor * n for floor, n in floors if floor is not None) / sum(n for _, n in floors)


def _pair(case: JudgedCase) -> ComparedPair:
    facts = dict(case.case.pair or {})
    shift = facts.get("shift")
    return ComparedPair(
        case.case.frame,
        facts["second"],
        (shift[0], shift[1]) if shift else None,
        {key: value for key, value in facts.items() if key not in ("second", "shift")},
        case.left_out,
    )


def write_tables(found: Findings) -> Path:
    """Write results.csv and, for those who want to know more, intervals.csv, frames.csv and pairs.csv."""
    folder = found.plan.folder
    rows = [scored.score.to_dict() for scored in found.scored]
    _write(folder / "results.csv", [{name: row[name] for name in COLUMNS} for row in rows])
    _write(folder / "intervals.csv", [_with_intervals(scored) for scored in found.scored])
    _write(folder / "frames.csv", [row for case in found.cases for row in _frame_rows(case)])
    if found.pairs:
        _write(folder / "pairs.csv", [_pair_row(pair) for pair in found.pairs])
    return folder / "results.csv"


def _with_intervals(scored: Scored) -> Row:
    ratio, r = scored.over_classical, scored.pearson
    return {
        **scored.score.to_dict(),
        "pearson_r_low": r and r.low,
        "pearson_r_high": r and r.high,
        "best_classical": scored.best_classical,
        "l1_over_best_classical": ratio and ratio.estimate,
        "l1_over_best_classical_low": ratio and ratio.low,
        "l1_over_best_classical_high": ratio and ratio.high,
    }


def _frame_rows(case: JudgedCase) -> list[Row]:
    facts = {"frame": case.case.frame, "gaps": case.case.gaps}
    if not case.counts:
        return [{**facts, "left_out": case.left_out}]
    rows = []
    for method, moments in case.moments.items():
        scores = moments.scores()
        rows.append(
            {
                **facts,
                "method": method,
                "n_pixels": case.case.n_pixels,
                "l1": scores["l1"],
                "pearson_r": scores["pearson_r"],
                "noise_floor": case.case.floor,
            }
        )
    return rows


def _pair_row(pair: ComparedPair) -> Row:
    rows, columns = pair.shift or (None, None)
    ours = {"frame": pair.frame, "second": pair.second, "refused": pair.refused}
    return {**ours, "shift_rows": rows, "shift_columns": columns, **pair.facts}


def _write(path: Path, rows: Sequence[Row]) -> None:
    """A table with all columns that occur, in the order in which they first do; what is not known is empty."""
    names = list(dict.fromkeys(name for row in rows for name in row))
    text = io.StringIO()
    writer = csv.DictWriter(text, names, lineterminator="\n")
    writer.writeheader()
    writer.writerows([{name: _cell(value) for name, value in row.items()} for row in rows])
    write_atomically(path, text.getvalue().encode("utf-8"))


def _cell(value: object) -> object:
    """Not a number is not known."""
    return "" if value is None or value != value else value


def plain(scored: Scored) -> Row:
    """One row of results.csv as JSON can hold it."""
    row = asdict(scored.score)
    return {name: row[name] for name in COLUMNS}
