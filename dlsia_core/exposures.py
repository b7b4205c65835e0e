"""Two exposures of one sample with the detector moved between them, made into one frame without horizontal gaps.

The paper's rule (Chavez et al. 2022, section 2): what the first exposure lacks is taken from the second, and nothing
is averaged, so that the noise is that of one exposure everywhere.
"""

from dataclasses import dataclass
from typing import Any, Final, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from dlsia_core.errors import ArrayError, SettingError
from dlsia_core.exposure_shift import DetectorShift, PairError, common_area, find_shift
from dlsia_core.intensity import LogScale

BoolArray = NDArray[np.bool_]
FloatArray = NDArray[np.float64]
Flux = Literal["keep", "scale"]

DEFAULT_SCALE: Final = LogScale()
FROM_FIRST: Final = 0
FROM_SECOND: Final = 1
FROM_NEITHER: Final = 2
BLOCK_PX = 8
OUTLIER = 5.0  # standard deviations; a block counts with at most this much, so that a hot pixel cannot spoil a pair


@dataclass(frozen=True)
class PairLimits:
    """What two frames must be to count as two exposures of one sample.

    largest_shift           px; a longer motion is not looked for
    smallest_margin         standard deviations between the best shift and the next
    largest_chi_square      mean square difference over what Poisson noise and `systematic` explain, in blocks of 8 x 8
    systematic              relative error of a block that is no noise: flat field, sub-pixel motion
    largest_flux_difference |ratio - 1| up to which counts are filled in unscaled (flux="keep")
    smallest_common_share   of the pixels that must be measured by both
    """

    largest_shift: int = 64
    smallest_margin: float = 5.0
    largest_chi_square: float = 1.5
    systematic: float = 0.03
    largest_flux_difference: float = 0.05
    smallest_common_share: float = 0.1

    def __post_init__(self) -> None:
        if not (self.largest_chi_square > 0 and self.systematic >= 0 and self.largest_flux_difference >= 0):
            raise SettingError(f"limits of a pair cannot be negative, the largest chi-square not 0: {self}")
        if not 0 < self.smallest_common_share <= 1:
            raise SettingError(f"smallest_common_share is {self.smallest_common_share}; it must be above 0, at most 1")


@dataclass(frozen=True)
class Agreement:
    """Two exposures against each other on the pixels that both measured, at the detector's resolution.

    n_pixels       that both measured
    flux_ratio     total counts of the first over those of the second there, without outliers (Poisson's best
                   estimate): the ratio of exposure time times flux
    flux_error     standard deviation of `flux_ratio` by Poisson noise
    l1, pearson_r  of log(1 + counts), normalized by the given scale, the second exposure multiplied by `flux_ratio`;
                   r is None where a side is constant
    chi_square     mean square difference of blocks over what noise and systematic error explain; about 1 for a pair
    outliers       share of blocks that differ by more than 5 standard deviations
    """

    n_pixels: int
    flux_ratio: float
    flux_error: float
    l1: float
    pearson_r: float | None
    chi_square: float
    outliers: float


@dataclass(frozen=True, eq=False)
class MergedExposures:
    """A frame filled from a second exposure.

    counts    (row, column): the first exposure to the bit where it measured, the second elsewhere (as recorded with
              flux="keep", times the flux ratio as float64 with "scale"), 0 where neither did
    valid     (row, column) bool, True where either measured
    origin    (row, column) uint8: 0 first, 1 second, 2 neither
    shift     (rows, columns) from the first to the second
    search    how the shift was found; None where it was given
    """

    counts: NDArray[Any]
    valid: BoolArray
    origin: NDArray[np.uint8]
    shift: tuple[int, int]
    search: DetectorShift | None
    agreement: Agreement

    @property
    def n_filled(self) -> int:
        """Pixels taken from the second exposure."""
        return int(np.count_nonzero(self.origin == FROM_SECOND))


