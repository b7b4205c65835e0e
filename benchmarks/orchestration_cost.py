"""What Prefect and the ledger add to a scan: `python benchmarks/orchestration_cost.py [--frames 512]`.

Ingest is timed as plain function calls and as the flow `ingest_scan`, on the same files in the page cache, in turns;
then as one long scan, and as many short ones: by one glob, by one run with a store each, and by a run each. For the
whole chain, the second run of the same command is timed: it computes nothing, so its time is an upper bound of what
orchestration costs.
"""

import argparse
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
from ingest_rate import ingest, source_of
from short_scans import as_short_scans

from flows.embedded_server import running_server
from flows.ingest_scan import ingest_scan
from flows.process_beamtime import process_beamtime
from flows.process_scan import process_scan
from tasks.settings.ingest import IngestSettings
from tasks.settings.stages import EncodeSettings, TrainSettings
from tasks.workers import Workers

SHORT_SCANS = 16


def seconds_of(call: Callable[[], object]) -> float:
    started = time.perf_counter()
    call()
    return time.perf_counter() - started


def ingest_cost(raw: Path, folder: Path, repeats: int) -> None:
    plain, flow = [], []
    for repeat in range(repeats):
        plain.append(ingest(raw, folder / f"plain{repeat}.zarr", IngestSettings(), Workers())[0])
        store = str(folder / f"flow{repeat}.zarr")
        flow.append(seconds_of(lambda store=store: ingest_scan(source=str(raw), store=store)))
    a, b = statistics.median(plain), statistics.median(flow)
    print(f"ingest, plain calls {a:.2f} s, flow {b:.2f} s: orchestration {100 * (b - a) / a:+.1f} %")


def short_scans(raw: Path, folder: Path, repeats: int) -> None:
    files = sorted(raw.iterdir())
    n = len(files) // SHORT_SCANS
    as_short_scans(raw, folder / "beamtime", SHORT_SCANS)
    glob = str(folder / "beamtime" / "*" / "*.cbf")

    def by_a_run_each(name: str) -> None:
        for part in range(SHORT_SCANS):
            ingest_scan(source=str(folder / "beamtime" / f"short{part}"), store=str(folder / name / f"{part}.zarr"))

    ways: dict[str, Callable[[str], object]] = {
        "one scan": lambda name: ingest_scan(source=str(raw), store=str(folder / f"{name}.zarr")),
        "one glob": lambda name: ingest_scan(source=glob, store=str(folder / f"{name}.zarr")),
        "process_beamtime": lambda name: process_beamtime(
            folder=str(folder / "beamtime"), stores=str(folder / name), until="ingest"
        ),
        "a run each": by_a_run_each,
    }
    taken: dict[str, list[float]] = {way: [] for way in ways}
    for repeat in range(repeats):
        for way, call in ways.items():  # in turns, because machines get faster and slower
            taken[way].append(seconds_of(partial(call, f"{way} {repeat}".replace(" ", "-"))))
    long = statistics.median(taken["one scan"])
    print(f"ingest, {SHORT_SCANS} scans of {n} frames against one of {len(files)}: one scan {long:.2f} s", end="")
    for way in list(ways)[1:]:
        here = statistics.median(taken[way])
        print(f", {way} {here:.2f} s ({100 * (here - long) / long:+.1f} %)", end="")
    print()


def chain_cost(raw: Path, folder: Path) -> None:
    settings = {"train": TrainSettings(epochs=1, max_tiles=6), "encode": EncodeSettings(epochs=1, max_frames=32)}
    store = str(folder / "chain.zarr")
    first = seconds_of(lambda: process_scan(source=str(raw), store=store, **settings))
    again = seconds_of(lambda: process_scan(source=str(raw), store=store, **settings))
    print(f"process_scan {first:.1f} s, again with nothing to do {again:.2f} s: at most {100 * again / first:.1f} %")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--frames", type=int, default=512)
    parser.add_argument("--repeats", type=int, default=3)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name, running_server():
        folder = Path(name)
        raw = source_of(folder, options.frames, None)
        ingest(raw, folder / "warm-up.zarr", IngestSettings(), Workers())
        ingest_cost(raw, folder, options.repeats)
        short_scans(raw, folder, options.repeats)
        chain_cost(raw, folder)


if __name__ == "__main__":
    main()
