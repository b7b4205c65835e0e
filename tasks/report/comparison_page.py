"""Put the report of a comparison together as one HTML file that opens offline."""

from collections import Counter
from pathlib import Path

from dlsia_core.metrics import Interval
from tasks.report.comparison import ComparisonContent, Scored, judge_comparison, verdict_sentences
from tasks.report.comparison_chart import chart
from tasks.report.comparison_pictures import filled_section
from tasks.report.document import document, section, write_document
from tasks.report.formats import NONE, capped, count, duration, flat, number
from tasks.report.markup import Markup, element, join, table
from tasks.report.sections import LEVELS, MAX_ROWS
from tasks.report.style import PRINT_SCRIPT
from tasks.report.verdict import ATTENTION

OPEN_ROWS = 12


def comparison_page(content: ComparisonContent) -> str:
    """Make the page. Nothing in it comes from elsewhere, and the same content makes the same text."""
    sections = [
        ("figures", "How well each method fills gaps", _figures(content)),
        ("pictures", "Filled frames", join([filled_section(picture) for picture in content.pictures])),
        ("pairs", "Second exposures", _pairs(content)),
        ("left-out", "Frames left out", _left_out(content)),
        ("models", "Models", _models(content)),
        ("protocol", "How it was judged", _protocol(content)),
        ("files", "Files, settings and versions", _files(content)),
    ]
    shown = [parts for parts in sections if parts[2]]
    links = [element("a", title, href=f"#{name}") for name, title, _ in shown]
    top = [_head(content), _warnings(content), element("nav", *links, aria_label="Sections")]
    main = element("main", *top, *(section(*parts) for parts in shown))
    return document(f"{content.name}: {judge_comparison(content).text}", [main], [PRINT_SCRIPT])


def write_comparison_page(content: ComparisonContent, path: Path) -> Path:
    """Write the page whole or not at all."""
    return write_document(comparison_page(content), path)


def _head(content: ComparisonContent) -> Markup:
    verdict = judge_comparison(content)
    lines = [element("p", sentence) for sentence in verdict_sentences(content)]
    text = element(
        "div",
        element("h1", f"Comparison {content.name}"),
        element("p", verdict.text, class_="text"),
        element("p", element("span", LEVELS[verdict.level], class_="level"), ". ", *_scope(content)),
        *lines,
        class_=f"verdict {verdict.level}",
    )
    facts = [("Source", content.source)]
    if content.second_exposure:
        facts.append(("Second exposures", content.second_exposure))
    facts += [("Folder", content.folder), ("Report made", content.created)]
    pairs = [join([element("dt", name), element("dd", value)]) for name, value in facts]
    return element("header", text, element("dl", *pairs, class_="facts"))


def _scope(content: ComparisonContent) -> list[str]:
    n_models = len(content.models)
    methods = f"{count(n_models, 'model')} and {count(len(content.ranking) - n_models, 'classical method')}"
    return [f"{methods} on {count(content.n_frames, 'frame')} of {content.n_source_frames:,} in the source."]


def _warnings(content: ComparisonContent) -> Markup:
    warnings = [*judge_comparison(content).problems, *content.warnings, *content.notes]
    shown, note = capped(warnings, MAX_ROWS, "warning")
    items = [element("li", text) for text in [*shown, note] if text]
    return element("ul", *items, class_=f"warnings {ATTENTION}", aria_label="Remarks") if items else Markup()


def _figures(content: ComparisonContent) -> Markup:
    charts = element("div", *(chart(gaps, content.of(gaps)) for gaps in content.directions), class_="curves")
    share = f"{100 * content.confidence:g} %"
    caption = f"Dots: all judged pixels together; lines: {share} intervals over frames; filled: models."
    return join(
        [
            _table_1(content),
            charts,
            element("p", caption, class_="note"),
            *(_ratios(content, gaps, share) for gaps in content.directions),
        ]
    )


