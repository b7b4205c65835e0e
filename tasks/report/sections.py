"""The sections of the page that are words and tables."""

from collections import Counter
from collections.abc import Mapping

from tasks.report.content import ReportContent
from tasks.report.formats import capped, count, duration, flat, number, size
from tasks.report.markup import Markup, element, join, table
from tasks.report.verdict import ATTENTION, BAD, GOOD, judge

MAX_ROWS = 500
OPEN_ROWS = 20
LEVELS = {GOOD: "All is well", ATTENTION: "Worth a look", BAD: "Needs a person"}
STATE_WORDS = {
    "ingested": "processed",
    "quarantined": "quarantined: not read as data",
    "double": "double: stored once already",
    "pending": "pending: not processed yet",
    "lost": "lost: in no state",
}
STAGE_COLUMNS = (
    ("stage", "nowrap"), ("state", "nowrap"), ("frames", "number"), ("time", "number"), ("share of time", "share"),
    ("frames/s", "number"), ("written", "number"), ("remark", ""),
)  # fmt: skip


def head_section(content: ReportContent) -> Markup:
    """The verdict, the frames by state, and where everything is."""
    verdict = judge(content)
    text = element(
        "div",
        element("h1", f"Scan {content.scan_name}"),
        element("p", verdict.text, class_="text"),
        element("p", element("span", LEVELS[verdict.level], class_="level"), _stages_in_words(content)),
        class_=f"verdict {verdict.level}",
    )
    facts = [("Source", content.source), ("Store", content.store_path)]
    if content.group:
        facts.append(("Group", content.group))
    if content.inpainting:
        facts.append(("Gaps filled by", content.inpainting))
    facts.append(("Report made", content.created))
    if content.numbering_holes:
        facts.append(("Numbering", content.numbering_holes))
    pairs = [join([element("dt", name), element("dd", value)]) for name, value in facts]
    return element("header", text, _states(content), element("dl", *pairs, class_="facts"))


def warning_section(content: ReportContent) -> Markup:
    """Contradictions in the counts first, then the warnings of the run."""
    problems = judge(content).problems
    warnings, note = capped([*problems, *content.warnings], MAX_ROWS, "warning")
    if not warnings:
        return Markup()
    items = [element("li", warning) for warning in [*warnings, note] if warning]
    level = BAD if problems else ATTENTION
    return element("ul", *items, class_=f"warnings {level}", aria_label="Warnings")


def throughput_section(content: ReportContent) -> Markup:
    """One row for each stage."""
    total = sum(stage.seconds for stage in content.stages)
    rows = []
    for stage in content.stages:
        idle = stage.state == "left out"
        bar = _bar(stage.seconds / total) if stage.seconds > 0 else ""
        frames = number(None if idle else stage.n_frames, 9)
        time = number(None) if idle else duration(stage.seconds)
        rate, written = number(stage.frames_per_second), size(stage.bytes_written)
        rows.append((stage.name, stage.state, frames, time, bar, rate, written, stage.reason))
    if not rows:
        return element("p", "No stage ran.")
    return table("Stages of this run, in order; stages may overlap in time.", STAGE_COLUMNS, rows)


def quarantine_section(content: ReportContent) -> Markup:
    """Frames that failed, by reason, then one by one."""
    frames, note = capped(content.quarantined, MAX_ROWS, "quarantined frame")
    if not frames:
        return element("p", "None: every frame that was found could be read.")
    folder = f"{content.source.rstrip('/')}/"
    rows = [(frame.file.removeprefix(folder), frame.reason, size(frame.size_bytes)) for frame in frames]
    columns = (("file", "file"), ("reason", ""), ("size", "number"))
    parts = [element("p", "These were not read as data; nothing of them is in the arrays.", class_="note")]
    if len(content.quarantined) > OPEN_ROWS:
        by_reason = Counter(frame.reason for frame in content.quarantined).most_common(OPEN_ROWS)
        reasons = [(reason, f"{n:,}") for reason, n in by_reason]
        parts.append(table("The most frequent reasons", (("reason", ""), ("frames", "number")), reasons))
    parts.append(table("The first ones", columns, rows[:OPEN_ROWS]) if len(rows) > OPEN_ROWS else Markup())
    if len(rows) > OPEN_ROWS:
        more = table("The others", columns, rows[OPEN_ROWS:])
        parts.append(element("details", element("summary", f"{len(rows) - OPEN_ROWS:,} more"), more))
    else:
        parts.append(table(count(len(rows), "frame"), columns, rows))
    return join([*parts, element("p", note, class_="note") if note else ""])


