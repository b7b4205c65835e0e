"""The scan store: the only package that calls zarr."""

from tasks.store.layout import ArraySpec, Compression, store_shard_frames
from tasks.store.ledger import FrameRecord, FrameState, ShardRecord
from tasks.store.references import ArrayRef, FrameRange, ScanRef, open_store, shard_lineage
from tasks.store.scan_store import ScanStore, ShardFile

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
    "open_store",
    "shard_lineage",
    "store_shard_frames",
]
