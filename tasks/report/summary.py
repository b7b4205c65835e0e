"""The report in short, for Prefect artifacts."""

import html
import re
from collections.abc import Sequence
from typing import Any

import numpy as np

from tasks.report.content import FramePair, ReportContent
from tasks.report.formats import count, number, size
from tasks.report.markup import clean
from tasks.report.pictures import LEVELS
from tasks.report.pixels import UNIT, ColorScale, color_indices, color_table, data_uri, png_bytes, reduce_values
from tasks.report.verdict import judge

MAX_URI = 150_000
"""Characters; an artifact is a row in the server's database."""
MAX_LISTED = 20


def summary_markdown(content: ReportContent) -> str:
    """Verdict, throughput, quarantined frames and one picture, in Markdown."""
    verdict = judge(content)
    parts = [
        f"# {as_markdown(verdict.text)}",
        f"Scan **{as_markdown(content.scan_name)}**, store {as_markdown(content.store_path)}",
    ]
    remarks = [*verdict.problems, *content.warnings]
    if remarks:
        parts.append(_list(remarks, "warning"))
    rows = throughput_rows(content)
    if rows:
        parts.append(_table(rows))
    if content.quarantined:
        parts.append("## Quarantined frames")
        parts.append(_list([f"{f.file} ({size(f.size_bytes)}): {f.reason}" for f in content.quarantined], "frame"))
    if content.left_out:
        parts.append("## Left out")
        parts.append(_list([f"{what}: {why}" for what, why in content.left_out], "thing"))
    if content.pictures:
        parts.append(_picture(content.pictures[0]))
    return "\n\n".join(parts) + "\n"


def throughput_rows(content: ReportContent) -> list[dict[str, Any]]:
    """One row for each stage, with plain JSON values; None where there is nothing to say."""
    return [
        {
            "stage": stage.name,
            "state": stage.state,
            "frames": stage.n_frames,
            "seconds": round(stage.seconds, 3),
            "frames per second": None if stage.frames_per_second is None else round(stage.frames_per_second, 2),
            "bytes written": stage.bytes_written,
            "remark": stage.reason,
        }
        for stage in content.stages
    ]


def _table(rows: Sequence[dict[str, Any]]) -> str:
    lines = ["| " + " | ".join(rows[0]) + " |", "|" + " --- |" * len(rows[0])]
    for row in rows:
        cells = [number(value, 4) if not isinstance(value, str) else as_markdown(value) for value in row.values()]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def _list(texts: Sequence[str], noun: str) -> str:
    lines = [f"- {as_markdown(text)}" for text in texts[:MAX_LISTED]]
    if len(texts) > MAX_LISTED:
        lines.append(f"- and {count(len(texts) - MAX_LISTED, noun)} more, in the report")
    return "\n".join(lines)


def as_markdown(text: str) -> str:
    """Escape for HTML and for Markdown, on one line.

    >>> print(as_markdown("a_b|<i>"))
    a\\_b\\|&lt;i&gt;
    """
    marked = re.sub(r"([\\`*_\[\]#|~])", r"\\\1", clean(" ".join(text.split())))
    return html.escape(marked, quote=False)


def _picture(pair: FramePair) -> str:
    scale = ColorScale.of(pair.before, pair.after)
    side = 256
    while True:
        factor = -(-max(pair.before.shape) // side)
        before, after = (reduce_values(values, factor) for values in (pair.before, pair.after))
        between = np.full((before.shape[0], max(2, side // 32)), np.nan, np.float32)
        indices = color_indices(np.hstack([before, between, after]), scale, LEVELS)
        uri = data_uri(png_bytes(indices, color_table(LEVELS)))
        if len(uri) < MAX_URI:
            break
        side //= 2
    ends = f"{scale.text(scale.low)} to {scale.text(scale.high)} {UNIT}" if scale else "nothing measured"
    said = f"{as_markdown(pair.name)}, before and after: {ends}; grey = not measured"
    return f"![before and after inpainting]({uri})\n\n{said}"
