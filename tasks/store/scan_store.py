"""A scan store: one Zarr v3 group that holds a scan's arrays and its ledger.

What a reader sees is always complete: shards are written behind the published end of an array, committed in the ledger,
and only then does `publish` move the end of every array that has a frame axis.
"""

import hashlib
import os
import shutil
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, cast

import numpy as np
import numpy.typing as npt
import zarr
from zarr.core.array import AsyncArray

from tasks.errors import StoreError
from tasks.store.coordinates import frame_coordinates
from tasks.store.disk import disk_problems
from tasks.store.journal import Journal
from tasks.store.layout import CODECS, FORMAT, ArraySpec
from tasks.store.ledger import FrameLedger, ShardLedger, ShardRecord
from tasks.store.lock import writer_lock
from tasks.store.small_files import UNFINISHED, describe_group, read_description, write_chunk, write_description

Array = zarr.Array[Any]
_descriptions: dict[str, tuple[Any, dict[str, Any]]] = {}
"""Of arrays that this process has made, by their kind: what zarr knows of them, and what it writes of them."""
VARIANTS = "settings-"
"""Prefix of the groups that hold results of other settings than the first ones."""


@dataclass(frozen=True)
class ShardFile:
    """Where a shard was written and what its bytes hash to."""

    sha256: str
    size_bytes: int