def quality_section(content: ReportContent) -> Markup:
    """Methods of inpainting, measured on pixels that were hidden from them."""
    names = list(dict.fromkeys(name for row in content.inpainting_quality for name in row))
    columns = [(name, "number" if _is_number(content, name) else "") for name in names]
    rows = [[_cell(row.get(name)) for name in names] for row in content.inpainting_quality]
    return table("On measured pixels that were hidden from each method", columns, rows)


def left_out_section(content: ReportContent) -> Markup:
    """What this run did not make, and why."""
    rows, note = capped(content.left_out, MAX_ROWS, "thing")
    made = table("Not made in this run", (("what", "nowrap"), ("why", "")), rows)
    return join([made, element("p", note, class_="note") if note else ""])


def settings_section(content: ReportContent) -> Markup:
    """Settings of each stage and versions of the software, folded."""
    blocks = [_settings(f"Settings of {stage}", settings) for stage, settings in content.settings.items()]
    return join([*blocks, _settings("Software versions", content.versions)])


def opening_section(content: ReportContent) -> Markup:
    """How to open the arrays."""
    group = f", group={content.group!r}" if content.group else ""
    lines = [
        "import xarray",
        "",
        f"scan = xarray.open_zarr({content.store_path!r}{group}, consolidated=False)",
        "print(scan)",
    ]
    if content.pictures:
        lines += ["", 'scan["inpainted"].isel(frame=0).plot(robust=True)']
    return element("pre", element("code", "\n".join(lines)), tabindex="0")


def _stages_in_words(content: ReportContent) -> str:
    states = Counter(stage.state for stage in content.stages)
    parts = [f"{states[state]} {state}" for state in ("done", "reused", "left out") if states[state]]
    return f". Stages: {', '.join(parts)}." if parts else ". No stage ran."


def _states(content: ReportContent) -> Markup:
    counts = {state: content.frames.get(state, 0) for state in STATE_WORDS}
    counts["lost"] = max((content.frames_found or 0) - sum(counts.values()), 0)
    present = {state: n_frames for state, n_frames in counts.items() if n_frames}
    if not present:
        return Markup()
    start, parts, entries = 0.0, [], []
    for state, n_frames in present.items():
        css = f"state-{state}"
        # At least 0.4 % wide, so that one bad frame among thousands is seen.
        width = max(1000 * n_frames / sum(present.values()), 4)
        parts.append(element("rect", x=f"{min(start, 996):.2f}", width=f"{width:.2f}", height=10, class_=css))
        start += width
        square = element("rect", width=12, height=12, class_=css)
        square = element("svg", square, width=12, height=12, aria_hidden="true", class_="swatch")
        entries.append(element("span", square, f" {n_frames:,} {STATE_WORDS[state]}", class_="entry"))
    bar = element("svg", *parts, viewBox="0 0 1000 10", preserveAspectRatio="none", class_="states", aria_hidden="true")
    return join([bar, element("div", *entries, class_="key")])


def _bar(share: float) -> Markup:
    rect = element("rect", width=f"{max(1000 * share, 8):.1f}", height=10)
    return element("svg", rect, viewBox="0 0 1000 10", preserveAspectRatio="none", aria_hidden="true")


def _settings(title: str, settings: Mapping[str, object]) -> Markup:
    rows = flat(settings)
    inner = table(title, (("name", "nowrap"), ("value", "file")), rows) if rows else element("p", "None.")
    return element("details", element("summary", title), inner)


def _is_number(content: ReportContent, name: str) -> bool:
    values = [row[name] for row in content.inpainting_quality if name in row]
    return all(isinstance(value, int | float) for value in values)


def _cell(value: object) -> str:
    if value is None or (isinstance(value, int | float) and not isinstance(value, bool)):
        return number(value, 4)
    return str(value)
