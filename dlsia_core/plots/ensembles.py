"""Ensembles in pictures: mean, members and quantiles on one color scale, the standard deviation on its own."""

from collections.abc import Mapping

from matplotlib.figure import Figure

from dlsia_core.errors import ArrayError, SettingError
from dlsia_core.plots.style import FloatArray, ImageScale, Limits, new_figure, same_shape, show_image, value_limits

MAX_COLUMNS = 5


def plot_ensemble(
    mean: FloatArray,
    standard_deviation: FloatArray,
    members: FloatArray | None = None,
    quantiles: Mapping[float, FloatArray] | None = None,
    *,
    limits: Limits | None = None,
    unit: str = "intensity",
) -> Figure:
    """Panels for the mean, the standard deviation of the members, the quantiles and the members, as far as given.

    mean, standard_deviation, each quantile: (y, x); members: (member, y, x), NaN = no value (grey).
    quantiles: by probability, 0 to 1. limits: of the scale that mean, members and quantiles share, None = percentiles
    0.1 and 99.9 of all of them; the scale of the standard deviation starts at 0.
    Raises ArrayError for shapes that differ or negative standard deviations, SettingError for other probabilities.

    >>> import numpy as np
    >>> figure = plot_ensemble(np.eye(3), np.eye(3) / 2, quantiles={0.95: 2 * np.eye(3), 0.05: 0 * np.eye(3)})
    >>> [axes.get_title() for axes in figure.axes if axes.get_title()]
    ['mean', 'standard deviation', 'quantile 0.05', 'quantile 0.95']
    """
    ordered = dict(sorted((quantiles or {}).items()))
    if any(not 0 <= probability <= 1 for probability in ordered):
        raise SettingError(f"quantiles are {list(ordered)}; wanted probabilities from 0 to 1")
    shared = {"mean": mean} | {f"quantile {probability:g}": values for probability, values in ordered.items()}
    shared |= {f"member {number}": values for number, values in enumerate(() if members is None else members)}
    same_shape(**shared, standard_deviation=standard_deviation)
    if (standard_deviation < 0).any():
        raise ArrayError(f"standard_deviation reaches {standard_deviation.min():g}; it cannot be negative")
    scale = ImageScale(value_limits(*shared.values()) if limits is None else limits, unit)
    panels = [("mean", mean, scale), ("standard deviation", standard_deviation, _spread(standard_deviation, unit))]
    panels += [(title, values, scale) for title, values in shared.items() if title != "mean"]
    columns = min(len(panels), MAX_COLUMNS)
    figure, axes = new_figure(columns, -(-len(panels) // columns))
    for panel, (title, values, its_scale) in zip(axes, panels, strict=False):
        show_image(panel, values, its_scale, title)
    for panel in axes[len(panels) :]:
        panel.remove()
    return figure


def _spread(standard_deviation: FloatArray, unit: str) -> ImageScale:
    return ImageScale((0.0, value_limits(standard_deviation)[1]), unit, "magma")