class ScanStore:
    """One scan on disk; several may be open on the same path, one of them (`writing`) by its lock allowed to write."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._scan_id = _attributes_of(path)["scan_id"]
        self.frames = FrameLedger(path / "ledger" / "frames.jsonl")
        self.shards = ShardLedger(path / "ledger" / "shards.jsonl")
        self.work = Journal(path / "ledger" / "work.jsonl")
        """A line for each task run that computed something: stage, frames, seconds, bytes. Nothing depends on it."""

    @cached_property
    def _group(self) -> zarr.Group:
        return _open_group(self.path)

    @cached_property
    def _shown(self) -> zarr.Group:
        """The same, for readers: nothing can be written to its arrays."""
        return _open_group(self.path, "r")

    @classmethod
    def create(cls, path: Path) -> "ScanStore":
        """Open the store; make an empty one if there is nothing at the path."""
        if is_free(path):
            describe_group(path, {**FORMAT, "scan_id": str(uuid.uuid4())})
        else:
            _attributes_of(path)
        # Groups, so that the folders of ledger and models are known members of the hierarchy.
        for name in ("ledger", "models"):
            if not (path / name / "zarr.json").exists():
                describe_group(path / name, {})
        return cls(path)

    @classmethod
    @contextmanager
    def writing(cls, path: Path) -> Iterator[None]:
        """Hold the writer lock of the store at the path, or of the one that is about to be made there.

        Raises `StoreError` if another run holds it, if the path is a folder of something else, or if the disk is full
        or read-only, also for whatever is done while it is held.
        """
        if not is_free(path):
            _attributes_of(path)
        with disk_problems(path), writer_lock(path / "ledger" / "lock"):
            yield

    def recover(self) -> None:
        """Clear away and finish what a killed run left; under the writer lock."""
        for left in self.path.rglob(f"*{UNFINISHED}"):
            left.unlink(missing_ok=True)
        for folder in [*self.path.glob("*/"), *self.path.glob(f"{VARIANTS}*/*/")]:
            if folder.is_dir() and not any(folder.iterdir()):
                folder.rmdir()  # of an array that was about to be made; xarray would warn of it
        self.frames.refresh()
        self.shards.refresh()
        if self.shards.pruned("counts"):
            self._withdraw_counts(self.shards.pruned("counts")[0].pruned)
        if "counts" in self and self.n_frames != len(self.frames.ingested):
            self.publish()

    def _withdraw_counts(self, proof: str) -> None:
        """Nobody may find counts that are not whole, as a pruning or restoration that is killed leaves them."""
        restored = [record for record in self.shards.of_array("counts") if not record.pruned]
        if restored:
            self.shards.commit(replace(record, pruned=proof) for record in restored)
        (self.path / "counts" / "zarr.json").unlink(missing_ok=True)
        shutil.rmtree(self.path / "counts", ignore_errors=True)

    # What is there

    def __contains__(self, array: str) -> bool:
        # By its file, as zarr would after a hundred times as long; a scan asks this for each of its arrays.
        return (self.path / array / "zarr.json").exists()

    def is_same_scan(self) -> bool:
        """False once the path holds another scan, or none."""
        try:
            return bool(_attributes_of(self.path)["scan_id"] == self._scan_id)
        except StoreError:
            return False

    @property
    def n_frames(self) -> int:
        """Published frames: the length of `counts` (frame, y, x), or of the coordinate where `counts` was pruned."""
        name = "counts" if "counts" in self or not self.shards.pruned("counts") else "frame"
        return int(self.array(name).shape[0]) if name in self else 0

    @property
    def attributes(self) -> dict[str, Any]:
        return _attributes_of(self.path)

    @property
    def shard_frames(self) -> int:
        return int(self.attributes["shard_frames"])

    def array(self, name: str) -> Array:
        """A stored array, with its newest shape, for reading. Raises `StoreError` if there is none of that name.

        It refuses to be written to: two writers of one shard would lose each other's frames, so that whoever writes
        has to bring a whole shard (`write_shard`).
        """
        return self._array(self._shown, name)

    def _array(self, group: zarr.Group, name: str) -> Array:
        try:
            found = group[name]
        except KeyError as error:
            if self.shards.pruned(name):
                raise StoreError(self.why_pruned(name)) from error
            raise StoreError(
                f"{self.path} has no array {name!r}, only {sorted(self.frame_arrays())}; "
                "run the stage that writes it, or process_scan for the whole chain"
            ) from error
        if not isinstance(found, zarr.Array):
            raise StoreError(f"{self.path}/{name} is a group, not an array")
        return found

    def read(self, name: str, start: int, stop: int) -> npt.NDArray[Any]:
        """Frames start to stop of an array, (frame, …). Raises `StoreError` where they were pruned."""
        if self.lacks(name, start, stop):
            raise StoreError(self.why_pruned(name))
        return np.asarray(self.array(name)[start:stop])

    def lacks(self, name: str, start: int, stop: int) -> bool:
        """True if some of frames start to stop of an array were pruned."""
        pruned = {record.shard for record in self.shards.pruned(name)}
        if not pruned or name not in self:
            return bool(pruned)
        frames = self.array(name).shards[0]  # type: ignore[index]
        return not pruned.isdisjoint(range(start // frames, -(-stop // frames)))

    def why_pruned(self, name: str) -> str:
        """When an array was pruned, and what to do."""
        record = self.shards.pruned(name)[0]
        return (
            f"{self.path}/{name} was pruned on {record.at} (proof {record.pruned} in ledger/pruned.jsonl) and is "
            f"needed now; make it again from the source files: python -m tasks.restore {self.path}"
        )

    def frame_arrays(self) -> dict[str, Array]:
        """Every array with a frame axis, here and in the groups of other settings, by its path in the store."""
        return {path: self._array(self._group, path) for path in self._frame_lengths()}

    def _frame_lengths(self) -> dict[str, int]:
        """Path in the store to length, of every array with a frame axis."""
        found = {}
        # By their files: asking zarr for its members would meet the ledger's, and folders that a killed run left empty.
        for file in sorted([*self.path.glob("*/zarr.json"), *self.path.glob(f"{VARIANTS}*/*/zarr.json")]):
            facts = read_description(file.parent)
            if facts["node_type"] == "array" and (facts.get("dimension_names") or [None])[0] == "frame":
                found[str(file.parent.relative_to(self.path))] = int(facts["shape"][0])
        return found

    # Making arrays

    def describe(self, attributes: dict[str, Any]) -> None:
        """Attach attributes to the scan; nothing is written where they are there already."""
        # From the file, because all attributes are put back, and other objects on this path may have added some.
        held = self.attributes
        if any(key not in held or held[key] != value for key, value in attributes.items()):
            describe_group(self.path, held | attributes)

    def describe_group(self, name: str, attributes: dict[str, Any]) -> None:
        """Attach attributes to a group of other settings; make it if need be."""
        self._group.require_group(name).update_attributes(attributes)

    def require_array(self, path: str, spec: ArraySpec, shard_frames: int, n_frames: int | None = None) -> None:
        """Make an array unless it is there; its shape is fixed here, once. None: as long as the published scan."""
        if path in self:
            return
        if "/" in path:
            self._group.require_group(path.split("/")[0])
        self._new_array(
            path,
            shape=(self.n_frames if n_frames is None else n_frames, *spec.shape),
            chunks=(1, *spec.shape),
            shards=(shard_frames, *spec.shape),
            dtype=spec.dtype,
            fill_value=spec.fill_value,
            dimension_names=("frame", *spec.axes),
            compressors=CODECS[spec.compression],
            attributes=spec.attributes,
        )

    def _new_array(self, path: str, shape: tuple[int, ...], **kind: Any) -> Array:
        """Make an array that is not there; `kind` is what zarr takes besides its name and shape.

        zarr needs 2.5 ms to describe one, and a short scan is mostly descriptions: an array of a kind that this process
        has made before gets the same description, with its own shape.
        """
        known = _descriptions.get(key := repr(kind))
        if known is None:
            array = self._group.create_array(path, shape=shape, **kind)
            _descriptions[key] = array.metadata, read_description(self.path / path)
            return array
        metadata, facts = known
        write_description(self.path / path, facts | {"shape": list(shape)})
        held = replace(metadata, shape=shape)
        return zarr.Array(AsyncArray(metadata=held, store_path=self._group.store_path / path))

    def require_axis(self, path: str, positions: npt.NDArray[Any], attributes: dict[str, Any]) -> None:
        """Write the coordinate of an axis, unless it is there; a killed run may have left it without its values."""
        if path not in self or not np.array_equal(self.array(path)[...], positions):
            self.write_whole(path, positions, (path.split("/")[-1],), attributes)

    def write_whole(
        self,
        path: str,
        values: npt.NDArray[Any],
        axes: tuple[str, ...],
        attributes: dict[str, Any],
        fill_value: float | None = None,
    ) -> None:
        """Write a small array in one piece: axis coordinates, and results that need all frames at once."""
        kind: dict[str, Any] = {
            "chunks": tuple(max(1, size) for size in values.shape),
            "dtype": values.dtype,
            "fill_value": fill_value,
            "dimension_names": axes,
            "attributes": attributes,
        }
        if path in self:
            array = self._group.create_array(path, shape=values.shape, **kind, overwrite=True)
        else:
            array = self._new_array(path, values.shape, **kind)
        if values.ndim == 1:
            _write_rows(array, 0, values)
        else:
            array[...] = values

    # Writing shards

    def write_shard(self, path: str, shard: int, values: npt.NDArray[Any]) -> ShardFile:
        """Write one whole shard (frame, …) and sync it to disk; frames missing at its end are filled.

        May lie behind the published end: nobody sees it before `publish`. Raises `StoreError` for values that do not
        fit the array or would share the shard with another writer.
        """
        array = self.array(path)
        frames = array.shards[0] if array.shards else 1
        if values.shape[1:] != array.shape[1:] or values.dtype != array.dtype or not 0 < len(values) <= frames:
            raise StoreError(
                f"{self.path}/{path} takes shards of up to {frames} frames of {array.shape[1:]} {array.dtype}, "
                f"not {values.shape} {values.dtype}"
            )
        is_full = len(values) == frames
        if not is_full:
            padded = np.zeros((frames, *values.shape[1:]), values.dtype)  # costs memory only where written
            padded[: len(values)] = values
            if array.fill_value != 0:
                padded[len(values) :] = array.fill_value
            values = padded
        start, array = shard * frames, self._array(self._group, path)
        _reaching(array, start + frames, skip_empty=not is_full)[start : start + frames] = values
        return self.shard_file(path, shard)

    def shard_path(self, path: str, shard: int) -> Path:
        """The file that holds a shard."""
        array = self.array(path)
        key = array.metadata.encode_chunk_key((shard, *(0,) * (array.ndim - 1)))
        return self.path / path / key

    def shard_file(self, path: str, shard: int) -> ShardFile:
        """Hash a shard's file after syncing it to disk; a shard of nothing but fill values has no file."""
        return hash_file(self.shard_path(path, shard))

    def is_committed(self, path: str, shard: int, stop: int, lineage: str) -> bool:
        """True if the ledger says that the shard was computed from just this lineage, and its file is there."""
        record = self.shards.get(path, shard)
        if record is None or not record.sha256 or record.pruned or (record.stop, record.lineage) != (stop, lineage):
            return False
        file = self.shard_path(path, shard)
        return (file.stat().st_size if file.exists() else 0) == record.size_bytes

    def is_pruned(self, path: str, shard: int, stop: int, lineage: str) -> bool:
        """True if the shard was computed from just this lineage, and its file was deleted since."""
        record = self.shards.get(path, shard)
        return record is not None and bool(record.pruned) and (record.stop, record.lineage) == (stop, lineage)

    def commit(self, path: str, shard: int, stop: int, lineage: str, file: ShardFile) -> None:
        """Record a finished shard."""
        self.shards.commit([ShardRecord(path, shard, stop, lineage, file.sha256, file.size_bytes)])

    # Publication

    def publish(self) -> None:
        """Move the end of every frame array to the last ingested frame; `counts` comes last and stands for the rest."""
        start, stop = self.n_frames, len(self.frames.ingested)
        coordinates = frame_coordinates(self.frames.ingested, start)
        arrays = {name: self._coordinate(name, stop, *coordinate) for name, coordinate in coordinates.items()}
        if stop > start:
            for name, (values, _) in coordinates.items():
                _write_rows(arrays[name], start, values)
        self.describe({"coordinates": " ".join(coordinates)})
        for path in sorted(self._frame_lengths(), key=lambda path: path == "counts"):
            self._set_length(path, stop)

    def _coordinate(self, name: str, n_frames: int, values: npt.NDArray[Any], attributes: dict[str, Any]) -> Array:
        """A coordinate of the frame axis, seen as long as it is about to be."""
        if name in self:
            array = self._array(self._group, name)
        else:
            # As long as it will be: to make it empty and resize it would be half as much work again.
            array = self._new_array(
                name,
                shape=(n_frames,),
                chunks=(1024,),
                dtype="string" if values.dtype.kind == "T" else values.dtype,
                dimension_names=("frame",),
                attributes=attributes,
            )
        return _reaching(array, n_frames)

    def _set_length(self, path: str, n_frames: int) -> None:
        """Tell readers how long an array is. Its chunks stay; zarr would open it first."""
        facts = read_description(self.path / path)
        if facts["shape"][0] != n_frames:
            write_description(self.path / path, facts | {"shape": [n_frames, *facts["shape"][1:]]})


