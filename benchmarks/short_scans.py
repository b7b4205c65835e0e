"""Many short scans against one long one, ingest alone: `python benchmarks/short_scans.py [--pairs 12]`.

The same frames, in the page cache, as one scan by `ingest_scan` and as 16 by `process_beamtime`, a store each. Machines
get faster and slower from minute to minute: both are timed in turns, the one that comes first changes, and each pair
gives a ratio. Processor time is that of this process and of the Prefect server that it started.
"""

import argparse
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from shutil import rmtree

import psutil

sys.path.insert(0, str(Path(__file__).parent))
from ingest_rate import ingest, source_of

from flows.embedded_server import running_server
from flows.ingest_scan import ingest_scan
from flows.process_beamtime import process_beamtime
from tasks.settings.ingest import IngestSettings
from tasks.workers import Workers


def as_short_scans(raw: Path, folder: Path, scans: int) -> Path:
    """Links to the frames, in a folder for each scan."""
    files = sorted(raw.iterdir())
    n = len(files) // scans
    for part in range(scans):
        (folder / f"short{part}").mkdir(parents=True)
        for file in files[part * n : (part + 1) * n]:
            (folder / f"short{part}" / file.name).hardlink_to(file)
    return folder


def cost_of(call: Callable[[Path], object], store: Path) -> tuple[float, float]:
    """Seconds, and processor seconds, of one ingest."""
    before, started = _processor_s(), time.perf_counter()
    call(store)
    taken = time.perf_counter() - started, _processor_s() - before
    rmtree(store)
    return taken


def _processor_s() -> float:
    here = psutil.Process()
    return sum(sum(process.cpu_times()[:2]) for process in (here, *here.children(recursive=True)))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--frames", type=int, default=512)
    parser.add_argument("--scans", type=int, default=16)
    parser.add_argument("--pairs", type=int, default=12)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name, running_server():
        folder = Path(name)
        raw = source_of(folder, options.frames, None)
        beamtime = as_short_scans(raw, folder / "beamtime", options.scans)
        ingest(raw, folder / "warm-up.zarr", IngestSettings(), Workers())
        calls: dict[str, Callable[[Path], object]] = {
            "long": lambda store: ingest_scan(source=str(raw), store=str(store)),
            "short": lambda store: process_beamtime(folder=str(beamtime), stores=str(store), until="ingest"),
        }
        found: dict[str, list[tuple[float, float]]] = {kind: [] for kind in calls}
        for pair in range(options.pairs):
            for kind in ("long", "short") if pair % 2 else ("short", "long"):
                found[kind].append(cost_of(calls[kind], folder / f"{kind}{pair}"))
    for column, what in enumerate(("s", "processor s")):
        long, short = ([cost[column] for cost in found[kind]] for kind in ("long", "short"))
        ratios = [100 * (b / a - 1) for a, b in zip(long, short, strict=True)]
        low, middle, high = statistics.quantiles(ratios, n=4)
        print(
            f"one scan {statistics.median(long):.2f} {what}, {options.scans} scans {statistics.median(short):.2f}: "
            f"{middle:+.1f} % (half of the pairs between {low:+.1f} and {high:+.1f} %)"
        )


if __name__ == "__main__":
    main()
