"""Gaps filled from the pixels that the same scattering angle reaches."""

from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import map_coordinates

from dlsia_core.classical.frames import Real, gap_of, with_gap
from dlsia_core.classical.geometry import BeamGeometry
from dlsia_core.classical.smooth import harmonic
from dlsia_core.errors import SettingError

Statistic = Literal["mean", "median"]
FloatArray = NDArray[np.float64]


def azimuthal(
    frame: NDArray[Real],
    geometry: BeamGeometry,
    *,
    statistic: Statistic = "mean",
    bin_width: float = 1.0,
    sectors: int = 1,
) -> NDArray[Real]:
    """Fill gaps with what was measured at the same radius: (row, column) with NaN -> same shape and dtype, no NaN.

    geometry   where the beam is; a pixel's radius is its distance from there
    statistic  of the measured pixels of a ring
    bin_width  width of a ring, in units of the pixel's shorter side
    sectors    1: whole rings. More: the mean (median) deviation from the ring in each of that many sectors is added,
               interpolated between sectors and rings; a sector of a ring without measured pixels deviates by 0

    Between rings the value is interpolated linearly in radius, from the mean radius of each ring's measured pixels;
    within and beyond the measured radii the nearest ring stands.

    Raises ArrayError for frames that cannot be filled, SettingError for settings out of range.

    >>> frame = np.array([[5.0, 3.0, 9.0, np.nan, 5.0]])
    >>> azimuthal(frame, BeamGeometry(0, 2)).tolist()
    [[5.0, 3.0, 9.0, 3.0, 5.0]]
    """
    _check_settings(statistic, bin_width, sectors)
    gap = gap_of(frame)
    if not gap.any():
        return frame.copy()
    return with_gap(frame, gap, _surface(frame, gap, geometry, statistic, bin_width, sectors)[gap])


def azimuthal_harmonic(
    frame: NDArray[Real], geometry: BeamGeometry, *, statistic: Statistic = "mean", bin_width: float = 1.0
) -> NDArray[Real]:
    """The rings of `azimuthal`, plus what is left over when they are taken away, filled as by `harmonic`.

    Keeps sharp rings sharp across a gap and still meets the pixels at its edge; arguments as for `azimuthal`.
    """
    _check_settings(statistic, bin_width, 1)
    gap = gap_of(frame)
    if not gap.any():
        return frame.copy()
    rings = _surface(frame, gap, geometry, statistic, bin_width, 1)
    return with_gap(frame, gap, (rings + harmonic(frame.astype(np.float64) - rings))[gap])


def _surface(
    frame: NDArray[Real], gap: NDArray[np.bool_], geometry: BeamGeometry, statistic: Statistic, width: float, n: int
) -> FloatArray:
    """What rings (and sectors) expect of every pixel, (row, column) float64."""
    radius = geometry.radius(frame.shape) / (min(geometry.row_size, geometry.column_size) * width)
    # A beam far outside would make as many empty rings as it is away.
    ring = (radius - np.floor(radius.min())).astype(np.intp)
    measured = ~gap
    values = frame[measured].astype(np.float64)
    profile = _grouped(values, ring[measured], statistic)
    centers = _grouped(radius[measured], ring[measured], "mean")
    known = ~np.isnan(profile)
    surface: FloatArray = np.interp(radius, centers[known], profile[known])
    if n == 1:
        return surface
    turns = geometry.angle(frame.shape) * n
    cell = np.minimum(turns.astype(np.intp), n - 1) + n * ring
    left_over = _grouped(values - surface[measured], cell[measured], statistic, n * (int(ring.max()) + 1))
    table = np.nan_to_num(left_over, nan=0.0).reshape(-1, n)
    around = np.concatenate([table[:, -1:], table, table[:, :1]], axis=1)  # the last sector is the first one's neighbor
    position = np.stack([radius - np.floor(radius.min()) - 0.5, turns + 0.5])  # cell i covers [i, i + 1)
    surface += map_coordinates(around, position, order=1, mode="nearest")
    return surface


def _grouped(values: FloatArray, group: NDArray[np.intp], statistic: Statistic, n_groups: int = 0) -> FloatArray:
    """Mean or median of the values of every group, NaN for groups without any."""
    count: NDArray[np.intp] = np.bincount(group, minlength=n_groups)
    result: FloatArray = np.full(count.size, np.nan)
    filled = count > 0
    if statistic == "mean":
        result[filled] = np.bincount(group, values, minlength=n_groups)[filled] / count[filled]
        return result
    ordered = values[np.lexsort((values, group))]
    first = np.cumsum(count) - count
    for odd in (1, 0):  # the lower and the upper of the two in the middle, one and the same for odd counts
        middle = ordered[first[filled] + (count[filled] - odd) // 2]
        result[filled] = middle if odd else (result[filled] + middle) / 2
    return result


def _check_settings(statistic: Statistic, bin_width: float, sectors: int) -> None:
    if statistic not in get_args(Statistic):
        raise SettingError(f"unknown statistic {statistic!r}; known: {', '.join(get_args(Statistic))}")
    if not 0.1 <= bin_width <= 1000:
        raise SettingError(f"bin_width is {bin_width} pixels; it must be 0.1 to 1000")
    if sectors < 1:
        raise SettingError(f"sectors is {sectors}; it must be 1 (whole rings) or more")
