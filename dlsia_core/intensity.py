"""Scales between counts and the numbers a network sees: explicit, invertible, storable as JSON.

The papers normalize and take the logarithm but give no constants (Chavez et al. 2022, section 2.1). Here
the constants are fields of a scale that travels with the data, and nothing is clipped: `restore` undoes
`normalize` for every value, also for real negative counts and for counts above the ceiling.
"""

import dataclasses
import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from dlsia_core.errors import ArrayError, SettingError


class IntensityScale(Protocol):
    """What every scale can do; NaN means "not measured" and stays NaN in both directions."""

    def normalize(self, counts: npt.ArrayLike) -> npt.NDArray[np.float32]: ...

    def restore(self, normalized: npt.ArrayLike) -> npt.NDArray[np.float64]: ...

    def to_dict(self) -> dict[str, Any]: ...


@dataclass(frozen=True)
class LogScale:
    """Signed logarithm: n = sign(c) log(1 + |c| / unit) / log(1 + ceiling / unit).

    For c >= 0 this is the plain logarithm with log1p(0) = 0; `ceiling_counts` maps to 1 and larger counts
    exceed 1. Near zero (|c| much less than `unit_counts`) the scale is linear.

    unit_counts     counts at which the scale turns from linear to logarithmic
    ceiling_counts  counts that become 1

    >>> scale = LogScale(unit_counts=1, ceiling_counts=1023)
    >>> scale.normalize([0, 1, 31, 1023, -31]).tolist()
    [0.0, 0.10000000149011612, 0.5, 1.0, -0.5]
    >>> scale.restore([0.5]).round(6).tolist()
    [31.0]
    """

    unit_counts: float = 1.0
    ceiling_counts: float = 2.0**20

    def __post_init__(self) -> None:
        _check_finite(self)
        if self.unit_counts <= 0 or self.ceiling_counts <= 0:
            raise SettingError(
                f"LogScale needs unit_counts > 0 and ceiling_counts > 0, got unit_counts={self.unit_counts}, "
                f"ceiling_counts={self.ceiling_counts}"
            )
        if not 0 < self._log_range < math.inf:
            raise SettingError(
                f"LogScale cannot span unit_counts={self.unit_counts} to ceiling_counts={self.ceiling_counts}: "
                "their ratio is outside the range of floating-point numbers"
            )

    def normalize(self, counts: npt.ArrayLike) -> npt.NDArray[np.float32]:
        """Scale counts of any shape and real dtype to float32; the result is always a new array.

        Integers and float32 are computed in float32 (rounding below 1e-6 of the value), float64 in float64.

        Raises ArrayError for arrays that are not real numbers and where |counts| / unit_counts overflows.
        """
        signed = _working_copy(counts)
        magnitude = np.abs(signed)
        with _overflow_is_an_error("normalize", self):
            magnitude /= self.unit_counts
        np.log1p(magnitude, out=magnitude)
        magnitude /= self._log_range
        normalized: npt.NDArray[np.float32] = np.copysign(magnitude, signed).astype(np.float32, copy=False)
        return normalized

    def restore(self, normalized: npt.ArrayLike) -> npt.NDArray[np.float64]:
        """Undo `normalize`: counts as float64, any shape.

        One rounding of float32 in `normalized` is about 1e-6 of the counts at the default constants, so
        recorded integers up to 2**18 come back exactly after rounding.

        Raises ArrayError for arrays that are not real numbers and for values whose counts overflow.
        """
        signed = _real_numbers(normalized).astype(np.float64)
        magnitude = np.abs(signed)
        with _overflow_is_an_error("restore", self):
            magnitude *= self._log_range
            np.expm1(magnitude, out=magnitude)
            magnitude *= self.unit_counts
        return np.copysign(magnitude, signed, out=magnitude)

    def to_dict(self) -> dict[str, Any]:
        """All constants with the tag "kind", for JSON; `scale_from_dict` reads it back."""
        return _tagged("log", self)

    @property
    def _log_range(self) -> float:
        return math.log1p(self.ceiling_counts / self.unit_counts)


