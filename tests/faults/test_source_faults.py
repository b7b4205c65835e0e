"""Files that are deleted, replaced, truncated or still growing while they are ingested, and clocks that jump."""

import itertools
import os
import random
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import fabio.cbfimage
import numpy as np
import pytest
from numpy.typing import NDArray

from tasks.store import FrameState, ScanStore
from tasks.verify import verify_store

pytestmark = [pytest.mark.server, pytest.mark.timeout(900)]

N_FRAMES = 96
SHAPE = (48, 64)
INGEST = {"batch_frames": 16}
FAKETIME = next(Path("/usr/lib").glob("*/faketime/libfaketime.so.1"), None)


def frame_of(number: int) -> NDArray[np.int32]:
    return np.random.default_rng(number).poisson(20.0, SHAPE).astype("int32")


def cbf_of(number: int, folder: Path) -> bytes:
    """The bytes of a file; replacements have numbers from 1000 on."""
    path = folder / ".writing.cbf"
    fabio.cbfimage.CbfImage(data=frame_of(number)).write(str(path))
    content = path.read_bytes()
    path.unlink()
    return content


def write_all(folder: Path) -> list[Path]:
    folder.mkdir(parents=True)
    paths = [folder / f"scan_{number:03d}.cbf" for number in range(N_FRAMES)]
    for number, path in enumerate(paths):
        path.write_bytes(cbf_of(number, folder))
    return paths


