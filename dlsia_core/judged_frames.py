"""Frames with gaps whose truth is known: what a method is shown, what is true, and which pixels are judged.

Horizontal gaps are the detector's own, seen by a second exposure; vertical ones are put over measured pixels
(Chavez et al. 2022, sections 2.2 and 4.3).
"""

from dataclasses import dataclass, replace
from typing import Any, Final, Literal

import numpy as np
from numpy.typing import NDArray

from dlsia_core.errors import ArrayError, SettingError
from dlsia_core.exposure_shift import PairError, find_shift
from dlsia_core.exposures import DEFAULT_SCALE, MergedExposures, PairLimits, merge_exposures
from dlsia_core.gaps import gap_rows
from dlsia_core.intensity import LogScale
from dlsia_core.judged_gaps import Direction, paper_vertical_gaps, shifted_gaps, true_horizontal_gaps

FloatArray = NDArray[np.float32]
BoolArray = NDArray[np.bool_]
FluxRule = Literal["auto", "keep", "scale"]

DEFAULT_LIMITS: Final = PairLimits()


@dataclass(frozen=True, eq=False)
class JudgedFrame:
    """One frame to fill; all arrays (row, column).

    gaps    "horizontal" or "vertical"
    shown   what a method gets, NaN = not measured or hidden
    truth   finite wherever `judged`
    judged  True = the pixel counts; never True where `shown` is finite
    """

    gaps: Direction
    shown: FloatArray
    truth: FloatArray
    judged: BoolArray


def horizontal_frame(shown: FloatArray, truth: FloatArray) -> JudgedFrame:
    """The detector's horizontal gaps; truth: the merged exposures, normalized as `shown` is.

    Raises ArrayError where the second exposure shows no pixel of them.
    """
    return JudgedFrame("horizontal", shown, truth, true_horizontal_gaps(np.isfinite(shown), np.isfinite(truth)))


def vertical_frame(frame: FloatArray, hidden: BoolArray) -> JudgedFrame:
    """Artificial gaps over measured pixels of a frame, see `draw_vertical_gaps`.

    Raises ArrayError where nothing measured is hidden, and where nothing else is left to fill from.

    >>> frame = np.array([[1.0, 2.0, np.nan, 4.0]], dtype=np.float32)
    >>> case = vertical_frame(frame, np.array([[False, True, True, False]]))
    >>> case.shown.tolist(), case.judged.tolist()
    ([[1.0, nan, nan, 4.0]], [[False, True, False, False]])
    """
    measured = np.isfinite(frame)
    judged = hidden & measured
    if not judged.any():
        raise ArrayError("no measured pixel lies in the artificial gaps")
    if not (measured & ~hidden).any():
        raise ArrayError("all measured pixels lie in the artificial gaps; nothing is left to fill them from")
    return JudgedFrame("vertical", np.where(hidden, np.float32(np.nan), frame), frame, judged)


def draw_vertical_gaps(measured: BoolArray, rng: np.random.Generator) -> BoolArray:
    """Artificial vertical gaps of a detector that measures with `measured` (row, column): bool, True = hide.

    As in the paper where its rule works (`paper_vertical_gaps`), else the detector's own gaps moved together.
    Raises SettingError for a detector without vertical gaps, and where they cannot be moved.
    """
    try:
        return paper_vertical_gaps(measured, rng)
    except SettingError:
        return shifted_gaps(measured, "vertical", rng)


def has_gaps(measured: BoolArray, direction: Direction) -> bool:
    """Whether gaps of a direction can be judged on the detector, if a second exposure shows the horizontal ones.

    >>> measured = np.ones((4, 9), dtype=bool)
    >>> measured[:, 4] = False
    >>> has_gaps(measured, "vertical"), has_gaps(measured, "horizontal")
    (True, False)
    """
    if direction == "horizontal":
        return bool(gap_rows(measured))
    try:
        draw_vertical_gaps(measured, np.random.default_rng(0))
    except SettingError:
        return False
    return True


def merge_pair(
    first: NDArray[Any],
    second: NDArray[Any],
    first_valid: BoolArray,
    second_valid: BoolArray,
    *,
    shift: tuple[int, int] | None = None,
    flux: FluxRule = "auto",
    limits: PairLimits = DEFAULT_LIMITS,
    scale: LogScale = DEFAULT_SCALE,
) -> tuple[MergedExposures, float]:
    """`merge_exposures`, and the factor by which the second exposure's counts were multiplied to fill the gaps.

    flux  "auto": as recorded (factor 1), the paper's rule, where the two exposures agree; times the ratio of their
          counts where that alone keeps them from being a pair

    Raises PairError for frames that are no pair.
    """
    search = None
    if shift is None:
        reach = min(limits.largest_shift, min(first.shape) - 1)
        search = find_shift(
            first, second, first_valid, second_valid, largest_shift=reach, smallest_margin=limits.smallest_margin
        )
        shift = (search.rows, search.columns)

    def merged(rule: Literal["keep", "scale"]) -> MergedExposures:
        found = merge_exposures(
            first, second, first_valid, second_valid, shift=shift, flux=rule, limits=limits, scale=scale
        )
        return replace(found, search=search)

    if flux == "scale":
        found = merged("scale")
        return found, found.agreement.flux_ratio
    try:
        return merged("keep"), 1.0
    except PairError:
        if flux == "keep":
            raise
    # Fails once more, and with the same message, where the flux is not what keeps them apart.
    found = merged("scale")
    return found, found.agreement.flux_ratio
