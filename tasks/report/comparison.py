"""Everything that the report of a comparison shows, and the verdict on it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from dlsia_core.inpainting_scores import MethodScore
from dlsia_core.metrics import Interval
from tasks.report.content import StageFacts
from tasks.report.verdict import ATTENTION, BAD, GOOD, Verdict

Float = npt.NDArray[np.float32]
ENOUGH = 0.9
"""L1 of a model over that of the best classical method; above, it hardly pays to train one."""


@dataclass(frozen=True)
class Scored:
    """One method in one direction of gaps.

    pearson: interval of r. over_classical: L1 over that of the best classical method there, for models only.
    """

    score: MethodScore
    pearson: Interval | None
    best_classical: str | None
    over_classical: Interval | None
    is_model: bool


@dataclass(frozen=True)
class ComparedPair:
    """Two exposures: names, the shift (rows, columns), what was found of them, and why they were refused ("": not)."""

    frame: str
    second: str
    shift: tuple[int, int] | None
    facts: Mapping[str, Any]
    refused: str


@dataclass(frozen=True, eq=False)
class FilledFrame:
    """One frame as shown to the methods, its truth, and what each made of it; all (row, column), NaN = not known."""

    name: str
    gaps: str
    why: str
    """Why this frame is shown."""
    shown: Float
    truth: Float
    judged: npt.NDArray[np.bool_]
    fills: Mapping[str, Float]


@dataclass(frozen=True, eq=False)
class ComparisonContent:
    """What the report shows; `left_out`: (frame, gaps, why), `models`: facts by label."""

    name: str
    source: str
    second_exposure: str | None
    folder: str
    created: str
    n_frames: int
    n_source_frames: int
    pairing: str
    confidence: float
    scored: Sequence[Scored]
    pairs: Sequence[ComparedPair]
    left_out: Sequence[tuple[str, str, str]]
    notes: Sequence[str]
    warnings: Sequence[str]
    pictures: Sequence[FilledFrame]
    models: Mapping[str, Mapping[str, str]]
    stages: Sequence[StageFacts]
    settings: Mapping[str, Mapping[str, Any]]
    versions: Mapping[str, str]

    @property
    def directions(self) -> list[str]:
        """Gaps that were judged."""
        return list(dict.fromkeys(scored.score.gaps for scored in self.scored))

    def of(self, gaps: str) -> list[Scored]:
        """The methods in one direction of gaps, the best first."""
        return sorted((s for s in self.scored if s.score.gaps == gaps), key=lambda s: s.score.l1)

    @property
    def ranking(self) -> list[str]:
        """All methods, the best first: by the mean of their L1 over the smallest in each direction."""
        total: dict[str, float] = {}
        for gaps in self.directions:
            ordered = self.of(gaps)
            least = max(ordered[0].score.l1, 1e-300)
            for scored in ordered:
                total[scored.score.method] = total.get(scored.score.method, 0.0) + scored.score.l1 / least
        return sorted(total, key=lambda method: total[method])

    @property
    def best_model(self) -> str | None:
        """The best model, if any was compared."""
        models = {scored.score.method for scored in self.scored if scored.is_model}
        return next((method for method in self.ranking if method in models), None)


def judge_comparison(content: ComparisonContent) -> Verdict:
    """The best model, or without models the best method, in each direction; good where a model was worth training."""
    subject = content.best_model or content.ranking[0]
    own = [s for gaps in content.directions for s in content.of(gaps) if s.score.method == subject]
    text = f"{subject}: {_l1_in_words(own)}"
    problems = []
    refused = [pair for pair in content.pairs if pair.refused]
    if refused:
        problems.append(
            f"{len(refused)} of {len(content.pairs)} pairs of exposures were refused; they are listed below."
        )
    if content.second_exposure and "horizontal" not in content.directions:
        return Verdict(f"{text}; no horizontal gaps could be judged", BAD, tuple(problems))
    if content.best_model and (weak := [scored.score.gaps for scored in own if not is_worth_it(scored)]):
        problems.append(
            f"{subject} is less than 10 % below the best classical method in {' and '.join(weak)} gaps: a longer "
            "training, or one on frames like these, may pay."
        )
    well = not problems and not content.warnings
    return Verdict(text, GOOD if well else ATTENTION, tuple(problems))


def is_worth_it(scored: Scored) -> bool:
    """Whether a model is at least 10 % below the best classical method; True where there is none to compare with."""
    return scored.over_classical is None or scored.over_classical.estimate <= ENOUGH


def verdict_sentences(content: ComparisonContent) -> list[str]:
    """What the verdict follows from, for each direction of gaps."""
    sentences = []
    for gaps in content.directions:
        ordered = content.of(gaps)
        subject = next(s for s in ordered if s.score.method == (content.best_model or ordered[0].score.method))
        said = [f"{gaps.capitalize()} gaps"]
        if subject.over_classical is not None:
            said.append(f"{_against(subject.over_classical)} the best classical method, {subject.best_classical}")
        else:
            said.append(f"the best of {len(ordered)} methods is {subject.score.method}")
        if subject.score.l1_over_noise_floor is not None:
            said.append(f"{subject.score.l1_over_noise_floor:.2f} times what noise alone makes")
        sentences.append(f"{said[0]}: {'; '.join(said[1:])}.")
    return sentences


def _l1_in_words(own: Sequence[Scored]) -> str:
    rows = [scored.score for scored in own]
    ratios = [row.l1_over_biharmonic for row in rows]
    if rows[0].method == "biharmonic" or None in ratios:
        return "L1 " + ", ".join(f"{1e3 * row.l1:.2f}e-3 in {row.gaps} gaps" for row in rows)
    said = [f"{ratio:.2f} in {row.gaps} gaps" for ratio, row in zip(ratios, rows, strict=True)]
    return f"L1 over biharmonic's {', '.join(said)}"


def _against(ratio: Interval) -> str:
    word = "below" if ratio.estimate <= 1 else "above"
    bounds = [abs(100 * (1 - bound)) for bound in (ratio.low, ratio.high)]
    between = "" if np.isnan(bounds).any() else f" ({_signed(ratio.low)} to {_signed(ratio.high)})"
    percent = f"{abs(100 * (1 - ratio.estimate)):.0f}"
    return f"on a par with{between}" if percent == "0" else f"{percent} %{between} {word}"


def _signed(bound: float) -> str:
    return f"{100 * (bound - 1):+.0f} %".replace("-", "−")
