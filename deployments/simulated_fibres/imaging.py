"""What tomography makes of a scene: point spread, texture, noise, rings, cupping, 16-bit gray values."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from .scene import Scene, draw
from .settings import FibreSettings, generator

_TEXTURE_SIGMA = 1.5
_NOISE_SIGMA = 0.6  # filtered back projection correlates the noise of neighbors within a slice
_BINS_PER_PIXEL = 4
BLACK, GRAYS = 5000, 50_000  # 16-bit values of gray 0, and from there to gray 1
# Purposes of random numbers; slices are counted from a number that keeps those of the halo positive.
_TEXTURE, _NOISE, _RINGS = 4, 5, 6
_FIRST = 1000


@dataclass(frozen=True, eq=False)
class Slab:
    """Slices as they are written, all (z, y, x): `volume` uint16, `ids` uint32, `around` bool."""

    volume: NDArray[np.uint16]
    ids: NDArray[np.uint32]
    around: NDArray[np.bool_]


def image_slab(scene: Scene, start: int, stop: int) -> Slab:
    """Slices start to stop - 1 of the volume; a slice never depends on the slab that it is made in."""
    settings = scene.settings
    halo = int(np.ceil(4 * settings.blur)) + int(np.ceil(4 * _TEXTURE_SIGMA)) + 1  # the filters follow each other
    drawn = draw(scene, start - halo, stop + halo)
    gray = drawn.gray
    if settings.texture:
        gray = gray + np.float32(settings.texture) * _texture(settings, start - halo, stop + halo)
    # Beyond the edges in y and x the last voxels are repeated; in z there is the halo.
    gray = ndimage.gaussian_filter(gray, settings.blur, mode="nearest") if settings.blur else gray
    inner = slice(halo, -halo)
    gray = gray[inner]
    for number, each in enumerate(gray, start=start):
        each *= _cupping(settings)
        each += _rings(settings, number) + np.float32(settings.noise) * _noise(settings, number)
    values = np.rint(np.clip(BLACK + GRAYS * gray, 0, 65_535)).astype(np.uint16)
    return Slab(values, drawn.ids[inner], drawn.around[inner])


def _white(settings: FibreSettings, purpose: int, number: int) -> NDArray[np.float32]:
    """White noise of one slice, variance 1."""
    return generator(settings, purpose, _FIRST + number).standard_normal(settings.shape[1:], np.float32)


def _texture(settings: FibreSettings, start: int, stop: int) -> NDArray[np.float32]:
    white = np.stack([_white(settings, _TEXTURE, number) for number in range(start, stop)])
    smooth = ndimage.gaussian_filter(white, _TEXTURE_SIGMA, mode="wrap")
    return np.asarray(smooth / np.float32(_left_of_white(_TEXTURE_SIGMA) ** 3), dtype=np.float32)


def _noise(settings: FibreSettings, number: int) -> NDArray[np.float32]:
    smooth = ndimage.gaussian_filter(_white(settings, _NOISE, number), _NOISE_SIGMA, mode="wrap")
    return np.asarray(smooth / np.float32(_left_of_white(_NOISE_SIGMA) ** 2), dtype=np.float32)


def _left_of_white(sigma: float) -> float:
    """Standard deviation that a Gaussian filter along one axis leaves of white noise."""
    impulse = np.zeros(65)
    impulse[32] = 1
    return float(np.sqrt((ndimage.gaussian_filter1d(impulse, sigma) ** 2).sum()))


def _from_axis(settings: FibreSettings) -> NDArray[np.float64]:
    """Distance (y, x) from the axis of rotation, which is not quite in the middle."""
    _, height, width = settings.shape
    offset = generator(settings, _RINGS, 0).normal(0, 0.01, 2)
    y, x = np.arange(height) - height * (0.5 + offset[0]), np.arange(width) - width * (0.5 + offset[1])
    return np.asarray(np.hypot(y[:, None], x[None, :]))


def _cupping(settings: FibreSettings) -> NDArray[np.float32]:
    distance = _from_axis(settings)
    return np.asarray(1 - settings.cupping * (1 - (distance / distance.max()) ** 2), dtype=np.float32)


def _rings(settings: FibreSettings, number: int) -> NDArray[np.float32]:
    """Rings of one slice: a bad spot of the detector is some columns wide and some rows high."""
    distance = _from_axis(settings)
    rng = generator(settings, _RINGS, 1)
    count = round(settings.rings * settings.shape[2] / 256)
    largest = float(distance.max())
    radii, widths = rng.random(count) * largest, rng.uniform(0.7, 1.6, count)
    grays = rng.normal(0, settings.ring_gray, count)
    rows, heights = rng.random(count) * settings.shape[0], np.exp(rng.uniform(np.log(20), np.log(400), count))
    grays = grays * np.exp(-(((number - rows) / heights) ** 2))
    bins = np.arange(int(largest * _BINS_PER_PIXEL) + 2) / _BINS_PER_PIXEL
    profile = np.zeros(bins.size)
    for radius, width, gray in zip(radii, widths, grays, strict=True):
        profile += gray * np.exp(-(((bins - radius) / width) ** 2) / 2)
    return profile.astype(np.float32)[np.rint(distance * _BINS_PER_PIXEL).astype(np.intp)]
