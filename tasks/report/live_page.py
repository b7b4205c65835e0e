"""The page of a scan that is still growing: what has come so far, and the live latent map; it shows itself anew."""

import html
from collections.abc import Sequence
from dataclasses import dataclass

from tasks.report.content import LatentMap
from tasks.report.document import document, section
from tasks.report.latent_map import map_view
from tasks.report.map_plot import bokeh_script
from tasks.report.map_section import map_of
from tasks.report.markup import Markup, clean, element, join
from tasks.report.style import MAP_SCRIPT

PROVISIONAL = (
    "A first look while the scan is under way: places come from a linear latent space of small frames, later frames "
    "lie among their neighbors, and the map is drawn anew as the scan grows. The report has the map that stays."
)


@dataclass(frozen=True)
class LivePicture:
    """The page, and the same in Markdown with a still picture, for Prefect."""

    page: str
    markdown: str


def live_picture(
    scan_name: str, facts: Sequence[tuple[str, str]], latent: LatentMap | None, refresh_s: float
) -> LivePicture:
    """Make page and Markdown; `facts` are names and values of what has come so far."""
    view = None if latent is None else map_view(latent)
    pairs = [part for name, value in facts for part in (element("dt", name), element("dd", value))]
    listed = element("dl", *pairs)
    parts: list[str] = [element("header", element("h1", f"{scan_name}, live"), listed)]
    scripts: list[str] = []
    if view is None or latent is None:
        parts.append(section("map", "Latent map", element("p", "There are not enough frames for a map yet.")))
    else:
        drawn = join([element("p", PROVISIONAL), map_of(view, len(latent.frame_names))])
        parts.append(section("map", "Latent map", drawn))
        scripts = [bokeh_script(), MAP_SCRIPT]
    body = [element("main", *parts)]
    if view is not None:
        body.append(element("script", Markup(view.json), type="application/json", id="latent-map-data"))
    page = document(f"{scan_name}, live", body, scripts, refresh=f"{max(1, round(refresh_s))}")
    return LivePicture(page, _markdown(scan_name, facts, None if view is None else view.still))


def ended_page(scan_name: str, report: str) -> str:
    """The page that takes the place of the live one when the scan has ended: it leads to the report beside it."""
    link = element("p", "The scan has ended: ", element("a", report, href=report), ".")
    return document(f"{scan_name}, ended", [element("main", link)], refresh=f"0; url={report}")


def _markdown(scan_name: str, facts: Sequence[tuple[str, str]], still: str | None) -> str:
    rows = "\n".join(f"| {_text(name)} | {_text(value)} |" for name, value in facts)
    parts = [f"# {_text(scan_name)}, live", f"| | |\n|---|---|\n{rows}"]
    if still is not None:
        parts += [f"![live latent map]({still})", PROVISIONAL]
    return "\n\n".join(parts) + "\n"


def _text(text: str) -> str:
    return html.escape(clean(text)).replace("|", "&#124;")
