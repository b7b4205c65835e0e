"""How far a detector was moved between two exposures of one sample, from the frames alone.

The gaps, dead and hot pixels stay where they are on the detector while the scattering moves, so only pixels that
both frames measured are compared, each shift with its own set of them.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.fft import irfft, next_fast_len, rfft

from dlsia_core.errors import ArrayError, SettingError

FloatArray = NDArray[np.float64]
BoolArray = NDArray[np.bool_]

BIN_PX = 8  # across the motion; sums carry more counts, so that also weak frames decide between neighboring shifts
FEWEST_COUNTS = 2.0  # in a bin; below, the square root no longer makes the noise the same everywhere
SMALLEST_SHARE = 0.25  # of the bins that the best-covered shift compares


class PairError(ArrayError):
    """Two frames that are no pair of exposures of one sample, or no pair from which gaps can be filled."""


@dataclass(frozen=True)
class DetectorShift:
    """Where the scattering went: the pixel (row, column) of the first frame is (row + rows, column + columns) in the
    second. Either number is 0: detectors are moved along one axis.

    chi_square  mean square difference of the two frames at this shift over what Poisson noise makes; about 1
    runner_up   the second best shift (rows, columns)
    margin      by how many standard deviations of the noise the runner-up is worse
    """

    rows: int
    columns: int
    chi_square: float
    runner_up: tuple[int, int]
    margin: float


def find_shift(
    first: NDArray[Any],
    second: NDArray[Any],
    first_valid: BoolArray,
    second_valid: BoolArray,
    *,
    largest_shift: int = 64,
    smallest_margin: float = 5.0,
) -> DetectorShift:
    """The whole number of rows or columns by which the scattering moved between two frames of counts (row, column).

    *_valid          (row, column) bool, True = measured
    largest_shift    search up to that many rows and columns in both directions
    smallest_margin  how far the runner-up must be behind, in standard deviations, for the answer to count

    For each shift the square roots of the counts (2 sqrt(c + 3/8), Anscombe 1948: variance 1 at every level) are
    compared wherever both frames were measured, with the best factor between the exposures; the smallest mean
    square difference wins. Sums over 8 pixels across the motion are compared, so sub-pixel motion is not seen.

    Raises PairError for frames of unequal shape, with too few counts or without a clear winner.
    """
    _check_pair(first, second, first_valid, second_valid)
    if not 1 <= largest_shift < min(first.shape):
        raise SettingError(f"largest_shift is {largest_shift}; it must be 1 to {min(first.shape) - 1} for these frames")
    shifts = np.arange(-largest_shift, largest_shift + 1)
    along_rows = _compare(first, second, first_valid, second_valid, shifts)
    along_columns = _compare(first.T, second.T, first_valid.T, second_valid.T, shifts)
    along_columns[0][shifts == 0] = np.inf  # no shift at all is already among the rows
    chi_square, n_bins = (np.concatenate(pair) for pair in zip(along_rows, along_columns, strict=True))
    moves = [(int(shift), 0) for shift in shifts] + [(0, int(shift)) for shift in shifts]
    if np.isfinite(chi_square).sum() < 2:
        raise PairError(
            "shift not found: too few counts in the pixels that both frames measured; give the shift, or longer "
            "exposures"
        )
    best, runner_up = np.argsort(chi_square, kind="stable")[:2]
    margin = (chi_square[runner_up] - chi_square[best]) * np.sqrt(n_bins[best] / 2)
    rows, columns = moves[best]
    found = DetectorShift(rows, columns, float(chi_square[best]), moves[runner_up], float(margin))
    if not margin >= smallest_margin:
        raise PairError(
            f"shift not found: {moves[best]} and {moves[runner_up]} (rows, columns) fit almost equally well (margin "
            f"{margin:.1f}, wanted {smallest_margin:g} standard deviations); give the shift, or check that both frames "
            "show the same sample"
        )
    if abs(found.rows + found.columns) == largest_shift:
        raise PairError(
            f"shift not found: the best one, {moves[best]} (rows, columns), is the largest that was tried; raise "
            f"largest_shift above {largest_shift}"
        )
    return found


def common_area(shape: tuple[int, int], shift: tuple[int, int]) -> tuple[tuple[slice, slice], tuple[slice, slice]]:
    """The part of two frames that shows the same scattering: slices (rows, columns) into the first and the second.

    >>> first, second = common_area((5, 4), (2, 0))
    >>> first[0], second[0]
    (slice(0, 3, None), slice(2, 5, None))
    """
    if any(abs(move) >= size for move, size in zip(shift, shape, strict=True)):
        raise PairError(f"no common area: a shift of {shift} px leaves nothing of frames of {shape} px")
    first = tuple(slice(max(0, -move), size - max(0, move)) for move, size in zip(shift, shape, strict=True))
    second = tuple(slice(max(0, move), size - max(0, -move)) for move, size in zip(shift, shape, strict=True))
    return (first[0], first[1]), (second[0], second[1])


def _compare(
    first: NDArray[Any], second: NDArray[Any], first_valid: BoolArray, second_valid: BoolArray, shifts: NDArray[np.intp]
) -> tuple[FloatArray, FloatArray]:
    """Reduced chi-square (infinite where too little is compared) and number of bins for every shift along axis 0."""
    a, used = _stabilized(first, first_valid)
    b, used_b = _stabilized(second, second_valid)
    length = next_fast_len(a.shape[0] + int(shifts[-1]), real=True)
    first_sums = [rfft(part, length, axis=0) for part in (used, a, a * a)]
    second_sums = [rfft(part, length, axis=0) for part in (used_b, b, b * b)]

    def summed(i: int, j: int) -> FloatArray:
        """Sum over all bins of part i of the first times part j of the second, at every shift."""
        over_columns = (np.conj(first_sums[i]) * second_sums[j]).sum(axis=1)
        return np.asarray(irfft(over_columns, length))[shifts]

    n_bins = np.rint(summed(0, 0))
    with np.errstate(divide="ignore", invalid="ignore"):
        factor = summed(1, 1) / summed(0, 2)
        left_over = summed(2, 0) - factor * summed(1, 1)
        chi_square = left_over / (n_bins * (1 + factor**2))
    few = n_bins < max(SMALLEST_SHARE * n_bins.max(initial=0), 100)
    return np.where(few, np.inf, chi_square), n_bins


def _stabilized(counts: NDArray[Any], valid: BoolArray) -> tuple[FloatArray, FloatArray]:
    """Square roots of sums over bins across axis 0, 0 where a bin is not wholly measured; and 1 where it is, else 0.

    Single pixels far above their bin are cut down: a hot pixel outweighs a frame, and stays where it is at a motion.
    """
    n_bins = max(counts.shape[1] // BIN_PX, 1)
    width = counts.shape[1] // n_bins
    binned = np.where(valid, counts, 0)[:, : n_bins * width].reshape(-1, n_bins, width).astype(np.float64)
    np.minimum(binned, 50 + 5 * np.median(binned, axis=2, keepdims=True), out=binned)
    sums = binned.sum(axis=2)
    whole = valid[:, : n_bins * width].reshape(-1, n_bins, width).all(axis=2) & (sums >= FEWEST_COUNTS)
    return np.where(whole, 2 * np.sqrt(np.maximum(sums, 0) + 0.375), 0.0), whole.astype(np.float64)


def _check_pair(first: NDArray[Any], second: NDArray[Any], first_valid: BoolArray, second_valid: BoolArray) -> None:
    if first.ndim != 2 or not first.shape == second.shape == first_valid.shape == second_valid.shape:
        raise PairError(
            f"frames of {first.shape} and {second.shape} px, valid {first_valid.shape} and {second_valid.shape}; two "
            "exposures of one detector have the same shape (row, column)"
        )
    for name, counts in (("first", first), ("second", second)):
        if counts.dtype.kind not in "iuf":
            raise ArrayError(f"the {name} frame is {counts.dtype}; wanted counts")
    for name, valid in (("first", first_valid), ("second", second_valid)):
        if valid.dtype != np.bool_:
            raise ArrayError(f"valid of the {name} frame is {valid.dtype}; wanted bool, True = measured")