def merge_exposures(
    first: NDArray[Any],
    second: NDArray[Any],
    first_valid: BoolArray,
    second_valid: BoolArray,
    *,
    shift: tuple[int, int] | None = None,
    flux: Flux = "keep",
    limits: PairLimits = PairLimits(),
    scale: LogScale = DEFAULT_SCALE,
) -> MergedExposures:
    """Fill what the first exposure lacks from the second; counts and valid are (row, column), True = measured.

    shift  (rows, columns): where the scattering of the first frame's pixel (row, column) is in the second, (row +
           rows, column + columns); None: found by `find_shift`
    flux   "keep": counts as recorded, as in the paper, for exposures of equal time and flux; "scale": times the ratio
    scale  of L1 and Pearson r in the agreement

    Raises PairError, a kind of ArrayError, for frames of unequal shape, without a common area, of another sample,
    of unequal flux (with "keep"), whose shift is not found, and where the second has nothing to fill in.

    >>> first, second = np.arange(64).reshape(8, 8) + 100, np.arange(8, 72).reshape(8, 8) + 100
    >>> valid = np.ones((8, 8), dtype=bool)
    >>> valid[4] = False
    >>> merged = merge_exposures(first, second, valid, valid, shift=(-1, 0), limits=PairLimits(systematic=0.2))
    >>> merged.n_filled, bool((merged.counts == first).all())
    (8, True)
    """
    if flux not in get_args(Flux):
        raise SettingError(f"unknown flux {flux!r}; known: {', '.join(get_args(Flux))}")
    search = None
    if shift is None:
        search = find_shift(
            first,
            second,
            first_valid,
            second_valid,
            largest_shift=limits.largest_shift,
            smallest_margin=limits.smallest_margin,
        )
        shift = (search.rows, search.columns)
    moved, moved_valid = align(second, second_valid, shift)
    agreement = compare_exposures(first, moved, first_valid, moved_valid, limits=limits, scale=scale)
    _check_agreement(agreement, shift, flux, limits)
    origin = np.where(first_valid, FROM_FIRST, np.where(moved_valid, FROM_SECOND, FROM_NEITHER)).astype(np.uint8)
    if tuple(shift) == (0, 0) or not (origin == FROM_SECOND).any():
        raise PairError(
            f"the second exposure, moved by {shift} px (rows, columns), cannot fill the gaps of the first: the "
            "detector was not moved, or by a whole module"
        )
    filling = moved * agreement.flux_ratio if flux == "scale" else moved
    counts = np.where(origin == FROM_FIRST, first, np.where(origin == FROM_SECOND, filling, 0))
    return MergedExposures(counts, origin != FROM_NEITHER, origin, shift, search, agreement)


def align(counts: NDArray[Any], valid: BoolArray, shift: tuple[int, int]) -> tuple[NDArray[Any], BoolArray]:
    """The second exposure on the first one's pixels: counts (0 where nothing is known) and valid, (row, column).

    Raises PairError where a shift leaves no common area.

    >>> align(np.array([[1, 2, 3]]), np.array([[True, False, True]]), (0, 1))
    (array([[2, 3, 0]]), array([[False,  True, False]]))
    """
    if counts.ndim != 2 or counts.shape != valid.shape or valid.dtype != np.bool_:
        raise PairError(f"counts {counts.shape} and valid {valid.shape}, {valid.dtype}: wanted one shape, and bool")
    here, there = common_area((counts.shape[0], counts.shape[1]), shift)
    moved, moved_valid = np.zeros_like(counts), np.zeros(counts.shape, dtype=np.bool_)
    moved[here], moved_valid[here] = counts[there], valid[there]
    return moved, moved_valid


