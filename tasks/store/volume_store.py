"""A volume store: one Zarr v3 group with the results of a volume (z, y, x), written slab by slab, and their ledger.

Unlike a scan, a volume has its full size from the start. What is not computed yet shows as the fill value of its array:
NaN, 255 for labels, the largest number for instances.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from math import ceil
from pathlib import Path
from typing import Any, cast

import numpy as np
import numpy.typing as npt
import zarr

from tasks.errors import StoreError
from tasks.store.layout import CODECS, Compression
from tasks.store.ledger import ShardLedger, ShardRecord
from tasks.store.lock import writer_lock
from tasks.store.scan_store import VARIANTS, ShardFile, hash_file, is_free
from tasks.store.small_files import UNFINISHED

FORMAT = {"format": "dlsia-flows volume", "format_version": 1}
LARGEST_CHUNK = (8, 256, 256)
"""Slices, rows and columns that are compressed together: 1 MiB of float16, quick to read along any axis."""
LARGEST_SLAB_BYTES = 64 * 2**20
LARGEST_SLAB_SLICES = 16

Array = zarr.Array[Any]


@dataclass(frozen=True)
class VolumeArray:
    """An array of a volume store: (z, y, x), or (class, z, y, x) with `classes` above 0."""

    name: str
    dtype: str
    fill_value: float | int
    classes: int = 0
    compression: Compression = "zstd"
    attributes: dict[str, Any] = field(default_factory=dict)

    @property
    def voxel_bytes(self) -> int:
        """Bytes of a voxel, uncompressed."""
        return max(1, self.classes) * np.dtype(self.dtype).itemsize


def slab_slices(shape: tuple[int, int, int], arrays: list[VolumeArray]) -> int:
    """Slices that are computed, written, hashed and committed together: at most 64 MiB of any array.

    >>> mean = VolumeArray("probability_mean", "float16", np.nan, classes=2)
    >>> slab_slices((512, 512, 512), [mean]), slab_slices((3, 9, 9), [mean]), slab_slices((4096, 2048, 2048), [mean])
    (16, 3, 4)
    """
    slices = LARGEST_SLAB_SLICES
    while slices > 1 and slices * shape[1] * shape[2] * max(a.voxel_bytes for a in arrays) > LARGEST_SLAB_BYTES:
        slices //= 2
    return min(slices, shape[0])


class VolumeStore:
    """One volume's results on disk; the holder of its lock (`writing`) may write."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._group = _open_group(path)
        self.slabs = ShardLedger(path / "ledger" / "shards.jsonl")

    @classmethod
    def create(cls, path: Path, facts: dict[str, Any]) -> "VolumeStore":
        """Open the store; make an empty one if there is nothing at the path.

        facts: what a store is about and never changes: volume_shape, slab_slices, source_digest.
        Raises `StoreError` for a store that is about something else.
        """
        if is_free(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            zarr.create_group(path, zarr_format=3, attributes={**FORMAT, **facts})
        store = cls(path)
        store._group.require_group("ledger")
        store.require_facts(facts)
        return store

    @classmethod
    @contextmanager
    def writing(cls, path: Path) -> Iterator[None]:
        """Hold the writer lock; raises `StoreError` if another run has it, or the path is something else's."""
        if not is_free(path):
            _open_group(path)
        with writer_lock(path / "ledger" / "lock"):
            yield

    def require_facts(self, facts: dict[str, Any]) -> None:
        """Raise `StoreError` where the store is about another volume, or is cut into other slabs."""
        for name, wanted in facts.items():
            if self.attributes.get(name) != wanted:
                raise StoreError(
                    f"{self.path} holds results for {name} = {self.attributes.get(name)!r}, the run has {wanted!r}; "
                    "give another store, or the source and slab_slices that this one was made with"
                )

    def recover(self) -> None:
        """Clear away what a killed run left; under the writer lock."""
        for left in self.path.rglob(f"*{UNFINISHED}"):
            left.unlink(missing_ok=True)
        for folder in [*self.path.glob(f"{VARIANTS}*/*/"), *self.path.glob("*/")]:
            if folder.is_dir() and not any(folder.iterdir()):
                folder.rmdir()
        self.slabs.refresh()

    # What is there

    def __contains__(self, array: str) -> bool:
        return array in self._group

    @property
    def attributes(self) -> dict[str, Any]:
        return cast(dict[str, Any], _open_group(self.path).attrs.asdict())

    @property
    def shape(self) -> tuple[int, int, int]:
        """(z, y, x)."""
        depth, height, width = self.attributes["volume_shape"]
        return depth, height, width

    @property
    def slab_slices(self) -> int:
        return int(self.attributes["slab_slices"])

    def array(self, path: str) -> Array:
        """A stored array. Raises `StoreError` if there is none of that name."""
        found = self._group.get(path)
        if not isinstance(found, zarr.Array):
            raise StoreError(f"{self.path} has no array {path!r}, only {sorted(self.arrays())}; run segment_volume")
        return found

    def arrays(self) -> dict[str, Array]:
        """Every array of slabs, here and in the groups of other settings, by its path in the store."""
        files = sorted([*self.path.glob("*/zarr.json"), *self.path.glob(f"{VARIANTS}*/*/zarr.json")])
        nodes = {str(file.parent.relative_to(self.path)): self._group.get(str(file.parent.relative_to(self.path)))
                 for file in files}  # fmt: skip
        return {path: node for path, node in nodes.items() if isinstance(node, zarr.Array) and "lineage" in node.attrs}

    def read(self, path: str, start: int, stop: int) -> npt.NDArray[Any]:
        """Slices start to stop - 1 of an array, (…, z, y, x)."""
        return np.asarray(self.array(path)[..., start:stop, :, :])

    def slab_ranges(self) -> list[tuple[int, int, int]]:
        """Number, first slice, and slice behind the last one, of each slab."""
        depth, slices = self.shape[0], self.slab_slices
        return [(slab, slab * slices, min((slab + 1) * slices, depth)) for slab in range(ceil(depth / slices))]

    # Making arrays

    def describe(self, attributes: dict[str, Any], group: str = "") -> None:
        """Attach attributes to the store, or to a group of other settings, which is made if need be."""
        target = self._group.require_group(group) if group else _open_group(self.path)
        if any(target.attrs.get(key) != value for key, value in attributes.items()):
            target.attrs.update(attributes)

    def require_array(self, path: str, spec: VolumeArray) -> None:
        """Make an array unless it is there: a file per slab, in chunks that are quick to read along any axis."""
        if path in self:
            return
        if "/" in path:
            self._group.require_group(path.split("/")[0])
        slices, (depth, height, width) = self.slab_slices, self.shape
        chunk = (_divisor(slices, LARGEST_CHUNK[0]), min(height, LARGEST_CHUNK[1]), min(width, LARGEST_CHUNK[2]))
        slab = (slices, ceil(height / chunk[1]) * chunk[1], ceil(width / chunk[2]) * chunk[2])
        of_class: tuple[tuple[int, ...], ...] = ((spec.classes,), (1,), (spec.classes,)) if spec.classes else ((),) * 3
        self._group.create_array(
            path,
            shape=(*of_class[0], depth, height, width),
            chunks=(*of_class[1], *chunk),
            shards=(*of_class[2], *slab),
            dtype=spec.dtype,
            fill_value=spec.fill_value,
            dimension_names=(*(("class",) if spec.classes else ()), "z", "y", "x"),
            compressors=CODECS[spec.compression],
            attributes=spec.attributes,
            config={"write_empty_chunks": True},
        )

    def require_axis(self, path: str, positions: npt.NDArray[Any], attributes: dict[str, Any]) -> None:
        """Write the coordinate of an axis, unless it is there with just these values."""
        found = self._group.get(path)
        same = isinstance(found, zarr.Array) and found.attrs.asdict() == attributes
        if isinstance(found, zarr.Array) and same and np.array_equal(found[...], positions):
            return
        array = self._group.create_array(
            path,
            shape=positions.shape,
            chunks=positions.shape,
            dtype="string" if positions.dtype.kind == "T" else positions.dtype,
            dimension_names=(path,),
            attributes=attributes,
            overwrite=True,
        )
        array[...] = positions

    # Writing slabs

    def slab_path(self, path: str, slab: int) -> Path:
        """The file that holds a slab."""
        array = self.array(path)
        key = array.metadata.encode_chunk_key((*(0,) * (array.ndim - 3), slab, 0, 0))
        return self.path / path / key

    def write_slab(self, path: str, slab: int, values: npt.NDArray[Any]) -> ShardFile:
        """Write one whole slab (…, z, y, x) and sync it to disk. Raises `StoreError` for values that do not fit."""
        array, (_, start, stop) = self.array(path), self.slab_ranges()[slab]
        wanted = (*array.shape[:-3], stop - start, *self.shape[1:])
        if values.shape != wanted or values.dtype != array.dtype:
            raise StoreError(
                f"slab {slab} of {self.path}/{path} is {wanted} {array.dtype}, not {values.shape} {values.dtype}"
            )
        file = self.slab_path(path, slab)
        file.unlink(missing_ok=True)  # else its chunks behind the end of the volume would be read and kept
        array.with_config({"write_empty_chunks": True})[..., start:stop, :, :] = values
        return self.slab_file(path, slab)

    def slab_file(self, path: str, slab: int) -> ShardFile:
        """Hash a slab's file after syncing it to disk."""
        return hash_file(self.slab_path(path, slab))

    def is_committed(self, path: str, slab: int, lineage: str) -> bool:
        """True if the ledger says that the slab was computed from just this lineage, and its file is there."""
        record, stop = self.slabs.get(path, slab), self.slab_ranges()[slab][2]
        if record is None or not record.sha256 or (record.stop, record.lineage) != (stop, lineage):
            return False
        file = self.slab_path(path, slab)
        return file.exists() and file.stat().st_size == record.size_bytes

    def void(self, path: str, slab: int) -> None:
        """Say, before a slab is written again, that its older commit no longer holds."""
        record = self.slabs.get(path, slab)
        if record is not None and record.sha256:
            self.slabs.void([record])

    def commit(self, path: str, slab: int, lineage: str, file: ShardFile) -> None:
        """Record a finished slab."""
        stop = self.slab_ranges()[slab][2]
        self.slabs.commit([ShardRecord(path, slab, stop, lineage, file.sha256, file.size_bytes)])


def is_volume_store(path: Path) -> bool:
    """True where a volume store is."""
    try:
        _open_group(path)
    except StoreError:
        return False
    return True


def _divisor(slices: int, most: int) -> int:
    """The largest number up to `most` that divides `slices`.

    >>> _divisor(16, 8), _divisor(5, 8), _divisor(7, 4)
    (8, 5, 1)
    """
    return next(size for size in range(min(slices, most), 0, -1) if slices % size == 0)


def _open_group(path: Path) -> zarr.Group:
    try:
        group = zarr.open_group(path, mode="r+", zarr_format=3, use_consolidated=False)
    except FileNotFoundError as error:
        raise StoreError(f"no volume store at {path}; give a folder made by segment_volume") from error
    found = {key: group.attrs.get(key) for key in FORMAT}
    if found != FORMAT:
        raise StoreError(
            f"{path} is {found}, not {FORMAT}; give a store made by segment_volume, or a path where nothing is yet"
        )
    return group
