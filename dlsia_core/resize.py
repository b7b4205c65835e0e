"""Resize detector frames without mixing measured and unmeasured pixels.

`AreaResizer` averages what was measured inside every resized pixel; `resize_bicubic` is the papers' way
(Chavez et al. 2022, section 2.1), which smears the edges of gaps into their neighbors.
"""

import math
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.sparse import csr_array

from dlsia_core.errors import ArrayError, SettingError

FloatArray = npt.NDArray[np.float64]


class AreaResizer:
    """Mask-aware area mean, prepared once for a frame shape and used for many frames.

    With R the fraction of every detector pixel that lies in a resized pixel, v = 1 where measured, c = counts:

        value = R_y (v c) R_x^T / (R_y v R_x^T),    coverage = R_y v R_x^T / area of a resized pixel

    and NaN where less than `min_coverage` of the resized pixel was measured. The same formula enlarges.
    The overlaps are kept as whole numbers (of 1/m pixels), so for integer counts below 2**53 / overlap area
    both sums are exact in float64, and every value is the correctly rounded float32 of the true mean. float32
    holds integers to 2**24: with equal shapes the values are the counts themselves up to there.

    frame_shape    (y, x) of the detector frames, pixels
    resized_shape  (row, column) of the result, pixels
    min_coverage   smallest measured fraction of a resized pixel that still counts as measured, in (0, 1]

    >>> counts = np.array([[1, 3, 5, -1], [1, 3, 5, -1]])
    >>> values, coverage = AreaResizer((2, 4), (1, 2)).resize(counts, counts >= 0)
    >>> values.tolist(), coverage.tolist()
    ([[2.0, 5.0]], [[1.0, 0.5]])
    """

    def __init__(self, frame_shape: tuple[int, int], resized_shape: tuple[int, int], min_coverage: float = 0.5) -> None:
        self.frame_shape = _checked_shape("frame_shape", frame_shape)
        self.resized_shape = _checked_shape("resized_shape", resized_shape)
        if not 0 < min_coverage <= 1:
            raise SettingError(
                f"min_coverage is the measured fraction of a resized pixel, above 0 and at most 1; got {min_coverage}"
            )
        self.min_coverage = min_coverage
        self._rows, row_area = _overlaps(self.frame_shape[0], self.resized_shape[0])
        self._columns, column_area = _overlaps(self.frame_shape[1], self.resized_shape[1])
        self._area = float(row_area * column_area)

    def coverage(self, valid: npt.NDArray[np.bool_]) -> FloatArray:
        """Measured fraction of every resized pixel, (row, column) float64 in [0, 1], from `valid` (y, x)."""
        self._check_frame("valid", valid)
        return self._sum_overlaps(valid.astype(np.float64)) / self._area

    def resize(
        self, counts: npt.NDArray[Any], valid: npt.NDArray[np.bool_], coverage: FloatArray | None = None
    ) -> tuple[npt.NDArray[np.float32], FloatArray]:
        """Values (row, column) float32, NaN where not measured, and their coverage (row, column) float64.

        counts    (y, x), any real dtype; what stands at unmeasured pixels never matters
        valid     (y, x) bool, True = measured
        coverage  `self.coverage(valid)`, for frames that share `valid`; the result is the same to the bit

        Raises ArrayError for arrays of another shape or dtype.
        """
        self._check_frame("counts", counts)
        coverage = self._coverage_for(valid, coverage)
        sums = self._sum_overlaps(_measured_only(counts, valid))
        measured_area = np.rint(coverage * self._area)  # whole numbers: undoes the division without a residue
        values = np.full(self.resized_shape, np.nan)
        np.divide(sums, measured_area, out=values, where=coverage >= self.min_coverage)
        return values.astype(np.float32), coverage

    def variance(self, variances: npt.NDArray[Any], valid: npt.NDArray[np.bool_]) -> FloatArray:
        """Variance of every value of `resize` for independent pixels: (row, column) float64, NaN where that is NaN.

        variances  (y, x), squared counts; for Poisson noise the expected counts themselves
        valid      (y, x) bool, True = measured

        >>> valid = np.array([[True, True, True, False]])
        >>> AreaResizer((1, 4), (1, 2)).variance(np.array([[4, 4, 9, 9]]), valid).tolist()
        [[2.0, 9.0]]
        """
        self._check_frame("variances", variances)
        coverage = self._coverage_for(valid, None)
        squared = self._rows.power(2) @ _measured_only(variances, valid)
        sums = np.ascontiguousarray((self._columns.power(2) @ np.ascontiguousarray(squared.T)).T)
        result = np.full(self.resized_shape, np.nan)
        np.divide(sums, np.rint(coverage * self._area) ** 2, out=result, where=coverage >= self.min_coverage)
        return result

    def _coverage_for(self, valid: npt.NDArray[np.bool_], known: FloatArray | None) -> FloatArray:
        self._check_frame("valid", valid)
        if known is None:
            return self.coverage(valid)
        if known.shape != self.resized_shape or known.dtype != np.float64:
            raise ArrayError(
                f"coverage must be float64 of shape (row, column) = {self.resized_shape}, as `coverage(valid)` "
                f"gives it; got dtype {known.dtype}, shape {known.shape}"
            )
        return known

    def _sum_overlaps(self, weighted: FloatArray) -> FloatArray:
        if self.frame_shape == self.resized_shape:
            return weighted  # what the products with two unit matrices would give, at a third of the time
        summed_rows = np.ascontiguousarray((self._rows @ weighted).T)
        return np.ascontiguousarray((self._columns @ summed_rows).T)

    def _check_frame(self, name: str, frame: npt.NDArray[Any]) -> None:
        if frame.shape != self.frame_shape:
            raise ArrayError(
                f"{name} has shape {frame.shape}, this resizer was prepared for (y, x) = {self.frame_shape}"
            )
        if name == "valid" and frame.dtype != np.bool_:
            raise ArrayError(f"valid must be bool, True = measured; got dtype {frame.dtype}")


