"""Weights that let rare classes count as much as common ones in a loss."""

import numpy as np
from numpy.typing import NDArray

from dlsia_core.errors import ArrayError, SettingError
from dlsia_core.metrics.confusion import counted_pixels, require_classes

METHODS = ("inverse", "effective", "median")


def class_weights(
    label: NDArray[np.integer],
    classes: int,
    method: str = "inverse",
    *,
    beta: float = 0.9999,
    ignore_index: int = 255,
) -> NDArray[np.float32]:
    """Weight of each class, (classes,) float32, all greater than 0.

    label: (frame, y, x) or any other shape; `ignore_index` = not labelled; n_c pixels are of class c, n in all.
    method: "inverse": n / (classes * n_c), so that the mean weight of a labelled pixel is 1;
        "effective": (1 - beta) / (1 - beta ** n_c), scaled to the mean 1 over the classes (Cui et al. 2019,
        arXiv:1901.05555, formula 1): the more pixels of a class, the less a further one tells; beta in [0, 1);
        "median": median of the frequencies over that of c, where the frequency is n_c over the labelled pixels of
        those frames (first axis) that hold class c (Eigen & Fergus 2015, arXiv:1411.4734, §6.3.2).
    Raises ArrayError for a class without pixels (its weight would be infinite) or beyond `classes`, SettingError for
    an unknown method.

    >>> class_weights(np.array([[0, 0, 0, 1, 255]]), classes=2).round(3).tolist()
    [0.6669999957084656, 2.0]
    """
    if method not in METHODS or not 0 <= beta < 1:
        raise SettingError(f"method is {method!r} and beta {beta}; known are {', '.join(METHODS)}, and 0 <= beta < 1")
    counts = _counts_per_frame(label, classes, ignore_index)
    total = counts.sum(axis=0).astype(np.float64)
    if missing := np.flatnonzero(total == 0).tolist():
        raise ArrayError(
            f"class {', '.join(map(str, missing))} has no labelled pixel, so its weight would be infinite; label some, "
            "or build the network without it"
        )
    if method == "inverse":
        weights = total.sum() / (classes * total)
    elif method == "effective":
        weights = (1 - beta) / (1 - beta**total)
        weights *= classes / weights.sum()
    else:
        there = np.where(counts > 0, counts.sum(axis=1, keepdims=True), 0).sum(axis=0)
        frequency = total / there
        weights = np.median(frequency) / frequency
    return np.asarray(weights, dtype=np.float32)


def _counts_per_frame(label: NDArray[np.integer], classes: int, ignore_index: int) -> NDArray[np.int64]:
    """Labelled pixels of each class, (frame, class)."""
    counts = []
    for frame in label if label.ndim > 1 else label[None]:
        values = frame[counted_pixels(frame, None, ignore_index)].astype(np.int64)
        require_classes("label", values, classes, ignore_index)
        counts.append(np.bincount(values, minlength=classes))
    return np.stack(counts) if counts else np.zeros((1, classes), dtype=np.int64)
