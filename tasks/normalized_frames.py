"""The frames that models learn from and are judged on: `normalized` of a scan, a fixed number of them, read one by one.

Whoever trains, compares or studies gets frames from here, whether they came from detector files or from a store.
"""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any, cast

import numpy as np
import numpy.typing as npt

from dlsia_core.gaps import gap_columns, gap_rows
from dlsia_core.tiling import TileGrid
from tasks.errors import SettingsError
from tasks.settings.base import digest
from tasks.settings.stages import NormalizeSettings
from tasks.store import ArrayRef, ScanRef, open_store
from tasks.store.ledger import content_digest

FloatArray = npt.NDArray[np.float32]
BoolArray = npt.NDArray[np.bool_]
LOOKED_AT = 16
"""Frames, evenly over the scan, that tell which pixels of the detector ever measure."""


@dataclass(frozen=True)
class NormalizedFrames:
    """The first `n_frames` of a normalized array (frame, row, column) float32, NaN = not measured."""

    normalized: ArrayRef
    n_frames: int

    @cached_property
    def _array(self) -> Any:
        return open_store(self.normalized.scan).array(self.normalized.path)

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns of a frame."""
        return int(self._array.shape[1]), int(self._array.shape[2])

    def read(self, frame: int) -> FloatArray:
        """One frame (row, column)."""
        return np.asarray(self._array[frame], np.float32)

    def read_part(self, frame: int, rows: slice, columns: slice) -> FloatArray:
        """Some rows and columns of a frame."""
        return np.asarray(self._array[frame, rows, columns], np.float32)

    @cached_property
    def lineage(self) -> str:
        """Names the pixels: how they were computed, and from which files."""
        ingested = open_store(self.normalized.scan).frames.ingested[: self.n_frames]
        return digest([self.normalized.lineage, content_digest(ingested)])

    @cached_property
    def measured(self) -> BoolArray:
        """Pixels (row, column) that measured in any of some frames: what is left out is the detector's own gaps."""
        return measured_anywhere(self)

    @property
    def facts(self) -> dict[str, Any]:
        """What a model must know of the frames it was trained on: scale, normalization, detector."""
        attributes = dict(self._array.attrs)
        return {
            "scale": attributes["scale"],
            "normalize": attributes["origin"]["settings"],
            "detector": detector_of(self.normalized.scan, self.measured),
        }


def measured_anywhere(frames: NormalizedFrames) -> BoolArray:
    """Pixels (row, column) bool that measured in any of up to 16 frames."""
    rows = np.unique(np.linspace(0, frames.n_frames - 1, min(LOOKED_AT, frames.n_frames)).round().astype(int))
    measured = np.zeros(frames.shape, dtype=np.bool_)
    for row in rows:
        measured |= np.isfinite(frames.read(int(row)))
    return measured


def detector_of(scan: ScanRef, measured: BoolArray) -> dict[str, Any]:
    """The detector as far as a model depends on it: name (None: unknown), size, gaps (start, stop) once normalized."""
    store = open_store(scan)
    named = Counter(record.header.get("facts", {}).get("detector") for record in store.frames.ingested)
    named.pop(None, None)
    rule = str(store.attributes.get("ingest", {}).get("validity", {}).get("detector", "auto"))
    said = named.most_common(1)[0][0] if named else None
    return {
        "name": rule if rule not in ("auto", "none") else said,
        "frame_shape": list(store.attributes["frame_shape"]),
        "normalized_shape": list(measured.shape),
        "gap_rows": [list(gap) for gap in gap_rows(measured)],
        "gap_columns": [list(gap) for gap in gap_columns(measured)],
    }


def frames_of_store(scan: ScanRef, normalize: NormalizeSettings | None) -> NormalizedFrames:
    """The normalized frames that a store holds: those of these settings, or of its first ones.

    Raises `SettingsError` where there are none, or none of these settings (it says how to make them).
    """
    store = open_store(scan)
    known = {path: array for path, array in store.frame_arrays().items() if path.split("/")[-1] == "normalized"}
    for path, array in sorted(known.items(), key=lambda item: item[0].count("/")):
        origin = cast(dict[str, Any], array.attrs["origin"])
        if normalize is None or origin["settings"] == normalize.model_dump(mode="json"):
            return NormalizedFrames(ArrayRef(scan, path, str(array.attrs["lineage"])), committed_frames(scan, path))
    held = [array.attrs["origin"]["settings"] for array in known.values()]  # type: ignore[index, call-overload]
    raise SettingsError(
        f"{scan.path} holds no normalized frames of the settings {normalize and normalize.model_dump(mode='json')}, "
        f"only of {held}; run process_scan on it with these settings, or leave normalize empty"
    )


def committed_frames(scan: ScanRef, path: str) -> int:
    """Frames at the beginning of an array that are computed and stored; the scan may be processed just now."""
    store = open_store(scan)
    shard_frames, done = int(store.array(path).shards[0]), 0  # type: ignore[index]
    while (record := store.shards.get(path, done // shard_frames)) and record.sha256 and record.stop > done:
        done = record.stop
        if done % shard_frames:
            break
    return min(done, store.n_frames)


@dataclass(frozen=True)
class StoredTiles:
    """Tiles (tile, tile_row, tile_column) float32 that are read from their frames when they are asked for.

    places: (tile, 2) frame and number in the grid.
    """

    frames: NormalizedFrames
    grid: TileGrid
    places: npt.NDArray[np.int64]

    @property
    def shape(self) -> tuple[int, int, int]:
        return len(self.places), *self.grid.tile_shape

    @property
    def dtype(self) -> Any:
        return np.dtype(np.float32)

    @property
    def n_bytes(self) -> int:
        return int(np.prod(self.shape)) * 4

    def __getitem__(self, key: tuple[int, slice]) -> FloatArray:
        """Rows of one tile."""
        tile, rows = key
        frame, number = map(int, self.places[tile])
        inside, columns = self.grid.slices[number]
        start, stop, _ = rows.indices(self.grid.tile_shape[0])
        return self.frames.read_part(frame, slice(inside.start + start, inside.start + stop), columns)

    def in_memory(self) -> FloatArray:
        """All of them, each frame read once."""
        tiles = np.empty(self.shape, np.float32)
        for frame, members in self._by_frame():
            tiles[members] = self.grid.cut(self.frames.read(frame))[self.places[members, 1]]
        return tiles

    def parts(self) -> Iterator[FloatArray]:
        """The tiles of one frame after the other, (tile, tile_row, tile_column)."""
        for frame, members in self._by_frame():
            yield self.grid.cut(self.frames.read(frame))[self.places[members, 1]]

    def _by_frame(self) -> Iterator[tuple[int, npt.NDArray[np.intp]]]:
        for frame in np.unique(self.places[:, 0]):
            yield int(frame), np.flatnonzero(self.places[:, 0] == frame)

    @property
    def digest(self) -> str:
        """Names the values."""
        grid = [self.grid.frame_shape, self.grid.tile_shape, self.grid.step]
        return digest([self.frames.lineage, grid, self.places.tolist()])
