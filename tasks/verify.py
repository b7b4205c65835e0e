"""Prove that a store of a scan or a volume, its ledger and its source agree: `python -m tasks.verify STORE [--deep]`.

Exit status: 0, everything agrees and is finished; 1, something is wrong; 2, nothing is wrong but work is unfinished.
"""

import argparse
import sys
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tasks.errors import PipelineError
from tasks.intake import checksum
from tasks.readers import find_files, open_file
from tasks.store import FrameRange, FrameRecord, FrameState, ScanStore, is_volume_store
from tasks.store.pruning import pruned_file
from tasks.verify_volume import volume_faults


@dataclass(frozen=True)
class Verdict:
    """What was found; each line names a frame, file or shard."""

    frames_by_state: dict[str, int]
    shards_checked: int
    wrong: tuple[str, ...]
    unfinished: tuple[str, ...]
    pruned: tuple[str, ...] = ()
    """What was deleted on purpose, when, and where the proof is that it can be made again; nothing wrong with that."""

    @property
    def is_green(self) -> bool:
        return not self.wrong and not self.unfinished


def verify_store(path: str | Path, deep: bool = False) -> Verdict:
    """Check the ledger against itself, every shard against its hash, and every source file against the ledger.

    `deep` also decodes every frame of `counts` and compares its checksum, and reads every source file again; a store of
    a volume holds results only, of which every slab is compared with its hash anyway.
    """
    if is_volume_store(Path(path)):
        slabs, faults, missing = volume_faults(Path(path))
        return Verdict({}, slabs, tuple(faults), tuple(missing))
    store = ScanStore(Path(path))
    wrong = [*_ledger_faults(store), *_source_faults(store, deep)]
    unfinished = [f"{record.file}[{record.index}] is pending" for record in store.frames.in_state(FrameState.PENDING)]
    unfinished += [*_unpublished(store), *_half_pruned(store)]
    if store.frames.ingested and "counts" not in store and not store.shards.pruned("counts"):
        wrong.append("counts is not there, and the ledger does not say that it was pruned")
    checked = 0
    for array, shard, stop in _expected_shards(store):
        checked += 1
        fault = _shard_fault(store, array, shard, stop)
        if fault and array == "counts":
            wrong += _pixel_faults(store, shard, stop)
        elif fault and fault.startswith("unfinished"):
            unfinished.append(f"{array} shard {shard}: {fault}")
        elif fault:
            wrong.append(f"{array} shard {shard}: {fault}")
    if deep and "counts" in store:
        for shard, _, stop in _shards_of(store, "counts"):
            wrong += _pixel_faults(store, shard, stop)
    return Verdict(store.frames.counts_by_state, checked, tuple(wrong), tuple(unfinished), tuple(_pruned(store)))


def _half_pruned(store: ScanStore) -> Iterator[str]:
    """A pruning that is killed between its entry in the ledger and the deletion leaves this."""
    for path in store.shards.arrays():
        left = [record for record in store.shards.pruned(path) if pruned_file(store, record).exists()]
        if left:
            yield f"{path}: {len(left)} shards were pruned, and their files are still there; prune the store again"


def _pruned(store: ScanStore) -> Iterator[str]:
    for path in store.shards.arrays():
        found = store.shards.pruned(path)
        for proof in dict.fromkeys(record.pruned for record in found):
            members = [record for record in found if record.pruned == proof]
            size = sum(record.size_bytes for record in members)
            yield f"{path}: {len(members)} shards of {size} bytes, on {members[0].at}, proof {proof} in pruned.jsonl"


def _ledger_faults(store: ScanStore) -> Iterator[str]:
    ingested = store.frames.in_state(FrameState.INGESTED)
    rows = Counter(-1 if record.frame is None else record.frame for record in ingested)
    if sorted(rows) != list(range(len(ingested))) or any(count > 1 for count in rows.values()):
        yield f"ingested frames do not occupy rows 0 to {len(ingested) - 1} once each"
    for record in store.frames.all():
        if record.state in (FrameState.QUARANTINED, FrameState.DOUBLE) and not record.reason:
            yield f"{record.file}[{record.index}] is {record.state} without a reason"
    for name, array in store.frame_arrays().items():
        if array.shape[0] > len(ingested):
            yield f"{name} is {array.shape[0]} frames long, the ledger says {len(ingested)}"


