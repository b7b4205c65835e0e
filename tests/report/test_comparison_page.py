"""The page of a comparison: the verdict first, every figure and refusal on it, nothing fetched, no text run."""

import re
from typing import Any

import numpy as np
import pytest

from dlsia_core.inpainting_intervals import l1_ratio, pearson_interval
from dlsia_core.inpainting_scores import compare_methods
from dlsia_core.metrics.moments import pair_moments
from tasks.report.comparison import (
    ComparedPair,
    ComparisonContent,
    FilledFrame,
    Scored,
    judge_comparison,
    verdict_sentences,
)
from tasks.report.comparison_chart import chart, nice_step
from tasks.report.comparison_page import comparison_page
from tasks.report.comparison_pictures import find_detail

HOSTILE = "<script>window.pwned=1</script>\"&'"
ERRORS = {"saxs:3": 0.6, "biharmonic": 1.0, "linear": 0.9}


def scored(gaps: str, errors: dict[str, float], models: tuple[str, ...]) -> list[Scored]:
    rng = np.random.default_rng(0)
    truth = rng.random((4, 100))
    noise = rng.normal(0, 0.01, truth.shape)
    moments = {
        name: [pair_moments(t + error * n, t) for t, n in zip(truth, noise, strict=True)]
        for name, error in errors.items()
    }
    rows = compare_methods(moments, gaps, noise_floor=0.004)
    classical = [row for row in rows if row.method not in models]
    best = min(classical, key=lambda row: row.l1).method
    return [
        Scored(
            row,
            pearson_interval(moments[row.method], seed=0),
            best if row.method in models else None,
            l1_ratio(moments[row.method], moments[best], seed=0) if row.method in models else None,
            row.method in models,
        )
        for row in rows
    ]


def picture(name: str = "scan_00001.cbf") -> FilledFrame:
    truth = np.random.default_rng(1).random((64, 90)).astype(np.float32)
    judged = np.zeros(truth.shape, bool)
    judged[20:23] = True
    shown = np.where(judged, np.float32(np.nan), truth)
    fills = {method: np.where(judged, truth + np.float32(0.01 * e), truth) for method, e in ERRORS.items()}
    fills["linear"][21, 70] += 5
    return FilledFrame(name, "horizontal", "a usual frame", shown, truth, judged, fills)


def content(errors: dict[str, float] = ERRORS, models: tuple[str, ...] = ("saxs:3",), **replaced: Any):
    facts = {
        "margin": 40.0, "common_pixels": 9, "flux_ratio": 1.01, "flux_error": 0.01, "factor": 1.0, "chi_square": 1.02,
        "exposures_l1": 0.0057, "exposures_r": 0.99,
    }  # fmt: skip
    values: dict[str, Any] = {
        "name": "study 7", "source": "/data/hi", "second_exposure": "/data/lo", "folder": "/results/study 7",
        "created": "2026-03-04T07:12:55+00:00", "n_frames": 4, "n_source_frames": 9, "pairing": "name",
        "confidence": 0.95, "scored": [*scored("horizontal", errors, models), *scored("vertical", errors, models)],
        "pairs": [ComparedPair("hi_1.cbf", "lo_1.cbf", (30, 0), facts, "")], "left_out": [], "notes": [],
        "warnings": [], "pictures": [picture()], "models": {name: {"network": "TUNet"} for name in models},
        "stages": (), "settings": {"compare": {"seed": 0}}, "versions": {"torch": "2"},
    }  # fmt: skip
    return ComparisonContent(**{**values, **replaced})


def test_the_verdict_comes_first_and_says_by_how_much_the_model_is_better():
    page = comparison_page(content())
    verdict = "saxs:3: L1 over biharmonic&#x27;s 0.60 in horizontal gaps, 0.60 in vertical gaps"
    assert page.index(f'<p class="text">{verdict}') < page.index("<table")
    assert judge_comparison(content()).level == "good"
    assert "Horizontal gaps: 33 % (−33 % to −33 %) below the best classical method, linear" in page
    for fact in ("hi_1.cbf", "+30 rows, +0 columns: 1 pair", "/data/lo", "over best classical", "results.csv"):
        assert fact in page, fact


def test_a_model_that_is_hardly_better_or_a_refused_pair_is_worth_a_look():
    hardly = judge_comparison(content({**ERRORS, "saxs:3": 0.85}))
    assert hardly.level == "attention"
    assert "less than 10 % below the best classical method in horizontal and vertical gaps" in hardly.problems[0]
    worse = verdict_sentences(content({**ERRORS, "saxs:3": 1.8}))
    assert "100 % (+100 % to +100 %) above the best classical method" in worse[0]
    refused = ComparedPair("hi_2.cbf", "lo_2.cbf", None, {}, "the exposures disagree")
    page = comparison_page(content(pairs=[refused]))
    assert "1 of 1 pairs of exposures were refused" in page
    assert "the exposures disagree" in page
    alone = content(scored=scored("vertical", ERRORS, ("saxs:3",)), pairs=[refused])
    assert judge_comparison(alone).level == "bad"
    assert "no horizontal gaps could be judged" in judge_comparison(alone).text


def test_classical_methods_alone_are_judged_too():
    only = content({"biharmonic": 1.0, "harmonic": 0.8}, ())
    assert judge_comparison(only).text.startswith("harmonic: L1 over biharmonic's 0.80 in horizontal gaps")
    assert judge_comparison(only).level == "good"
    assert "over best classical" not in comparison_page(only)
    weakest = content({"biharmonic": 1.0, "linear": 1.1}, ())
    assert judge_comparison(weakest).text.startswith("biharmonic: L1 ")


def test_the_page_fetches_nothing_and_runs_no_text():
    hostile = content(
        name=HOSTILE, source=HOSTILE, notes=[HOSTILE], warnings=[HOSTILE], pictures=[picture(HOSTILE)],
        left_out=[(HOSTILE, "vertical", HOSTILE)], models={"saxs:3": {HOSTILE: HOSTILE}}, versions={HOSTILE: HOSTILE},
        pairs=[ComparedPair(HOSTILE, HOSTILE, None, {}, HOSTILE)],
    )  # fmt: skip
    page = comparison_page(hostile)
    assert "<script>window" not in page
    assert not re.findall(r'(?:src|href|srcset)="(?!data:image/png;base64,|#)', page)
    assert page == comparison_page(hostile)


def test_the_detail_lies_around_the_largest_error_and_in_the_frame():
    detail = find_detail(picture())
    assert detail.rows.start <= 21 < detail.rows.stop <= 64
    assert detail.columns.start <= 70 < detail.columns.stop <= 90


@pytest.mark.parametrize("least", [1e-4, 3e-4, 0.0021, 0.7, 1.0, 33.0])
def test_steps_of_the_axis_are_round_and_large_enough(least: float):
    step = nice_step(least)
    assert least * (1 - 1e-9) <= step <= 2.5 * least
    assert step / 10.0 ** np.floor(np.log10(step)) == pytest.approx(1) or step * 1e6 % 1 == pytest.approx(0, abs=1e-6)


def test_the_chart_has_a_dot_for_each_method_inside_its_width():
    drawn = chart("vertical", content().of("vertical"))
    centers = [float(x) for x in re.findall(r'<circle cx="([\d.]+)"', drawn)]
    assert len(centers) == 3
    assert centers == sorted(centers)
    assert all(0 < x < 560 for x in centers)
