"""Make `counts` again that were pruned, from source files or copies: `python -m tasks.restore STORE [--copies FOLDER]`.

Each file must have the SHA-256, and each frame the checksum, that the ledger says. Until all of it is there again, a
reader finds an array of no frames, or none; a restoration that is killed begins anew when it is started again.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from tasks.errors import PipelineError, StoreError
from tasks.intake import checksum
from tasks.readers import open_file
from tasks.settings import confine
from tasks.source_copies import Copies
from tasks.store import ArraySpec, FrameRecord, ScanStore
from tasks.store.pruning import RAW


def restore_counts(path: Path, copies: Copies) -> int:
    """Restore all pruned shards of `counts`; returns their number. Raises `StoreError` for what is not there."""
    with ScanStore.writing(path):
        store = ScanStore(path)
        store.recover()
        pruned = store.shards.pruned(RAW)
        if not pruned:
            raise StoreError(f"{RAW} of {path} was not pruned; there is nothing to restore")
        copies.prove(store.frames.ingested)
        held = store.attributes
        spec = ArraySpec(RAW, tuple(held["frame_shape"]), ("y", "x"), held["dtype"], 0, held["ingest"]["compression"])
        store.require_array(RAW, spec, store.shard_frames, n_frames=0)
        for record in pruned:
            start = record.shard * store.shard_frames
            frames = _read(store.frames.ingested[start : record.stop], spec, copies)
            file = store.write_shard(RAW, record.shard, frames)
            store.commit(RAW, record.shard, record.stop, record.lineage, file)
        store.publish()
    return len(pruned)


def _read(records: Sequence[FrameRecord], spec: ArraySpec, copies: Copies) -> npt.NDArray[Any]:
    frames = np.empty((len(records), *spec.shape), spec.dtype)
    for row, record in enumerate(records):
        path = copies.find(record)
        if path is None:
            raise StoreError(f"{record.file} is not there any more with SHA-256 {record.sha256}")
        with open_file(path) as file:
            frames[row] = file.read(record.index).counts
        if checksum(frames[row]) != record.crc32c:
            raise StoreError(f"frame {record.frame} is not what was ingested: {path} gives pixels of another checksum")
    return frames


def main(arguments: list[str] | None = None) -> int:
    """Restore; return 0, or 1 if that cannot be done."""
    parser = argparse.ArgumentParser(prog="python -m tasks.restore", description=__doc__)
    parser.add_argument("store", help="a scan store whose counts were pruned")
    parser.add_argument("--copies", action="append", default=[], help="folder in which copies of the source files lie")
    options = parser.parse_args(arguments)
    try:
        folders = [confine(folder, "source") for folder in options.copies]
        restored = restore_counts(confine(options.store, "store"), Copies(folders))
    except PipelineError as error:
        sys.stderr.write(f"{error}\n")
        return 1
    sys.stdout.write(f"{restored} shards of {RAW} restored\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
