"""How sure inpainted values are: what was promised and measured, and a picture of the errors of a frame."""

import math
from collections.abc import Callable

import numpy as np

from tasks.report.content import FramePair, Sureness
from tasks.report.formats import NONE, number
from tasks.report.markup import Markup, element, join, table
from tasks.report.pixels import (
    DEAD_COLOR,
    UNIT,
    ColorScale,
    Float,
    Index,
    color_indices,
    color_table,
    data_uri,
    png_bytes,
)

COLOR_MAP = "plasma"
LEVELS = 64
GREYS = 48
LIGHT = 0.62
"""Where the greys of measured pixels begin, so that none is taken for an error."""
LARGEST = 99.5
"""Percentile of the half-widths at which the color scale ends."""
PANEL = "how wrong it may be"

Reduce = Callable[[Float], Float]


def sureness_section(known: Sureness) -> Markup:
    """Promised and measured coverage, or why there is none."""
    if known.measured is None:
        return element("p", f"No calibrated error: {known.reason}.")
    found = known.measured
    columns = (
        ("promised", "number"), ("measured", "number"), ("95 % interval", "number nowrap"),
        ("mean half-width", "number"), ("held-out frames", "number"), ("pixels", "number"), ("measured on", ""),
    )  # fmt: skip
    between = NONE if math.isnan(found["low"]) else f"{_percent(found['low'])} to {_percent(found['high'])}"
    row = (
        _percent(known.promised),
        _percent(found["coverage"]),
        between,
        number(found["half_width"]),
        number(found["frames"]),
        number(found["pixels"], 9),
        found["way"],
    )
    said = (
        f"`uncertainty` is half the width of an interval around each inpainted value, in {UNIT}, calibrated on "
        f"artificial gaps in {known.frames} frames that the model was not trained on. It holds for frames like those, "
        "on average over the pixels of their gaps."
    )
    return join([element("p", said), table("Share of the intervals that hold the true value", columns, [row])])


def half_width_scale(pair: FramePair) -> ColorScale | None:
    """From no error to the largest ones of a frame; None where nothing is known."""
    if pair.uncertainty is None:
        return None
    known = pair.uncertainty[pair.uncertainty > 0].astype(np.float64)
    return ColorScale(0.0, float(np.percentile(known, LARGEST))) if known.size else None


def half_width_image(pair: FramePair, scale: ColorScale | None, shown: Reduce, largest: Reduce) -> tuple[Index, Index]:
    """Indices and RGB colors: errors in color, measured pixels in light greys, what is not known in the dead's color.

    shown, largest: make the frame, and errors, as large as the picture is; of errors the largest of a block counts.
    """
    if pair.uncertainty is None:
        raise ValueError("a frame without uncertainty has no picture of it")
    after, half = shown(pair.after), largest(np.where(np.isnan(pair.uncertainty), np.inf, pair.uncertainty))
    measured = color_indices(after, ColorScale.of(after), GREYS)
    errors = color_indices(np.where(np.isinf(half), np.float32(np.nan), half), scale, LEVELS)
    colors = [color_table(LEVELS, COLOR_MAP)[:-1], np.array([DEAD_COLOR], np.uint8), color_table(GREYS, "gray", LIGHT)]
    indices = np.where(half == 0, LEVELS + 1 + measured.astype(np.uint16), errors)
    return indices.astype(np.uint8), np.vstack(colors)


def half_width_bar(scale: ColorScale | None) -> Markup:
    """The scale of the errors."""
    if scale is None:
        return element("p", "No error is known in this frame.")
    image = data_uri(png_bytes(np.arange(LEVELS, dtype=np.uint8)[None, :], color_table(LEVELS, COLOR_MAP)))
    ends = (scale.low, (scale.low + scale.high) / 2, scale.high)
    ticks = [element("span", text) for text in ("0", number(ends[1]), f"≥ {number(ends[2])}")]
    bar = [element("img", src=image, alt=f"Color scale of errors up to {number(ends[2])}")]
    title = f"{PANEL}: half-width of the interval, {UNIT}; measured pixels in light greys"
    text = [*bar, element("span", *ticks, class_="ticks"), element("span", title, class_="unit")]
    return element("div", element("span", *text, class_="bar"), class_="bar-line")


def _percent(share: float) -> str:
    return f"{100 * share:.1f} %"
