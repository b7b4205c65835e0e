"""The latent map with the images themselves on it (Roberts et al. 2024, Fig. 9 and Table 1, `latent_space_viewer`)."""

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.collections import PatchCollection
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Rectangle
from numpy.typing import NDArray

from dlsia_core.errors import ArrayError
from dlsia_core.plots.latent_bins import LatentBins, bin_points, bin_thumbnails
from dlsia_core.plots.style import NO_VALUE, FloatArray, ImageScale, Limits, class_colors, new_figure, value_limits

WIDTH, POINTS_PER_INCH = 7.0, 72
MAX_THUMBNAIL = 64
"""Pixels; larger images are averaged down, so that the figure needs no more memory than it can show."""
AXES = ("UMAP 1 (no unit)", "UMAP 2 (no unit)")
NOISE = -1
FILLED = 0.9
"""Part of a bin's side that the thumbnail takes, so that its frame has room."""


def plot_latent_view(
    coordinates: FloatArray,
    images: FloatArray,
    *,
    bins: int = 20,
    min_count: int = 1,
    representative: str = "nearest",
    groups: NDArray[np.integer] | None = None,
    group_names: Sequence[str] | None = None,
    limits: Limits | None = None,
    unit: str = "intensity",
    color_map: str = "gray",
    axis_names: tuple[str, str] = AXES,
) -> Figure:
    """A map of thumbnails: each square bin that holds `min_count` images or more shows one, all on one color scale.

    coordinates: (frame, 2); images: (frame, y, x), NaN = no value (grey); bins: along the longer side of the map.
    representative: "nearest" = the image nearest to the bin's center, "mean" = mean of the bin's images.
    groups: (frame,) class or cluster, from 0, -1 = noise (grey): frames around the thumbnails have the color of the
        group of the image shown, or with "mean" of most images in the bin (of equals the smallest).
    group_names: one per group from 0 on; None = numbered. limits: of the scale, None = percentiles 0.1 and 99.9.
    Raises ArrayError for shapes that do not fit and where no bin holds `min_count` images, SettingError for settings.

    >>> figure = plot_latent_view(np.array([[0.0, 0.0], [1.0, 1.0]]), np.ones((2, 8, 8)), groups=np.array([0, 1]))
    >>> figure.axes[0].get_xlabel(), [text.get_text() for text in figure.legends[0].get_texts()]
    ('UMAP 1 (no unit)', ['0', '1'])
    """
    binned = bin_points(coordinates, bins)
    shown = binned.shown(min_count)
    if not shown.any():
        raise ArrayError(f"no bin holds min_count = {min_count} images; the fullest holds {binned.counts.max()}")
    longest = max(images.shape[-2:])
    factor = max(1, -(-longest // MAX_THUMBNAIL))
    size = (-(-images.shape[-2] // factor), -(-images.shape[-1] // factor))
    thumbnails = bin_thumbnails(images, binned, min_count, representative, size)
    scale = ImageScale(value_limits(thumbnails) if limits is None else limits, unit, color_map)
    figure, axes = _map_figure(binned)
    _draw_thumbnails(axes, thumbnails, shown, binned, scale)
    if groups is not None:
        names = _group_names(groups, group_names, len(coordinates))
        owners = bin_groups(groups, binned, representative)
        _draw_frames(axes, owners, shown, binned, len(names))
        _group_legend(figure, names, bool((owners[shown] == NOISE).any()))
    _map_axes(axes, binned, axis_names)
    return figure


def plot_latent_points(
    coordinates: FloatArray,
    groups: NDArray[np.integer],
    *,
    group_names: Sequence[str] | None = None,
    axis_names: tuple[str, str] = AXES,
) -> Figure:
    """The map as points (frame, 2), colored by group (frame,), -1 = noise (grey).

    >>> figure = plot_latent_points(np.eye(2), np.array([0, -1]))
    >>> [text.get_text() for text in figure.legends[0].get_texts()]
    ['0', 'noise']
    """
    binned = bin_points(coordinates, 1)
    names = _group_names(groups, group_names, len(coordinates))
    figure, axes = _map_figure(binned)
    for number, color in ((NOISE, NO_VALUE), *enumerate(class_colors(len(names)))):
        points = np.asarray(coordinates)[groups == number]
        axes.scatter(points[:, 0], points[:, 1], s=9, color=color, alpha=0.8, linewidths=0)
    _group_legend(figure, names, bool((groups == NOISE).any()))
    _map_axes(axes, None, axis_names)
    return figure


def bin_groups(groups: NDArray[np.integer], binned: LatentBins, representative: str) -> NDArray[np.int64]:
    """Group (row, column) of each bin: of the nearest image, or of most images; meaningless where a bin is empty.

    >>> binned = bin_points(np.array([[0.0, 0.0], [0.1, 0.0], [0.4, 0.0], [2.0, 0.0]]), bins=2)
    >>> [bin_groups(np.array([2, 2, 1, 0]), binned, how).tolist() for how in ("nearest", "mean")]
    [[[1, 0]], [[2, 0]]]
    """
    if representative == "nearest":
        return np.asarray(groups, np.int64)[binned.nearest]
    numbers = np.arange(NOISE, int(groups.max()) + 1)
    votes = np.zeros((len(numbers), *binned.counts.shape), np.int64)
    np.add.at(votes, (np.asarray(groups, np.int64) - NOISE, *binned.bin_of_point.T), 1)
    return np.asarray(numbers[votes.argmax(axis=0)], np.int64)


def _map_figure(binned: LatentBins) -> tuple[Figure, Axes]:
    rows, columns = binned.counts.shape
    height = WIDTH * min(max(rows / columns, 0.4), 1.3)
    figure, axes = new_figure(1, panel=(WIDTH, height))
    return figure, axes[0]


def _draw_thumbnails(
    axes: Axes, thumbnails: FloatArray, shown: NDArray[np.bool_], binned: LatentBins, scale: ImageScale
) -> None:
    """One image per bin, as large as fits into it undistorted; one norm and one color bar for all."""
    height, width = thumbnails.shape[2:]
    longest = max(height, width)
    half = 0.5 * FILLED * binned.side * np.array([width, height]) / longest
    for row, column in np.argwhere(shown):
        x, y = _center(binned, row, column)
        axes.imshow(
            np.ma.masked_invalid(thumbnails[row, column]),
            norm=scale.norm,
            cmap=scale.colors,
            extent=(x - half[0], x + half[0], y - half[1], y + half[1]),
            interpolation="antialiased",
        )
    figure = axes.get_figure()
    if figure is not None:
        bar = figure.colorbar(axes.images[0], ax=axes, fraction=0.03, pad=0.02, shrink=0.6)
        bar.set_label(scale.unit, fontsize=9)
        bar.ax.tick_params(labelsize=8)


def _draw_frames(
    axes: Axes, owners: NDArray[np.int64], shown: NDArray[np.bool_], binned: LatentBins, groups: int
) -> None:
    colors = [*class_colors(groups), NO_VALUE]  # group -1 takes the last
    inner = (1 + FILLED) / 2 * binned.side
    patches, edges = [], []
    for row, column in np.argwhere(shown):
        x, y = _center(binned, row, column)
        patches.append(Rectangle((x - inner / 2, y - inner / 2), inner, inner))
        edges.append(colors[owners[row, column]])
    width = 0.5 * (1 - FILLED) * WIDTH * POINTS_PER_INCH / max(binned.counts.shape)
    axes.add_collection(PatchCollection(patches, facecolor="none", edgecolor=edges, linewidth=width, zorder=3))


def _center(binned: LatentBins, row: int, column: int) -> tuple[float, float]:
    return binned.corner[0] + (column + 0.5) * binned.side, binned.corner[1] + (row + 0.5) * binned.side


def _map_axes(axes: Axes, binned: LatentBins | None, names: tuple[str, str]) -> None:
    """Equal units on both axes; limits that hold all bins, which imshow and add_collection do not see to."""
    if binned is not None:
        rows, columns = binned.counts.shape
        margin = 0.3 * binned.side
        axes.set_xlim(binned.corner[0] - margin, binned.corner[0] + columns * binned.side + margin)
        axes.set_ylim(binned.corner[1] - margin, binned.corner[1] + rows * binned.side + margin)
    axes.set_aspect("equal", adjustable="box")
    axes.set_xlabel(names[0], fontsize=9)
    axes.set_ylabel(names[1], fontsize=9)
    axes.tick_params(labelsize=8)
    axes.spines[["top", "right"]].set_visible(False)


def _group_names(groups: NDArray[np.integer], given: Sequence[str] | None, points: int) -> list[str]:
    if groups.shape != (points,) or groups.dtype.kind not in "iu" or groups.min() < NOISE:
        raise ArrayError(f"groups have shape {groups.shape}, type {groups.dtype}; wanted ({points},), -1 and up")
    count = int(groups.max()) + 1
    if given is not None and len(given) < count:
        raise ArrayError(f"there are {len(given)} group names for {count} groups")
    return [str(number) for number in range(count)] if given is None else list(given)


def _group_legend(figure: Figure, names: Sequence[str], noise: bool) -> None:
    marks = dict(zip(names, class_colors(len(names)), strict=True)) | ({"noise": NO_VALUE} if noise else {})
    handles = [Line2D([], [], marker="s", linestyle="", color=color, label=name) for name, color in marks.items()]
    figure.legend(handles=handles, loc="outside upper center", ncols=min(len(handles), 7), frameon=False, fontsize=9)
