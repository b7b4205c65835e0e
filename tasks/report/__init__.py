"""The report of a scan: one HTML file that opens offline, and the same facts in short for Prefect artifacts."""

from tasks.report.content import (
    FramePair,
    LatentMap,
    LossCurve,
    QuarantinedFrame,
    ReportContent,
    StageFacts,
    Sureness,
    frames_with_thumbnail,
)
from tasks.report.page import render_report, write_report
from tasks.report.summary import summary_markdown, throughput_rows
from tasks.report.verdict import Verdict, judge

__all__ = [
    "FramePair",
    "LatentMap",
    "LossCurve",
    "QuarantinedFrame",
    "ReportContent",
    "StageFacts",
    "Sureness",
    "Verdict",
    "frames_with_thumbnail",
    "judge",
    "render_report",
    "summary_markdown",
    "throughput_rows",
    "write_report",
]
