"""Regression and inpainting in pictures: input, target and prediction on one scale, and their difference."""

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from dlsia_core.errors import ArrayError
from dlsia_core.plots.style import (
    FloatArray,
    ImageScale,
    Limits,
    new_figure,
    same_shape,
    show_image,
    symmetric_limits,
    value_limits,
)

DIFFERENCES = "RdBu_r"


def plot_regression(
    prediction: FloatArray,
    target: FloatArray | None = None,
    inputs: FloatArray | None = None,
    *,
    valid: NDArray[np.bool_] | None = None,
    limits: Limits | None = None,
    log: bool = False,
    unit: str = "intensity",
) -> Figure:
    """Side by side, as far as given: input, target, prediction, and prediction minus target.

    prediction, target, inputs: (y, x) in the same unit, NaN = no value (grey); one color scale for the three.
    valid: (y, x), True = measured; the others are grey in input and target, and not in the difference.
    limits: of the color scale, None = percentiles 0.1 and 99.9 of target and prediction together.
    log: logarithmic colors, 0 and less are grey; the difference is then log10(prediction / target).
    The difference has 0 in the middle of its scale.
    Raises ArrayError for shapes that differ, SettingError for limits that are none.

    >>> figure = plot_regression(np.eye(4), np.ones((4, 4)), unit="counts")
    >>> [axes.get_title() for axes in figure.axes if axes.get_title()]
    ['target', 'prediction', 'prediction − target']
    """
    same_shape(prediction=prediction, target=target, inputs=inputs, valid=valid)
    panels = {
        "input": _measured(inputs, valid),
        "target": _measured(target, valid),
        "prediction": np.asarray(prediction, np.float64),
    }
    shown = {title: values for title, values in panels.items() if values is not None}
    ends = [values for title, values in shown.items() if title != "input"]
    scale = ImageScale(value_limits(*ends, log=log) if limits is None else limits, unit, log=log)
    figure, axes = new_figure(len(shown) + (target is not None))
    for panel, (title, values) in zip(axes, shown.items(), strict=False):
        show_image(panel, values, scale, title)
    if target is not None:
        difference, title, text = _difference(shown["prediction"], shown["target"], log, unit)
        show_image(axes[-1], difference, ImageScale(symmetric_limits(difference), text, DIFFERENCES), title)
    return figure


def _measured(values: FloatArray | None, valid: NDArray[np.bool_] | None) -> FloatArray | None:
    """The values as float64, NaN where they were not measured."""
    if values is None:
        return None
    known = np.asarray(values, np.float64)
    return known if valid is None else np.where(valid, known, np.nan)


def _difference(prediction: FloatArray, target: FloatArray, log: bool, unit: str) -> tuple[FloatArray, str, str]:
    """Values, title, and text at the color bar."""
    if not log:
        return prediction - target, "prediction − target", unit
    positive = (prediction > 0) & (target > 0)
    if not positive.any():
        raise ArrayError("no pixel is positive in both prediction and target, so their ratio has no logarithm")
    ratio = np.divide(prediction, target, out=np.full(target.shape, np.nan), where=positive)
    return np.log10(ratio), "prediction / target", "log10 of the ratio"
