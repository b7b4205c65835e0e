"""Prune: delete arrays of a store that can be made again, after proving that they can.

An array goes only if (1) every shard of the store has the hash that the ledger says, and none is unfinished, (2)
`inpainted` was computed from it, directly or through others, and (3) for each ingested frame there is a file whose
SHA-256 is that of the ledger: the source file itself, or one in a folder of copies. Names alone prove nothing.
"""

import uuid
from collections import Counter
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from pydantic import Field

from tasks.errors import PipelineError, StoreError
from tasks.logs import logger_of
from tasks.settings import Settings
from tasks.source_copies import Copies
from tasks.store import ScanStore
from tasks.store.ledger import ShardRecord
from tasks.store.pruning import RAW, finish_pruning, prune
from tasks.verify import verify_store

SCRATCH = ("tiles", "predictions")
"""Arrays that nobody looks at once `inpainted` is there; both can be computed from `normalized` and the model."""
FINAL = "inpainted"


class PruneSettings(Settings):
    """What may go, and when."""

    raw: bool = Field(default=False, description="Also `counts`, which only source files can restore.")
    older_than_days: float = Field(default=30.0, ge=0, description="Days without any write to the store.")


class PrunedStore(Settings):
    """What was, or in a dry run would be, deleted of a store."""

    store: str
    arrays: dict[str, int] = Field(description="Bytes by array.")
    kept: str = Field(default="", description="Why nothing is deleted.")
    proof: str = Field(default="", description="Where the ledger has the proof: its id in pruned.jsonl.")

    @property
    def size_bytes(self) -> int:
        return sum(self.arrays.values())


@dataclass(frozen=True)
class _Plan:
    records: tuple[ShardRecord, ...]
    proof: dict[str, Any]


def prune_store(path: Path, settings: PruneSettings, copies: Copies, dry_run: bool = True) -> PrunedStore:
    """Prove and prune one store; `kept` says what stands against it. A dry run proves as much, and deletes nothing."""
    try:
        if dry_run:
            plan = _planned(ScanStore(path), settings, copies)
        else:
            with ScanStore.writing(path):
                store = ScanStore(path)
                finish_pruning(store)
                plan = _planned(store, settings, copies)
                prune(store, plan.records, plan.proof)
    except PipelineError as error:
        return PrunedStore(store=str(path), arrays={}, kept=str(error))
    sizes = Counter[str]()
    for record in plan.records:
        sizes[record.array] += record.size_bytes
    said = "would be pruned" if dry_run else f"pruned, proof {plan.proof['id']}"
    logger_of(__name__).info("%s: %.3g GB of %s %s", path, sizes.total() / 1e9, ", ".join(sizes), said)
    return PrunedStore(store=str(path), arrays=dict(sizes), proof="" if dry_run else plan.proof["id"])


def _planned(store: ScanStore, settings: PruneSettings, copies: Copies) -> _Plan:
    """What may go, with the proof. Raises `StoreError` with the reason where nothing may."""
    _refuse_young(store, settings)
    records = tuple(record for path in _candidates(store, settings) for record in _held(store, path))
    if not records:
        raise StoreError("there is nothing to prune")
    verdict = verify_store(store.path)
    if not verdict.is_green:
        faults = [*verdict.wrong, *verdict.unfinished]
        raise StoreError(f"the store is not whole, {len(faults)} faults; the first: {faults[0]}")
    found = copies.prove(store.frames.ingested)
    shards = {path: [record.shard for record in records if record.array == path] for path in {r.array for r in records}}
    proof = {
        "id": uuid.uuid4().hex[:12],
        "arrays": {path: shards[path] for path in sorted(shards)},
        "shards_verified": verdict.shards_checked,
        "derived": {path: store.array(path).shape[0] for path in _finals(store)},
        "second_copy": found,
    }
    return _Plan(records, proof)


def _refuse_young(store: ScanStore, settings: PruneSettings) -> None:
    times = [record.at for path in store.shards.arrays() for record in store.shards.of_array(path) if record.at]
    if not times or not store.frames.ingested:
        raise StoreError("nothing was ever written to it")
    age = datetime.now(UTC) - max(map(datetime.fromisoformat, times))
    if age < timedelta(days=settings.older_than_days):
        days = age / timedelta(days=1)
        raise StoreError(f"it was written to {days:.3g} days ago, which is less than {settings.older_than_days:g}")


def _candidates(store: ScanStore, settings: PruneSettings) -> list[str]:
    """Arrays from which `inpainted` was computed, directly or through others."""
    arrays = store.frame_arrays()
    needed = {lineage for path in _finals(store) for lineage in _inputs(arrays[path])}
    while (
        more := {one for array in arrays.values() if array.attrs.get("lineage") in needed for one in _inputs(array)}
        - needed
    ):
        needed |= more
    scratch = [path for path in arrays if path.split("/")[-1] in SCRATCH and arrays[path].attrs["lineage"] in needed]
    return scratch + ([RAW] if settings.raw and needed and RAW in store else [])


def _finals(store: ScanStore) -> list[str]:
    return [path for path in store.frame_arrays() if path.split("/")[-1] == FINAL]


def _inputs(array: Any) -> list[str]:
    return list(array.attrs["origin"].get("inputs", [])) if "origin" in array.attrs else []


def _held(store: ScanStore, path: str) -> list[ShardRecord]:
    return [record for record in store.shards.of_array(path) if record.sha256 and not record.pruned]
