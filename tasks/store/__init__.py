"""The scan store: the only package that calls zarr."""

from tasks.store.layout import ArraySpec, Compression, store_shard_frames
from tasks.store.ledger import FrameRecord, FrameState, ShardRecord
from tasks.store.references import ArrayRef, FrameRange, ScanRef, open_store, shard_lineage
from tasks.store.scan_store import ScanStore, ShardFile
from tasks.store.volume_store import VolumeArray, VolumeStore, is_volume_store, slab_slices

__all__ = [
    "ArrayRef",
    "ArraySpec",
    "Compression",
    "FrameRange",
    "FrameRecord",
    "FrameState",
    "ScanRef",
    "ScanStore",
    "ShardFile",
    "ShardRecord",
    "VolumeArray",
    "VolumeStore",
    "is_volume_store",
    "open_store",
    "shard_lineage",
    "slab_slices",
    "store_shard_frames",
]
