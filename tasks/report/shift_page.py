"""The report at the end of a shift: one page over all scans of a results folder, and the same in Markdown."""

import os
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path

from tasks.report.document import document, section
from tasks.report.formats import NONE, count, number, size
from tasks.report.markup import Markup, element, table
from tasks.report.summary import as_markdown as escaped
from tasks.shift import ScanShift

COLUMNS = ("scan", "in the shift", "ingested", "quarantined", "double", "pending", "frames/s", "stored", "last frame")
MAX_FAILURES = 200


def shift_page(results: Path, since: datetime, until: datetime, scans: Sequence[ScanShift]) -> str:
    """The page; `results` is the folder that it is written to, so that reports are found from it."""
    facts = [(key, value) for key, value in _facts(results, since, until, scans)]
    listed = element("dl", *(part for key, value in facts for part in (element("dt", key), element("dd", value))))
    head = element("header", element("h1", headline(scans)), listed)
    sections = [section("scans", "Scans", _scan_table(results, scans)), section("failed", "Failures", _failed(scans))]
    return document(f"Shift until {until:%Y-%m-%d %H:%M} UTC", [element("main", head, *sections)])


def headline(scans: Sequence[ScanShift]) -> str:
    """The shift in one line."""
    refused = sum(scan.frames["quarantined"] for scan in scans)
    open_ones = sum(scan.frames["pending"] for scan in scans)
    parts = [f"{count(sum(scan.ingested for scan in scans), 'frame')} of {count(_active(scans), 'scan')} in the shift"]
    parts += [f"{refused} quarantined"] if refused else []
    parts += [f"{open_ones} pending"] if open_ones else []
    broken = sum(bool(scan.problem) for scan in scans)
    parts += [f"{count(broken, 'ledger')} damaged"] if broken else []
    return ", ".join(parts) if refused or open_ones or broken else f"{parts[0]}, nothing refused, nothing pending"


def shift_markdown(results: Path, since: datetime, until: datetime, scans: Sequence[ScanShift]) -> str:
    """The same for Prefect; scans of which nothing came in the shift are only counted."""
    parts = [f"# {escaped(headline(scans))}"]
    parts.append(
        "\n".join(f"- {escaped(key)}: {escaped(value)}" for key, value in _facts(results, since, until, scans))
    )
    rows = [_cells(scan) for scan in scans if scan.ingested or scan.problem]
    if rows:
        lines = ["| " + " | ".join(COLUMNS) + " |", "|" + " --- |" * len(COLUMNS)]
        parts.append("\n".join([*lines, *("| " + " | ".join(map(escaped, row)) + " |" for row in rows[:100])]))
    return "\n\n".join(parts) + "\n"


def _active(scans: Sequence[ScanShift]) -> int:
    return sum(scan.ingested > 0 for scan in scans)


def _facts(results: Path, since: datetime, until: datetime, scans: Sequence[ScanShift]) -> list[tuple[str, str]]:
    return [
        ("from", f"{since:%Y-%m-%d %H:%M} UTC"),
        ("until", f"{until:%Y-%m-%d %H:%M} UTC"),
        ("results", str(results)),
        ("scans in the folder", str(len(scans))),
        ("stored, all scans", size(sum(scan.written_bytes for scan in scans))),
    ]


def _cells(scan: ScanShift) -> list[str]:
    if scan.problem:
        return [scan.name, *[NONE] * (len(COLUMNS) - 2), f"damaged: {scan.problem}"]
    states = [f"{scan.frames[state]:,}" for state in ("ingested", "quarantined", "double", "pending")]
    last = NONE if scan.last is None else f"{scan.last:%H:%M:%S}"
    rate = number(scan.frames_per_second)
    return [scan.name, f"{scan.ingested:,}", *states, rate, size(scan.written_bytes), last]


def _scan_table(results: Path, scans: Sequence[ScanShift]) -> Markup:
    if not scans:
        return element("p", "There is no scan store in the folder.")
    rows = []
    for scan in sorted(scans, key=lambda scan: (-scan.ingested, scan.name)):
        cells = _cells(scan)
        if scan.report is not None:
            cells[0] = element("a", scan.name, href=Path(os.path.relpath(scan.report, results)).as_posix())
        rows.append(cells)
    columns = [(name, "" if name in ("scan", "last frame") else "number") for name in COLUMNS]
    return table("All scans of the folder, those of the shift first; times are UTC", columns, rows)


def _failed(scans: Sequence[ScanShift]) -> Markup:
    rows = [
        [scan.name, failure.reason, str(failure.n_frames), failure.example]
        for scan in scans
        for failure in scan.failures
    ]
    if not rows:
        return element("p", "No frame was refused.")
    columns = [("scan", ""), ("reason", ""), ("frames", "number"), ("for example", "")]
    more = f"; the first {MAX_FAILURES} of {len(rows)} reasons" if len(rows) > MAX_FAILURES else ""
    return table(f"Frames that were not read as data, of all scans{more}", columns, rows[:MAX_FAILURES])
