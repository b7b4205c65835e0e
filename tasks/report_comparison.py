"""Gather what a person wants to see of a comparison, and write it as one HTML file."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from typing import Any

from dlsia_core.networks import network_config
from tasks.compare_pictures import picture_frames
from tasks.compare_plan import ComparedModel
from tasks.compare_results import Findings, plain, write_tables
from tasks.logs import logger_of
from tasks.models import network_of
from tasks.report.comparison import ComparisonContent, judge_comparison, verdict_sentences
from tasks.report.comparison_page import write_comparison_page
from tasks.report_scan import PACKAGES, stage_facts
from tasks.stage import StageRun

REPORT = "report.html"


@dataclass(frozen=True)
class WrittenComparison:
    """Where tables and report are, and the same facts in short for Prefect artifacts."""

    results: str
    report: str
    table: list[dict[str, Any]]
    summary: str
    verdict: str


def write_comparison(
    found: Findings,
    source: str,
    second_exposure: str | None,
    notes: Sequence[str],
    warnings: Sequence[str],
    runs: Sequence[StageRun],
    settings: Mapping[str, Mapping[str, Any]],
) -> WrittenComparison:
    """Write the tables, then the report."""
    results = write_tables(found)
    plan = found.plan
    content = ComparisonContent(
        name=plan.folder.name,
        source=source,
        second_exposure=second_exposure,
        folder=str(plan.folder),
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        n_frames=len(plan.rows),
        n_source_frames=plan.frames.n_frames,
        pairing=plan.pairing.rule if plan.pairing else "",
        confidence=plan.settings.confidence,
        scored=found.scored,
        pairs=found.pairs,
        left_out=[(c.case.frame, c.case.gaps, c.left_out) for c in found.cases if c.left_out and not c.case.pair],
        notes=notes,
        warnings=warnings,
        pictures=picture_frames(found),
        models={model.label: _model_facts(model) for model in plan.models},
        stages=stage_facts(runs, ()),
        settings=settings,
        versions={package: version(package) for package in PACKAGES},
    )
    path = write_comparison_page(content, plan.folder / REPORT)
    logger_of(__name__).info("report: %s", path)
    verdict = judge_comparison(content)
    return WrittenComparison(
        str(results), str(path), [plain(scored) for scored in found.scored], _summary(content), verdict.text
    )


def _model_facts(model: ComparedModel) -> dict[str, str]:
    network, description = network_of(model.ref)
    config = network_config(network)
    trained = description.get("trained_on", {})
    recipe = description["recipe"]
    facts = {
        "network": str(config["network"]),
        "weights": f"{sum(parameter.numel() for parameter in network.parameters()):,}",
        "gaps before the network": str(recipe["prefill"]),
        "tiles": f"{model.grid.tile_shape[0]} x {model.grid.tile_shape[1]}, step {model.grid.step[1]}",
        "trained on": f"{trained['frames']:,} frames" if "frames" in trained else "",
        "from": str(trained.get("source", "")),
        "digest": model.ref.digest[:12],
    }
    return {name: text for name, text in facts.items() if text}


def _summary(content: ComparisonContent) -> str:
    """Verdict, table and remarks in Markdown."""
    verdict = judge_comparison(content)
    lines = [f"# {_text(verdict.text)}", "", *(_text(sentence) for sentence in verdict_sentences(content)), ""]
    for gaps in content.directions:
        lines += [f"| {gaps} gaps | L1 (1e-3) | r | over biharmonic | over linear | over noise |"]
        lines += ["| --- " * 6 + "|"]
        for scored in content.of(gaps):
            row = scored.score
            cells = [1e3 * row.l1, row.pearson_r, row.l1_over_biharmonic, row.l1_over_linear, row.l1_over_noise_floor]
            lines.append(f"| {_text(row.method)} | {' | '.join('' if v is None else f'{v:.4g}' for v in cells)} |")
        lines.append("")
    remarks = [*verdict.problems, *content.warnings, *content.notes]
    return "\n".join([*lines, *(f"- {_text(remark)}" for remark in remarks)]) + "\n"


def _text(text: str) -> str:
    return text.replace("|", "\\|").replace("<", "&lt;").replace("_", "\\_")
