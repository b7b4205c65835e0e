"""Ingest: detector files become `counts` and `valid`, verified byte by byte, or are quarantined with a reason.

Frames are stored in natural order, without holes, in shards that one reader fills and one commit covers. A round plans
its shards as if every file were whole; where one is not, nothing behind it is committed and the next round closes up.
"""

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import groupby, takewhile
from pathlib import Path
from typing import Any

import numpy as np

from tasks.errors import StoreError
from tasks.intake import read_file
from tasks.readers import ValidityRule
from tasks.settings.base import digest
from tasks.settings.ingest import IngestSettings
from tasks.stage import StageRun, noted, stage_task
from tasks.store import (
    ArrayRef,
    ArraySpec,
    FrameRange,
    FrameRecord,
    FrameState,
    ScanRef,
    ScanStore,
    ShardFile,
    ShardRecord,
    open_store,
    shard_lineage,
    store_shard_frames,
)
from tasks.survey import Survey
from tasks.workers import Workers, run_over

VERSION = 1


def counts_ref(scan: ScanRef) -> ArrayRef:
    """`counts` (frame, y, x); computed from nothing but the frames."""
    return ArrayRef(scan, "counts", digest({"stage": "ingest", "version": VERSION}))


def valid_ref(scan: ScanRef, settings: IngestSettings) -> ArrayRef:
    """`valid` (frame, y, x); computed from the frames and the rule of validity."""
    rule = settings.validity.model_dump(mode="json")
    return ArrayRef(scan, "valid", digest({"stage": "ingest", "version": VERSION, "validity": rule}))


def own_settings(scan: ScanRef, settings: IngestSettings) -> IngestSettings:
    """The settings with the rule of validity that the store was made with, under which `valid` is written for ever."""
    held = open_store(scan).attributes.get("ingest", {}).get("validity")
    return settings if held is None else settings.model_copy(update={"validity": ValidityRule.model_validate(held)})


def prepare_ingest(path: Path, survey: Survey, settings: IngestSettings) -> ScanRef:
    """Make the store, or check that the new frames fit it, and fix what cannot change later.

    Another rule of validity than the store's own is no misfit: see `tasks.validity`.

    Raises `StoreError` where shape, type or compression are not those that the store was made with.
    """
    scan = ScanRef(str(path))
    if (path / "zarr.json").exists():
        settings = own_settings(scan, settings)
    fixed: dict[str, Any] = {"ingest": settings.model_dump(mode="json", exclude={"batch_frames"})}
    if survey.shape is not None:
        fixed |= {"frame_shape": list(survey.shape), "dtype": survey.dtype}
    if (path / "zarr.json").exists():
        _refuse_misfit(open_store(scan), fixed)
        if survey.shape is not None and open_store(scan).shards.pruned("counts"):
            raise StoreError(open_store(scan).why_pruned("counts"))
    store = ScanStore.create(path)
    if survey.shape is not None and survey.dtype is not None:
        shape = survey.shape
        counts = ArraySpec("counts", shape, ("y", "x"), survey.dtype, 0, settings.compression)
        shard_frames = store_shard_frames(counts.frame_bytes)
        store.describe({**fixed, "shard_frames": shard_frames})
        valid = ArraySpec("valid", shape, ("y", "x"), "bool", False, "lz4", {"long_name": "True where measured"})
        for spec in (valid, counts):
            store.require_array(spec.name, spec, shard_frames)
        for axis, size in zip(("y", "x"), shape, strict=True):
            store.require_axis(axis, np.arange(size), {"units": "pixel"})
    return scan


def _refuse_misfit(store: ScanStore, wanted: dict[str, Any]) -> None:
    held = store.attributes
    for key, value in wanted.items():
        if key in held and held[key] != value:
            raise StoreError(
                f"{store.path} was made with {key} = {held[key]}, and cannot take {value}; "
                "give another store, or the settings and frames that it was made with"
            )


def enter_frames(scan: ScanRef, survey: Survey, source: str) -> None:
    """Enter what the survey found in the ledger; under the writer's lock, because the survey may be older than it."""
    store = open_store(scan)
    new = [
        record
        for record in survey.new
        if (known := store.frames.get(*record.key)) is None or known.state is not FrameState.INGESTED
    ]
    if new:
        store.frames.write(new)
    sources = store.attributes.get("sources", [])
    if source not in sources:
        store.describe({"sources": [*sources, source]})


@stage_task("ingest")
def ingest_batch(scan: ScanRef, settings: IngestSettings, workers: Workers) -> StageRun:
    """Take pending frames up to the next multiple of `batch_frames` in `counts`, and publish them.

    The frames of the result begin where the batch's first frame lies, which an earlier run may have ingested.
    """
    started = time.monotonic()
    store, settings = open_store(scan), own_settings(scan, settings)
    first, bytes_written = len(store.frames.ingested), 0
    start = first - first % settings.batch_frames
    end = start + settings.batch_frames
    while (room := end - len(store.frames.ingested)) and (pending := store.frames.in_state(FrameState.PENDING)):
        bytes_written += _ingest_round(store, scan, pending[:room], settings, workers)
    store.publish()
    stop = len(store.frames.ingested)
    run = StageRun("ingest", FrameRange(start, stop), stop - first, time.monotonic() - started, bytes_written)
    return noted(scan, run)


