"""What became of the scans of a results folder during a shift, from the ledgers of their stores alone."""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from tasks.errors import PipelineError
from tasks.store import FrameRecord, FrameState
from tasks.store.ledger import FrameLedger, ShardLedger
from tasks.watching import MAX_DEPTH


@dataclass(frozen=True)
class Failure:
    """Frames that were refused for one reason, and one of them."""

    reason: str
    n_frames: int
    example: str


@dataclass(frozen=True)
class ScanShift:
    """One scan. `frames` counts all its frames by state, `ingested` those of the shift; times are UTC."""

    name: str
    store: Path
    frames: dict[str, int]
    ingested: int = 0
    first: datetime | None = None
    last: datetime | None = None
    written_bytes: int = 0
    failures: tuple[Failure, ...] = ()
    report: Path | None = None
    problem: str = ""
    """Why nothing is known of the scan."""

    @property
    def frames_per_second(self) -> float | None:
        """Of the shift's frames, from the first to the last commit; None where these are one."""
        if self.first is None or self.last is None or self.first == self.last:
            return None
        return self.ingested / (self.last - self.first).total_seconds()


def stores_below(results: Path) -> list[Path]:
    """Every scan store in a results folder, in its sub-folders too; none inside another one."""
    return sorted(_stores(results, 0))


def _stores(folder: Path, depth: int) -> Iterator[Path]:
    for path in folder.iterdir():
        if not path.is_dir() or path.is_symlink() or path.name.startswith("."):
            continue
        if (path / "ledger" / "frames.jsonl").exists():
            yield path
        elif depth < MAX_DEPTH and path.suffix != ".zarr":
            yield from _stores(path, depth + 1)


def scan_shift(store: Path, results: Path, since: datetime) -> ScanShift:
    """Read one scan's ledger; a ledger that is damaged is told, and stops no report on the others."""
    name = store.relative_to(results).as_posix().removesuffix(".zarr")
    try:
        frames = FrameLedger(store / "ledger" / "frames.jsonl")
        shards = ShardLedger(store / "ledger" / "shards.jsonl")
    except (PipelineError, OSError, ValueError, TypeError) as error:
        return ScanShift(name, store, {state.value: 0 for state in FrameState}, problem=str(error))
    times = [at for record in frames.ingested if (at := _time(record)) >= since]
    report = store.with_name(f"{store.name.removesuffix('.zarr')}.report.html")
    return ScanShift(
        name=name,
        store=store,
        frames=frames.counts_by_state,
        ingested=len(times),
        first=min(times, default=None),
        last=max(times, default=None),
        written_bytes=sum(
            shard.size_bytes for array in shards.arrays() for shard in shards.of_array(array) if shard.sha256
        ),
        failures=_failures(frames.in_state(FrameState.QUARANTINED)),
        report=report if report.exists() else None,
    )


def _time(record: FrameRecord) -> datetime:
    return datetime.fromisoformat(record.at)


def _failures(refused: list[FrameRecord]) -> tuple[Failure, ...]:
    """Reasons, the most frequent first; a reason that names its file is the same for all files."""
    examples: dict[str, str] = {}
    counted: Counter[str] = Counter()
    for record in refused:
        path = Path(record.file)
        reason = record.reason.replace(record.file, "…").replace(path.name, "…")
        counted[reason] += 1
        examples.setdefault(reason, path.name)
    return tuple(Failure(reason, n, examples[reason]) for reason, n in counted.most_common())
