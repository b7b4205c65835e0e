"""What all figures share: figures without pyplot's global state, images with limits of their own, class colors."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import BoundaryNorm, Colormap, ListedColormap, LogNorm, Normalize, to_rgb
from matplotlib.figure import Figure
from matplotlib.image import AxesImage
from matplotlib.patches import Patch
from numpy.typing import NDArray

from dlsia_core.errors import ArrayError, SettingError

PANEL_INCHES = 2.9
NO_VALUE = "#c9c9c9"
"""Grey stands for unlabelled and not measured: it is in none of the color maps."""
# Okabe & Ito (2008), Color Universal Design, without black, which no line and no number could be seen on.
CLASS_COLORS = ("#0072b2", "#e69f00", "#009e73", "#cc79a7", "#56b4e9", "#d55e00", "#f0e442")
PERCENTILES = (0.1, 99.9)
"""Ends of a scale that is not given, so that one hot pixel does not darken the image."""

Array = NDArray[np.generic]
FloatArray = NDArray[np.floating]
Limits = tuple[float, float]


@dataclass(frozen=True)
class ImageScale:
    """Which value gets which color, and what the color bar says.

    limits: values at the two ends; unit: text at the color bar; log: logarithmic between the ends.
    """

    limits: Limits
    unit: str
    color_map: str = "viridis"
    log: bool = False

    def __post_init__(self) -> None:
        low, high = self.limits
        if not (math.isfinite(low) and math.isfinite(high) and low < high and (low > 0 or not self.log)):
            wanted = "0 < low < high on a logarithmic scale" if self.log else "low < high"
            raise SettingError(f"limits are {self.limits}; wanted finite numbers, {wanted}")

    @property
    def norm(self) -> Normalize:
        return LogNorm(*self.limits) if self.log else Normalize(*self.limits)

    @property
    def colors(self) -> Colormap:
        """The color map, with grey for what has no value."""
        return mpl.colormaps[self.color_map].with_extremes(bad=NO_VALUE)


def new_figure(columns: int, rows: int = 1, panel: Limits = (PANEL_INCHES, PANEL_INCHES)) -> tuple[Figure, list[Axes]]:
    """A figure and its axes in reading order; panel: (width, height) of one, in inches."""
    figure = Figure(figsize=(columns * panel[0] * 1.12, rows * panel[1]), dpi=150, layout="compressed")
    FigureCanvasAgg(figure)  # pyplot would keep every figure alive, and is not safe in the threads of a task runner
    axes = figure.subplots(rows, columns, squeeze=False)
    return figure, list(axes.ravel())


def value_limits(*arrays: FloatArray, log: bool = False, percentiles: Limits = PERCENTILES) -> Limits:
    """Ends of one color scale for all arrays together; a little room where all values are the same.

    Raises ArrayError where there is no finite value (log: no positive one).

    >>> value_limits(np.array([0.0, 1.0, np.nan]), np.array([3.0]), percentiles=(0, 100))
    (0.0, 3.0)
    """
    values = np.concatenate([np.asarray(array, np.float64).ravel() for array in arrays])
    values = values[np.isfinite(values) & (values > 0 if log else True)]
    if not values.size:
        raise ArrayError(f"there is no {'positive' if log else 'finite'} value, so no color scale; give the limits")
    low, high = (float(end) for end in np.percentile(values, percentiles))
    if low < high:
        return low, high
    return (low / 2, high * 2) if log else (low - max(abs(low), 1) / 2, high + max(abs(high), 1) / 2)


def symmetric_limits(difference: FloatArray, percentile: float = PERCENTILES[1]) -> Limits:
    """Limits with 0 in the middle: the percentile of the absolute values.

    >>> symmetric_limits(np.array([-2.0, 1.0]), percentile=100)
    (-2.0, 2.0)
    """
    high = value_limits(np.abs(difference), percentiles=(0, percentile))[1]
    return -high, high


def show_image(axes: Axes, image: FloatArray, scale: ImageScale, title: str, *, bar: bool = True) -> AxesImage:
    """Draw (y, x) with row 0 at the top, axes in pixels and a color bar; NaN (log: 0 and less) is grey."""
    shown = np.ma.masked_invalid(np.asarray(image, np.float64))
    if scale.log:
        shown = np.ma.masked_less_equal(shown, 0)
    picture = axes.imshow(shown, norm=scale.norm, cmap=scale.colors, interpolation="nearest")
    _pixel_axes(axes, title)
    if bar:
        _color_bar(axes, picture, shown.compressed(), scale)
    return picture


def show_labels(axes: Axes, label: Array, names: Sequence[str], ignore: int, title: str) -> AxesImage:
    """Draw a label image (y, x) in one color per class; pixels of the value `ignore` are grey."""
    label = checked_label(label, len(names), ignore)
    colors = ListedColormap(class_colors(len(names))).with_extremes(bad=NO_VALUE)
    norm = BoundaryNorm(np.arange(len(names) + 1) - 0.5, len(names))
    shown = np.ma.masked_equal(label, ignore)
    picture = axes.imshow(shown, norm=norm, cmap=colors, interpolation="nearest")
    _pixel_axes(axes, title)
    return picture


def checked_label(label: Array, classes: int, ignore: int) -> NDArray[np.int64]:
    """A label image as int64. Raises ArrayError for values that are neither a class nor `ignore`."""
    if np.asarray(label).dtype.kind not in "iub":
        raise ArrayError(f"labels are of type {np.asarray(label).dtype}; wanted whole numbers")
    whole: NDArray[np.int64] = np.asarray(label).astype(np.int64)
    wrong = whole[(whole != ignore) & ((whole < 0) | (whole >= classes))]
    if wrong.size:
        raise ArrayError(f"labels hold {wrong.flat[0]}; wanted 0 to {classes - 1}, or {ignore} for unlabelled")
    return whole


def class_colors(count: int) -> list[tuple[float, float, float]]:
    """RGB of the first classes: seven hues that color-blind people tell apart, then the same lighter, then darker.

    >>> class_colors(1)[0] == to_rgb("#0072b2")
    True
    """
    most = 3 * len(CLASS_COLORS)
    if not 0 <= count <= most:
        raise SettingError(f"there are {count} classes; colors can be told apart for {most} at most")
    plain = np.array([to_rgb(color) for color in CLASS_COLORS])
    colors = np.concatenate([plain, 0.45 * plain + 0.55, 0.5 * plain])[:count]
    return [(float(red), float(green), float(blue)) for red, green, blue in colors]


def class_legend(figure: Figure, names: Sequence[str], ignore: int | None = None) -> None:
    """One legend below all panels; ignore: the value that stands for unlabelled, None = there is none."""
    patches = [Patch(facecolor=c, label=name) for c, name in zip(class_colors(len(names)), names, strict=True)]
    if ignore is not None:
        patches.append(Patch(facecolor=NO_VALUE, label=f"unlabelled ({ignore})"))
    figure.legend(handles=patches, loc="outside lower center", ncols=min(len(patches), 7), frameon=False, fontsize=8)


def same_shape(**arrays: Array | None) -> tuple[int, int]:
    """The shape (y, x) that all given arrays have. Raises ArrayError where one has another, or not two axes."""
    shapes = {name: np.shape(array) for name, array in arrays.items() if array is not None}
    first = next(iter(shapes.values()))
    if len(first) != 2 or 0 in first or set(shapes.values()) != {first}:
        raise ArrayError(f"shapes are {shapes}; wanted the same (y, x) for all")
    return int(first[0]), int(first[1])


def _color_bar(axes: Axes, picture: AxesImage, values: FloatArray, scale: ImageScale) -> None:
    """With a pointed end where there are values beyond it."""
    beyond = (bool((values < scale.limits[0]).any()), bool((values > scale.limits[1]).any()))
    extend = {(False, False): "neither", (True, False): "min", (False, True): "max", (True, True): "both"}[beyond]
    figure = axes.get_figure()
    if figure is not None:
        bar = figure.colorbar(picture, ax=axes, extend=extend, fraction=0.046, pad=0.03)
        bar.set_label(scale.unit, fontsize=8)
        bar.ax.tick_params(labelsize=7)


def _pixel_axes(axes: Axes, title: str) -> None:
    axes.set_title(title, fontsize=9)
    axes.set_xlabel("x (pixels)", fontsize=8)
    axes.set_ylabel("y (pixels)", fontsize=8)
    axes.tick_params(labelsize=7)
