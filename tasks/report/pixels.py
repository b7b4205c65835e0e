"""Turn arrays into small PNG images: one colour scale, and a colour of its own for what was not measured."""

import base64
import io
import math
from dataclasses import dataclass

import matplotlib as mpl
import numpy as np
import numpy.typing as npt
from PIL import Image

UNIT = "normalized log counts"
COLOR_MAP = "viridis"
NOT_MEASURED = (201, 201, 201)
"""Grey: not a color of the map, so that a gap is never taken for a low or a high count."""
INPAINTED_COLOR = (230, 97, 0)
DEAD_COLOR = (220, 38, 127)
PERCENTILES = (0.1, 99.99)
"""Ends of the scale, so that a hot pixel does not darken the frame."""

Float = npt.NDArray[np.float32]
Index = npt.NDArray[np.uint8]


@dataclass(frozen=True)
class ColorScale:
    """Values at the two ends of the color map."""

    low: float
    high: float

    def text(self, value: float) -> str:
        """Write a value with the decimals that matter on this scale.

        >>> ColorScale(0, 0.62).text(0.31), ColorScale(0, 140).text(-1e-9)
        ('0.310', '0')
        """
        decimals = max(0, 2 - math.floor(math.log10(self.high - self.low)))
        return f"{value:.{decimals}f}".removeprefix("-") if abs(value) < 10**-decimals / 2 else f"{value:.{decimals}f}"

    @classmethod
    def of(cls, *arrays: Float) -> "ColorScale | None":
        """Span the measured values of all arrays together; None where nothing is measured.

        >>> ColorScale.of(np.array([np.nan, 2.0])), ColorScale.of(np.array([np.nan]))
        (ColorScale(low=1.5, high=2.5), None)
        """
        values = np.concatenate([values[np.isfinite(values)] for values in arrays])
        if not values.size:
            return None
        low, high = (float(end) for end in np.percentile(values.astype(np.float64), PERCENTILES))
        return cls(low, high) if high > low else cls(low - 0.5, low + 0.5)


def color_indices(values: Float, scale: ColorScale | None, levels: int) -> Index:
    """Give each value its step on the scale, 0 to levels - 1; `levels` = not measured.

    >>> color_indices(np.array([[0.0, 0.5, 9.0, np.nan]]), ColorScale(0, 1), 64).tolist()
    [[0, 32, 63, 64]]
    """
    missing = np.isnan(values)
    if scale is None:
        return np.full(values.shape, levels, np.uint8)
    relative = (np.where(missing, scale.low, values).astype(np.float64) - scale.low) / (scale.high - scale.low)
    steps = np.minimum(np.clip(relative, 0, 1) * levels, levels - 1).astype(np.uint8)
    return np.where(missing, np.uint8(levels), steps)


def color_table(levels: int, color_map: str = COLOR_MAP, first: float = 0.0) -> Index:
    """RGB (levels + 1, 3) of a color map from its position `first` on; last the color of what was not measured."""
    colors = mpl.colormaps[color_map](np.linspace(first, 1, levels))[:, :3]
    return np.vstack([np.round(colors * 255).astype(np.uint8), np.array([NOT_MEASURED], np.uint8)])


def png_bytes(indices: Index, colors: Index) -> bytes:
    """Write an image with a palette; the same input gives the same bytes."""
    image = Image.fromarray(np.ascontiguousarray(indices))
    image.putpalette(colors.tobytes())
    file = io.BytesIO()
    # Level 9 takes six times as long for a twentieth less.
    image.save(file, format="png", compress_level=4)
    return file.getvalue()


def data_uri(png: bytes) -> str:
    """Put a PNG into an address that needs no other file."""
    return "data:image/png;base64," + base64.b64encode(png).decode("ascii")


def reduce_values(values: Float, factor: int) -> Float:
    """Average blocks of factor × factor pixels; NaN where at least half a block was not measured.

    >>> reduce_values(np.array([[1.0, 3.0, np.nan], [np.nan, 5.0, np.nan]], np.float32), 2).tolist()
    [[3.0, nan]]
    """
    blocks = _blocks(values, factor, np.nan)
    measured = ~np.isnan(blocks)
    n_measured = measured.sum(axis=(1, 3))
    total = np.where(measured, blocks, 0).sum(axis=(1, 3), dtype=np.float64)
    n_pixels = _blocks(np.ones(values.shape, np.float32), factor, 0).sum(axis=(1, 3))
    mean = total / np.maximum(n_measured, 1)
    return np.where(2 * n_measured > n_pixels, mean, np.nan).astype(np.float32)


def reduce_largest(values: Float, factor: int) -> Float:
    """Keep the largest value of each block.

    >>> reduce_largest(np.array([[0.0, 3.0, 0.0]], np.float32), 2).tolist()
    [[3.0, 0.0]]
    """
    largest: Float = _blocks(values, factor, 0).max(axis=(1, 3))
    return largest


def reduce_provenance(provenance: Index, factor: int) -> Index:
    """Keep the highest provenance of each block, so that no inpainted or dead pixel goes unseen."""
    largest: Index = _blocks(provenance, factor, 0).max(axis=(1, 3))
    return largest


def _blocks(values: npt.NDArray[np.generic], factor: int, fill: float) -> npt.NDArray[np.generic]:
    rows, columns = (-(-length // factor) for length in values.shape)
    pads = [(0, rows * factor - values.shape[0]), (0, columns * factor - values.shape[1])]
    padded = np.pad(values, pads, constant_values=fill)
    return padded.reshape(rows, factor, columns, factor)
