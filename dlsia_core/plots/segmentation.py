"""Segmentation in pictures: image, labels, prediction, its probability, and the prediction on the image."""

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from dlsia_core.errors import ArrayError
from dlsia_core.plots.style import (
    Array,
    FloatArray,
    ImageScale,
    Limits,
    checked_label,
    class_colors,
    class_legend,
    new_figure,
    same_shape,
    show_image,
    show_labels,
    value_limits,
)

STRENGTH = 0.55
"""Of the class colors over the grey image."""


def plot_segmentation(
    image: FloatArray,
    label: Array | None = None,
    prediction: Array | None = None,
    probabilities: FloatArray | None = None,
    *,
    class_names: Sequence[str] | None = None,
    ignore: int = 255,
    limits: Limits | None = None,
    unit: str = "intensity",
) -> Figure:
    """Side by side, as far as given: image, label, prediction, probability of the predicted class, overlay.

    image: (y, x), NaN = not measured; limits: of its color scale, None = its percentiles 0.1 and 99.9.
    label, prediction: (y, x) whole numbers, a class or `ignore` (grey); prediction None: the most probable class.
    probabilities: (class, y, x), 0 to 1. class_names: None = numbered, as many as the arrays show.
    The overlay has the prediction, or the label where there is none, in color on the grey image.
    Raises ArrayError for shapes that differ, values that are no class, and probabilities outside 0 to 1.

    >>> label = np.array([[0, 1], [255, 1]])
    >>> [axes.get_title() for axes in plot_segmentation(np.eye(2), label).axes if axes.get_title()]
    ['image', 'label', 'label on image']
    """
    if probabilities is not None:
        probabilities = _checked_probabilities(probabilities)
        prediction = probabilities.argmax(axis=0) if prediction is None else prediction
    same_shape(image=image, label=label, prediction=prediction, probabilities=_first(probabilities))
    names = _names(class_names, probabilities, [a for a in (label, prediction) if a is not None], ignore)
    shown = [(title, a) for title, a in (("label", label), ("prediction", prediction)) if a is not None]
    figure, axes = new_figure(1 + len(shown) + (probabilities is not None) + bool(shown))
    panels = iter(axes)
    grey = ImageScale(value_limits(image) if limits is None else limits, unit, "gray")
    show_image(next(panels), image, grey, "image")
    for title, labels in shown:
        show_labels(next(panels), labels, names, ignore, title)
    if probabilities is not None and prediction is not None:
        _show_probability(next(panels), probabilities, checked_label(prediction, len(names), ignore), ignore)
    if shown:
        _show_overlay(next(panels), image, grey, checked_label(shown[-1][1], len(names), ignore), len(names))
        axes[-1].set_title(f"{shown[-1][0]} on image", fontsize=9)
        unlabelled = any((np.asarray(a) == ignore).any() for _, a in shown)
        class_legend(figure, names, ignore if unlabelled else None)
    return figure


def _show_probability(axes: Axes, probabilities: FloatArray, prediction: NDArray[np.int64], ignore: int) -> None:
    """Probability of the predicted class on the whole scale from 0 to 1; grey where nothing is predicted."""
    known = np.where(prediction == ignore, 0, prediction)
    chosen = np.take_along_axis(np.asarray(probabilities, np.float64), known[None], axis=0)[0]
    scale = ImageScale((0.0, 1.0), "probability (0 to 1)", "cividis")
    show_image(axes, np.where(prediction == ignore, np.nan, chosen), scale, "probability of the prediction")


def _show_overlay(axes: Axes, image: FloatArray, grey: ImageScale, label: NDArray[np.int64], classes: int) -> None:
    show_image(axes, image, grey, "", bar=False)
    colored = np.zeros((*label.shape, 4))
    for number, color in enumerate(class_colors(classes)):
        colored[label == number] = (*color, STRENGTH)
    axes.imshow(colored, interpolation="nearest")  # unlabelled pixels stay clear


def _checked_probabilities(probabilities: FloatArray) -> FloatArray:
    values = np.asarray(probabilities)
    if values.ndim != 3 or not ((values >= 0) & (values <= 1)).all():
        raise ArrayError(f"probabilities have shape {values.shape}; wanted (class, y, x), from 0 to 1, not logits")
    return values


def _first(probabilities: FloatArray | None) -> FloatArray | None:
    return None if probabilities is None else probabilities[0]


def _names(
    given: Sequence[str] | None, probabilities: FloatArray | None, labels: Sequence[Array], ignore: int
) -> list[str]:
    """Names of all classes; probabilities must have as many."""
    largest = [int(a[a != ignore].max(initial=0)) for a in map(np.asarray, labels)]
    found = 1 + max(largest, default=0) if probabilities is None else len(probabilities)
    names = [f"class {number}" for number in range(found)] if given is None else list(given)
    if probabilities is not None and len(names) != len(probabilities):
        raise ArrayError(f"there are {len(names)} class names and {len(probabilities)} probabilities per pixel")
    return names
