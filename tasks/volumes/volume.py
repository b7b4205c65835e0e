"""A volume (z, y, x) that is read slice by slice, wherever it is kept."""

from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dlsia_core.segmentation.cuts import Box
from tasks.errors import SourceError
from tasks.settings import confine
from tasks.settings.segmentation import Stacked
from tasks.volumes.files import SliceFiles, find_slices
from tasks.volumes.stored import open_stored, stored_kind


@dataclass(frozen=True)
class Volume:
    """Slices of one shape and type.

    numbers: of the slices, by which labels of some of them are matched: those in the names of files, if `numbered`,
        else 0, 1, …
    read_slice: (y, x), as stored.
    """

    source: str
    shape: tuple[int, int, int]
    dtype: np.dtype[Any]
    numbers: tuple[int, ...]
    numbered: bool
    read_slice: Callable[[int], NDArray[Any]]

    def read(self, start: int, stop: int) -> NDArray[Any]:
        """Slices start to stop, (z, y, x)."""
        return np.stack([self.read_slice(number) for number in range(start, stop)])

    def boxes(self, boxes: Sequence[Box]) -> Iterator[tuple[int, NDArray[Any]]]:
        """Number and pixels (z, y, x) of each box, as soon as its last slice is read; every slice is read once.

        boxes: slices (z, y, x), none of them empty.
        """
        first, last = defaultdict(list), defaultdict(list)
        for number, (depth, _, _) in enumerate(boxes):
            first[depth.start].append(number)
            last[depth.stop - 1].append(number)
        open_boxes: dict[int, NDArray[Any]] = {}
        for z in range(self.shape[0]):
            for number in first[z]:
                open_boxes[number] = np.empty([part.stop - part.start for part in boxes[number]], self.dtype)
            if not open_boxes:
                continue
            pixels = self.read_slice(z)
            for number, part in open_boxes.items():
                depth, rows, columns = boxes[number]
                part[z - depth.start] = pixels[rows, columns]
            for number in last[z]:
                yield number, open_boxes.pop(number)

    @property
    def n_bytes(self) -> int:
        """Bytes of all slices in memory."""
        return int(np.prod(self.shape)) * self.dtype.itemsize


def open_volume(source: str, dataset: str | None = None, stacked: Stacked = "separate") -> Volume:
    """Look at a source, without reading pixels.

    dataset: the array inside a Zarr group, a scan store or an HDF5 file; None = the only one that can be meant.
    stacked: "volume" = files must be contiguous slices, "separate" = they may be any images of one size.
    Raises `SourceError` for what is not there, cannot be read, is of several shapes, or has missing slices.
    """
    path = confine(source, "source")
    if kind := stored_kind(path):
        shape, dtype, read = open_stored(path, kind, dataset)
        if len(shape) not in (2, 3):
            raise SourceError(
                f"{source} has the axes {shape}; wanted (y, x) or (z, y, x): write channels or times as arrays of "
                "their own, and give their names one by one"
            )
        depth, height, width = (1, *shape)[-3:]
        reader = (lambda _: read(...)) if len(shape) == 2 else read
        return Volume(source, (depth, height, width), dtype, tuple(range(depth)), False, reader)
    if dataset is not None:
        raise SourceError(f"dataset is {dataset!r}, and {source} has no named arrays, as Zarr and HDF5 have; drop it")
    files = find_slices(source, str(path))
    if stacked == "volume":
        _require_contiguous(files)
    return Volume(source, (files.depth, *files.shape), files.dtype, files.numbers, files.numbered, files.read)


def _require_contiguous(files: SliceFiles) -> None:
    """Refuse a volume with holes: what lies behind a missing slice would be taken for its neighbor."""
    numbers = files.numbers
    steps = list(pairwise(numbers))
    holes = [(a, b) for a, b in steps if b != a + 1]
    if not files.numbered or not holes:
        return
    shown = ", ".join(f"{b} after {a}" for a, b in holes[:5])
    raise SourceError(
        f"the slices of {files.source} are not contiguous: {shown}{', …' if len(holes) > 5 else ''} "
        f"({len(holes)} of {len(steps)} steps). Bring the missing slices; or, if these are single images and no "
        "volume, give reading={'stacked': 'separate'}"
    )