def _unpublished(store: ScanStore) -> Iterator[str]:
    """A run that is killed between commit and publication leaves this, and the next one finishes it."""
    for name, array in store.frame_arrays().items():
        if array.shape[0] < len(store.frames.ingested):
            yield f"{name} shows {array.shape[0]} of {len(store.frames.ingested)} frames"


def _source_faults(store: ScanStore, deep: bool) -> Iterator[str]:
    for source in store.attributes.get("sources", []):
        try:
            files = find_files(source)
        except PipelineError:
            continue  # the source was moved or archived; the ledger holds its names and hashes
        for file in files:
            name = str(file.parent.resolve() / file.name)
            if not store.frames.of_file(name):
                yield f"{name} is in no state: it came after the last run; run the scan again"
    if deep:
        for record in store.frames.ingested:
            yield from _file_fault(record)


def _file_fault(record: FrameRecord) -> Iterator[str]:
    path = Path(record.file)
    if record.index > 0 or not path.exists():
        return
    try:
        with open_file(path) as file:
            if file.sha256 != record.sha256:
                yield f"{path} is not the file that was ingested: SHA-256 {file.sha256}, then {record.sha256}"
    except OSError as error:
        yield f"{path} cannot be read again: {error}"


def _shards_of(store: ScanStore, array: str) -> Iterator[tuple[int, int, int]]:
    stored, n_frames = store.array(array), len(store.frames.ingested)
    if stored.shards is not None:
        yield from FrameRange(0, n_frames).shards(stored.shards[0])
    elif "lineage" in stored.attrs:
        yield 0, 0, n_frames


def _expected_shards(store: ScanStore) -> Iterator[tuple[str, int, int]]:
    for array in store.frame_arrays():
        for shard, _, stop in _shards_of(store, array):
            yield array, shard, stop


def _shard_fault(store: ScanStore, array: str, shard: int, stop: int) -> str | None:
    record = store.shards.get(array, shard)
    if record is None:
        return "unfinished: not computed yet"
    if not record.sha256 or record.stop < stop:
        return "unfinished: frames were added; run the scan again"
    if record.pruned:
        return None
    if store.shard_file(array, shard).sha256 != record.sha256:
        return f"{store.shard_path(array, shard)} is not what was committed; delete it and run the scan again"
    return None


def _pixel_faults(store: ScanStore, shard: int, stop: int) -> Iterator[str]:
    start = shard * store.shard_frames
    for row, frame in enumerate(store.read("counts", start, stop), start):
        record = store.frames.ingested[row]
        if checksum(frame) != record.crc32c:
            yield f"frame {row} ({record.file}) is not what was ingested: its pixels have another checksum"


def main(arguments: list[str] | None = None) -> int:
    """Print the verdict; return the exit status."""
    parser = argparse.ArgumentParser(prog="python -m tasks.verify", description=__doc__)
    parser.add_argument("store", help="a store, as written by process_scan, ingest_scan or segment_volume")
    parser.add_argument("--deep", action="store_true", help="decode every frame and read every source file again")
    options = parser.parse_args(arguments)
    try:
        verdict = verify_store(options.store, options.deep)
    except PipelineError as error:
        sys.stderr.write(f"{error}\n")
        return 1
    states = ", ".join(f"{count} {state}" for state, count in verdict.frames_by_state.items())
    lines = [f"frames: {states}"] if states else []
    lines += [f"shards: {verdict.shards_checked} checked against their SHA-256"]
    lines += [f"pruned: {line}" for line in verdict.pruned]
    lines += [f"WRONG  {line}" for line in verdict.wrong] + [f"UNFINISHED  {line}" for line in verdict.unfinished]
    lines.append("store and ledger agree" if verdict.is_green else "see above")
    sys.stdout.write("\n".join(lines) + "\n")
    return 1 if verdict.wrong else 2 if verdict.unfinished else 0


if __name__ == "__main__":
    sys.exit(main())
