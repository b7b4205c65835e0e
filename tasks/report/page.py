"""Put the report of a scan together as one HTML file that opens offline."""

from pathlib import Path

from tasks.report.content import ReportContent
from tasks.report.curves import curve_section
from tasks.report.document import document, section, write_document
from tasks.report.formats import capped
from tasks.report.map_plot import bokeh_script
from tasks.report.map_section import map_section
from tasks.report.markup import Markup, element, join
from tasks.report.pictures import picture_section
from tasks.report.sections import (
    head_section,
    left_out_section,
    opening_section,
    quality_section,
    quarantine_section,
    settings_section,
    throughput_section,
    warning_section,
)
from tasks.report.style import MAP_SCRIPT, PRINT_SCRIPT
from tasks.report.sureness import sureness_section
from tasks.report.verdict import judge

MAX_PAIRS = 5
MAX_CURVES = 12


def render_report(content: ReportContent) -> str:
    """Make the page. Nothing in it comes from elsewhere, and the same content makes the same text."""
    map_part, map_json = map_section(content.latent) if content.latent else (Markup(), "")
    scripts = [PRINT_SCRIPT, *([bokeh_script(), MAP_SCRIPT] if map_json else [])]
    sections = _sections(content, map_part)
    contents = [element("a", title, href=f"#{name}") for name, title, _ in sections]
    top = [head_section(content), warning_section(content), element("nav", *contents, aria_label="Sections")]
    body = [
        element("a", "Skip to the frames that failed", href="#failed", class_="skip"),
        element("main", *top, *(section(*parts) for parts in sections)),
    ]
    if map_json:
        body.append(element("script", Markup(map_json), type="application/json", id="latent-map-data"))
    return document(f"{content.scan_name}: {judge(content).text}", body, scripts)


def write_report(content: ReportContent, path: str | Path) -> Path:
    """Write the page whole or not at all: whoever opens the path sees the old report or the new one."""
    return write_document(render_report(content), path)


def _sections(content: ReportContent, map_part: Markup) -> list[tuple[str, str, Markup]]:
    sections = [
        ("throughput", "Throughput", throughput_section(content)),
        ("failed", "Frames that failed", quarantine_section(content)),
    ]
    if content.pictures:
        sections.append(("pictures", "Before and after", _pictures(content)))
    if content.sureness:
        sections.append(("sure", "How sure", sureness_section(content.sureness)))
    if content.inpainting_quality:
        sections.append(("quality", "Quality of the inpainting", quality_section(content)))
    if content.curves:
        sections.append(("curves", "Training", _curves(content)))
    if map_part:
        sections.append(("map", "Latent map", map_part))
    if content.left_out:
        sections.append(("left-out", "Left out", left_out_section(content)))
    sections.append(("open", "Open the data", opening_section(content)))
    sections.append(("settings", "Settings and versions", settings_section(content)))
    return sections


def _pictures(content: ReportContent) -> Markup:
    pairs, note = capped(content.pictures, MAX_PAIRS, "frame")
    return join([element("p", note, class_="note") if note else "", *(picture_section(pair) for pair in pairs)])


def _curves(content: ReportContent) -> Markup:
    curves, note = capped(content.curves, MAX_CURVES, "training")
    made = element("div", *(curve_section(curve) for curve in curves), class_="curves")
    return join([element("p", note, class_="note") if note else "", made])
