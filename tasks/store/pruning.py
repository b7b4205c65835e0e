"""Delete shards of a store on purpose: the ledger is told before a file goes, and keeps what the file was.

The proof that they may go is a line of `ledger/pruned.jsonl`, written first; a pruning that is killed is finished by
`finish_pruning`. Scratch arrays keep their description, and read as not measured; of `counts`, where 0 would read as a
measurement, the description goes first, so that no reader finds the array.
"""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from tasks.store.journal import Journal
from tasks.store.ledger import ShardRecord, now
from tasks.store.scan_store import ScanStore

RAW = "counts"


def prune(store: ScanStore, records: Sequence[ShardRecord], proof: dict[str, Any]) -> None:
    """Delete the files of these shards, under the writer's lock; `proof`: says by its "id" why they may go."""
    Journal(store.path / "ledger" / "pruned.jsonl").append([{**proof, "at": now()}])
    store.shards.commit(replace(record, pruned=str(proof["id"])) for record in records)
    finish_pruning(store)


def finish_pruning(store: ScanStore) -> None:
    """Delete what the ledger says is pruned, as a killed pruning may have left it."""
    store.recover()
    for path in store.shards.arrays():
        for record in store.shards.pruned(path):
            pruned_file(store, record).unlink(missing_ok=True)


def pruned_file(store: ScanStore, record: ShardRecord) -> Path:
    """Where the file of a shard was, also where its array's description is gone."""
    if record.array == RAW:
        return store.path / RAW / "c" / str(record.shard) / "0" / "0"
    return store.shard_path(record.array, record.shard)


def proofs(store: ScanStore) -> list[dict[str, Any]]:
    """All prunings of a store, oldest first."""
    return list(Journal(store.path / "ledger" / "pruned.jsonl").read())
