"""Random shapes on tiles: circle, rectangle, triangle and annulus, with Gaussian noise (Roberts et al. 2024, §4.3)."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from dlsia_core.errors import ArrayError, SettingError

SHAPES = ("circle", "rectangle", "triangle", "annulus")
"""The position of a name is its number in `ShapeTiles.shape`; its pixel label is one more, since 0 is background."""
STEPS: dict[str, Callable[[NDArray[np.floating]], NDArray[np.floating]]] = {
    # From half a pixel before an edge to half a pixel behind it the covered part goes from 1 to 0.
    "smooth": lambda distance: np.clip(0.5 - distance, 0, 1),
    "hard": lambda distance: (distance < 0).astype(np.float64),
}
"""Part of a pixel inside an edge, by the distance of its center from the edge (negative: inside)."""
PARAMETERS = np.dtype([("shape", "U9"), ("y", "f8"), ("x", "f8"), ("radius", "f8"), ("ratio", "f8"), ("angle", "f8")])
"""One record per tile: name; center and radius of the circle around it in pixels; ratio of the two sides (rectangle) or
radii (annulus), else NaN; angle in radians, 0 to 2 π, counted from the x axis to the y axis. Pixel centers are whole
numbers, so that a tile of n pixels reaches from -0.5 to n - 0.5."""

Grid = NDArray[np.floating]
FloatArray = NDArray[np.float32]
Range = tuple[float, float]


@dataclass(frozen=True)
class ShapeSettings:
    """How tiles are drawn; all draws are uniform between the two ends of their range.

    tile_size: (y, x) pixels.
    shapes: names out of SHAPES, each as likely as the others.
    radius: pixels, of the circle that goes around the shape.
    rectangle_ratio: short side over long side; annulus_ratio: inner radius over outer; greater than 0, at most or
        below 1.
    max_shift: of the shape's center from the tile's, in pixels along each axis; None = as far as there is room.
    inside: keep the whole shape in the tile; False = its center only.
    edges: "smooth" = a pixel's value is the part of it that is covered, "hard" = 1 where its center is covered.
    noise: standard deviation of the Gaussian noise on every pixel; the shape is 1 on a background of 0.
    """

    tile_size: tuple[int, int] = (64, 64)
    shapes: tuple[str, ...] = SHAPES
    radius: Range = (8.0, 28.0)
    rectangle_ratio: Range = (0.25, 0.6)
    annulus_ratio: Range = (0.4, 0.7)
    max_shift: float | None = None
    inside: bool = True
    edges: str = "smooth"
    noise: float = 0.05

    def __post_init__(self) -> None:
        room = min(self.tile_size) / 2 if self.inside else np.inf
        known = bool(self.shapes) and set(self.shapes) <= set(SHAPES) and len(set(self.shapes)) == len(self.shapes)
        checks = (
            ("tile_size", len(self.tile_size) == 2 and min(self.tile_size) >= 1, "(y, x), at least 1 pixel each"),
            ("shapes", known, f"different names out of {SHAPES}"),
            ("radius", 1 <= self.radius[0] <= self.radius[1], "a rising range from 1 on"),
            ("radius", self.radius[1] <= room, f"at most {room:g}, half the tile, while shapes stay inside"),
            ("rectangle_ratio", 0 < self.rectangle_ratio[0] <= self.rectangle_ratio[1] <= 1, "rising within (0, 1]"),
            ("annulus_ratio", 0 < self.annulus_ratio[0] <= self.annulus_ratio[1] < 1, "rising within (0, 1)"),
            ("max_shift", self.max_shift is None or self.max_shift >= 0, "at least 0, or None"),
            ("edges", self.edges in STEPS, f"one of {tuple(STEPS)}"),
            ("noise", 0 <= self.noise < np.inf, "at least 0"),
        )
        for name, allowed, wanted in checks:
            if not allowed:
                raise SettingError(f"{name} is {getattr(self, name)!r}; it must be {wanted}")


@dataclass(frozen=True)
class ShapeTiles:
    """images: (tile, y, x) float32, noise included; clean: the same without noise, 0 to 1.

    shape: (tile,) int64, position in SHAPES; label: (tile, y, x) uint8, 0 = background, else shape + 1.
    parameters: (tile,) records of the type PARAMETERS.
    """

    images: FloatArray
    clean: FloatArray
    shape: NDArray[np.int64]
    label: NDArray[np.uint8]
    parameters: NDArray[np.void]


DEFAULT = ShapeSettings()


def random_shapes(indices: Iterable[int], seed: int, settings: ShapeSettings = DEFAULT) -> ShapeTiles:
    """Draw the tiles of the given indices, `range(n)` for the first n; each is a function of (seed, index, settings).

    Noise and edges do not change where and how large a shape is.
    Raises ArrayError where there is no index or a negative one, SettingError for a negative seed.
    Source: Roberts et al. 2024, §4.3 and Table 1, `random_shapes`.

    >>> tiles = random_shapes(range(5), seed=1)
    >>> tiles.images.shape, [SHAPES[k] for k in tiles.shape]
    ((5, 64, 64), ['triangle', 'rectangle', 'rectangle', 'circle', 'rectangle'])
    >>> bool((random_shapes([3], seed=1).images[0] == tiles.images[3]).all())
    True
    """
    numbers = [int(index) for index in indices]
    if not numbers or min(numbers) < 0:
        raise ArrayError(f"indices are {numbers[:5]}; wanted at least one, none of them negative")
    if seed < 0:
        raise SettingError(f"seed is {seed}; it must be at least 0")
    parameters = np.empty(len(numbers), PARAMETERS)
    clean = np.empty((len(numbers), *settings.tile_size), np.float32)
    images = np.empty_like(clean)
    label = np.zeros(clean.shape, np.uint8)
    for position, index in enumerate(numbers):
        rng = np.random.default_rng((seed, index))
        parameters[position] = _draw_parameters(rng, settings)
        clean[position] = draw_shape(parameters[position], settings.tile_size, settings.edges)
        images[position] = clean[position] + settings.noise * rng.standard_normal(settings.tile_size)
        inside = draw_shape(parameters[position], settings.tile_size, "hard") > 0
        label[position][inside] = SHAPES.index(parameters[position]["shape"]) + 1
    shape = np.array([SHAPES.index(name) for name in parameters["shape"]], np.int64)
    return ShapeTiles(images, clean, shape, label, parameters)


def draw_shape(parameters: np.void, tile_size: tuple[int, int], edges: str = "smooth") -> FloatArray:
    """Draw one record of the type PARAMETERS: (y, x) float32, 1 = covered, 0 = background; what sticks out is cut off.

    Sizes follow from the radius r of the circle around the shape: the triangle is equilateral with sides √3 r, the
    rectangle's diagonal is 2 r, its long side lies along `angle`.

    >>> one = np.array(("rectangle", 2.0, 2.0, 5**0.5, 0.5, 0.0), PARAMETERS)[()]
    >>> draw_shape(one, (5, 5))
    array([[0.  , 0.  , 0.  , 0.  , 0.  ],
           [0.25, 0.5 , 0.5 , 0.5 , 0.25],
           [0.5 , 1.  , 1.  , 1.  , 0.5 ],
           [0.25, 0.5 , 0.5 , 0.5 , 0.25],
           [0.  , 0.  , 0.  , 0.  , 0.  ]], dtype=float32)
    """
    if edges not in STEPS:
        raise SettingError(f"edges is {edges!r}; it must be one of {tuple(STEPS)}")
    rows, columns = np.mgrid[: tile_size[0], : tile_size[1]].astype(np.float64)
    covered = _covered(parameters, rows - parameters["y"], columns - parameters["x"], STEPS[edges])
    return np.asarray(covered, np.float32)


def _covered(parameters: np.void, y: Grid, x: Grid, step: Callable[[Grid], Grid]) -> Grid:
    """Part of each pixel that is covered; y, x from the shape's center; step(distance): inside one edge, 0 to 1."""
    name, radius, ratio, angle = (parameters[key] for key in ("shape", "radius", "ratio", "angle"))
    along, across = x * np.cos(angle) + y * np.sin(angle), y * np.cos(angle) - x * np.sin(angle)
    if name == "rectangle":
        half = radius / np.hypot(1, ratio)
        # A strip as the difference of two half planes is right even where it is thinner than a pixel.
        length, width = (step(u - h) - step(u + h) for u, h in ((along, half), (across, ratio * half)))
        return length * width
    if name == "triangle":
        # Three edges at r / 2 from the center; a corner points along `angle`.
        slope, apothem = np.sqrt(3) / 2, radius / 2
        sides = (-along, 0.5 * along + slope * across, 0.5 * along - slope * across)
        return np.asarray(np.prod([step(side - apothem) for side in sides], axis=0))
    from_center = np.hypot(y, x)
    if name == "annulus":
        return step(from_center - radius) - step(from_center - ratio * radius)
    return step(from_center - radius)


def _draw_parameters(rng: np.random.Generator, settings: ShapeSettings) -> tuple[str | float, ...]:
    """All six draws are made for every shape, so that what comes after them is the same for each."""
    draws = rng.random(6)
    name = settings.shapes[int(draws[0] * len(settings.shapes))]
    radius = _between(settings.radius, draws[1])
    ratios = {"rectangle": settings.rectangle_ratio, "annulus": settings.annulus_ratio}
    ratio = _between(ratios[name], draws[2]) if name in ratios else np.nan
    center = []
    for length, draw in zip(settings.tile_size, draws[4:], strict=True):
        room = length / 2 - radius if settings.inside else length / 2
        shift = room if settings.max_shift is None else min(room, settings.max_shift)
        center.append((length - 1) / 2 + (2 * draw - 1) * shift)
    return name, center[0], center[1], radius, ratio, 2 * np.pi * draws[3]


def _between(ends: Range, draw: float) -> float:
    return ends[0] + (ends[1] - ends[0]) * float(draw)
