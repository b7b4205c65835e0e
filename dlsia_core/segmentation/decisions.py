"""From probabilities to one class per pixel, by a rule that keeps only what the members of an ensemble agree on."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from dlsia_core.errors import ArrayError, SettingError

MOST_CLASSES = 32
"""Bits of the widest type that sets are packed into."""


def sure_label(
    mean: NDArray[np.floating], std: NDArray[np.floating], k: float = 1.0, threshold: float = 0.5, background: int = 0
) -> NDArray[np.uint8]:
    """The class of each pixel whose mean - k std exceeds the threshold, (…) uint8; the background where none does.

    mean, std: (class, …) of the members' probabilities. k = 1, threshold = 0.5: Roberts et al. 2024, §4.2.
    background: number of the class that stands for "not sure of any other"; it is not judged itself.
    Below a threshold of 0.5 several classes may pass: the one with the largest mean - k std is taken, the first of
    equal ones. Raises SettingError for k < 0, thresholds outside [0, 1) and a class that there is not.

    >>> mean, std = np.array([[0.2, 0.4, 0.9], [0.8, 0.6, 0.1]]), np.array([[0.1] * 3, [0.1, 0.2, 0.1]])
    >>> sure_label(mean, std).tolist()  # 0.6 - 0.2 does not exceed 0.5
    [1, 0, 0]
    """
    if mean.shape != std.shape or mean.ndim < 1:
        raise ArrayError(f"mean is {mean.shape} and std {std.shape}; wanted (class, …) of both")
    check_rule(len(mean), k, threshold, background)
    lower = mean.astype(np.float32) - np.float32(k) * std.astype(np.float32)
    lower[background] = -np.inf
    best = lower.argmax(axis=0)
    passes = np.take_along_axis(lower, best[None], axis=0)[0] > threshold
    return np.where(passes, best, background).astype(np.uint8)


def check_rule(classes: int, k: float, threshold: float, background: int) -> None:
    """Raise SettingError for what `sure_label` does not take."""
    checks = (
        ("k", k, 0 <= k < np.inf, "0 or more"),
        ("threshold", threshold, 0 <= threshold < 1, "0 or more and below 1"),
        ("background", background, 0 <= background < classes, f"the number of a class, 0 to {classes - 1}"),
    )
    for name, given, allowed, wanted in checks:
        if not allowed:
            raise SettingError(f"{name} is {given}; it must be {wanted}")


def set_dtype(classes: int) -> np.dtype[Any]:
    """The smallest unsigned type with a bit for each class. Raises SettingError for more than 32 of them.

    >>> set_dtype(2), set_dtype(9)
    (dtype('uint8'), dtype('uint16'))
    """
    if not 0 < classes <= MOST_CLASSES:
        raise SettingError(f"{classes} classes do not fit into a set of bits; it holds 1 to {MOST_CLASSES}")
    return np.dtype(next(kind for kind in ("uint8", "uint16", "uint32") if 8 * np.dtype(kind).itemsize >= classes))


def pack_sets(sets: NDArray[np.bool_]) -> NDArray[np.unsignedinteger[Any]]:
    """Sets of classes (class, …) bool as whole numbers (…): bit c is set where class c is in the set.

    >>> pack_sets(np.array([[True, False, True], [False, True, True]])).tolist()
    [1, 2, 3]
    """
    dtype = set_dtype(len(sets))
    packed = np.zeros(sets.shape[1:], dtype)
    for number, inside in enumerate(sets):
        packed |= inside.astype(dtype) << dtype.type(number)
    return packed


def unpack_sets(packed: NDArray[np.unsignedinteger[Any]], classes: int) -> NDArray[np.bool_]:
    """The inverse of `pack_sets`: (class, …) bool.

    >>> unpack_sets(np.array([1, 2, 3], np.uint8), 2).astype(int).tolist()
    [[1, 0, 1], [0, 1, 1]]
    """
    numbers = np.arange(classes, dtype=packed.dtype).reshape(-1, *(1,) * packed.ndim)
    return np.asarray((packed[None] >> numbers) % packed.dtype.type(2) == 1)
