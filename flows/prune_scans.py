"""Flow: free the disk of arrays that can be made again, in all scan stores of a results folder; proof comes first."""

from collections.abc import Sequence
from typing import Any

from prefect.artifacts import create_table_artifact
from pydantic import Field

from flows.embedded_server import served_flow
from flows.results import completed
from tasks.prune import PruneSettings, prune_store
from tasks.settings import Settings, confine
from tasks.source_copies import Copies
from tasks.store.finding import stores_in


class PrunedScans(Settings):
    """What was, or in a dry run would be, deleted."""

    dry_run: bool
    size_bytes: int
    table: tuple[dict[str, Any], ...] = Field(
        description="A row for each store: bytes, arrays, why it was kept, proof."
    )

    @property
    def sentence(self) -> str:
        """The result in one line."""
        freed = sum(bool(row["bytes"]) for row in self.table)
        said = "would be freed (dry run)" if self.dry_run else "freed"
        return f"{self.size_bytes / 1e9:.3g} GB {said} in {freed} of {len(self.table)} stores"


@served_flow(name="prune-scans", flow_run_name="prune {results}")
def prune_scans(
    results: str,
    copies: Sequence[str] = (),
    prune: PruneSettings = PruneSettings(),
    dry_run: bool = True,
) -> PrunedScans:
    """Delete scratch arrays, or also `counts`, of stores that are whole, finished and proven to have a second copy.

    Args:
        results: Folder under which the stores lie, or a single store.
        copies: Folders that hold copies of source files which are no longer in their place.
        prune: What may go, and when.
        dry_run: On: only say what would be deleted, after the same proof. Off: delete it.
    """
    folders = [confine(folder, "source") for folder in copies]
    found = Copies(folders)
    pruned = [prune_store(path, prune, found, dry_run) for path in stores_in(confine(results, "store"))]
    table = tuple(
        {
            "store": one.store,
            "bytes": one.size_bytes,
            "arrays": ", ".join(one.arrays),
            "kept": one.kept,
            "proof": one.proof,
        }
        for one in pruned
    )
    create_table_artifact(list(table), key="pruned-scans", description=f"Retention in {results}")
    return completed(PrunedScans(dry_run=dry_run, size_bytes=sum(one.size_bytes for one in pruned), table=table))
