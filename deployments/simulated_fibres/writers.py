"""Write a simulated volume slab by slab: TIFF stacks of volume, labels and truth, and the table of fibres."""

import csv
import json
import logging
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import tifffile
from numpy.typing import NDArray

from dlsia_core.errors import SettingError

from .arcs import Fibre
from .imaging import Slab, image_slab
from .scene import Scene, build_scene, lies_inside
from .settings import FibreSettings, generator

BACKGROUND, FIBRE, UNLABELLED = 0, 1, 255
_DISC = 12.0  # radius of a stroke of background, in voxels
_SCRIBBLES = 7  # purpose of random numbers
COLUMNS = (
    *("id", "length_end_to_end_px", "length_along_px", "volume_px"),
    *("direction_z", "direction_y", "direction_x", "z_px", "y_px", "x_px", "wholly_inside", "labelled"),
    *("length_end_to_end_um", "length_along_um", "volume_um3"),
)

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Written:
    """Folders and files of a simulated volume; `labels` is None where no sparse labels were asked for."""

    volume: Path
    labels: Path | None
    instances: Path
    table: Path
    n_labelled: dict[int, int]


def write_volume(
    folder: Path | str, settings: FibreSettings, slab: int = 32, on_slab: Callable[[int], None] | None = None
) -> Written:
    """Write `volume/`, `labels/` (where asked for) and `truth/` into a folder, one TIFF file per slice.

    volume/slice_00000.tif           uint16 (y, x)
    labels/slice_00000.tif           uint8: 0 background, 1 fibre, 255 unlabelled
    truth/instances/slice_00000.tif  uint16 or uint32: number of the fibre, 0 elsewhere
    truth/fibres.csv                 a row per fibre; lengths and directions are those of the part inside the volume
    truth/settings.json              the settings

    slab       slices made at once; any number writes the same files
    on_slab    is told how many slices are written

    Raises SettingError for settings that cannot be met and FileExistsError, before anything is written, if the folder
    holds one of these.
    """
    folder = Path(folder)
    if slab < 1:
        raise SettingError(f"slab is {slab}; give the number of slices made at once, at least 1")
    parts = {name: folder / name for name in ("volume", "labels", "truth")}
    if there := [name for name, path in parts.items() if path.exists()]:
        raise FileExistsError(f"{', '.join(there)} already in {folder}; give another folder")
    scene = build_scene(settings)
    written = Written(
        parts["volume"],
        parts["labels"] if settings.label_fibres else None,
        parts["truth"] / "instances",
        parts["truth"] / "fibres.csv",
        {BACKGROUND: 0, FIBRE: 0},
    )
    for path in filter(None, (written.volume, written.labels, written.instances)):
        path.mkdir(parents=True)
    _write_slabs(scene, written, slab, on_slab)
    (parts["truth"] / "settings.json").write_text(json.dumps(settings.model_dump(), indent=1) + "\n")
    return written


def _write_slabs(scene: Scene, written: Written, slab: int, on_slab: Callable[[int], None] | None) -> None:
    settings, sums = scene.settings, np.zeros((len(scene.fibres) + 1, 4))
    id_type = np.uint16 if len(scene.fibres) < 65_536 else np.uint32
    discs = _discs(scene)
    for start in range(0, settings.shape[0], slab):
        stop = min(start + slab, settings.shape[0])
        made = image_slab(scene, start, stop)
        sums += _sums(made.ids, start, len(scene.fibres))
        for number in range(start, stop):
            name, one = f"slice_{number:05d}.tif", number - start
            _write(written.volume / name, made.volume[one])
            _write(written.instances / name, made.ids[one].astype(id_type), "zlib")
            if written.labels is not None:
                labels = _sparse_labels(made, one, scene.labelled, discs.get(number, []))
                _write(written.labels / name, labels, "zlib")
                for value in written.n_labelled:
                    written.n_labelled[value] += int((labels == value).sum())
        if on_slab is not None:
            on_slab(stop)
    _write_table(written.table, scene, sums)


