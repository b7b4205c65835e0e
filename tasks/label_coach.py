"""Propose what to label next: ask an ensemble, find where it disagrees, and write tiles that napari can open."""

import csv
import io
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dlsia_core.errors import ArrayError, SettingError
from dlsia_core.networks.storage import write_atomically
from dlsia_core.segmentation import answer_tiles
from dlsia_core.segmentation.coach import Proposal, propose_tiles
from tasks.devices import check_device, device_slot
from tasks.errors import SettingsError
from tasks.models import ModelRef
from tasks.segmentation_model import SegmentationModel, find_segmentation, segmentation_of
from tasks.settings.segmentation import CoachSettings
from tasks.stage import stage_task
from tasks.volumes import Volume

IGNORE = 255
FILE = "proposals.csv"


@dataclass(frozen=True)
class WrittenProposals:
    """The tiles as a table, the first the most worth labelling, and the file for napari."""

    table: tuple[dict[str, Any], ...]
    file: str


def coaching_model(model: str, device: str) -> SegmentationModel:
    """The model to ask. Raises `SettingsError` for one that cannot disagree with itself."""
    check_device(device)
    found = find_segmentation(model)
    if found.members < 2:
        raise SettingsError(
            f"the model {found.label} is a single network, which cannot disagree with itself; train an ensemble: "
            "train_segmentation(…, network='SMSNet ensemble')"
        )
    return found


@stage_task("propose-labels")
def write_proposals(
    model: ModelRef, images: Volume, labelled: NDArray[np.bool_], folder: Path, settings: CoachSettings, separate: bool
) -> WrittenProposals:
    """Look at some slices, choose tiles, and write them; labelled: (z, y, x) pixels that have a label already."""
    try:
        shown = disagreement_of(model, images, settings)
        found = propose_tiles(shown, labelled, settings.count, settings.side, settings.distance, separate)
    except (SettingError, ArrayError) as error:
        raise SettingsError(f"no tiles can be proposed: {error}") from error
    path = folder / FILE
    write_atomically(path, shapes_csv(found, flat=images.shape[0] == 1).encode())
    rows = [
        {
            "rank": rank,
            "slice": tile.z,
            "number": images.numbers[tile.z],
            "rows": f"{tile.y} to {tile.y + tile.side}",
            "columns": f"{tile.x} to {tile.x + tile.side}",
            "disagreement": round(tile.disagreement, 5),
        }
        for rank, tile in enumerate(found, start=1)
    ]
    return WrittenProposals(tuple(rows), str(path))


def disagreement_of(model: ModelRef, images: Volume, settings: CoachSettings) -> dict[int, NDArray[np.float32]]:
    """Deviation of the probabilities over members, mean over classes, (y, x) of slices evenly over a volume."""
    loaded = segmentation_of(model)
    depth = images.shape[0]
    looked_at = np.unique(np.linspace(0, depth - 1, min(settings.slices, depth)).round().astype(int)).tolist()
    found = {number: np.zeros(images.shape[1:], np.float32) for number in looked_at}
    with device_slot(settings.device) as device:
        for window in loaded.recipe.windows(images.shape):
            wanted = [number for number in looked_at if window.inner[0].start <= number < window.inner[0].stop]
            if not wanted:
                continue
            planes, rows, columns = window.outer
            tile = loaded.recipe.tile(images.read(planes.start, planes.stop)[:, rows, columns], window)
            spread = answer_tiles(loaded.network, loaded.recipe, tile[None], device).std[0].mean(axis=0)
            inner = spread[loaded.recipe.answered(window)]
            for number in wanted:
                found[number][window.inner[1:]] = inner[number - window.inner[0].start]
    return found


def shapes_csv(proposals: list[Proposal], flat: bool) -> str:
    """Rectangles as a shapes layer of napari saves them; flat: of a single image, without an axis of slices.

    >>> print(shapes_csv([Proposal(3, 10, 20, 4, 0.5)], flat=False).splitlines()[1])
    0,rectangle,0,3.0,10.0,20.0
    """
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["index", "shape-type", "vertex-index", *(f"axis-{axis}" for axis in range(2 if flat else 3))])
    for index, tile in enumerate(proposals):
        low_y, low_x, high_y, high_x = tile.y, tile.x, tile.y + tile.side, tile.x + tile.side
        corners = ((low_y, low_x), (low_y, high_x), (high_y, high_x), (high_y, low_x))
        for vertex, corner in enumerate(corners):
            place = corner if flat else (tile.z, *corner)
            writer.writerow([index, "rectangle", vertex, *map(float, place)])
    return text.getvalue()
