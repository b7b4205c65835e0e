"""Figure 10 of Chavez et al. 2022: correlation against neighbor rank, and the share of neighbors that are kept."""

from collections.abc import Mapping
from typing import cast

import numpy as np
from matplotlib.axes import Axes
from matplotlib.collections import PolyCollection
from matplotlib.figure import Figure
from numpy.typing import NDArray

from dlsia_core.errors import ArrayError
from dlsia_core.plots.style import class_colors, new_figure


def plot_neighbors(
    curves: Mapping[str, NDArray[np.floating]], kept: Mapping[str, NDArray[np.floating]], chance: float | None = None
) -> Figure:
    """Left the curves, right the violins, each latent space in the same color in both.

    curves: mean correlation (rank,) by latent space. kept: share of the neighbors in the ground truth (frame,), 0 to 1,
    by latent space, each of them also in `curves`. chance: the share that a random choice keeps.
    Raises ArrayError where there is nothing to draw.

    >>> figure = plot_neighbors({"truth": np.array([0.9, 0.8]), "masked": np.array([0.8, 0.7])},
    ...                         {"masked": np.array([0.5, 0.7, 0.6])}, chance=0.1)
    >>> [axes.get_ylabel() for axes in figure.axes]
    ['mean correlation', 'neighbors kept (%)']
    """
    if not curves or not kept or any(len(values) == 0 for values in (*curves.values(), *kept.values())):
        raise ArrayError("there is nothing to draw; give at least one curve and one set of shares, none of them empty")
    color = dict(zip(curves, class_colors(len(curves)), strict=True))
    figure, (left, right) = new_figure(2, panel=(4.2, 3.2))
    for name, values in curves.items():
        marker = "o" if len(values) < 30 else ""
        left.plot(range(1, len(values) + 1), values, color=color[name], label=name, marker=marker, markersize=3)
    left.set_xlabel("neighbor rank")
    left.set_ylabel("mean correlation")
    left.legend(fontsize=7, frameon=False)
    for place, (name, values) in enumerate(kept.items(), start=1):
        _violin(right, place, 100 * np.asarray(values, np.float64), color[name])
    if chance is not None:
        right.axhline(100 * chance, color="#777777", linestyle=":", linewidth=1, label="by chance")
        right.legend(fontsize=7, frameon=False)
    right.set_xticks(range(1, len(kept) + 1), list(kept), fontsize=7)
    right.set_ylabel("neighbors kept (%)")
    return figure


def _violin(axes: Axes, place: int, values: NDArray[np.float64], color: tuple[float, float, float]) -> None:
    """A violin with a bar at the mean; a bar alone where all values are the same, which have no density."""
    if len(values) > 1 and np.ptp(values) > 0:
        parts = axes.violinplot([values], [place], widths=0.7, showextrema=False)
        for body in cast(list[PolyCollection], parts["bodies"]):
            body.set(facecolor=color, alpha=0.45)
    axes.hlines(values.mean(), place - 0.2, place + 0.2, color=color, linewidth=2)