def hash_file(file: Path) -> ShardFile:
    """Sync a shard's file to disk and hash it; no file is one of no bytes."""
    if not file.exists():
        return ShardFile(hashlib.sha256(b"").hexdigest(), 0)
    with file.open("rb") as handle:
        os.fsync(handle.fileno())
        return ShardFile(hashlib.file_digest(handle, "sha256").hexdigest(), file.stat().st_size)


def is_free(path: Path) -> bool:
    """True if a store may be made at the path: nothing is there but what a run leaves that is killed making one."""
    if not path.exists():
        return True
    return all(item.name == "ledger" or item.name.endswith(UNFINISHED) for item in path.iterdir())


def _write_rows(array: Array, start: int, rows: npt.NDArray[Any]) -> None:
    """Write rows behind which there are none; chunks that begin with them are written at once, and not read before."""
    chunk = array.chunks[0]
    if start % chunk:
        array[start : start + len(rows)] = rows
        return
    for first in range(0, len(rows), chunk):
        values = rows[first : first + chunk]
        if len(values) < chunk:
            values = np.concatenate([values, np.full(chunk - len(values), array.fill_value, rows.dtype)])
        write_chunk(array, (start + first) // chunk, values)


def _attributes_of(path: Path) -> dict[str, Any]:
    """Attributes of the store, from the file: every task asks, and zarr would open the group first.

    Raises `StoreError` where there is no store, or something else.
    """
    try:
        found = read_description(path)
    except (FileNotFoundError, NotADirectoryError) as error:
        raise StoreError(f"no scan store at {path}; give a folder made by ingest_scan or process_scan") from error
    except ValueError as error:
        raise StoreError(
            f"{path}/zarr.json is damaged: {error}; restore it from a copy, or process the scan into a new store"
        ) from error
    attributes = cast(dict[str, Any], found.get("attributes", {}))
    said = {key: attributes.get(key) for key in FORMAT}
    if said != FORMAT:
        raise StoreError(f"{path} is {said}, not {FORMAT}; give a scan store, or a path where nothing is yet")
    return attributes


def _open_group(path: Path, mode: Literal["r", "r+"] = "r+") -> zarr.Group:
    _attributes_of(path)
    return zarr.open_group(path, mode=mode, zarr_format=3, use_consolidated=False)


def _reaching(array: Array, n_frames: int, skip_empty: bool = False) -> Array:
    """The same array, seen as n_frames long, without telling anybody.

    `skip_empty`: do not store frames of nothing but fill values. To find them costs a pass over all pixels, which pays
    only where a shard is not full.
    """
    inner = array.async_array
    metadata = replace(inner.metadata, shape=(n_frames, *array.shape[1:]))
    config = replace(inner.config, write_empty_chunks=not skip_empty)
    return zarr.Array(AsyncArray(metadata=metadata, store_path=inner.store_path, config=config))
