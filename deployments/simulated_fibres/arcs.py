"""Bent fibres as arcs of circles: their geometry, and how they are placed without crossing each other."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from dlsia_core.errors import SettingError

from .settings import FibreSettings, generator

_STRAIGHT = 1e-3  # radians; a smaller bend would put the center of the circle beyond what float64 resolves
_TRIES = 500


@dataclass(frozen=True, eq=False)
class Fibre:
    """An arc of a circle with a round cross section and flat ends.

    `center` (3,) of the circle, `outward` (3,) unit vector from there to the middle of the fibre, `along` (3,) unit
    vector of the chord; all (z, y, x). `bend` is the angle of the arc, `length` is measured along it, in voxels.
    """

    center: NDArray[np.float64]
    outward: NDArray[np.float64]
    along: NDArray[np.float64]
    bend: float
    length: float
    radius: float

    @property
    def circle(self) -> float:
        """Radius of the circle whose arc the fibre is, in voxels."""
        return self.length / self.bend

    def points(self, angles: NDArray[np.float64]) -> NDArray[np.float64]:
        """Points (point, 3) of the center line; `angles` from -bend / 2 to bend / 2."""
        c, s = np.cos(angles)[:, None], np.sin(angles)[:, None]
        return np.asarray(self.center + self.circle * (c * self.outward + s * self.along))

    def line(self, step: float) -> NDArray[np.float64]:
        """Center line (point, 3) in equal steps of at most `step` voxels, both ends included."""
        n = max(2, int(np.ceil(self.length / step)) + 1)
        return self.points(np.linspace(-self.bend / 2, self.bend / 2, n))

    def distances(self, points: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """How deep points (..., 3) lie within the mantle and between the two ends: voxels, above 0 inside.

        >>> fibre = make_fibre(np.zeros(3), np.array([0.0, 0.0, 1.0]), np.array([0.0, 1.0, 0.0]), 0.0, 20.0, 3.0)
        >>> [np.round(depth, 2) for depth in fibre.distances(np.array([[0.0, 1.0, 6.0]]))]
        [array([2.]), array([4.])]
        """
        relative = points - self.center
        outward, along = dot(relative, self.outward), dot(relative, self.along)
        across = dot(relative, np.cross(self.outward, self.along))
        # hypot - circle loses digits for straight fibres, with circles of 10^5 voxels, but keeps ten of them.
        from_line = np.hypot(np.hypot(outward, along) - self.circle, across)
        angle = np.abs(np.arctan2(along, outward))
        return self.radius - from_line, self.circle * (self.bend / 2 - angle)


def dot(vectors: NDArray[np.float64], one: NDArray[np.float64]) -> NDArray[np.float64]:
    """Scalar products (...,) of vectors (..., 3) with one; unlike `@` to the bit the same for any number of vectors."""
    return np.asarray(vectors[..., 0] * one[0] + vectors[..., 1] * one[1] + vectors[..., 2] * one[2])


def make_fibre(
    middle: NDArray[np.float64],
    along: NDArray[np.float64],
    outward: NDArray[np.float64],
    bend: float,
    length: float,
    radius: float,
) -> Fibre:
    """A fibre by the middle of its center line and its directions, which are made orthogonal unit vectors."""
    along = along / np.linalg.norm(along)
    outward = outward - (outward @ along) * along
    outward = outward / np.linalg.norm(outward)
    bend = max(bend, _STRAIGHT)
    return Fibre(middle - length / bend * outward, outward, along, bend, length, radius)


def watson_directions(
    mean: NDArray[np.float64], concentration: float, count: int, rng: np.random.Generator
) -> NDArray[np.float64]:
    """Unit vectors (vector, 3) with density exp(concentration * cos^2 angle to `mean`) on the sphere."""
    cosines = np.linspace(0, 1, 4097)
    density = np.exp(concentration * (cosines**2 - (concentration > 0)))
    heights = np.concatenate([[0.0], np.cumsum((density[1:] + density[:-1]) / 2)])
    cosine = np.interp(rng.random(count) * heights[-1], heights, cosines) * rng.choice([-1.0, 1.0], count)
    across = rng.normal(size=(count, 3))
    mean = mean / np.linalg.norm(mean)
    across -= (across @ mean)[:, None] * mean
    across /= np.linalg.norm(across, axis=1, keepdims=True)
    return np.asarray(cosine[:, None] * mean + np.sqrt(1 - cosine**2)[:, None] * across)


def place_fibres(settings: FibreSettings) -> list[Fibre]:
    """All fibres, in the order of their numbers; their middles lie in the volume, their ends may leave it.

    Raises SettingError where the volume is too full for the next one.
    """
    rng, placed = generator(settings, 1), _Placed(2 * settings.radius + settings.gap, settings.radius / 2)
    for number in range(settings.fibres):
        for _ in range(_TRIES):
            fibre = _draw(settings, rng)
            if placed.add_if_free(fibre):
                break
        else:
            raise SettingError(
                f"only {number} of {settings.fibres} fibres of length {settings.length} and radius {settings.radius} "
                f"fit into {settings.shape}; give fewer or thinner ones, a smaller gap, or a larger shape"
            )
    return placed.fibres


def _draw(settings: FibreSettings, rng: np.random.Generator) -> Fibre:
    deviation = float(np.clip(rng.normal(), -2.2, 2.2))
    length = settings.length * (1 + settings.length_spread * deviation)
    middle = rng.random(3) * settings.shape - 0.5
    along = watson_directions(np.array(settings.mean_direction), settings.concentration, 1, rng)[0]
    return make_fibre(middle, along, rng.normal(size=3), settings.bend * rng.random(), length, settings.radius)


class _Placed:
    """Fibres so far, and whether another one keeps its distance from all of them."""

    def __init__(self, distance: float, step: float) -> None:
        self.fibres: list[Fibre] = []
        self._distance, self._step = distance, step
        self._lines: list[NDArray[np.float64]] = []
        self._middles = np.empty((0, 3))
        self._reaches = np.empty(0)

    def add_if_free(self, fibre: Fibre) -> bool:
        line = fibre.line(self._step)
        middle = line.mean(axis=0)
        reach = float(np.linalg.norm(line - middle, axis=1).max())
        near = np.linalg.norm(self._middles - middle, axis=1) < self._reaches + reach + self._distance
        if near.any():
            others = np.concatenate([self._lines[number] for number in np.flatnonzero(near)])
            squares = ((line[:, None, :] - others[None, :, :]) ** 2).sum(axis=2)
            if squares.min() < self._distance**2:
                return False
        self.fibres.append(fibre)
        self._lines.append(line)
        self._middles = np.vstack([self._middles, middle])
        self._reaches = np.append(self._reaches, reach)
        return True
