"""Pictures of what a model makes of some of the labelled regions, for its report."""

import io
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from dlsia_core.plots import plot_segmentation
from dlsia_core.segmentation import segment
from tasks.segmentation_learning import IGNORE, Learning

PICTURES = 2
SIDE = 256


@dataclass(frozen=True)
class SegmentedPicture:
    """A part of a slice, with labels, answer and probability, as PNG."""

    caption: str
    png: bytes


def pictures_of(learning: Learning, network: nn.Module, device: torch.device) -> list[SegmentedPicture]:
    """The slices with the most held-out labels, or with the most labels where none are held out, far apart."""
    held_out = learning.split.where("test")
    there = held_out if held_out.any() else learning.labels.label != IGNORE
    counts = there.sum(axis=(1, 2))
    pictures = []
    for part in np.array_split(np.arange(len(counts)), min(PICTURES, len(counts))):
        number = int(part[np.argmax(counts[part])])
        if counts[number]:
            pictures.append(_picture(learning, network, device, number, there[number]))
    return pictures


def _picture(
    learning: Learning, network: nn.Module, device: torch.device, number: int, there: NDArray[np.bool_]
) -> SegmentedPicture:
    rows, columns = _around(there, 0), _around(there, 1)
    depth = min(learning.recipe.seen_slices, learning.images.shape[0])
    first = min(max(0, number - depth // 2), learning.images.shape[0] - depth)
    part = learning.images.read(first, first + depth)[:, rows, columns]
    mean = segment(network, learning.recipe, part, device).mean[:, number - first]
    names = learning.labels.names
    image, label = np.asarray(part[number - first], np.float64), learning.labels.label[number, rows, columns]
    figure = plot_segmentation(image, label, probabilities=mean, class_names=names, unit="value")
    file = io.BytesIO()
    figure.savefig(file, format="png", metadata={"Software": None})
    where = f"slice {learning.images.numbers[number]}, rows {rows.start} to {rows.stop}, columns {columns.start} to "
    return SegmentedPicture(f"{where}{columns.stop}", file.getvalue())


def _around(there: NDArray[np.bool_], axis: int) -> slice:
    """At most 256 px around the middle of what is True, along an axis."""
    places = np.flatnonzero(there.any(axis=1 - axis))
    size = there.shape[axis]
    start = int(np.clip((places[0] + places[-1] + 1) // 2 - SIDE // 2, 0, max(size - SIDE, 0)))
    return slice(start, min(start + SIDE, size))
