"""The classical methods by name, all called alike."""

from collections.abc import Callable
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from dlsia_core.classical.azimuthal import azimuthal, azimuthal_harmonic
from dlsia_core.classical.frames import Real, gap_of
from dlsia_core.classical.geometry import BeamGeometry
from dlsia_core.classical.smooth import biharmonic, harmonic
from dlsia_core.errors import SettingError
from dlsia_core.gaps import fill_linear


def linear(frame: NDArray[Real]) -> NDArray[Real]:
    """Fill gaps by linear interpolation, `dlsia_core.gaps.fill_linear`, for one frame (row, column).

    Raises ArrayError for frames that cannot be filled.
    """
    gap_of(frame)
    return fill_linear(frame)


@dataclass(frozen=True)
class ClassicalMethod:
    """How to call a method.

    fill        frame (row, column), NaN = not measured -> the same with values everywhere; with the beam as a second
                argument where `needs_beam`
    needs_beam  it works only where the beam center is known
    """

    fill: Callable[..., NDArray[Any]]
    needs_beam: bool = False


@dataclass(frozen=True, eq=False)
class ClassicalFill:
    """A filled frame.

    method  name in CLASSICAL_METHODS
    values  (row, column), dtype of the frame, finite; measured pixels to the bit as they were
    filled  (row, column) bool, True where the method put the value
    """

    method: str
    values: NDArray[Any]
    filled: NDArray[np.bool_]


CLASSICAL_METHODS: Final = MappingProxyType(
    {
        "biharmonic": ClassicalMethod(biharmonic),
        "linear": ClassicalMethod(linear),
        "harmonic": ClassicalMethod(harmonic),
        "azimuthal": ClassicalMethod(azimuthal, needs_beam=True),
        "azimuthal_harmonic": ClassicalMethod(azimuthal_harmonic, needs_beam=True),
    }
)


def fill_gaps(frame: NDArray[Real], method: str, geometry: BeamGeometry | None = None) -> ClassicalFill:
    """Fill the gaps of one frame (row, column), NaN = not measured, by a method of CLASSICAL_METHODS.

    geometry  where the beam is, for methods that need it; the others are the same with and without

    Raises SettingError for an unknown method and for one that lacks the beam center, ArrayError for frames that
    cannot be filled.

    >>> fill_gaps(np.array([[1.0, np.nan, 3.0]]), "azimuthal", BeamGeometry(0, -5)).values.tolist()
    [[1.0, 2.0, 3.0]]
    """
    if method not in CLASSICAL_METHODS:
        raise SettingError(f"unknown classical method {method!r}; known: {', '.join(CLASSICAL_METHODS)}")
    chosen = CLASSICAL_METHODS[method]
    if not chosen.needs_beam:
        values = chosen.fill(frame)
    elif geometry is not None:
        values = chosen.fill(frame, geometry)
    else:
        others = ", ".join(name for name, other in CLASSICAL_METHODS.items() if not other.needs_beam)
        raise SettingError(f"{method} needs the beam center; give a geometry, or use {others}")
    return ClassicalFill(method, values, np.isnan(frame))
