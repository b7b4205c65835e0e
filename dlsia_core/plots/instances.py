"""Figures of instances: lengths, directions, and values on a sphere in an equal-area projection."""

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.patheffects import withStroke
from numpy.typing import NDArray

from dlsia_core.errors import ArrayError
from dlsia_core.plots.style import CLASS_COLORS, new_figure

_DEGREES = 3


def plot_lengths(lengths: NDArray[np.floating], truth: NDArray[np.floating] | None = None, unit: str = "px") -> Figure:
    """Histogram of lengths (instance,), left, and their cumulative distribution, right, beside those of a truth.

    Raises ArrayError where there is nothing to draw.

    >>> figure = plot_lengths(np.array([10.0, 12.0, 20.0]), np.array([11.0, 12.0]), "µm")
    >>> [axes.get_xlabel() for axes in figure.axes]
    ['length end to end (µm)', 'length end to end (µm)']
    """
    samples = [("measured", lengths, CLASS_COLORS[0])]
    if truth is not None:
        samples.append(("truth", truth, CLASS_COLORS[5]))
    if any(not len(values) for _, values, _ in samples):
        raise ArrayError("there is nothing to draw; give at least one length in each sample")
    figure, (left, right) = new_figure(2, panel=(4.2, 3.0))
    largest = max(float(values.max()) for _, values, _ in samples)
    edges = np.linspace(0, largest * 1.001, 1 + int(np.clip(2 * np.sqrt(len(lengths)), 8, 60)))
    for name, values, color in samples:
        left.hist(values, edges.tolist(), color=color, histtype="step" if name == "truth" else "stepfilled",
                  alpha=1 if name == "truth" else 0.55, linewidth=1.8, label=name)  # fmt: skip
        ordered = np.sort(values)
        right.step(np.append(0, ordered), np.linspace(0, 1, len(ordered) + 1), where="post", color=color, label=name,
                   linestyle="--" if name == "truth" else "-")  # fmt: skip
    left.set_ylabel("instances")
    right.set_ylabel("share that is not longer")
    right.set_ylim(0, 1)
    for axes in (left, right):
        axes.set_xlim(0, edges[-1])
        axes.set_xlabel(f"length end to end ({unit})")
        if truth is not None:
            axes.legend(frameon=False, fontsize=8)
    return figure


def plot_on_sphere(
    longitude: NDArray[np.float64], latitude: NDArray[np.float64], values: NDArray[np.float64], label: str
) -> Figure:
    """Values (latitude, longitude) on a sphere in a Hammer-Aitoff projection, which keeps areas (Tobler 1964).

    longitude, latitude: centers of the cells in radians, equally spaced. z is at the poles, x in the middle.
    """
    figure = Figure(figsize=(6.6, 3.9), dpi=150, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot(projection="hammer")
    # Drawn by the edges of cells, so that the map closes at its rim.
    edges = [
        np.append(part - (part[1] - part[0]) / 2, part[-1] + (part[1] - part[0]) / 2) for part in (longitude, latitude)
    ]
    colors = axes.pcolormesh(
        edges[0], np.clip(edges[1], -np.pi / 2, np.pi / 2), values, cmap="viridis", rasterized=True
    )
    _label_sphere(axes)
    figure.colorbar(colors, ax=axes, shrink=0.75, label=label)
    return figure


def plot_directions(directions: NDArray[np.float64]) -> Figure:
    """Axes (instance, 3), (z, y, x), as points in a Hammer-Aitoff projection; each twice, as an axis has two ends.

    Raises ArrayError where no instance has a direction.
    """
    known = directions[directions.any(axis=1)]
    if not len(known):
        raise ArrayError(f"none of {len(directions)} instances has a direction")
    both = np.concatenate([known, -known])
    figure = Figure(figsize=(5.8, 3.9), dpi=150, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot(projection="hammer")
    longitude, latitude = np.arctan2(both[:, 1], both[:, 2]), np.arcsin(np.clip(both[:, 0], -1, 1))
    size = float(np.clip(4000 / len(both), 1, 14))
    axes.scatter(longitude, latitude, s=size, color=CLASS_COLORS[0], alpha=0.7, linewidths=0)
    _label_sphere(axes)
    return figure


def sphere_grid() -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Centers of cells of three degrees: longitude (120,) and latitude (60,), in radians.

    >>> [len(part) for part in sphere_grid()]
    [120, 60]
    """
    cell = np.deg2rad(_DEGREES)
    return np.arange(-np.pi + cell / 2, np.pi, cell), np.arange(-np.pi / 2 + cell / 2, np.pi / 2, cell)


def _label_sphere(axes: Axes) -> None:
    axes.grid(color="#888888", linewidth=0.4, alpha=0.6)
    axes.set_xticklabels([])
    axes.tick_params(labelsize=6)
    places = {"+x": (0, 0), "+y": (np.pi / 2, 0), "−y": (-np.pi / 2, 0), "+z": (0, 1.42), "−z": (0, -1.42)}
    for name, place in places.items():
        text = axes.text(place[0], place[1], name, ha="center", va="center", fontsize=8, color="#a01c14")
        text.set_path_effects([withStroke(linewidth=2.5, foreground="white")])