def compare_exposures(
    first: NDArray[Any],
    second: NDArray[Any],
    first_valid: BoolArray,
    second_valid: BoolArray,
    *,
    limits: PairLimits = PairLimits(),
    scale: LogScale = DEFAULT_SCALE,
) -> Agreement:
    """Compare two exposures that are aligned already (see `align`); arguments as for `merge_exposures`.

    The square difference of a block with n counts in both exposures together, (A - f B)^2, has the mean n f by Poisson
    noise alone, exactly and for every n > 0, with f the flux ratio.

    Raises PairError for frames of unequal shape, without a common area or without a single count there.
    """
    if first.ndim != 2 or not first.shape == second.shape == first_valid.shape == second_valid.shape:
        raise PairError(
            f"frames of {first.shape} and {second.shape} px, valid {first_valid.shape} and {second_valid.shape}; two "
            "exposures of one detector have the same shape (row, column)"
        )
    both = first_valid & second_valid
    n_pixels = int(np.count_nonzero(both))
    if n_pixels < limits.smallest_common_share * both.size:
        raise PairError(
            f"no common area: {n_pixels} of {both.size} px were measured in both exposures, wanted at least "
            f"{limits.smallest_common_share:.0%}"
        )
    a, b = (np.where(both, counts, 0).astype(np.float64) for counts in (first, second))
    if not (np.isfinite(a).all() and np.isfinite(b).all()):
        raise ArrayError("counts are not finite at measured pixels; valid must be False there")
    ratio, error, squares = _blocks(a, b, both, limits.systematic)
    one, two = (scale.normalize(part[both]).astype(np.float64) for part in (a, ratio * b))
    varies = one.std() > 0 and two.std() > 0
    return Agreement(
        n_pixels,
        ratio,
        error,
        float(np.abs(one - two).mean()),
        float(np.corrcoef(one, two)[0, 1]) if varies else None,
        float(np.minimum(squares, OUTLIER**2).mean()),
        float((squares > OUTLIER**2).mean()),
    )


def _blocks(a: FloatArray, b: FloatArray, both: BoolArray, systematic: float) -> tuple[float, float, FloatArray]:
    """Flux ratio, its error, and the square difference over its expectation of every block with at least one count.

    The ratio is that of the totals without outliers, since a few hot pixels can hold most of a frame's counts. It
    starts from the median share of the first exposure in the blocks with most counts, and settles in a few rounds.
    """
    first, second = _block_sums(a), _block_sums(b)
    counted = (first + second > 0) & (_block_sums(both.astype(np.float64)) > 0)
    first, second = first[counted], second[counted]
    total = first + second
    many = total >= np.median(total) if total.size else counted
    share = float(np.median(first[many] / total[many])) if total.size else 0.0
    squares, kept = np.zeros_like(total), np.ones(total.shape, dtype=np.bool_)
    for _ in range(4):
        if not 0 < share < 1:
            raise PairError(
                f"the common area holds {a.sum():g} and {b.sum():g} counts; both exposures need some, in most blocks"
            )
        ratio = share / (1 - share)
        explained = total * ratio + 2 * (systematic * total * share) ** 2
        squares = (first - ratio * second) ** 2 / explained
        kept = squares <= OUTLIER**2
        share = float(first[kept].sum() / max(total[kept].sum(), 1e-300))
    n_first, n_second = float(first[kept].sum()), float(second[kept].sum())
    return ratio, ratio * (1 / n_first + 1 / n_second) ** 0.5, squares


def _block_sums(values: FloatArray) -> FloatArray:
    rows, columns = (np.arange(0, size, BLOCK_PX) for size in values.shape)
    return np.asarray(np.add.reduceat(np.add.reduceat(values, rows, axis=0), columns, axis=1))


def _check_agreement(agreement: Agreement, shift: tuple[int, int], flux: Flux, limits: PairLimits) -> None:
    if not agreement.chi_square <= limits.largest_chi_square:
        raise PairError(
            f"the exposures disagree: at a shift of {shift} px (rows, columns) their mean square difference is "
            f"{agreement.chi_square:.2f} times what noise explains (allowed {limits.largest_chi_square:g}; "
            f"{agreement.outliers:.1%} of the blocks are outliers); another sample, beam damage, or a wrong shift"
        )
    difference = abs(agreement.flux_ratio - 1)
    if flux == "keep" and difference > limits.largest_flux_difference + 3 * agreement.flux_error:
        raise PairError(
            f"the first exposure has {agreement.flux_ratio:.3f} times the counts of the second, so these cannot be "
            'filled in as they are; use flux="scale", which multiplies them by that ratio'
        )