def resize_bicubic(
    counts: npt.NDArray[Any],
    valid: npt.NDArray[np.bool_],
    resized_shape: tuple[int, int],
    min_coverage: float = 0.5,
    *,
    coverage: FloatArray | None = None,
    antialias: bool = False,
) -> npt.NDArray[np.float32]:
    """The papers' mode: plain bicubic with unmeasured pixels as 0, then NaN where too little was measured.

    Arrays as for `AreaResizer.resize`, whose coverage also decides here; values (row, column) float32. Kept for
    comparison with published results: the zeros of a gap are mixed into the measured pixels beside it (up to two
    detector pixels away), and the bicubic overshoots below 0 next to peaks. The paper says only "bicubic" (Chavez
    et al. 2022, section 2.1); `antialias=False` is what that means in torch, and takes 4 x 4 detector pixels per
    resized pixel whatever the factor. `antialias=True` widens the kernel by the factor when shrinking.

    Raises ArrayError for arrays of unequal shape or wrong dtype.
    """
    import torch  # takes seconds to import, and nothing else here needs it

    area = AreaResizer(counts.shape, resized_shape, min_coverage)
    coverage = area._coverage_for(valid, coverage)
    recorded = torch.from_numpy(_measured_only(counts, valid).astype(np.float32))
    resized = torch.nn.functional.interpolate(
        recorded[None, None], size=area.resized_shape, mode="bicubic", align_corners=False, antialias=antialias
    )
    return np.where(coverage >= min_coverage, resized[0, 0].numpy(), np.float32(np.nan))


def resized_coordinates(frame_size: int, resized_size: int) -> FloatArray:
    """Detector position of every resized pixel's center along one axis, in detector pixels, float64.

    Whole numbers are the centers of detector pixels, as in array indices.

    >>> resized_coordinates(8, 2).tolist()
    [1.5, 5.5]
    >>> resized_coordinates(3, 3).tolist()
    [0.0, 1.0, 2.0]
    """
    frame, resized = _checked_shape("(frame_size, resized_size)", (frame_size, resized_size))
    centers = np.arange(resized, dtype=np.float64) + 0.5
    return centers * (frame / resized) - 0.5


def _overlaps(frame_size: int, resized_size: int) -> tuple[csr_array, int]:
    """Overlap of every resized with every detector pixel as whole numbers, and their sum for one row.

    On a ruler with frame_size * resized_size marks a resized pixel is frame_size marks long and a detector
    pixel resized_size marks; both are divided by their greatest common divisor.

    >>> overlaps, length = _overlaps(3, 2)
    >>> overlaps.toarray().tolist(), length
    ([[2.0, 1.0, 0.0], [0.0, 1.0, 2.0]], 3)
    """
    divisor = math.gcd(frame_size, resized_size)
    resized_length, frame_length = frame_size // divisor, resized_size // divisor
    marks = np.union1d(np.arange(resized_size + 1) * resized_length, np.arange(frame_size + 1) * frame_length)
    position = (marks[:-1] // resized_length, marks[:-1] // frame_length)
    lengths = np.diff(marks).astype(np.float64)
    return csr_array((lengths, position), shape=(resized_size, frame_size)), resized_length


def _measured_only(counts: npt.NDArray[Any], valid: npt.NDArray[np.bool_]) -> FloatArray:
    """Counts as float64 with 0 at unmeasured pixels, also where NaN or infinity is recorded there."""
    if counts.dtype.kind not in "iuf":
        raise ArrayError(f"counts must be integers or floats, got dtype {counts.dtype}")
    if counts.dtype.kind == "f":
        return np.where(valid, counts, 0).astype(np.float64)
    measured: FloatArray = np.multiply(counts, valid, dtype=np.float64)  # twice as fast as where
    return measured


def _checked_shape(name: str, shape: tuple[int, int]) -> tuple[int, int]:
    if len(shape) != 2 or any(int(size) != size or size < 1 for size in shape):
        raise SettingError(f"{name} must be two whole numbers of pixels, each at least 1; got {shape}")
    return int(shape[0]), int(shape[1])
