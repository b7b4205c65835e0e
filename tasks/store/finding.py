"""Find scan stores under a folder."""

import os
from pathlib import Path


def stores_in(root: Path) -> list[Path]:
    """All scan stores under a folder, or the folder itself; what is inside a store is not looked at."""
    found = []
    for folder, inner, files in os.walk(root):
        if "zarr.json" in files:
            inner.clear()
            if (Path(folder) / "ledger" / "frames.jsonl").exists():
                found.append(Path(folder))
    return sorted(found)
