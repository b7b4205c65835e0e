"""What all classical methods ask of a frame, and promise about it."""

from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from dlsia_core.errors import ArrayError

Real = TypeVar("Real", bound=np.floating[Any])


def gap_of(frame: NDArray[Real]) -> NDArray[np.bool_]:
    """Pixels (row, column) that were not measured, of a frame that can be filled.

    Raises ArrayError for other than floats of two axes, for infinite values, and for a frame without measured pixels.
    """
    if frame.ndim != 2 or frame.dtype.kind != "f":
        raise ArrayError(f"a frame must be floats (row, column), got dtype {frame.dtype}, shape {frame.shape}")
    if np.isinf(frame).any():
        raise ArrayError("the frame holds infinity; NaN is what marks a gap")
    gap: NDArray[np.bool_] = np.isnan(frame)
    if gap.all():
        raise ArrayError(f"the frame of {frame.shape} px holds no measured pixel to fill its gaps from")
    return gap


def with_gap(frame: NDArray[Real], gap: NDArray[np.bool_], values: NDArray[Any]) -> NDArray[Real]:
    """The frame with `values` (gap pixels in row-major order) in its gap; everything else keeps its bits.

    Raises ArrayError where a value is not finite.
    """
    if not np.isfinite(values).all():
        raise ArrayError(
            f"{np.count_nonzero(~np.isfinite(values))} of {values.size} gap pixels have no finite answer; too little "
            "was measured around them for this method"
        )
    filled = frame.copy()
    filled[gap] = values
    return filled
