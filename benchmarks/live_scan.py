"""A scan that grows while it is ingested and normalized: `python benchmarks/live_scan.py [--rate 10] [--seconds 180]`.

Frames that were made before are put into a folder, one by one, by hard links (so that their making does not compete),
and `follow_scan` takes them. Printed over time: frames written and in the store, backlog, memory of the flow's process
(RSS) and its processor seconds; at the end the seconds from a frame's appearance to its commit in the ledger.
"""

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from datetime import datetime
from pathlib import Path

from tasks.store.ledger import FrameLedger

FLOW = """
import json, sys
from flows.embedded_server import running_server
from flows.follow_scan import follow_scan
with running_server():
    print("READY", flush=True)
    result = follow_scan(**json.loads(sys.argv[1]))
print("RESULT", result.model_dump_json())
"""
TICKS = os.sysconf("SC_CLK_TCK")
PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")


class Replay(threading.Thread):
    """Puts frames into a folder at a steady rate, and notes when."""

    def __init__(self, frames: list[Path], folder: Path, n_frames: int, rate: float) -> None:
        super().__init__(daemon=True)
        self.frames, self.folder, self.n_frames, self.rate = frames, folder, n_frames, rate
        self.written: dict[str, float] = {}

    def run(self) -> None:
        started = time.time()
        for number in range(self.n_frames):
            time.sleep(max(0.0, started + number / self.rate - time.time()))
            path = self.folder / f"scan_{number:05d}.cbf"
            os.link(self.frames[number % len(self.frames)], path)
            self.written[str(path)] = time.time()


def prepared(folder: Path, data: Path | None) -> list[Path]:
    """Frames on the disk of the trial: simulated ones of a PILATUS 2M, or copies of those in `data`."""
    if data is None:
        from deployments.simulated_beamtime import SimulationSettings, write_scan

        return write_scan(folder / "made", SimulationSettings(n_frames=32))
    originals = sorted(data.glob("*.cbf"))
    (folder / "made").mkdir()
    return [Path(shutil.copy(file, folder / "made" / file.name)) for file in originals[:64]]


def usage(process: int) -> tuple[float, float]:
    """RSS in MB and processor seconds of a process."""
    fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    return int(fields[21]) * PAGE_BYTES / 1e6, (int(fields[11]) + int(fields[12])) / TICKS


def watch(flow: "subprocess.Popen[str]", replay: Replay, ledger: Path, every_s: float) -> list[tuple[float, ...]]:
    """Print a row every few seconds until the flow ends: seconds, written, stored, backlog, MB, processor seconds."""
    rows, started, records = [], time.time(), None
    print(f"{'s':>6} {'written':>8} {'stored':>7} {'backlog':>8} {'RSS MB':>7} {'CPU s':>7}")
    while flow.poll() is None:
        time.sleep(every_s)
        if records is None and ledger.exists():
            records = FrameLedger(ledger)
        if records is not None:
            records.refresh()
        stored = len(records.ingested) if records else 0
        try:
            megabytes, cpu_s = usage(flow.pid)
        except (FileNotFoundError, ProcessLookupError):
            break
        rows.append(
            (time.time() - started, len(replay.written), stored, len(replay.written) - stored, megabytes, cpu_s)
        )
        print("{:6.0f} {:8d} {:7d} {:8d} {:7.0f} {:7.1f}".format(*rows[-1]), flush=True)
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rate", type=float, default=10.0, help="frames per second")
    parser.add_argument("--seconds", type=float, default=180.0)
    parser.add_argument("--every", type=float, default=5.0, help="seconds between two rows")
    parser.add_argument("--quiet", type=float, default=5.0, help="seconds after which the scan has ended")
    parser.add_argument("--threads", type=int, default=0, help="0: one per core")
    parser.add_argument("--map-from", type=int, default=32, help="frames from which the live map is drawn")
    parser.add_argument("--data", type=Path, help="folder of CBF files to replay; default: simulated ones")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        raw, store = folder / "raw", folder / "scan.zarr"
        raw.mkdir()
        replay = Replay(prepared(folder, options.data), raw, round(options.rate * options.seconds), options.rate)
        follow = {"quiet_s": options.quiet, "map_from_frames": options.map_from}
        parameters = {
            "source": str(raw), "store": str(store), "process": False, "follow": follow,
            "workers": {"threads": options.threads},
        }  # fmt: skip
        environment = os.environ | {"DLSIA_FLOWS_HOME": str(folder / "home"), "DLSIA_FLOWS_PORT": "0"}
        command = [sys.executable, "-W", "ignore", "-c", FLOW, json.dumps(parameters)]
        with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True) as flow:
            assert flow.stdout
            ready = flow.stdout.readline()  # libraries are loaded, and the server is up
            assert ready, "the flow has died; its message is above"
            before = usage(flow.pid)[1]
            replay.start()
            rows = watch(flow, replay, store / "ledger" / "frames.jsonl", options.every)
            said = flow.communicate()[0]
        report(rows, before, replay, FrameLedger(store / "ledger" / "frames.jsonl"), said)


def report(rows: list[tuple[float, ...]], before: float, replay: Replay, ledger: FrameLedger, said: str) -> None:
    """Print backlog and memory in the second half against the first, and latencies."""
    at = {record.file: datetime.fromisoformat(record.at).timestamp() for record in ledger.ingested}
    waited = sorted(at[file] - written for file, written in replay.written.items() if file in at)
    growing = [row for row in rows if 0 < row[1] < replay.n_frames and row[2]]
    halves = growing[: len(growing) // 2], growing[len(growing) // 2 :]
    for what, column in (("backlog, frames", 3), ("RSS, MB", 4)):
        told = [f"{statistics.median(row[column] for row in half):.0f}" if half else "–" for half in halves]
        print(f"{what}: median {told[0]} in the first half of the scan, {told[1]} in the second")
    print(f"stored {len(waited)} of {replay.n_frames} frames", end="")
    if waited:
        most, worst, usual = waited[int(0.95 * len(waited))], waited[-1], statistics.median(waited)
        print(f"; appearance to commit: median {usual:.2f} s, 95 % {most:.2f}, worst {worst:.2f}")
        print(f"processor seconds per frame, map and server calls included: {(rows[-1][5] - before) / len(waited):.3f}")
    for line in said.splitlines():
        if line.startswith("RESULT"):
            result = json.loads(line.removeprefix("RESULT"))
            print("the flow's own figures:", {key: result[key] for key in ("largest_backlog", "in_store", "on_map")})


if __name__ == "__main__":
    main()