@dataclass(frozen=True)
class _Filling:
    """A shard to fill: `kept` frames that it holds already, then those of `records`."""

    shard: int
    kept: int
    records: tuple[FrameRecord, ...]


@dataclass(frozen=True)
class _Filled:
    records: Sequence[FrameRecord]
    """Ingested, quarantined or double, in the order given."""
    counts: ShardFile | None
    valid: ShardFile | None


def _fillings(first: int, records: Sequence[FrameRecord], shard_frames: int) -> Iterator[_Filling]:
    """Cut frames that follow on row `first` into shards.

    >>> names = [FrameRecord(f"{i}.cbf", 0, FrameState.PENDING, 0, 0) for i in range(6)]
    >>> [(filling.shard, filling.kept, len(filling.records)) for filling in _fillings(3, names, 4)]
    [(0, 3, 1), (1, 0, 4), (2, 0, 1)]
    """
    taken = 0
    while taken < len(records):
        shard, kept = divmod(first + taken, shard_frames)
        stop = taken + shard_frames - kept
        yield _Filling(shard, kept, tuple(records[taken:stop]))
        taken = stop


def _ingest_round(
    store: ScanStore, scan: ScanRef, pending: Sequence[FrameRecord], settings: IngestSettings, workers: Workers
) -> int:
    first = len(store.frames.ingested)
    fillings = list(_fillings(first, pending, store.shard_frames))
    if fillings[0].kept:
        older = [store.shards.get(name, fillings[0].shard) for name in ("counts", "valid")]
        store.shards.void(record for record in older if record is not None)
    filled: dict[int, _Filled] = {}
    run_over(
        _FillShard(scan, settings),
        fillings,
        lambda filling, shard: filled.update({filling.shard: shard}),
        workers,
        scan.path,
    )
    whole = list(takewhile(lambda filling: filled[filling.shard].counts is not None, fillings))
    rows = [record for filling in whole for record in filled[filling.shard].records]
    ingested = [replace(record, frame=first + row) for row, record in enumerate(rows)]
    refused = [
        record for shard in filled.values() for record in shard.records if record.state is not FrameState.INGESTED
    ]
    pairs = [(filling, filled[filling.shard]) for filling in whole]
    shards = _shard_records(store, scan, settings, pairs, ingested)
    # The frames' states are the commit; the shards' hashes must be there before it.
    store.shards.commit(shards)
    store.frames.write([*ingested, *refused])
    return sum(shard.size_bytes for shard in shards)


def _shard_records(
    store: ScanStore,
    scan: ScanRef,
    settings: IngestSettings,
    filled: Sequence[tuple[_Filling, _Filled]],
    ingested: Sequence[FrameRecord],
) -> list[ShardRecord]:
    frames, records = [*store.frames.ingested, *ingested], []
    for filling, shard in filled:
        start = filling.shard * store.shard_frames
        stop = start + filling.kept + len(filling.records)
        for ref, file in ((counts_ref(scan), shard.counts), (valid_ref(scan, settings), shard.valid)):
            if file is not None:
                lineage = shard_lineage(ref, frames[start:stop])
                records.append(ShardRecord(ref.path, filling.shard, stop, lineage, file.sha256, file.size_bytes))
    return records


@dataclass(frozen=True)
class _FillShard:
    """Reads, verifies and writes the frames of one shard; writes nothing if one of them is refused."""

    scan: ScanRef
    settings: IngestSettings

    def __call__(self, filling: _Filling) -> _Filled:
        store = open_store(self.scan)
        shape, dtype = tuple(store.attributes["frame_shape"]), store.attributes["dtype"]
        size = filling.kept + len(filling.records)
        counts, valid = np.empty((size, *shape), dtype), np.empty((size, *shape), bool)
        if filling.kept:
            start = filling.shard * store.shard_frames
            counts[: filling.kept] = store.read("counts", start, start + filling.kept)
            valid[: filling.kept] = store.read("valid", start, start + filling.kept)
        records: list[FrameRecord] = []
        for _, group in groupby(filling.records, lambda record: record.file):
            row = filling.kept + len(records)
            records += read_file(list(group), counts[row:], valid[row:], self.settings, store.frames)
        if any(record.state is not FrameState.INGESTED for record in records):
            return _Filled(records, None, None)
        return _Filled(
            records,
            store.write_shard("counts", filling.shard, counts),
            store.write_shard("valid", filling.shard, valid),
        )
