"""Ring artifacts of tomography: taken out of slices, about an axis that is found in them."""

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import fft, ndimage

from dlsia_core.errors import ArrayError, SettingError

ANGLES = 720
"""Directions that a ring is looked at in; the median of so many is off by 5 % of the noise of a pixel."""
STEPS = 2
"""Samples along the radius for a pixel: rings are hardly wider than one."""
FEWEST_ANGLES = ANGLES // 8
"""A ring of which less is in the slice, in its corners, is left alone: a fibre along it would be taken for it."""
CLEAR_PEAK = 6.0
"""Least height of the axis's peak over the others in its neighborhood; noise alone reaches 3 to 5."""

Center = tuple[float, float]


@dataclass(frozen=True)
class RingFilter:
    """Takes rings out of slices (y, x): what is brighter or darker than its surroundings all around the axis.

    In polar coordinates a slice less its median along the radius shows rings, and edges of objects. The median over all
    directions of that is the ring alone, as long as no object takes up half of a circle; it is taken off. What lies
    across rings stays as it is, and so does the slice's brightness, which changes slowly from the axis outwards.

    center: (y, x) of the axis of rotation in px; may lie between pixels. width: px of the median along the radius, odd;
    rings are narrower than half of it. Rings within a quarter of it from the axis stay: objects are as large.
    Raises SettingError for numbers that cannot be used.
    Source: Sijbers & Postnov 2004 (doi:10.1088/0031-9155/49/14/N06) and Prell, Kyriakou & Kalender 2009
    (doi:10.1088/0031-9155/54/12/018), who call this the correction in polar coordinates.

    >>> distance = np.hypot(np.arange(64)[:, None] - 30.0, np.arange(64)[None, :] - 33.5)
    >>> ring = np.exp(-((distance - 20) ** 2) / 2)
    >>> bool(abs(RingFilter((30.0, 33.5)).without_rings(ring)).max() < 0.1)
    True
    """

    center: Center
    width: int = 31

    def __post_init__(self) -> None:
        if self.width < 3 or self.width % 2 == 0:
            raise SettingError(f"width is {self.width} px; wanted an odd number, at least 3")
        if len(self.center) != 2 or not np.isfinite(self.center).all():
            raise SettingError(f"center is {self.center}; wanted two numbers, row and column of the axis of rotation")

    def require_inside(self, shape: tuple[int, ...]) -> None:
        """Raise SettingError where the axis is not in slices of this shape: no ring would be seen all around it."""
        if not all(0 <= place <= size - 1 for place, size in zip(self.center, shape, strict=True)):
            raise SettingError(
                f"center is {self.center}, outside of slices of {' x '.join(map(str, shape))} px; wanted row and "
                "column of the axis of rotation, counted from the first pixel"
            )

    def profile(self, image: NDArray[Any]) -> NDArray[np.float32]:
        """How much brighter than its surroundings a ring is, (radius,) in steps of half a pixel from the axis on."""
        self.require_inside(image.shape)
        height, width = image.shape
        radius = np.arange(STEPS * (int(self._distance((height, width)).max()) + 2)) / STEPS
        angle = np.arange(ANGLES) * (2 * np.pi / ANGLES)
        y = self.center[0] + np.sin(angle)[:, None] * radius
        x = self.center[1] + np.cos(angle)[:, None] * radius
        polar = ndimage.map_coordinates(np.asarray(image, np.float32), [y, x], order=1, mode="nearest")
        outside = (y < 0) | (y > height - 1) | (x < 0) | (x > width - 1)
        over = polar - _radial_median(polar, STEPS * (self.width // 2))
        seen = (~outside).sum(axis=0) >= FEWEST_ANGLES
        seen[radius < self.width / 4] = False
        found = np.zeros(len(radius), np.float32)
        found[seen] = np.nanmedian(np.where(outside, np.float32(np.nan), over)[:, seen], axis=0)
        return found

    def without_rings(self, image: NDArray[Any]) -> NDArray[np.float32]:
        """A slice (y, x) of any real type, less its rings; float32. Raises ArrayError for other shapes."""
        if image.ndim != 2:
            raise ArrayError(f"a slice to take rings out of has the shape {image.shape}; wanted (y, x)")
        profile = self.profile(image)
        rings = np.interp(self._distance(image.shape) * STEPS, np.arange(len(profile)), profile)
        return np.asarray(np.asarray(image, np.float64) - rings, np.float32)

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {**asdict(self), "center": list(self.center)}

    def _distance(self, shape: tuple[int, ...]) -> NDArray[np.float64]:
        y, x = (np.arange(size) - center for size, center in zip(shape, self.center, strict=True))
        return np.asarray(np.hypot(y[:, None], x[None, :]))


def find_axis(slices: Iterable[NDArray[Any]], reach: float = 0.1) -> Center:
    """Where the rings of some slices (y, x) have their common center, to half a pixel.

    Rings turned by half a turn about it fall on themselves, so that the slices convolved with themselves have a peak
    at twice the center. Of each slice only what is fine and no stronger than three times the noise counts, so that
    edges of objects do not outweigh rings. reach: share of height and width that the axis may be off the middle.
    Raises ArrayError where no peak stands out, in slices without rings or with the axis elsewhere.

    >>> distance = np.hypot(np.arange(64)[:, None] - 30.0, np.arange(64)[None, :] - 33.5)
    >>> noise = np.random.default_rng(0).normal(0, 0.5, (64, 64))
    >>> find_axis([np.exp(-((distance - 20) ** 2) / 2) + noise])
    (30.0, 33.5)
    """
    total: NDArray[np.float64] | float = 0.0
    shape: tuple[int, ...] = ()
    for image in slices:
        shape = image.shape
        grid = [fft.next_fast_len(2 * size - 1, real=True) for size in shape]
        transformed = fft.rfft2(_fine_structure(image), grid)
        total = total + fft.irfft2(transformed**2, grid)[: 2 * shape[0] - 1, : 2 * shape[1] - 1]
    if not isinstance(total, np.ndarray):
        raise ArrayError("there is no slice to find the axis of rotation in")
    low = [size - 1 - int(2 * reach * size / 2) for size in shape]
    near = total[tuple(slice(start, 2 * (size - 1) - start + 1) for start, size in zip(low, shape, strict=True))]
    y, x = np.unravel_index(near.argmax(), near.shape)
    middle = float(np.median(near))
    spread = 1.4826 * float(np.median(np.abs(near - middle)))
    if float(near.max()) - middle < CLEAR_PEAK * spread or spread == 0:
        raise ArrayError(
            f"no ring artifacts stand out about an axis within {reach:.0%} of the middle of slices of "
            f"{shape[0]} x {shape[1]} px; give the axis of rotation, or leave rings as they are"
        )
    return float(low[0] + y) / 2, float(low[1] + x) / 2


def _radial_median(polar: NDArray[np.float32], half: int) -> NDArray[np.float32]:
    """Median of a sample and `half` to either side along each row (angle, radius), the ends repeated.

    As one row after the other: scipy filters one dimension an order of magnitude faster than two.
    """
    padded = np.pad(polar, ((0, 0), (half, half)), mode="edge")
    filtered = ndimage.median_filter(padded.ravel(), 2 * half + 1, mode="nearest").reshape(padded.shape)
    return np.asarray(filtered[:, half:-half])


def _fine_structure(image: NDArray[Any]) -> NDArray[np.float32]:
    """Details of 1 to 4 px of a slice, of mean 0 and deviation 1, cut off at three times the noise."""
    values = np.asarray(image, np.float32)
    detail = values - ndimage.gaussian_filter(values, 4)
    limit = 3 * 1.4826 * float(np.median(np.abs(detail - np.median(detail))))
    detail = ndimage.gaussian_filter(np.clip(detail, -limit, limit), 1)
    detail -= detail.mean()
    deviation = float(detail.std())
    return np.asarray(detail / deviation if deviation > 0 else detail, np.float32)
