"""Aggregates and pores: ellipsoids that leave room for fibres."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from .arcs import Fibre, dot
from .settings import FibreSettings, generator

_TRIES_PER_GRAIN = 20


@dataclass(frozen=True, eq=False)
class Grain:
    """An ellipsoid: `center` (3,), `to_sphere` (3, 3) maps it to the unit sphere; `reach` its largest half axis."""

    center: NDArray[np.float64]
    to_sphere: NDArray[np.float64]
    reach: float
    gray: float

    def depth(self, points: NDArray[np.float64]) -> NDArray[np.float64]:
        """How deep points (..., 3) lie inside, in voxels; exact on the surface, close to it nearby."""
        relative = points - self.center
        squares = sum(dot(relative, row) ** 2 for row in self.to_sphere)
        return np.asarray((1 - np.sqrt(squares)) * self.reach)


def place_grains(settings: FibreSettings, fibres: list[Fibre]) -> tuple[list[Grain], list[Grain]]:
    """Aggregates and pores, none of which holds a piece of a fibre; fewer than asked for where there is no room."""
    lines = [fibre.line(settings.radius) for fibre in fibres]
    tree = cKDTree(np.concatenate(lines)) if lines else None
    rng = generator(settings, 2)
    aggregates = _fill(settings, settings.aggregate_fraction, settings.aggregate_radius, 0.35, tree, rng)
    pores = _fill(settings, settings.pore_fraction, settings.pore_radius, 0.1, tree, rng)
    return aggregates, pores


def _fill(
    settings: FibreSettings, fraction: float, median: float, flatness: float, tree: cKDTree, rng: np.random.Generator
) -> list[Grain]:
    wanted = fraction * float(np.prod(settings.shape))
    grains: list[Grain] = []
    largest = 3 * median
    tries = int(_TRIES_PER_GRAIN * wanted / (4.2 * median**3)) + 1
    for _ in range(tries):
        if wanted <= 0:
            break
        radius = min(median * float(np.exp(rng.normal(0, 0.35))), largest)
        axes = radius * np.exp(rng.normal(0, flatness, 3))
        turn = np.linalg.qr(rng.normal(size=(3, 3)))[0]
        center = rng.random(3) * settings.shape - 0.5
        gray = float(rng.normal(settings.aggregate_gray, 0.04))
        grain = Grain(center, np.diag(1 / axes) @ turn, float(axes.max()), gray)
        if not _holds_fibre(grain, axes, tree, settings.radius):
            grains.append(grain)
            wanted -= 4 / 3 * np.pi * float(np.prod(axes))
    return grains


def _holds_fibre(grain: Grain, axes: NDArray[np.float64], tree: cKDTree | None, radius: float) -> bool:
    if tree is None:
        return False
    near = tree.query_ball_point(grain.center, grain.reach + 1.5 * radius)
    if not near:
        return False
    relative = (np.asarray(tree.data)[near] - grain.center) @ grain.to_sphere.T
    # Grown by the fibre's radius on every side; the line is sampled in steps of a radius, hence the 1.2.
    grown = axes / (axes + 1.2 * radius)
    return bool((np.linalg.norm(relative * grown, axis=1) < 1).any())
