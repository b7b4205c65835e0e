"""The part of the page that holds the latent map."""

from tasks.report.content import LatentMap
from tasks.report.formats import count
from tasks.report.latent_map import MapView, map_view
from tasks.report.map_plot import TARGET
from tasks.report.markup import Markup, element, join
from tasks.report.pictures import color_bar

WITHOUT_SCRIPTS = f"<style>.still{{display:block}}#{TARGET},.map-tools{{display:none}}</style>"
SHAPES = {
    "circle": '<circle cx="7" cy="7" r="5" fill="{c}"/>',
    "square": '<rect x="2" y="2" width="10" height="10" fill="{c}"/>',
    "triangle": '<path d="M7 1 L13 12 L1 12 Z" fill="{c}"/>',
    "diamond": '<path d="M7 0 L13 7 L7 14 L1 7 Z" fill="{c}"/>',
    "inverted_triangle": '<path d="M7 13 L13 2 L1 2 Z" fill="{c}"/>',
    "hex": '<path d="M7 1 L12.5 4 L12.5 10 L7 13 L1.5 10 L1.5 4 Z" fill="{c}"/>',
    "x": '<path d="M2 2 L12 12 M12 2 L2 12" stroke="{c}" stroke-width="2"/>',
}


def map_section(latent: LatentMap) -> tuple[Markup, str]:
    """Make the section and the map's JSON; the JSON is empty where there is no map."""
    if latent.left_out_reason:
        return element("p", f"Left out: {latent.left_out_reason}"), ""
    view = map_view(latent)
    if view is None:
        return element("p", "Left out: no frame has coordinates."), ""
    return map_of(view, len(latent.frame_names)), view.json


def map_of(view: MapView, n_frames: int) -> Markup:
    """The map that has been prepared: points, choice of colors, legend."""
    n_clusters = sum(name != "noise" for name, *_ in view.legend)
    what = f"Latent map of {count(n_frames, 'frame')} in {count(n_clusters, 'cluster')}"
    hint = "Frames that look alike lie together. Hover over a point to see its frame."
    parts = [
        element("p", " ".join([hint, *view.notes])),
        _choice(),
        _plot(view, what),
        _legend(view),
        _number_bar(view),
    ]
    if view.scale is not None:
        parts.append(color_bar(view.scale, ", the same scale for all thumbnails"))
    return join(parts)


def _choice() -> Markup:
    choices = [("cluster", "cluster", True), ("number", "frame number (time)", False)]
    labels = [
        element("label", element("input", type="radio", name="color-by", value=value, checked=checked), f" {text}")
        for value, text, checked in choices
    ]
    return element("fieldset", element("legend", "Color by"), *labels, class_="map-tools")


def _plot(view: MapView, what: str) -> Markup:
    plot = element("div", id=TARGET, role="group", aria_label=f"{what}, interactive; the clusters are listed below")
    still = element("img", src=view.still, alt=f"{what}, colored by cluster", class_="still")
    return join([plot, still, element("noscript", Markup(WITHOUT_SCRIPTS))])


def _legend(view: MapView) -> Markup:
    entries = []
    for name, color, marker, n_frames in view.legend:
        shape = Markup(SHAPES[marker].format(c=color))
        symbol = element("svg", shape, width="14", height="14", viewBox="0 0 14 14", aria_hidden="true")
        text = name if name == "noise" else f"cluster {name}"
        entries.append(element("li", symbol, f"{text}: {count(n_frames, 'frame')}"))
    return element("ul", *entries, class_="legend by-cluster", aria_label="Clusters")


def _number_bar(view: MapView) -> Markup:
    if view.number_range is None:
        return element("p", "No frame number is known.", class_="by-number", hidden=True)
    first, last = view.number_range
    ramp = element("img", src=view.number_bar, alt=f"Colors from frame number {first} to {last}")
    ticks = element("span", element("span", str(first)), element("span", str(last)), class_="ticks")
    bar = element("span", ramp, ticks, element("span", "frame number", class_="unit"), class_="bar")
    return element("div", bar, class_="bar-line by-number", hidden=True)