@dataclass(frozen=True)
class LinearScale:
    """Straight line: n = (c - offset) / (ceiling - offset).

    offset_counts   counts that become 0
    ceiling_counts  counts that become 1

    >>> LinearScale(offset_counts=10, ceiling_counts=30).normalize([10, 20, 50]).tolist()
    [0.0, 0.5, 2.0]
    """

    offset_counts: float = 0.0
    ceiling_counts: float = 2.0**20

    def __post_init__(self) -> None:
        _check_finite(self)
        if self.ceiling_counts <= self.offset_counts:
            raise SettingError(
                f"LinearScale needs ceiling_counts > offset_counts, got offset_counts={self.offset_counts}, "
                f"ceiling_counts={self.ceiling_counts}"
            )

    def normalize(self, counts: npt.ArrayLike) -> npt.NDArray[np.float32]:
        """Scale counts of any shape and real dtype to float32; the result is always a new array.

        Raises ArrayError for arrays that are not real numbers.
        """
        shifted = _working_copy(counts)
        shifted -= self.offset_counts
        shifted /= self.ceiling_counts - self.offset_counts
        return shifted.astype(np.float32, copy=False)

    def restore(self, normalized: npt.ArrayLike) -> npt.NDArray[np.float64]:
        """Undo `normalize`: counts as float64, any shape. Raises ArrayError if not real numbers."""
        counts = _real_numbers(normalized).astype(np.float64)
        counts *= self.ceiling_counts - self.offset_counts
        counts += self.offset_counts
        return counts

    def to_dict(self) -> dict[str, Any]:
        """All constants with the tag "kind", for JSON; `scale_from_dict` reads it back."""
        return _tagged("linear", self)


_KINDS: dict[str, type[LogScale] | type[LinearScale]] = {"log": LogScale, "linear": LinearScale}


def scale_from_dict(stored: Mapping[str, Any]) -> LogScale | LinearScale:
    """Rebuild a scale from what its `to_dict` gave.

    Raises SettingError for an unknown kind, for unknown or missing constants, and for what is not a number:
    a constant that were silently filled in would restore wrong counts.

    >>> scale_from_dict({"kind": "log", "unit_counts": 1.0, "ceiling_counts": 1000.0})
    LogScale(unit_counts=1.0, ceiling_counts=1000.0)
    """
    constants = dict(stored)
    kind = constants.pop("kind", None)
    if kind not in _KINDS:
        raise SettingError(f"unknown kind of intensity scale {kind!r}; known: {', '.join(sorted(_KINDS))}")
    known = [field.name for field in dataclasses.fields(_KINDS[kind])]
    if set(constants) != set(known):
        raise SettingError(
            f"intensity scale {kind!r} needs exactly the constants {', '.join(known)}; "
            f"unknown: {sorted(set(constants) - set(known))}, missing: {sorted(set(known) - set(constants))}"
        )
    return _KINDS[kind](**constants)


def _tagged(kind: str, scale: LogScale | LinearScale) -> dict[str, Any]:
    return {"kind": kind} | {name: float(constant) for name, constant in dataclasses.asdict(scale).items()}


def _check_finite(scale: LogScale | LinearScale) -> None:
    for name, constant in dataclasses.asdict(scale).items():
        if isinstance(constant, bool) or not isinstance(constant, int | float) or not math.isfinite(constant):
            raise SettingError(f"{name} of {type(scale).__name__} must be a finite number, got {constant!r}")


def _real_numbers(array: npt.ArrayLike) -> npt.NDArray[Any]:
    numbers = np.asarray(array)
    if not (np.issubdtype(numbers.dtype, np.integer) or np.issubdtype(numbers.dtype, np.floating)):
        raise ArrayError(f"an intensity scale needs integers or floats, got an array of dtype {numbers.dtype}")
    return numbers


def _working_copy(counts: npt.ArrayLike) -> npt.NDArray[Any]:
    """Contiguous copy: NumPy's vector and scalar loops may round apart, so memory layout must not choose."""
    numbers = _real_numbers(counts)
    return np.array(numbers, dtype=np.float64 if numbers.dtype == np.float64 else np.float32, order="C")


@contextmanager
def _overflow_is_an_error(action: str, scale: LogScale) -> Iterator[None]:
    """Nothing is clipped, so a value beyond the float range must not become infinity in silence."""
    try:
        with np.errstate(over="raise"):
            yield
    except FloatingPointError:
        raise ArrayError(
            f"cannot {action} with {scale}: a value leaves the range of floating-point numbers; "
            "look for garbage in the array, or choose a larger unit_counts"
        ) from None