def _write(path: Path, image: NDArray[np.generic], compression: str | None = None) -> None:
    part = path.with_name(f".{path.name}.part")
    tifffile.imwrite(part, image, compression=compression, photometric="minisblack", metadata=None)
    part.replace(path)


def _sums(ids: NDArray[np.uint32], start: int, n_fibres: int) -> NDArray[np.float64]:
    """Voxels and sums of their z, y, x, per fibre."""
    z, y, x = np.nonzero(ids)
    owner = ids[z, y, x]
    weights = (np.ones(z.size), z + start, y, x)
    return np.stack([np.bincount(owner, weight, n_fibres + 1) for weight in weights], axis=1)


def _discs(scene: Scene) -> dict[int, list[tuple[float, float]]]:
    """Strokes of background far from labelled fibres: slice -> centers (y, x)."""
    settings, found = scene.settings, dict[int, list[tuple[float, float]]]()
    volume = sum(
        np.pi * scene.fibres[number - 1].radius ** 2 * scene.fibres[number - 1].length for number in scene.labelled
    )
    wanted = volume * settings.label_ratio * (1 - settings.label_near)
    rng = generator(settings, _SCRIBBLES)
    for _ in range(round(wanted / (np.pi * _DISC**2))):
        point = rng.random(3) * settings.shape - 0.5
        if scene.pores and rng.random() < settings.label_pores:
            point = scene.pores[int(rng.integers(len(scene.pores)))].center
        # A stroke stays whole, so that its area is what was counted on.
        y, x = (float(np.clip(at, _DISC, n - 1 - _DISC)) for at, n in zip(point[1:], settings.shape[1:], strict=True))
        found.setdefault(int(np.clip(round(point[0]), 0, settings.shape[0] - 1)), []).append((y, x))
    return found


def _sparse_labels(
    made: Slab, one: int, labelled: tuple[int, ...], discs: list[tuple[float, float]]
) -> NDArray[np.uint8]:
    ids, background = made.ids[one], made.around[one].copy()
    y, x = np.ogrid[: ids.shape[0], : ids.shape[1]]
    for center_y, center_x in discs:
        background |= (y - center_y) ** 2 + (x - center_x) ** 2 < _DISC**2
    labels = np.full(ids.shape, UNLABELLED, np.uint8)
    labels[background & (ids == 0)] = BACKGROUND
    labels[np.isin(ids, labelled)] = FIBRE  # other fibres stay unlabelled, even where a stroke crosses them
    return labels


def _write_table(path: Path, scene: Scene, sums: NDArray[np.float64]) -> None:
    with path.open("w", newline="", encoding="ascii") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(COLUMNS)
        for number, fibre in enumerate(scene.fibres, start=1):
            writer.writerow([number, *_row(scene, number, fibre, sums[number])])


def _row(scene: Scene, number: int, fibre: Fibre, sums: NDArray[np.float64]) -> Iterator[str]:
    settings, size = scene.settings, scene.settings.voxel_size_um
    line = fibre.line(0.1)
    inside = np.flatnonzero(((line >= -0.5) & (line < np.array(settings.shape) - 0.5)).all(axis=1))
    first, last = (line[inside[0]], line[inside[-1]]) if inside.size else (line[0], line[0])
    chord = float(np.linalg.norm(last - first))
    along = fibre.length * (inside[-1] - inside[0]) / (len(line) - 1) if inside.size else 0.0
    direction = (last - first) / chord if chord else fibre.along
    direction = direction * (1 if tuple(direction) > (0, 0, 0) else -1)
    count = int(sums[0])
    centroid = sums[1:] / count if count else np.full(3, np.nan)
    yield from (f"{chord:.3f}", f"{along:.3f}", str(count))
    yield from (f"{value:.6f}" for value in direction)
    yield from (f"{value:.3f}" for value in centroid)
    yield from (str(int(lies_inside(settings, fibre))), str(int(number in scene.labelled)))
    yield from (f"{chord * size:.3f}", f"{along * size:.3f}", f"{count * size**3:.3f}")
