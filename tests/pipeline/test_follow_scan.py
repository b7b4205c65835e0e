"""A scan that is followed while it grows: the same bytes as one run on the finished scan, whatever is killed."""

import os
import shutil
import signal
import time

import numpy as np
import pytest

from tasks.store import ScanStore
from tasks.verify import verify_store

pytestmark = pytest.mark.server
N_FRAMES = 44
FOLLOW = {"poll_s": 0.1, "flush_s": 0.3, "late_s": 1.5, "quiet_s": 3, "map_from_frames": 16, "map_every_s": 0.2}


def put(files, folder):
    """Move whole files into place, as a detector does that writes under another name first."""
    folder.mkdir(exist_ok=True)
    for file in files:
        shutil.copy(file, folder / f"{file.name}.tmp")
        (folder / f"{file.name}.tmp").rename(folder / file.name)


def until(condition, what, seconds=120):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"not within {seconds} s: {what}"
        time.sleep(0.02)


def held(store):
    return len(ScanStore(store).frames.ingested) if (store / "zarr.json").exists() else 0


def test_a_scan_that_is_followed_and_killed_ends_with_the_bytes_of_one_run(
    tmp_path, flow_runs, write_scan, trained, small, tree
):
    files = write_scan(tmp_path / "made", range(N_FRAMES))
    damaged = bytearray(files[20].read_bytes())
    damaged[damaged.index(b"\x0c\x1a\x04\xd5") + 40] ^= 0x10  # only reading it tells
    files[20].write_bytes(damaged)
    raw, store = tmp_path / "raw", tmp_path / "live.zarr"
    arguments = {"source": raw, "store": store, "model": trained, "follow": FOLLOW, **small()}

    put(files[:18], raw)
    process = flow_runs.start("follow_scan", **arguments)
    until(lambda: held(store) == 18, "frames that fill no shard are taken after a while")
    os.kill(process, signal.SIGKILL)
    assert flow_runs.ended()["status"] == -signal.SIGKILL

    flow_runs.start("follow_scan", **arguments)
    put(files[18:30], raw)
    until(lambda: held(store) == 29, "frames that come later are taken")
    until(lambda: "inpainted" in ScanStore(store), "a given model inpaints before the end")
    put(files[30:], raw)
    ended = flow_runs.ended()
    assert "error" not in ended, ended
    result = ended["result"]
    assert result["scan"]["frames_by_state"] == {"ingested": 43, "quarantined": 1, "double": 0, "pending": 0}
    assert (result["followed_frames"], result["late_frames"]) == (25, 0)
    assert 0 < result["in_store"]["median_s"] <= result["in_store"]["worst_s"]
    assert 0 < result["on_map"]["median_s"] <= result["on_map"]["worst_s"]
    assert "url=live.report.html" in (tmp_path / "live.live.html").read_text(), "the live page leads to the report"

    at_once = tmp_path / "at_once.zarr"
    whole = flow_runs("process_scan", source=raw, store=at_once, model=trained, **small())
    assert "error" not in whole, whole
    one, other = tree(store), tree(at_once)
    assert one.keys() == other.keys()
    assert [name for name in one if one[name] != other[name]] == []
    assert verify_store(store, deep=True).is_green


def test_a_late_file_comes_last_and_nothing_is_lost(tmp_path, flow_runs, write_frames, expected, small):
    files = write_frames(tmp_path / "made", range(20))
    raw, store = tmp_path / "raw", tmp_path / "scan.zarr"
    put([file for file in files if file.name != "scan_5.cbf"], raw)
    settings = {key: small()[key] for key in ("ingest", "normalize", "tile", "encode")}
    arguments = {"source": raw, "store": store, "follow": {**FOLLOW, "late_s": 0.5}, "process": False, **settings}
    flow_runs.start("follow_scan", **arguments)
    until(lambda: held(store) == 19, "the others wait no longer than late_s")
    put([file for file in files if file.name == "scan_5.cbf"], raw)
    ended = flow_runs.ended()
    assert "error" not in ended, ended
    order = [*range(5), *range(6, 20), 5]
    np.testing.assert_array_equal(ScanStore(store).read("counts", 0, 20), expected(order))
    assert ScanStore(store).read("frame_number", 0, 20).tolist() == order
    assert ended["result"]["late_frames"] == 1
    page = (tmp_path / "scan.live.html").read_text()
    assert "20 frames" in page
    assert '<meta http-equiv="refresh"' in page
    assert verify_store(store, deep=True).is_green


def test_a_source_without_a_frame_is_refused_after_a_while(tmp_path, flow_runs):
    (tmp_path / "raw").mkdir()
    arguments = {"source": tmp_path / "raw", "store": tmp_path / "scan.zarr"}
    ended = flow_runs("follow_scan", **arguments, follow={**FOLLOW, "first_frame_s": 0.3})
    assert (ended["error"], "no complete frame in" in ended["message"]) == ("SourceError", True)
    assert not (tmp_path / "scan.zarr").exists()
    ended = flow_runs("follow_scan", **{**arguments, "source": tmp_path / "nowhere"})
    assert "no such folder" in ended["message"]
