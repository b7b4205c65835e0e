"""Frames before and after inpainting, with one color scale for both and where each value comes from."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from tasks.report.content import DEAD, INPAINTED, FramePair
from tasks.report.formats import count
from tasks.report.markup import Markup, element
from tasks.report.pixels import (
    DEAD_COLOR,
    INPAINTED_COLOR,
    NOT_MEASURED,
    PERCENTILES,
    UNIT,
    ColorScale,
    Float,
    Index,
    color_indices,
    color_table,
    data_uri,
    png_bytes,
    reduce_largest,
    reduce_provenance,
    reduce_values,
)
from tasks.report.sureness import PANEL, half_width_bar, half_width_image, half_width_scale

LEVELS = 128
GREYS = 48
GREY_FIRST = 0.3
"""Not from black, on which the weak scattering of most of a frame would be lost."""
MAX_SIDE = 600
"""Pixels; larger frames are averaged down, so that a page of several frames stays small."""
PANELS = ("before", "after", "origin of each value")


@dataclass(frozen=True)
class _Window:
    """A square part of a frame."""

    row: int
    column: int
    side: int

    def cut(self, values: Float) -> Float:
        return values[self.row : self.row + self.side, self.column : self.column + self.side]


@dataclass(frozen=True)
class _View:
    """How values, provenance and errors become those that are shown: averaged down, or cut out."""

    values: Callable[[Float], Float]
    provenance: Callable[[Index], Index]
    errors: Callable[[Float], Float]


def picture_section(pair: FramePair) -> Markup:
    """Show one frame: its panels, below them the same around the brightest inpainted pixel, and the color scales."""
    scale = ColorScale.of(pair.before, pair.after)
    factor = -(-max(pair.before.shape) // MAX_SIDE)
    window = _window(pair)
    whole = _View(
        lambda v: reduce_values(v, factor), lambda p: reduce_provenance(p, factor), lambda v: reduce_largest(v, factor)
    )
    panels = [_panels(pair, scale, whole, window)]
    if window is not None:
        cut = window.cut
        panels.append(_panels(pair, scale, _View(cut, cut, cut), None))  # type: ignore[arg-type]
    rows, columns = pair.before.shape
    shape = f"{rows:,} rows × {columns:,} columns, row 0 at the top"
    notes = [shape if factor == 1 else f"{shape}; shown averaged over {factor} × {factor} pixels"]
    if window is not None:
        notes.append(f"second row: {_window_text(window)}")
    return element(
        "figure",
        element("h3", pair.name, class_="name"),
        *panels,
        color_bar(scale),
        *([half_width_bar(half_width_scale(pair))] if pair.uncertainty is not None else []),
        element("figcaption", "; ".join(notes), ". ", _counts(pair)),
        class_="pair",
    )


def color_bar(scale: ColorScale | None, where: str = "") -> Markup:
    """Show the scale with its unit, and the color of pixels that were not measured."""
    missing = element("span", swatch(NOT_MEASURED), " no value (not measured)", class_="key")
    if scale is None:
        return element("p", "No pixel was measured, so there is no color scale. ", missing, class_="bar-line")
    image = data_uri(png_bytes(np.arange(LEVELS, dtype=np.uint8)[None, :], color_table(LEVELS)))
    low, middle, high = (scale.text(v) for v in (scale.low, (scale.low + scale.high) / 2, scale.high))
    ends = f"from {low} to {high} {UNIT}"
    ticks = [element("span", text) for text in (f"≤ {low}", middle, f"≥ {high}")]
    bar = [element("img", src=image, alt=f"Color scale {ends}"), element("span", *ticks, class_="ticks")]
    title = f"{UNIT}{where}; ends: percentiles {PERCENTILES[0]} and {PERCENTILES[1]}"
    return element(
        "div",
        element("span", *bar, element("span", title, class_="unit"), class_="bar"),
        missing,
        class_="bar-line",
    )


def swatch(color: tuple[int, int, int]) -> Markup:
    """Draw a small square; as an image, since browsers leave out background colors in print."""
    red, green, blue = color
    shape = element("rect", width="12", height="12", fill=f"rgb({red},{green},{blue})")
    return element("svg", shape, width="12", height="12", viewBox="0 0 12 12", aria_hidden="true", class_="swatch")


def overlay_indices(after: Float, provenance: Index) -> tuple[Index, Index]:
    """Indices and RGB colors of a grey frame on which inpainted and dead pixels are colored."""
    indices = color_indices(after, ColorScale.of(after), GREYS)
    indices = np.where(provenance == INPAINTED, np.uint8(GREYS + 1), indices)
    indices = np.where(provenance == DEAD, np.uint8(GREYS + 2), indices)
    special = np.array([INPAINTED_COLOR, DEAD_COLOR], np.uint8)
    return indices.astype(np.uint8), np.vstack([color_table(GREYS, "gray", GREY_FIRST), special])


def _panels(
    pair: FramePair,
    scale: ColorScale | None,
    view: _View,
    window: _Window | None,
) -> Markup:
    before, after = view.values(pair.before), view.values(pair.after)
    images = [(color_indices(values, scale, LEVELS), color_table(LEVELS)) for values in (before, after)]
    images.append(overlay_indices(after, view.provenance(pair.provenance)))
    titles = list(PANELS)
    if pair.uncertainty is not None:
        images.append(half_width_image(pair, half_width_scale(pair), view.values, view.errors))
        titles.append(PANEL)
    what = "whole frame" if after.shape == pair.after.shape or window is not None else "detail"
    panels = []
    for title, (indices, colors) in zip(titles, images, strict=True):
        image = element("img", src=data_uri(png_bytes(indices, colors)), alt=f"{pair.name}, {title}, {what}")
        box = _box(window, pair.before.shape) if window is not None else Markup()
        label = element("span", title, class_="panel-title") if what == "whole frame" else Markup()
        css = "frame whole" if what == "whole frame" else "frame"
        panels.append(element("div", label, element("div", image, box, class_=css), class_="panel"))
    if len(panels) == len(PANELS):
        return element("div", *panels, class_="panels")
    return element("div", *panels, class_="panels methods", style=f"--columns: {len(panels)}")


def _window(pair: FramePair) -> _Window | None:
    """Part of the frame around the brightest inpainted pixel: there an error of the inpainting is easiest to see."""
    inpainted = (pair.provenance == INPAINTED) & np.isfinite(pair.after)
    side = max(48, max(pair.after.shape) // 6)
    if not inpainted.any() or side >= min(pair.after.shape):
        return None
    brightest = np.where(inpainted, pair.after, -np.inf).argmax()
    center = np.unravel_index(brightest, pair.after.shape)
    row, column = (
        min(max(int(position) - side // 2, 0), length - side)
        for position, length in zip(center, pair.after.shape, strict=True)
    )
    return _Window(row, column, side)


def _window_text(window: _Window) -> str:
    rows = f"rows {window.row} to {window.row + window.side - 1}"
    columns = f"columns {window.column} to {window.column + window.side - 1}"
    return f"{rows}, {columns}, around the brightest inpainted pixel, every pixel as it is"


def _box(window: _Window, shape: tuple[int, ...]) -> Markup:
    place = {"x": window.column, "y": window.row, "width": window.side, "height": window.side}
    lines = [element("rect", **place, class_=css) for css in ("box-outer", "box-inner")]
    view = f"0 0 {shape[1]} {shape[0]}"
    return element("svg", *lines, viewBox=view, preserveAspectRatio="none", aria_hidden="true", class_="box")


def _counts(pair: FramePair) -> Markup:
    shares = []
    for code, color, word in ((INPAINTED, INPAINTED_COLOR, "inpainted"), (DEAD, DEAD_COLOR, "dead")):
        n_pixels = int((pair.provenance == code).sum())
        share = f"{100 * n_pixels / pair.provenance.size:.2f} %"
        shares += [swatch(color), f" {word}: {count(n_pixels, 'pixel')} ({share}). "]
    return element("span", "Origin: grey = measured, ", *shares, class_="key")