def _table_1(content: ComparisonContent) -> Markup:
    """The shape of Table 1 of the paper: methods side by side, L1 and r below each other."""
    methods = content.ranking
    rows = []
    for gaps in content.directions:
        by_name = {scored.score.method: scored for scored in content.of(gaps)}
        best = content.of(gaps)[0].score.method
        cells = [_strong(f"{1e3 * by_name[m].score.l1:.3f}", m == best) for m in methods]
        rows.append((f"{gaps} gaps: L1 (10⁻³)", *cells))
        best_r = max(methods, key=lambda m: by_name[m].score.pearson_r or -1.0)
        cells = [_strong(_r(by_name[m].score.pearson_r), m == best_r) for m in methods]
        rows.append((f"{gaps} gaps: Pearson r", *cells))
    columns = [("", "nowrap"), *((method, "number wrap") for method in methods)]
    return table("As Table 1 of Chavez et al. 2022; the best of each row is bold", columns, rows)


def _strong(text: str, best: bool) -> str:
    return element("strong", text) if best else text


def _r(value: float | None) -> str:
    return NONE if value is None else f"{value:.4f}"


def _ratios(content: ComparisonContent, gaps: str, share: str) -> Markup:
    ordered = content.of(gaps)
    first, has_models = ordered[0].score, any(scored.is_model for scored in ordered)
    names = ["L1 (10⁻³)", "Pearson r", "L1 over biharmonic", "over linear", "over noise"]
    if has_models:
        names.insert(4, "over best classical")
    rows = [(scored.score.method, *_ratio_cells(scored, has_models)) for scored in ordered]
    noise = f"; noise alone makes {1e3 * first.noise_floor:.3f}e-3" if first.noise_floor else ""
    pixels = f"{count(first.n_frames, 'frame')}, {count(first.n_pixels, 'pixel')}"
    caption = f"{gaps.capitalize()} gaps: {pixels}{noise}. Below each figure: its {share} interval over frames"
    return table(caption, [("method", "file"), *((name, "number") for name in names)], rows)


def _ratio_cells(scored: Scored, has_models: bool) -> list[str]:
    row, r = scored.score, scored.pearson
    low, high = (None if bound is None else 1e3 * bound for bound in (row.l1_low, row.l1_high))
    cells: list[str] = [
        _bounded(1e3 * row.l1, low, high),
        _bounded(row.pearson_r, r.low if r else None, r.high if r else None, 4),
        _bounded(row.l1_over_biharmonic, row.l1_over_biharmonic_low, row.l1_over_biharmonic_high),
        _bounded(row.l1_over_linear, row.l1_over_linear_low, row.l1_over_linear_high),
        _bounded(row.l1_over_noise_floor, None, None),
    ]
    if has_models:
        cells.insert(4, _interval(scored.over_classical))
    return cells


def _interval(ratio: Interval | None) -> str:
    return NONE if ratio is None else _bounded(ratio.estimate, ratio.low, ratio.high)


def _bounded(value: float | None, low: float | None, high: float | None, decimals: int = 3) -> Markup:
    """A figure with its interval below it; none where it cannot vary, as the ratio of a method to itself."""
    if value is None:
        return Markup(NONE)
    shown = [element("span", f"{value:.{decimals}f}")]
    if low is not None and high is not None and low < high:
        shown.append(element("span", f"{low:.{decimals}f} to {high:.{decimals}f}", class_="bounds"))
    return join(shown)


def _pairs(content: ComparisonContent) -> Markup:
    if not content.pairs:
        return Markup()
    good = [pair for pair in content.pairs if not pair.refused]
    refused = [pair for pair in content.pairs if pair.refused]
    shifts = Counter(pair.shift for pair in good if pair.shift)
    said = [f"{rows:+d} rows, {columns:+d} columns: {count(n, 'pair')}" for (rows, columns), n in shifts.most_common()]
    text = f"Paired by {content.pairing}. Where the scattering lies in the second exposure: {'; '.join(said) or NONE}."
    parts = [element("p", text)]
    if refused:
        rows = [(pair.frame, pair.second, pair.refused) for pair in refused]
        columns = (("frame", "file"), ("second exposure", "file"), ("why", ""))
        parts.append(table(f"Refused: {count(len(refused), 'pair')}", columns, rows[:MAX_ROWS]))
    if good:
        parts.append(_agreement(content))
    return join(parts)


