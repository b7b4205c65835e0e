"""Frames filled by each method, a detail of them, and where they differ from the truth (Figs. 7 and 8 of the paper)."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from scipy.ndimage import uniform_filter

from tasks.report.comparison import FilledFrame, Float
from tasks.report.markup import Markup, element
from tasks.report.pictures import LEVELS, MAX_SIDE, color_bar, swatch
from tasks.report.pixels import (
    UNIT,
    ColorScale,
    Index,
    color_indices,
    color_table,
    data_uri,
    png_bytes,
    reduce_values,
)

MAX_COLUMNS = 5
DIFFERENCE_COLORS = "RdBu_r"
GREYS = 48
LIGHT = 0.62
"""Where the greys begin, so that no color of a difference is taken for one."""
AROUND = (205, 205, 205)
LARGEST_DIFFERENCE = 99.5
"""Percentile of the differences at which the color scale ends."""


@dataclass(frozen=True)
class Detail:
    """A part of a frame."""

    rows: slice
    columns: slice

    def cut(self, values: Float) -> Float:
        return values[self.rows, self.columns]


def filled_section(picture: FilledFrame) -> Markup:
    """One frame: whole, a detail of it, and the differences from the truth in that detail, for each method."""
    detail = find_detail(picture)
    views = {"as shown": picture.shown, "truth": picture.truth, **picture.fills}
    scale, close_scale = ColorScale.of(picture.truth), ColorScale.of(detail.cut(picture.truth))
    factor = -(-max(picture.shown.shape) // MAX_SIDE)
    whole = {title: _png(reduce_values(values, factor), scale) for title, values in views.items()}
    close = {title: _png(detail.cut(values), close_scale) for title, values in views.items()}
    differences = {
        title: detail.cut(np.where(picture.judged, fill - picture.truth, np.float32(np.nan)))
        for title, fill in picture.fills.items()
    }
    end = difference_end(differences)
    around = color_indices(detail.cut(picture.truth), close_scale, GREYS)
    apart = {title: _difference_png(values, end, around) for title, values in differences.items()}
    n_lines = -(-len(views) // MAX_COLUMNS)
    columns = -(-len(views) // n_lines)
    frame = f"{picture.name}, {picture.gaps} gaps"
    return element(
        "figure",
        element("h3", f"{picture.name}: {picture.gaps} gaps, {picture.why}", class_="name"),
        _panels(whole, frame, columns, "whole", _box(detail, picture.shown.shape)),
        color_bar(scale),
        element("p", f"The detail in the box, {_in_words(detail)}: there the methods err most.", class_="note"),
        _panels(close, f"{frame}, detail", columns),
        color_bar(close_scale, " in the detail"),
        element("p", "Filled minus true in the judged pixels of the detail; L1 of the whole frame.", class_="note"),
        _panels(apart, f"{frame}, difference", columns, captions=_errors(picture)),
        difference_bar(end),
        class_="pair",
    )


def find_detail(picture: FilledFrame) -> Detail:
    """A square around the place where the errors of all methods together are largest, within the frame."""
    rows, columns = picture.shown.shape
    side = min(max(48, max(rows, columns) // 7), rows, columns)
    error = sum(
        (np.where(picture.judged, np.abs(fill - picture.truth), 0.0) for fill in picture.fills.values()),
        start=np.zeros(picture.shown.shape),
    )
    around = uniform_filter(error, max(3, side // 4), mode="constant")
    center = np.unravel_index(around.argmax(), around.shape)
    row, column = (
        min(max(int(place) - side // 2, 0), length - side)
        for place, length in zip(center, (rows, columns), strict=True)
    )
    return Detail(slice(row, row + side), slice(column, column + side))


def difference_end(differences: Mapping[str, Float]) -> float:
    """Difference at the ends of the color scale, the same for all methods."""
    values = np.concatenate([np.abs(values[np.isfinite(values)]) for values in differences.values()])
    end = float(np.percentile(values.astype(np.float64), LARGEST_DIFFERENCE)) if values.size else 0.0
    return end or 1.0


def difference_bar(end: float) -> Markup:
    """The scale of the differences."""
    image = data_uri(png_bytes(np.arange(LEVELS, dtype=np.uint8)[None, :], color_table(LEVELS, DIFFERENCE_COLORS)))
    ticks = [element("span", text) for text in (f"≤ −{1e3 * end:.3g}e-3", "0", f"≥ {1e3 * end:.3g}e-3")]
    bar = [element("img", src=image, alt="Color scale of differences"), element("span", *ticks, class_="ticks")]
    title = f"{UNIT}, filled minus true; blue: too low, red: too high"
    missing = element("span", swatch(AROUND), " not judged: the truth in light greys", class_="key")
    text = element("span", *bar, element("span", title, class_="unit"), class_="bar")
    return element("div", text, missing, class_="bar-line")


def _panels(
    images: Mapping[str, bytes],
    frame: str,
    columns: int,
    css: str = "",
    box: Markup | None = None,
    captions: Mapping[str, str] | None = None,
) -> Markup:
    panels = []
    for title, png in images.items():
        label = element("span", title, class_="panel-title")
        image = element("img", src=data_uri(png), alt=f"{frame}, {title}")
        inner = element("div", image, box or Markup(), class_=f"frame {css}".strip())
        caption = element("span", captions[title], class_="panel-title") if captions else Markup()
        panels.append(element("div", label, inner, caption, class_="panel"))
    return element("div", *panels, class_="panels methods", style=f"--columns: {columns}")


def _errors(picture: FilledFrame) -> dict[str, str]:
    """L1 in the whole frame."""
    return {
        title: f"L1 {1e3 * np.abs(fill - picture.truth)[picture.judged].mean():.2f}e-3"
        for title, fill in picture.fills.items()
    }


def _png(values: Float, scale: ColorScale | None) -> bytes:
    return png_bytes(color_indices(values, scale, LEVELS), color_table(LEVELS))


def _difference_png(values: Float, end: float, around: Index) -> bytes:
    """Differences in color, on the truth in light greys (`around`, indices) where nothing is judged."""
    judged = color_indices(values, ColorScale(-end, end), LEVELS)
    indices = np.where(judged == LEVELS, LEVELS + around.astype(np.uint16), judged).astype(np.uint8)
    colors = [color_table(LEVELS, DIFFERENCE_COLORS)[:-1], color_table(GREYS, "gray", LIGHT)]
    return png_bytes(indices, np.vstack(colors))


def _box(detail: Detail, shape: tuple[int, ...]) -> Markup:
    place = {
        "x": detail.columns.start,
        "y": detail.rows.start,
        "width": detail.columns.stop - detail.columns.start,
        "height": detail.rows.stop - detail.rows.start,
    }
    lines = [element("rect", **place, class_=css) for css in ("box-outer", "box-inner")]
    view = f"0 0 {shape[1]} {shape[0]}"
    return element("svg", *lines, viewBox=view, preserveAspectRatio="none", aria_hidden="true", class_="box")


def _in_words(detail: Detail) -> str:
    return (
        f"rows {detail.rows.start} to {detail.rows.stop - 1}, "
        f"columns {detail.columns.start} to {detail.columns.stop - 1}"
    )
