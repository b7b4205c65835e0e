"""What surrounds the pixels of a gap: how far the nearest measured pixel is, and how rough the frame is there."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import distance_transform_edt, uniform_filter

from dlsia_core.errors import ArrayError, SettingError

FloatArray = NDArray[np.float64]
BoolArray = NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class GapSurroundings:
    """Prepared once for the measured pixels of a frame, and used for all frames that measure with the same ones.

    measured: (row, column) bool. window: side of the square, in pixels, over which roughness is averaged, odd.
    distance: (row, column) float64, to the nearest measured pixel in pixels, 0 where measured.
    """

    measured: BoolArray
    window: int
    distance: FloatArray
    _pairs: FloatArray
    _source: NDArray[np.intp]

    @classmethod
    def of(cls, measured: BoolArray, window: int) -> "GapSurroundings":
        """Raises ArrayError for a frame that measured nothing, SettingError for a window that is even or below 3."""
        if measured.ndim != 2 or measured.dtype != np.bool_ or not measured.any():
            raise ArrayError(
                f"measured is {measured.dtype} {measured.shape}; wanted bool (row, column), some of it True"
            )
        if window < 3 or window % 2 == 0:
            raise SettingError(f"window is {window}; it must be odd and at least 3")
        distance, nearest = distance_transform_edt(~measured, return_indices=True)
        pairs = uniform_filter(_at_both(measured[1:] & measured[:-1], measured[:, 1:] & measured[:, :-1]), window)
        places = np.arange(measured.size).reshape(measured.shape)
        # The middle of a wide gap sees no pair: it is taken to be as rough as at the measured pixel next to it.
        source = np.where(_some(pairs, window), places, places[nearest[0], nearest[1]])
        return cls(measured, window, distance, pairs, source)

    def roughness(self, frame: NDArray[np.floating]) -> FloatArray:
        """Mean |difference| of measured pixels side by side, around every pixel: (row, column) float64, >= 0.

        frame: (row, column), of which only measured pixels matter. Noise and structure both make it large. 0 where no
        two pixels side by side were measured near the pixel, nor near the measured one next to it.

        >>> frame = np.array([[0.0, 1.0, 0.0, np.nan, 0.0, 1.0, 0.0]])
        >>> GapSurroundings.of(np.isfinite(frame), 3).roughness(frame).round(3).tolist()
        [[1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0]]
        """
        if frame.shape != self.measured.shape:
            raise ArrayError(f"frame has shape {frame.shape} and measured {self.measured.shape}; they must be the same")
        values = np.where(self.measured, frame, 0).astype(np.float64)
        rows = np.abs(np.diff(values, axis=0)) * (self.measured[1:] & self.measured[:-1])
        columns = np.abs(np.diff(values, axis=1)) * (self.measured[:, 1:] & self.measured[:, :-1])
        total = uniform_filter(_at_both(rows, columns), self.window)
        mean = np.zeros(total.shape)
        np.divide(total, self._pairs, out=mean, where=_some(self._pairs, self.window))
        # Running sums leave rounding, also below 0, where all pixels are the same.
        return np.asarray(np.maximum(mean, 0).ravel()[self._source])


def _at_both(rows: FloatArray | BoolArray, columns: FloatArray | BoolArray) -> FloatArray:
    """What belongs to pairs of neighbors along the rows' and the columns' axis, added up at both pixels of a pair."""
    both = np.zeros((columns.shape[0], rows.shape[1]))
    for part in (both[1:], both[:-1]):
        part += rows
    for part in (both[:, 1:], both[:, :-1]):
        part += columns
    return both


def _some(pairs: FloatArray, window: int) -> BoolArray:
    """Where there is a pair: a single one counts 1 / window² at one of its pixels."""
    return np.asarray(pairs > 0.5 / window**2)
