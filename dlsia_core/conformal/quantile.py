"""The threshold of split conformal estimation, with frames (or blocks) as what is exchangeable instead of pixels."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dlsia_core.errors import ArrayError, SettingError

FloatArray = NDArray[np.float64]
Units = str | NDArray[np.integer]
"""What is exchangeable: "frame", "pixel", or a number for each frame, (frame,), or each pixel (see `block_units`)."""


@dataclass(frozen=True)
class Threshold:
    """Largest score that is let in; math.inf = everything is. units, pixels: how many it was calibrated on."""

    value: float
    units: int
    pixels: int

    def to_dict(self) -> dict[str, Any]:
        """Plain values; an infinite threshold is None, because JSON has no infinity."""
        return {"value": None if math.isinf(self.value) else self.value, "units": self.units, "pixels": self.pixels}

    @classmethod
    def from_dict(cls, facts: dict[str, Any]) -> "Threshold":
        """The inverse of `to_dict`.

        >>> Threshold.from_dict(Threshold(math.inf, 3, 12).to_dict())
        Threshold(value=inf, units=3, pixels=12)
        """
        return cls(math.inf if facts["value"] is None else facts["value"], facts["units"], facts["pixels"])


def conformal_quantile(scores: FloatArray, coverage: float) -> float:
    """The ceil((n + 1) coverage)-th smallest of n scores; math.inf where that is beyond n, so that all is let in.

    A new score that is exchangeable with these is at most this large with a probability of `coverage` or more, and,
    without ties, at most coverage + 1 / (n + 1) (Angelopoulos & Bates 2021, arXiv:2107.07511, §1 and appendix D).

    >>> conformal_quantile(np.arange(19.0), 0.9), conformal_quantile(np.arange(5.0), 0.9)
    (17.0, inf)
    """
    return hierarchical_threshold(scores, np.arange(len(scores)), coverage).value


def fewest_units(coverage: float) -> int:
    """Smallest number of units with which a threshold can be finite.

    >>> fewest_units(0.9), fewest_units(0.95), fewest_units(0.5)
    (9, 19, 1)
    """
    exact = _exact(coverage)
    return math.ceil(exact / (1 - exact))


def hierarchical_threshold(scores: FloatArray, unit: NDArray[np.integer], coverage: float) -> Threshold:
    """Threshold from scores that are exchangeable between units only.

    scores: (pixel,); unit: (pixel,), the frame, block or sample of each. With K units every pixel of unit k gets the
    mass 1 / ((K + 1) N_k), infinity gets 1 / (K + 1), and the threshold is the quantile `coverage` of that. A pixel
    drawn at random from a new unit has a score up to it with a probability of `coverage` or more, on average over
    calibrations, however alike the pixels of a unit are; without ties at most coverage + 2 / (K + 1). It says nothing
    of the share of covered pixels in one given frame, nor of frames that differ in kind from these.
    Source: Lee, Barber & Willett 2023 (arXiv:2306.06342, §3). With one pixel for each unit this is the single
    subsampling of Dunn, Wasserman & Ramdas 2022 (arXiv:1809.07441), and the same as `conformal_quantile`.

    >>> hierarchical_threshold(np.array([1.0, 5.0, 2.0, 2.0, 2.0]), np.array([0, 0, 1, 1, 1]), 0.5)
    Threshold(value=2.0, units=2, pixels=5)
    """
    _, inverse, counts = np.unique(unit, return_inverse=True, return_counts=True)
    units, pixels = len(counts), len(scores)
    if np.isnan(scores).any():
        raise ArrayError("scores hold NaN")
    needed = _exact(coverage) * (units + 1)
    if needed > units:
        return Threshold(math.inf, units, pixels)
    order = np.argsort(scores, kind="stable")
    mass = np.cumsum(1 / counts[inverse[order]])
    # The sum of many 1 / N_k is off by rounding; whole numbers (a pixel for each unit) are exact up to this.
    place = int(np.searchsorted(mass, float(needed) * (1 - 1e-9), side="left"))
    return Threshold(float(scores[order[min(place, pixels - 1)]]), units, pixels)


def unit_of_pixels(units: Units, shape: Sequence[int]) -> NDArray[np.int64]:
    """Number of the unit of every pixel, int64 of `shape` (frame, ...), for reading only.

    units: "frame": each frame is a unit; "pixel": each pixel is one, which is right only where pixels do not resemble
    their neighbors: else the promise is broken (eleven frames of nearly equal pixels: 83 % are covered instead of
    90 %); or numbers, (frame,) such as the scan of each frame, or any shape that spreads over `shape`.

    >>> unit_of_pixels("frame", (2, 1, 3)).tolist(), unit_of_pixels(np.array([7, 7]), (2, 1, 2)).tolist()
    ([[[0, 0, 0]], [[1, 1, 1]]], [[[7, 7]], [[7, 7]]])
    """
    shape = tuple(shape)
    if isinstance(units, str):
        if units == "pixel":
            return np.arange(math.prod(shape), dtype=np.int64).reshape(shape)
        if units != "frame":
            raise SettingError(f"units is {units!r}; wanted 'frame', 'pixel' or an array of numbers")
        units = np.arange(shape[0])
    if not np.issubdtype(units.dtype, np.integer):
        raise ArrayError(f"units are of type {units.dtype}; wanted whole numbers")
    if units.ndim == 1:
        units = units.reshape(-1, *(1,) * (len(shape) - 1))
    try:
        return np.broadcast_to(units.astype(np.int64), shape)  # a view: one number for each frame, not each pixel
    except ValueError:
        raise ArrayError(
            f"units have shape {units.shape}; wanted ({shape[0]},) or one that spreads over {shape}"
        ) from None


def block_units(shape: Sequence[int], block_shape: Sequence[int]) -> NDArray[np.int64]:
    """Each block of each frame as a unit, int64 of `shape` (frame, y, x) or (frame, z, y, x).

    For calibration on too few frames to be units. The promise then is for a pixel of a new block that is exchangeable
    with these: blocks several times as wide as the correlation of the errors, spread over the frame, from frames of the
    same kind. Blocks that touch are still correlated a little, and a new frame that differs as a whole is not covered.

    >>> block_units((1, 2, 5), (2, 2)).tolist()
    [[[0, 0, 1, 1, 2], [0, 0, 1, 1, 2]]]
    """
    shape, block_shape = tuple(shape), tuple(block_shape)
    if len(block_shape) != len(shape) - 1 or min(block_shape) < 1:
        raise SettingError(f"block_shape is {block_shape}; wanted {len(shape) - 1} numbers of at least 1")
    axes = [np.arange(shape[0]), *(np.arange(s) // b for s, b in zip(shape[1:], block_shape, strict=True))]
    return np.ravel_multi_index(np.ix_(*axes), [int(axis[-1]) + 1 for axis in axes]).astype(np.int64)


def draw_from_units(unit: NDArray[np.integer], per_unit: int | None, seed: int) -> NDArray[np.int64]:
    """Indices of `per_unit` pixels of each unit, drawn at random, or of all where there are fewer; None = of all.

    The promise stays as it is; fewer pixels save memory and make the threshold vary more.

    >>> len(draw_from_units(np.array([0, 0, 0, 1]), 2, seed=0))
    3
    """
    if per_unit is None:
        return np.arange(len(unit))
    if per_unit < 1:
        raise SettingError(f"pixels_per_unit is {per_unit}; it must be at least 1, or None for all")
    order = np.lexsort((np.random.default_rng(seed).random(len(unit)), unit))
    in_order = unit[order]
    first = np.searchsorted(in_order, in_order, side="left")
    return np.sort(order[np.arange(len(unit)) - first < per_unit])


def _exact(coverage: float) -> Fraction:
    """The decimal that was written: as a float 0.9 is a little more, and (9 + 1) 0.9 would sometimes round up to 10."""
    if not 0 < coverage < 1:
        raise SettingError(f"coverage is {coverage}; it must be between 0 and 1, e.g. 0.9")
    return Fraction(str(float(coverage)))
