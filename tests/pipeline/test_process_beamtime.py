"""All scans of a beamtime in one run: each store as that of a run of its own, and one bad scan stops no other."""

from pathlib import Path

import numpy as np
import pytest

from tasks.store import ScanStore
from tasks.verify import verify_store

pytestmark = pytest.mark.server
N_FRAMES = 5


@pytest.fixture
def beamtime(tmp_path, write_frames):
    """Three scans, one of them a folder deeper, one without a map of names in order; and a folder of two shapes."""
    folder = tmp_path / "beamtime"
    for number, name in enumerate(("scan2", "scan10", "day1/scan1")):
        write_frames(folder / name, range(10 * number, 10 * number + N_FRAMES))
    write_frames(folder / "scan3", [1, 2])
    write_frames(folder / "scan3", [3], (48, 80))
    return folder


def test_a_scan_that_cannot_be_processed_stops_no_other(tmp_path, beamtime, flow_runs, tree):
    results = tmp_path / "results"
    arguments = {"folder": beamtime, "stores": results, "until": "ingest", "at_once": 3}
    ended = flow_runs("process_beamtime", **arguments)
    assert ended["error"] == "ScansFailedError"
    assert "3 of 4 scans" in ended["message"]
    assert f"{3 * N_FRAMES} of {3 * N_FRAMES} frames" in ended["message"]
    assert "scan3: " in ended["message"]
    assert "frames of several shapes" in ended["message"]
    for name in ("scan2", "scan10", "day1/scan1"):
        alone = tmp_path / "alone" / f"{Path(name).name}.zarr"
        assert flow_runs("ingest_scan", source=beamtime / name, store=alone)["status"] == 0
        assert tree(results / f"{name}.zarr") == tree(alone)
        assert verify_store(results / f"{name}.zarr", deep=True).is_green
    before = {name: tree(results / f"{name}.zarr") for name in ("scan2", "scan10", "day1/scan1")}

    (beamtime / "scan3" / "scan_3.cbf").unlink()
    ended = flow_runs("process_beamtime", **arguments)
    assert ended["status"] == 0, ended
    assert [scan["scan"] for scan in ended["result"]["scans"]] == ["day1/scan1", "scan2", "scan3", "scan10"]
    assert [scan["frames_by_state"]["ingested"] for scan in ended["result"]["scans"]] == [5, 5, 2, 5]

    assert {name: tree(results / f"{name}.zarr") for name in before} == before, "what was there is left as it was"


def test_the_whole_chain_for_each_scan(tmp_path, write_scan, flow_runs, trained, small, tree):
    for name, numbers in (("a", range(3)), ("b", range(3, 8))):
        (tmp_path / "beamtime" / name).mkdir(parents=True)
        write_scan(tmp_path / "beamtime" / name, numbers)
    arguments = {"model": trained, **small()}
    ended = flow_runs("process_beamtime", folder=tmp_path / "beamtime", stores=tmp_path / "results", **arguments)
    assert ended["status"] == 0, ended
    for scan in ended["result"]["scans"]:
        store = tmp_path / "results" / f"{scan['scan']}.zarr"
        alone = tmp_path / "alone" / f"{scan['scan']}.zarr"
        source = tmp_path / "beamtime" / scan["scan"]
        assert flow_runs(source=source, store=alone, **arguments)["status"] == 0
        np.testing.assert_array_equal(ScanStore(store).array("inpainted")[:], ScanStore(alone).array("inpainted")[:])
        assert tree(store).keys() == tree(alone).keys()
        assert verify_store(store).is_green
        assert Path(scan["report"]).exists()


@pytest.mark.parametrize("content", [None, "notes.txt"])
def test_a_folder_without_scans_is_refused(tmp_path, flow_runs, content):
    (tmp_path / "beamtime").mkdir()
    if content:
        (tmp_path / "beamtime" / content).write_text("no frames yet")
    ended = flow_runs("process_beamtime", folder=tmp_path / "beamtime", stores=tmp_path / "results")
    assert ended["error"] == "SourceError"
    assert "no detector files in" in ended["message"]
    assert not (tmp_path / "results").exists()