class Disturber(threading.Thread):
    """Does to files, last ones first, what acquisition systems and people do while a scan is ingested."""

    def __init__(self, paths: list[Path], chance: random.Random) -> None:
        super().__init__(daemon=True)
        self.chance, self.stop = chance, threading.Event()
        chosen = chance.sample(range(N_FRAMES), 40)
        self.replaced, self.deleted, self.truncated, self.growing = (set(chosen[i::4]) for i in range(4))
        self.paths, self.whole = paths, [path.read_bytes() for path in paths]
        self.other = {number: cbf_of(number + 1000, paths[0].parent) for number in self.replaced}
        for number in self.growing:
            paths[number].write_bytes(self.whole[number][: chance.randrange(len(self.whole[number]))])

    def run(self) -> None:
        for number in self.chance.sample(range(N_FRAMES), N_FRAMES):
            path = self.paths[number]
            if number in self.replaced:
                new = path.with_name(f".{path.name}")
                new.write_bytes(self.other[number])
                new.replace(path)
            elif number in self.deleted:
                path.unlink()
            elif number in self.truncated:
                os.truncate(path, self.chance.randrange(len(self.whole[number])))
            elif number in self.growing:
                with path.open("ab", buffering=0) as file:
                    rest = self.whole[number][path.stat().st_size :]
                    file.write(rest[: len(rest) // 2])
                    time.sleep(0.002)
                    file.write(rest[len(rest) // 2 :])
            if self.stop.wait(self.chance.uniform(0, 0.03)):
                continue

    def mend(self) -> None:
        """Bring every file into its last state: whole, and deleted ones back as they were."""
        for number in self.deleted | self.truncated:
            self.paths[number].write_bytes(self.whole[number])


def rows_of(store: ScanStore) -> dict[int, NDArray[Any]]:
    counts = store.read("counts", 0, store.n_frames)
    return {int(Path(r.file).name[5:8]): counts[row] for row, r in enumerate(store.frames.ingested)}


def is_one_of(found: NDArray[Any], number: int) -> bool:
    return any(np.array_equal(found, frame_of(one)) for one in (number, number + 1000))


def test_files_that_change_while_they_are_ingested(tmp_path, flow_runs, tally, chance):
    for trial in range(3):
        paths = write_all(tmp_path / f"raw{trial}")
        disturber = Disturber(paths, chance)
        call = {"source": tmp_path / f"raw{trial}", "store": tmp_path / f"scan{trial}.zarr", "ingest": INGEST}
        flow_runs.start("ingest_scan", **call)
        time.sleep(chance.uniform(0, 0.3))
        disturber.start()
        ended = flow_runs.ended()
        disturber.stop.set()
        disturber.join()
        assert "error" not in ended, ended
        first = ScanStore(call["store"])
        assert all(is_one_of(found, number) for number, found in rows_of(first).items())
        refused = first.frames.in_state(FrameState.QUARANTINED)
        assert all(record.reason for record in refused)
        disturber.mend()
        assert "error" not in flow_runs("ingest_scan", **call)
        store = ScanStore(call["store"])
        rows = rows_of(store)
        assert sorted(rows) == list(range(N_FRAMES)), "every file is whole now: a frame was lost or refused for ever"
        assert all(is_one_of(found, number) for number, found in rows.items())
        assert len(store.frames.ingested) == N_FRAMES
        verdict = verify_store(store.path, deep=True)
        replaced = {str(paths[number]) for number in disturber.replaced}
        # Where a file was replaced after it was ingested, verify says so: the store keeps what it held then.
        assert {line.split(" ")[0] for line in verdict.wrong} <= replaced
        assert not verdict.unfinished
        tally.add("files deleted, replaced, cut, growing", trials=40, quarantined=len(refused), identical=40)


@pytest.mark.parametrize("moment", [0, 2**31 - 1, 4102444800, 16725225600])
def test_files_of_another_time(tmp_path, flow_runs, tally, moment):
    """Clocks of detectors run wrong: files of 1970, 2038, 2100 and 2500, and some that go back while they are there."""
    paths = write_all(tmp_path / "raw")
    for path in paths:
        os.utime(path, (moment, moment))
    call = {"source": tmp_path / "raw", "store": tmp_path / "scan.zarr", "ingest": INGEST}
    assert "error" not in flow_runs("ingest_scan", **call)
    for path in paths[::2]:
        os.utime(path, (1, 1))
    again = flow_runs("ingest_scan", **call)["result"]
    assert again["n_frames"] == N_FRAMES
    assert again["warnings"] == []
    rows = rows_of(ScanStore(tmp_path / "scan.zarr"))
    assert all(np.array_equal(rows[number], frame_of(number)) for number in range(N_FRAMES))
    assert verify_store(tmp_path / "scan.zarr", deep=True).is_green
    tally.add("files of a wrong time", identical=1)


@pytest.mark.skipif(FAKETIME is None, reason="needs the Debian package libfaketime")
def test_a_clock_that_jumps_during_a_run(tmp_path: Path, tally: Any, chance: random.Random, flow_runs: Any) -> None:
    """By a day, forth and back, while the flow is under way; its server keeps the right time."""
    write_all(tmp_path / "raw")
    clock = tmp_path / "clock"
    clock.write_text("+0")
    environment = {
        "LD_PRELOAD": str(FAKETIME),
        "DLSIA_FLOWS_HOME": str(flow_runs.home),
        "FAKETIME_TIMESTAMP_FILE": str(clock),
        "FAKETIME_NO_CACHE": "1",
        "FAKETIME_DONT_FAKE_MONOTONIC": "1",
        "PYTHONPATH": str(Path(__file__).parents[2]),
    }
    call = f"ingest_scan(source={str(tmp_path / 'raw')!r}, store={str(tmp_path / 'scan.zarr')!r}, ingest={INGEST})"
    code = f"from flows.ingest_scan import ingest_scan; print('ready', flush=True); {call}"
    process = subprocess.Popen(
        [sys.executable, "-W", "ignore", "-c", code],
        env=os.environ | environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout
    assert process.stdout.readline() == "ready\n"
    for jump in itertools.cycle(["+1d", "-1d", "+0"]):
        if process.poll() is not None:
            break
        clock.write_text(jump)
        time.sleep(chance.uniform(0.05, 0.3))
    _, errors = process.communicate()
    assert process.returncode == 0, errors
    rows = rows_of(ScanStore(tmp_path / "scan.zarr"))
    assert all(np.array_equal(rows[number], frame_of(number)) for number in range(N_FRAMES))
    assert verify_store(tmp_path / "scan.zarr", deep=True).is_green
    tally.add("clock that jumps", identical=1)
