"""Draw the latent map: in Bokeh for the browser, in matplotlib for paper and for browsers without scripts."""

import io
import json
from collections.abc import Iterable
from typing import Any

import matplotlib as mpl
import numpy as np
from bokeh.core.types import ID
from bokeh.embed import json_item
from bokeh.models import ColumnDataSource, HoverTool
from bokeh.plotting import figure
from bokeh.resources import Resources
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

MATPLOTLIB_MARKERS = dict(
    zip(("circle", "square", "triangle", "diamond", "inverted_triangle", "hex"), "os^Dvh", strict=True)
)
AXIS_COLOR = "#7d858d"
"""Readable on white and on black, since the map cannot know which page it is on."""
TARGET = "latent-map"
TOOLTIP = (
    "<div style='color:#1c2024;padding:2px;width:192px;font:13px system-ui,sans-serif'>"
    "<img src='@thumbnail' alt='' style='display:block;width:192px;image-rendering:pixelated;margin-bottom:4px'>"
    "<div style='overflow-wrap:anywhere;font-weight:600'>@name</div>"
    "<div>frame number @number</div><div>cluster: @cluster</div><div style='color:#5b646d'>@note</div></div>"
)


def bokeh_script() -> str:
    """BokehJS as it stands in the package: no network."""
    script: str = Resources(mode="inline", components=["bokeh"], log_level="error").js_raw[0]
    return script


def bokeh_json(columns: dict[str, Any]) -> str:
    """JSON for `Bokeh.embed.embed_item`; `columns` as `latent_map` makes them."""
    plot = _empty_plot()
    glyph = plot.scatter(
        "x", "y", source=ColumnDataSource(columns), marker="marker", size=9, fill_color="cluster_color",
        line_color="cluster_color", fill_alpha=0.75, line_alpha=0.95,
    )  # fmt: skip
    # Only the nearest point: crowded clusters would otherwise pile up dozens of tooltips.
    plot.add_tools(HoverTool(renderers=[glyph], tooltips=TOOLTIP, limit=1, visible=False))
    return _deterministic_json(json_item(plot, ID(TARGET)))


def _empty_plot() -> Any:
    plot = figure(
        height=560, sizing_mode="stretch_width", match_aspect=True, tools="pan,wheel_zoom,box_zoom,reset",
        active_scroll=None, background_fill_alpha=0, border_fill_alpha=0, outline_line_color=None,
        x_axis_label="UMAP 1 (no unit)", y_axis_label="UMAP 2 (no unit)",
    )  # fmt: skip
    plot.toolbar.logo = None
    plot.axis.axis_label_text_font_style = "normal"
    plot.axis.axis_label_text_color = plot.axis.major_label_text_color = plot.axis.axis_line_color = AXIS_COLOR
    plot.axis.major_tick_line_color = plot.axis.minor_tick_line_color = AXIS_COLOR
    plot.grid.grid_line_color, plot.grid.grid_line_alpha = AXIS_COLOR, 0.2
    return plot


def _deterministic_json(item: Any) -> str:
    """Bokeh numbers its models by a counter of the process; number them from 1, so that same content is same page."""
    text = json.dumps(item, allow_nan=False)
    item = json.loads(text)
    names = {name: f"m{i}" for i, name in enumerate(_ids(item), start=1)}
    return json.dumps(_renamed(item, names), separators=(",", ":")).replace("<", "\\u003c").replace("&", "\\u0026")


def _ids(node: Any) -> Iterable[str]:
    found = dict.fromkeys(_all_ids(node))
    return list(found)


def _all_ids(node: Any) -> Iterable[str]:
    if isinstance(node, dict):
        if isinstance(node.get("id"), str):
            yield node["id"]
        for value in node.values():
            yield from _all_ids(value)
    elif isinstance(node, list):
        for value in node:
            yield from _all_ids(value)


def _renamed(node: Any, names: dict[str, str]) -> Any:
    if isinstance(node, dict):
        return {
            key: names[value] if key in ("id", "root_id") and isinstance(value, str) else _renamed(value, names)
            for key, value in node.items()
        }
    return [_renamed(value, names) for value in node] if isinstance(node, list) else node


def still_png(columns: dict[str, Any]) -> bytes:
    """Draw the map, colored by cluster."""
    picture = Figure(figsize=(7, 4.4), dpi=130, layout="constrained")
    FigureCanvasAgg(picture)
    with mpl.rc_context({"font.family": "DejaVu Sans", "font.size": 9}):
        axes = picture.add_subplot(aspect="equal", adjustable="datalim")
        styles = np.array([columns["cluster_color"], columns["marker"]])
        for color, marker in sorted(set(zip(columns["cluster_color"], columns["marker"], strict=True))):
            chosen = (styles[0] == color) & (styles[1] == marker)
            shape = MATPLOTLIB_MARKERS.get(marker, marker)
            axes.scatter(columns["x"][chosen], columns["y"][chosen], s=18, color=color, marker=shape, alpha=0.8)
        axes.set(xlabel="UMAP 1 (no unit)", ylabel="UMAP 2 (no unit)")
        file = io.BytesIO()
        picture.savefig(file, format="png", metadata={"Software": None})
    return file.getvalue()
