"""What lies where: fibres, aggregates and pores, drawn for any slab of slices."""

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from dlsia_core.errors import SettingError

from .arcs import Fibre, place_fibres
from .grains import Grain, place_grains
from .settings import FibreSettings, generator

AIR_GRAY = 0.08
_PIECE = 16.0  # voxels of a fibre that are drawn at once: short pieces have small boxes
_EDGE = 1.0  # a surface is drawn over half a voxel on either side


@dataclass(frozen=True, eq=False)
class Scene:
    """Everything of a volume that is not random per voxel.

    `labelled` numbers the fibres (from 1) with sparse labels. A `piece` of a fibre has a box `lowest`, `highest`
    (piece, 3) around its center line and belongs to fibre `owner` (piece,), counted from 0.
    """

    settings: FibreSettings
    fibres: list[Fibre]
    aggregates: list[Grain]
    pores: list[Grain]
    labelled: tuple[int, ...]
    lowest: NDArray[np.float64]
    highest: NDArray[np.float64]
    owner: NDArray[np.intp]


@dataclass(frozen=True, eq=False)
class Drawn:
    """Slices of a scene, all (z, y, x): `gray` float32 without blur and noise, `ids` uint32 with 0 for no fibre, and
    `around` bool, True near a labelled fibre.
    """

    gray: NDArray[np.float32]
    ids: NDArray[np.uint32]
    around: NDArray[np.bool_]


@lru_cache(maxsize=2)
def build_scene(settings: FibreSettings) -> Scene:
    """Place everything; the two last ones are kept.

    Raises SettingError where the fibres do not fit, or fewer lie wholly inside the volume than are to be labelled.
    """
    fibres = place_fibres(settings)
    aggregates, pores = place_grains(settings, fibres)
    lowest, highest, owner = [], [], []
    for number, fibre in enumerate(fibres):
        n_pieces = int(np.ceil(fibre.length / _PIECE))
        line = fibre.points(np.linspace(-fibre.bend / 2, fibre.bend / 2, 8 * n_pieces + 1))
        for piece in range(n_pieces):
            part = line[8 * piece : 8 * piece + 9]
            lowest.append(part.min(axis=0))
            highest.append(part.max(axis=0))
            owner.append(number)
    return Scene(
        settings,
        fibres,
        aggregates,
        pores,
        _choose_labelled(settings, fibres),
        np.array(lowest).reshape(-1, 3),
        np.array(highest).reshape(-1, 3),
        np.array(owner, dtype=np.intp),
    )


def draw(scene: Scene, start: int, stop: int) -> Drawn:
    """Slices start to stop - 1, which may lie outside the volume: what is drawn there is what a halo needs."""
    shape = (stop - start, *scene.settings.shape[1:])
    gray = np.full(shape, scene.settings.matrix_gray, np.float32)
    for grains, own in ((scene.aggregates, None), (scene.pores, AIR_GRAY)):
        for grain in grains:
            _draw_grain(gray, grain, grain.gray if own is None else own, start)
    ids, around = np.zeros(shape, np.uint32), np.zeros(shape, bool)
    margin = _EDGE + scene.settings.radius
    wide = label_reach(scene.settings) if scene.labelled else 0.0
    reach = np.where(np.isin(scene.owner + 1, scene.labelled), max(margin, wide), margin)
    seen = (scene.lowest[:, 0] - reach < stop) & (scene.highest[:, 0] + reach >= start)
    for piece in np.flatnonzero(seen):
        number = int(scene.owner[piece])
        box = _box(scene.lowest[piece] - reach[piece], scene.highest[piece] + reach[piece], shape, start)
        if box is None:
            continue
        mantle, ends = scene.fibres[number].distances(_points(box, start))
        _mix(gray, box, np.minimum(mantle, ends), scene.settings.fibre_gray)
        inside = (mantle > 0) & (ends > 0) & (ids[box] == 0)
        ids[box][inside] = number + 1
        if number + 1 in scene.labelled:
            beyond = wide - scene.settings.radius
            around[box] |= (mantle > -beyond) & (ends > -beyond)
    return Drawn(gray, ids, around)


def label_reach(settings: FibreSettings) -> float:
    """Distance from the center line up to which the background around a labelled fibre is labelled.

    Around a long cylinder, pi (R^2 - r^2) per length is `label_near` * `label_ratio` times pi r^2.

    >>> round(label_reach(FibreSettings(radius=4.0, label_ratio=5.0, label_near=0.5)), 3)  # 4 sqrt(1 + 2.5)
    7.483
    """
    return settings.radius * float(np.sqrt(1 + settings.label_near * settings.label_ratio))


def _choose_labelled(settings: FibreSettings, fibres: list[Fibre]) -> tuple[int, ...]:
    whole = [number for number, fibre in enumerate(fibres, start=1) if lies_inside(settings, fibre)]
    if len(whole) < settings.label_fibres:
        raise SettingError(
            f"only {len(whole)} of {len(fibres)} fibres lie wholly inside the volume, {settings.label_fibres} are to "
            "be labelled; ask for fewer labels, more or shorter fibres, or a larger shape"
        )
    order = generator(settings, 3).permutation(len(whole))
    return tuple(sorted(whole[index] for index in order[: settings.label_fibres]))


def lies_inside(settings: FibreSettings, fibre: Fibre) -> bool:
    """Whether all of a fibre lies in the volume."""
    line = fibre.line(1.0)
    upper = np.array(settings.shape) - 0.5 - fibre.radius
    return bool((line >= fibre.radius - 0.5).all() and (line <= upper).all())


def _draw_grain(gray: NDArray[np.float32], grain: Grain, value: float, start: int) -> None:
    reach = grain.reach + _EDGE
    box = _box(grain.center - reach, grain.center + reach, gray.shape, start)
    if box is not None:
        _mix(gray, box, grain.depth(_points(box, start)), value)


def _box(
    lowest: NDArray[np.float64], highest: NDArray[np.float64], shape: tuple[int, ...], start: int
) -> tuple[slice, slice, slice] | None:
    """Slices of an array that begins with slice `start`; None where nothing of the box lies in it."""
    offset = np.array([start, 0, 0])
    low = np.maximum(np.floor(lowest).astype(int) - offset, 0)
    high = np.minimum(np.ceil(highest).astype(int) + 1 - offset, shape)
    if (low >= high).any():
        return None
    z, y, x = (slice(int(a), int(b)) for a, b in zip(low, high, strict=True))
    return z, y, x


def _points(box: tuple[slice, slice, slice], start: int) -> NDArray[np.float64]:
    z, y, x = (np.arange(part.start, part.stop, dtype=np.float64) for part in box)
    grid = np.empty((z.size, y.size, x.size, 3))
    grid[..., 0], grid[..., 1], grid[..., 2] = (z + start)[:, None, None], y[None, :, None], x[None, None, :]
    return grid


def _mix(gray: NDArray[np.float32], box: tuple[slice, slice, slice], depth: NDArray[np.float64], value: float) -> None:
    share = np.clip(depth + 0.5, 0, 1).astype(np.float32)
    gray[box] += share * (np.float32(value) - gray[box])
