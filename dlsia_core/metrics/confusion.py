"""Scores of a segmentation, all from one confusion matrix: counts are added over the whole set, never averaged."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from dlsia_core.errors import ArrayError, SettingError

IGNORE = 255
SCORES = ("f1", "iou", "precision", "recall")


def confusion_matrix(
    label: NDArray[np.integer],
    predicted: NDArray[np.integer],
    classes: int,
    *,
    valid: NDArray[np.bool_] | None = None,
    ignore_index: int = IGNORE,
) -> NDArray[np.int64]:
    """How many pixels of class i were given class j: (classes, classes) int64, rows = truth, columns = answer.

    label, predicted: integers of one shape; pixels labelled `ignore_index` and those not `valid` are left out.
    Matrices of parts of a set may be added: the sum is the matrix of the set, to the last digit, in any order.
    Raises ArrayError for different shapes and for a counted pixel whose class is not in 0 .. classes - 1.

    >>> confusion_matrix(np.array([0, 0, 1, 255]), np.array([0, 1, 1, 1]), classes=2).tolist()
    [[1, 1], [0, 1]]
    """
    counted = counted_pixels(label, valid, ignore_index)
    if predicted.shape != label.shape:
        raise ArrayError(f"predicted has shape {predicted.shape} and label {label.shape}; they must be the same")
    truth, answer = label[counted].astype(np.int64), predicted[counted].astype(np.int64)
    for name, values in (("label", truth), ("predicted", answer)):
        require_classes(name, values, classes, ignore_index)
    return np.bincount(truth * classes + answer, minlength=classes**2).reshape(classes, classes)


def counted_pixels(
    label: NDArray[np.integer], valid: NDArray[np.bool_] | None, ignore_index: int = IGNORE
) -> NDArray[np.bool_]:
    """True where a pixel has a label and, if `valid` is given, was measured.

    >>> counted_pixels(np.array([0, 255, 1]), np.array([True, True, False])).tolist()
    [True, False, False]
    """
    if not np.issubdtype(label.dtype, np.integer):
        raise ArrayError(f"label is of type {label.dtype}; wanted whole numbers, one class per pixel")
    labeled: NDArray[np.bool_] = label != ignore_index
    if valid is None:
        return labeled
    if valid.shape != label.shape or valid.dtype != np.bool_:
        raise ArrayError(f"valid is {valid.dtype} {valid.shape}; wanted bool of the label's shape {label.shape}")
    return labeled & valid


def require_classes(name: str, values: NDArray[np.integer], classes: int, ignore_index: int) -> None:
    """Raise ArrayError, naming the strange values, where `values` are not all in 0 .. classes - 1."""
    if classes < 1:
        raise SettingError(f"classes is {classes}; it must be at least 1")
    if values.size and (values.min() < 0 or values.max() >= classes):
        strange = np.unique(values[(values < 0) | (values >= classes)])[:5].tolist()
        raise ArrayError(
            f"{name} holds {', '.join(map(str, strange))}; allowed are 0 .. {classes - 1}, and {ignore_index} in a "
            "label = leave out"
        )


def scores_per_class(matrix: NDArray[np.generic]) -> dict[str, NDArray[np.float64]]:
    """F1, IoU, precision and recall of each class, (classes,) float64 in 0 .. 1, and NaN where undefined.

    matrix: see `confusion_matrix`. F1 and IoU of a class that is neither in the truth nor in the answer are NaN: there
    is nothing that could be right or wrong. Precision is NaN for a class never answered, recall for one never there.

    >>> scores_per_class(np.array([[1, 1, 0], [0, 2, 0], [0, 0, 0]]))["f1"].tolist()
    [0.6666666666666666, 0.8, nan]
    """
    matrix = np.asarray(matrix, dtype=np.float64)
    if matrix.ndim != 2 or matrix.shape[0] != matrix.shape[1]:
        raise ArrayError(f"the matrix has shape {matrix.shape}; wanted (classes, classes)")
    hits, there, answered = np.diagonal(matrix), matrix.sum(axis=1), matrix.sum(axis=0)
    return {
        "f1": _ratio(2 * hits, there + answered),
        "iou": _ratio(hits, there + answered - hits),
        "precision": _ratio(hits, answered),
        "recall": _ratio(hits, there),
    }


def classification_scores(
    matrix: NDArray[np.generic], *, averaged_classes: Sequence[int] | None = None
) -> dict[str, float]:
    """All scores of a confusion matrix by name: accuracy, {f1, iou, precision, recall}_{micro, macro, class_0, ...}.

    averaged_classes: the classes that micro and macro stand for, e.g. without the background; None = all.
    Micro adds the counts of these classes before it divides; macro is the mean over those of them that are defined (see
    `scores_per_class`), NaN where none is. With two classes, f1_binary, ... are those of class 1.

    >>> scores = classification_scores(np.array([[6, 2], [0, 4]]))
    >>> scores["f1_binary"], round(scores["f1_macro"], 4), round(scores["accuracy"], 4)
    (0.8, 0.8286, 0.8333)
    """
    matrix = np.asarray(matrix, dtype=np.float64)
    per_class = scores_per_class(matrix)
    chosen = list(range(len(matrix)) if averaged_classes is None else averaged_classes)
    if not chosen or not set(chosen) <= set(range(len(matrix))):
        raise SettingError(f"averaged_classes is {averaged_classes}; wanted some of 0 .. {len(matrix) - 1}, or None")
    hits = np.diagonal(matrix)[chosen].sum()
    there, answered = matrix.sum(axis=1)[chosen].sum(), matrix.sum(axis=0)[chosen].sum()
    micro = (2 * hits, there + answered), (hits, there + answered - hits), (hits, answered), (hits, there)
    scores = {"accuracy": float(_ratio(np.trace(matrix), matrix.sum()))}
    for name, pair in zip(SCORES, micro, strict=True):
        values = per_class[name]
        defined = values[chosen][np.isfinite(values[chosen])]
        scores[f"{name}_micro"] = float(_ratio(*pair))
        scores[f"{name}_macro"] = float(defined.mean()) if defined.size else float("nan")
        scores |= {f"{name}_class_{c}": float(value) for c, value in enumerate(values)}
        if len(matrix) == 2:
            scores[f"{name}_binary"] = float(values[1])
    return scores


def segmentation_scores(
    label: NDArray[np.integer],
    predicted: NDArray[np.integer],
    classes: int,
    *,
    valid: NDArray[np.bool_] | None = None,
    ignore_index: int = IGNORE,
    averaged_classes: Sequence[int] | None = None,
) -> dict[str, float]:
    """`classification_scores` of label arrays; see `confusion_matrix` for what is counted.

    >>> label, predicted = np.array([[0, 0, 1, 1, 255]]), np.array([[0, 1, 1, 1, 0]])
    >>> segmentation_scores(label, predicted, classes=2)["iou_class_1"]
    0.6666666666666666
    """
    matrix = confusion_matrix(label, predicted, classes, valid=valid, ignore_index=ignore_index)
    return classification_scores(matrix, averaged_classes=averaged_classes)


def _ratio(part: NDArray[np.float64] | float, whole: NDArray[np.float64] | float) -> NDArray[np.float64]:
    """part / whole, NaN where the whole is 0."""
    whole = np.asarray(whole, dtype=np.float64)
    ratio = np.full(whole.shape, np.nan)
    np.divide(part, whole, out=ratio, where=whole > 0)
    return ratio
