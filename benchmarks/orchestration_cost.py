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
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
from ingest_rate import ingest, source_of

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


def short_scans(raw: Path, folder: Path) -> None:
    files = sorted(raw.iterdir())
    n = len(files) // SHORT_SCANS
    for part in range(SHORT_SCANS):
        (folder / "beamtime" / f"short{part}").mkdir(parents=True)
        for file in files[part * n : (part + 1) * n]:
            (folder / "beamtime" / f"short{part}" / file.name).hardlink_to(file)
    long = seconds_of(lambda: ingest_scan(source=str(raw), store=str(folder / "long.zarr")))
    glob = str(folder / "beamtime" / "*" / "*.cbf")
    together = seconds_of(lambda: ingest_scan(source=glob, store=str(folder / "together.zarr")))
    short = sum(
        seconds_of(
            lambda p=p: ingest_scan(source=str(folder / "beamtime" / f"short{p}"), store=str(folder / f"short{p}.zarr"))
        )
        for p in range(SHORT_SCANS)
    )
    one_run = seconds_of(
        lambda: process_beamtime(folder=str(folder / "beamtime"), stores=str(folder / "stores"), until="ingest")
    )
    print(
        f"ingest, one scan of {len(files)} frames {long:.2f} s, {SHORT_SCANS} of {n} frames by one glob "
        f"{together:.2f} s, by process_beamtime {one_run:.2f} s, by a run each {short:.2f} s"
    )


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
        short_scans(raw, folder)
        chain_cost(raw, folder)


if __name__ == "__main__":
    main()
