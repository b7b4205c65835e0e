"""Compare a volume store with its ledger: every slab of every array, computed from what it says."""

from pathlib import Path

from tasks.store import VolumeStore


def volume_faults(path: Path) -> tuple[int, list[str], list[str]]:
    """Slabs that were checked, what is wrong, and what is unfinished; each line names a slab."""
    store, wrong, unfinished = VolumeStore(path), [], []
    arrays = store.arrays()
    for name in arrays:
        for slab, _, stop in store.slab_ranges():
            record, file = store.slabs.get(name, slab), store.slab_path(name, slab)
            if record is None or not record.sha256:
                unfinished.append(f"{name} slab {slab}: not computed yet")
            elif record.stop != stop:
                wrong.append(
                    f"{name} slab {slab} ends before slice {record.stop} in the ledger, before {stop} in truth"
                )
            elif store.slab_file(name, slab).sha256 != record.sha256:
                wrong.append(f"{name} slab {slab}: {file} is not what was committed; delete it and run again")
    if not store.attributes.get("finished"):
        unfinished.append("the last run of segment_volume did not end; run it again")
    return len(arrays) * len(store.slab_ranges()), wrong, unfinished
