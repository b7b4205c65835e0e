"""Where the beam meets a frame, so that pixels at the same scattering angle can be found."""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from dlsia_core.errors import SettingError

FloatArray = NDArray[np.float64]


@dataclass(frozen=True)
class BeamGeometry:
    """Beam center and pixel size of a frame (row, column); whole numbers are the centers of pixels.

    row, column            where the direct beam meets the detector, pixels; it may lie outside the frame
    row_size, column_size  height and width of a pixel, in any one unit; they differ after most resizes

    Circles around the center stand for cones of scattering, so the detector must face the beam (no tilt).

    >>> BeamGeometry(0, 1).radius((1, 4)).tolist()
    [[1.0, 0.0, 1.0, 2.0]]
    """

    row: float
    column: float
    row_size: float = 1.0
    column_size: float = 1.0

    def __post_init__(self) -> None:
        if not (math.isfinite(self.row) and math.isfinite(self.column)):
            raise SettingError(f"the beam center is ({self.row}, {self.column}); wanted two finite pixel positions")
        if not all(math.isfinite(size) and size > 0 for size in (self.row_size, self.column_size)):
            raise SettingError(f"pixels are {self.row_size} by {self.column_size}; wanted two sizes greater than 0")

    def resized(self, frame_shape: tuple[int, int], resized_shape: tuple[int, int]) -> "BeamGeometry":
        """The same beam on the frame resized from `frame_shape` to `resized_shape`, (row, column) each.

        >>> BeamGeometry(1.5, 0.0).resized((8, 3), (2, 3))
        BeamGeometry(row=0.0, column=0.0, row_size=4.0, column_size=1.0)
        """
        (rows, columns), (new_rows, new_columns) = frame_shape, resized_shape
        if min(rows, columns, new_rows, new_columns) < 1:
            raise SettingError(f"cannot resize {frame_shape} to {resized_shape}: every side needs at least 1 pixel")
        return BeamGeometry(
            (self.row + 0.5) * new_rows / rows - 0.5,
            (self.column + 0.5) * new_columns / columns - 0.5,
            self.row_size * rows / new_rows,
            self.column_size * columns / new_columns,
        )

    def radius(self, shape: tuple[int, int]) -> FloatArray:
        """Distance of every pixel from the beam, (row, column) float64, in units of the pixel sizes."""
        below, right = self._offsets(shape)
        return np.asarray(np.hypot(below, right))

    def angle(self, shape: tuple[int, int]) -> FloatArray:
        """Direction of every pixel, (row, column) float64 in turns [0, 1), from the columns' axis towards the rows'."""
        below, right = self._offsets(shape)
        turns = np.arctan2(below, right) / (2 * np.pi) % 1.0
        return np.where(turns < 1, turns, 0.0)  # the remainder of a tiny negative turn rounds to 1

    def _offsets(self, shape: tuple[int, int]) -> tuple[FloatArray, FloatArray]:
        rows, columns = (np.arange(size, dtype=np.float64) for size in shape)
        return ((rows - self.row) * self.row_size)[:, None], ((columns - self.column) * self.column_size)[None, :]
