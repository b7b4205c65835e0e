"""Autocorrelation of a segmented volume, read slab by slab, and its values on a sphere (Roberts 2024, Fig. 8b)."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import fft
from scipy.ndimage import map_coordinates

from dlsia_core.errors import ArrayError, SettingError

from .components import ReadSlab, slab_ranges

_TILE = 192  # voxels in y and x that are transformed at once: bounds the memory whatever the size of a slice


@dataclass(frozen=True, eq=False)
class Autocorrelation:
    """How alike two voxels are that lie a step apart: 1 = always the same, 0 = as by chance, below 0 = rather not.

    values    (2 r + 1, 2 r + 1, 2 r + 1) float64, steps (z, y, x) from -r to r, the step 0 in the middle; the same for
              a step and its opposite
    fraction  of all voxels that are foreground
    """

    values: NDArray[np.float64]
    fraction: float

    @property
    def radius(self) -> int:
        """Longest step along an axis, in voxels."""
        return len(self.values) // 2

    def on_sphere(self, longitude: NDArray[np.float64], latitude: NDArray[np.float64]) -> NDArray[np.float64]:
        """Values at steps of `radius` voxels in given directions (radians), linearly between the nearest steps.

        Latitude is counted from the plane of a slice, 90 degrees being z; longitude from x to y.
        """
        steps = self.radius * directions_of(longitude, latitude)
        return np.asarray(map_coordinates(self.values, np.moveaxis(steps + self.radius, -1, 0), order=1))


def directions_of(longitude: NDArray[np.float64], latitude: NDArray[np.float64]) -> NDArray[np.float64]:
    """Unit vectors (..., 3), (z, y, x), of directions in radians.

    >>> directions_of(np.array([0.0, np.pi / 2]), np.array([0.0, 0.0])).round(6).tolist()  # x and y
    [[0.0, 0.0, 1.0], [0.0, 1.0, 0.0]]
    """
    across = np.cos(latitude)
    return np.stack([np.sin(latitude), across * np.sin(longitude), across * np.cos(longitude)], axis=-1)


def autocorrelation(read: ReadSlab, n_slices: int, radius: int = 30, slab: int = 32) -> Autocorrelation:
    """Autocorrelation of the foreground for all steps of up to `radius` voxels along each axis.

    read     gives slices start to stop - 1, (z, y, x); True or above 0 is foreground; slices near the ends of a slab
             are read twice

    With S(h) the share of the pairs of voxels a step h apart, both inside the volume, of which both are foreground, and
    p the share of foreground, the value is (S(h) - p^2) / (p - p^2). Pairs are counted with Fourier transforms and
    rounded to whole numbers, so that the result is the same to the bit for any `slab`.

    Raises SettingError for a radius below 1, ArrayError for a volume that is not larger than the radius along each axis
    or has no foreground, or no background.

    >>> stripes = np.zeros((4, 8, 8), bool); stripes[:, ::2] = True
    >>> found = autocorrelation(lambda a, b: stripes[a:b], 4, radius=2)
    >>> found.values[2, 2:, 2].tolist(), found.fraction  # steps 0, 1 and 2 along y
    ([1.0, -1.0, 1.0], 0.5)
    """
    if radius < 1 or slab < 1:
        raise SettingError(f"radius is {radius} and slab {slab}; both must be at least 1")
    height, width = np.asarray(read(0, 1)).shape[1:]
    if min(n_slices, height, width) <= radius:
        raise ArrayError(
            f"a volume of {n_slices} x {height} x {width} voxels has no pairs {radius} voxels apart along each axis; "
            "give a smaller radius"
        )
    counts = np.zeros((radius + 1, 2 * radius + 1, 2 * radius + 1), np.int64)
    total = 0
    for start, stop in slab_ranges(n_slices, slab):
        values = np.asarray(read(start, min(stop + radius, n_slices))) > 0
        total += int(values[: stop - start].sum())
        for own, wide in _tiles(values, stop - start, radius):
            counts += _pair_counts(own, wide, radius)
    fraction = total / (n_slices * height * width)
    if not 0 < fraction < 1:
        raise ArrayError(f"{100 * fraction:g} % of the volume are foreground; an autocorrelation needs both kinds")
    steps = np.arange(-radius, radius + 1)
    pairs = [n - np.abs(part) for n, part in ((n_slices, steps[radius:]), (height, steps), (width, steps))]
    share = counts / (pairs[0][:, None, None] * pairs[1][None, :, None] * pairs[2][None, None, :])
    half = (share - fraction**2) / (fraction - fraction**2)
    whole = np.concatenate([half[:0:-1, ::-1, ::-1], half])  # a step and its opposite are one pair
    return Autocorrelation(whole, fraction)


def _tiles(values: NDArray[np.bool_], depth: int, radius: int) -> Iterator[tuple[NDArray[np.bool_], NDArray[np.bool_]]]:
    """Parts of the first `depth` slices, each with all that is within `radius` of it in y and x, and behind it in z."""
    padded = np.pad(values, ((0, radius + depth - len(values)), (radius, radius), (radius, radius)))
    for y in range(0, values.shape[1], _TILE):
        for x in range(0, values.shape[2], _TILE):
            own = values[:depth, y : y + _TILE, x : x + _TILE]
            yield own, padded[:, y : y + own.shape[1] + 2 * radius, x : x + own.shape[2] + 2 * radius]


def _pair_counts(own: NDArray[np.bool_], wide: NDArray[np.bool_], radius: int) -> NDArray[np.int64]:
    """Pairs of foreground, one in `own` and one in `wide`, for each step (z, y, x) from (0, -r, -r) to (r, r, r)."""
    if not own.any():
        return np.zeros((radius + 1, 2 * radius + 1, 2 * radius + 1), np.int64)
    shape = [fft.next_fast_len(n, real=True) for n in wide.shape]
    # Correlation is circular; `wide` is longer than `own` by all the steps, so that none wraps around.
    product = fft.rfftn(wide.astype(np.float64), shape) * fft.rfftn(own.astype(np.float64), shape).conj()
    found = fft.irfftn(product, shape)[: radius + 1, : 2 * radius + 1, : 2 * radius + 1]
    return np.asarray(np.rint(found), dtype=np.int64)
