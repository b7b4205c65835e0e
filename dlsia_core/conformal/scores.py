"""How strange each class is for a pixel, from logits in log space, so that saturated probabilities keep their order."""

import numpy as np
from numpy.typing import NDArray

from dlsia_core.errors import ArrayError, SettingError

FloatArray = NDArray[np.float64]
METHODS = ("threshold", "adaptive")


def class_scores(
    logits: NDArray[np.floating], method: str = "threshold", uniform: NDArray[np.floating] | None = None
) -> FloatArray:
    """Score of every class at every pixel, (class, ...) float64, 0 or greater; the smaller, the more likely the class.

    logits: (class, ...) of one frame, or (1, ...) of a binary network: logit of class 1 against class 0. -inf = a
        probability of exactly 0 is allowed; the score is then infinite.
    method: "threshold": -log p of the class (least ambiguous sets, Sadinle, Lei & Wasserman 2019; the logarithm changes
        no set, but p = 1 - 1e-30 stays apart from 1); "adaptive": classes in falling order of p, and -log of the
        probability that is left after the class (Romano, Sesia & Candès 2020, arXiv:2006.02544, whose score is 1 minus
        that; equal classes keep their order).
    uniform: of the adaptive score, (...) in [0, 1): the class itself is counted by this share, which makes sets smaller
        and the promise nearly exact; None = in full.
    Raises ArrayError for NaN, +inf, or -inf in all classes.

    >>> class_scores(np.array([[0.0], [0.0]]))[:, 0].round(4).tolist()
    [0.6931, 0.6931]
    >>> class_scores(np.array([[800.0], [0.0], [-900.0]]), "adaptive")[:, 0].tolist()
    [800.0, 1700.0, inf]
    """
    if method not in METHODS:
        raise SettingError(f"method is {method!r}; known are {', '.join(METHODS)}")
    if uniform is not None and method != "adaptive":
        raise SettingError("only the adaptive score can be randomized")
    surprise = _surprise(_two_classes(logits))
    return surprise if method == "threshold" else _adaptive(surprise, uniform)


def log_probabilities(probabilities: NDArray[np.floating], axis: int = 1) -> FloatArray:
    """Logits for the functions here from probabilities, e.g. the mean of an ensemble; 0 becomes -inf.

    probabilities: (frame, class, ...) or (class, ...) with axis=0, in 0 .. 1, adding up to 1 over `axis` within 1e-3.
    Logits are better where there are any: float32 cannot tell 1 - 1e-9 from 1.

    >>> log_probabilities(np.array([[1.0, 0.0]])).tolist()
    [[0.0, -inf]]
    """
    values = np.asarray(probabilities, dtype=np.float64)
    if not ((values >= 0) & (values <= 1 + 1e-6)).all() or not (np.abs(values.sum(axis=axis) - 1) <= 1e-3).all():
        raise ArrayError(f"probabilities must be in 0 .. 1 and add up to 1 over axis {axis}")
    with np.errstate(divide="ignore"):  # log 0 is the -inf that is wanted
        return np.log(values)


def label_from_one_hot(one_hot: NDArray[np.generic], axis: int = 1, *, ignore_index: int = 255) -> NDArray[np.integer]:
    """Class of each pixel from planes of 0 and 1, one per class; `ignore_index` where all are 0 (not labelled).

    one_hot: (frame, class, y, x), or another `axis` for the classes. uint8 for up to 255 classes, else int64.
    Raises ArrayError for other numbers, and for a pixel with more than one class.

    >>> label_from_one_hot(np.array([[[1, 0, 0]], [[0, 1, 0]]]), axis=0).tolist()
    [[0, 1, 255]]
    """
    planes = np.asarray(one_hot)
    marked = planes != 0
    if (planes[marked] != 1).any() or (marked.sum(axis=axis) > 1).any():
        raise ArrayError(f"wanted planes of 0 and 1 over axis {axis}, at most one 1 at each pixel")
    small = planes.shape[axis] <= 255 and 0 <= ignore_index <= 255
    label = np.where(marked.any(axis=axis), marked.argmax(axis=axis), ignore_index)
    return label.astype(np.uint8 if small else np.int64)


def _two_classes(logits: NDArray[np.floating]) -> FloatArray:
    values = np.asarray(logits, dtype=np.float64)
    return np.concatenate([np.zeros_like(values), values]) if len(values) == 1 else values


def _surprise(logits: FloatArray) -> FloatArray:
    """-log of the softmax over the first axis; the most likely class keeps its digits down to 1e-308."""
    best = logits.argmax(axis=0, keepdims=True)
    top = np.take_along_axis(logits, best, axis=0)
    if not np.isfinite(top).all():
        raise ArrayError("logits must be numbers below infinity, at least one class at each pixel above -infinity")
    below = top - logits
    others = np.exp(-below)
    np.put_along_axis(others, best, 0, axis=0)
    # log1p: the sum over all classes is 1 + others, and 1 + 1e-20 would be 1.
    return np.asarray(below + np.log1p(others.sum(axis=0, keepdims=True)))


def _adaptive(surprise: FloatArray, uniform: NDArray[np.floating] | None) -> FloatArray:
    order = np.argsort(surprise, axis=0, kind="stable")
    falling = -np.take_along_axis(surprise, order, axis=0)  # log p
    left = np.full_like(falling, -np.inf)
    left[:-1] = np.logaddexp.accumulate(falling[:0:-1], axis=0)[::-1]
    if uniform is not None:
        left = np.logaddexp(left, falling + np.log1p(-np.asarray(uniform, dtype=np.float64)))
    scores = np.empty_like(left)
    np.put_along_axis(scores, order, np.maximum(-left, 0), axis=0)
    return scores