def _agreement(content: ComparisonContent) -> Markup:
    columns = (
        ("frame", "file"), ("second exposure", "file"), ("shift", "number"), ("margin (σ)", "number"),
        ("flux ratio", "number"), ("χ²", "number"), ("L1 (10⁻³)", "number"), ("Pearson r", "number"),
    )  # fmt: skip
    rows = []
    for pair in content.pairs:
        if pair.refused or pair.shift is None:
            continue
        facts, l1 = pair.facts, pair.facts["exposures_l1"]
        scaled = " (scaled)" if facts["factor"] != 1 else ""
        rows.append(
            (
                pair.frame, pair.second, f"{pair.shift[0]:+d}, {pair.shift[1]:+d}", number(facts["margin"]),
                f"{facts['flux_ratio']:.3f}{scaled}", f"{facts['chi_square']:.2f}",
                NONE if l1 is None else f"{1e3 * l1:.2f}", _r(facts["exposures_r"]),
            )
        )  # fmt: skip
    made = table("Both exposures against each other on the pixels that both measured", columns, rows[:MAX_ROWS])
    note = element(
        "p",
        "Two exposures differ by about √2 times what noise alone makes against a perfect prediction. Counts marked "
        "(scaled) were multiplied by the flux ratio before they filled gaps.",
        class_="note",
    )
    if len(rows) <= OPEN_ROWS:
        return join([made, note])
    return element("details", element("summary", f"Agreement of {count(len(rows), 'pair')}"), made, note)


def _left_out(content: ComparisonContent) -> Markup:
    if not content.left_out:
        return Markup()
    rows, note = capped(content.left_out, MAX_ROWS, "frame")
    made = table("They count for no method", (("frame", "file"), ("gaps", "nowrap"), ("why", "")), rows)
    return join([made, element("p", note, class_="note") if note else ""])


def _models(content: ComparisonContent) -> Markup:
    if not content.models:
        return Markup()
    names = list(dict.fromkeys(name for facts in content.models.values() for name in facts))
    rows = [(label, *(facts.get(name, NONE) for name in names)) for label, facts in content.models.items()]
    return table("As their descriptions say", [("model", "file"), *((name, "") for name in names)], rows)


def _protocol(content: ComparisonContent) -> Markup:
    texts = [
        "Every method fills the same frames and is judged on gap pixels alone, against what was measured there; L1 and "
        "Pearson r are those of all judged pixels of all frames together. Ratios compare methods on the same frames, "
        "so their intervals are narrower than those of L1 itself.",
    ]
    if "horizontal" in content.directions:
        texts.append(
            "Horizontal gaps are the detector's own. Their truth comes from the second exposure, moved back by the "
            "shift; it fills what the first did not measure, and nothing is averaged."
        )
    if "vertical" in content.directions:
        texts.append(
            "Vertical gaps are artificial, of the width and at distances of the detector's own, over measured pixels; "
            "which ones follows from the frame's content and the seed."
        )
    texts.append(
        "Noise: the L1 of a perfect prediction, the expected counts, against the one exposure that is taken for the "
        "truth, by Poisson noise; expected counts are means of 5 × 5 detector pixels. No method can be below it on "
        "average."
    )
    return join([element("p", text) for text in texts])


def _files(content: ComparisonContent) -> Markup:
    files = [
        ("results.csv", "one row for each method and direction of gaps"),
        ("intervals.csv", "the same with all intervals"),
        ("frames.csv", "one row for each frame and method"),
        *([("pairs.csv", "one row for each pair of exposures")] if content.pairs else []),
        ("journal/", "everything found, by which a killed comparison goes on"),
    ]
    parts = [table(f"In {content.folder}", (("file", "nowrap"), ("what", "")), files)]
    rows = [
        (stage.name, stage.state, f"{stage.n_frames:,}", duration(stage.seconds), stage.reason)
        for stage in content.stages
    ]
    columns = (("stage", "nowrap"), ("state", "nowrap"), ("frames", "number"), ("time", "number"), ("remark", ""))
    parts.append(table("Stages of this run; stages may overlap in time", columns, rows))
    blocks = {**{f"Settings of {name}": values for name, values in content.settings.items()}}
    blocks["Software versions"] = content.versions
    for title, values in blocks.items():
        inner = table(title, (("name", "nowrap"), ("value", "file")), flat(values))
        parts.append(element("details", element("summary", title), inner))
    return join(parts)
