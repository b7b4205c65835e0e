"""Memory is bounded by a few shards, whatever the scan's length."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

SHAPE = (256, 320)
SHARD_BYTES = 16 * 4 * SHAPE[0] * SHAPE[1]
"""Of counts; valid and provenance have a quarter of it, all other arrays as much."""
ARRAYS = 6.5
SHORT, LONG = 48, 480

STAGES = """
import json, resource, runpy, sys
from pathlib import Path
conftest, sources, model, settings = sys.argv[1], sys.argv[2:4], sys.argv[4], json.loads(sys.argv[5])
run_all_stages = runpy.run_path(conftest)["run_all_stages"]
peaks = []
for source in sources:
    run_all_stages(source, Path(source).with_suffix(".zarr"), settings, model=model, until="stitch")
    peaks.append(1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
print(json.dumps(peaks))
"""


@pytest.fixture(scope="module")
def sources(tmp_path_factory, write_scan) -> list[Path]:
    """A scan, and one of ten times the frames."""
    folder = tmp_path_factory.mktemp("memory")
    frames = write_scan(folder / "short", range(SHORT), shape=SHAPE)
    (folder / "long").mkdir()
    for number in range(LONG):
        shutil.copy(frames[number % SHORT], folder / "long" / f"scan_{number:04d}.cbf")
    return [folder / "short", folder / "long"]


@pytest.fixture(scope="module")
def settings(small):
    """No reduction: every array is as large as counts."""
    own = {"normalize": {"shape": None}, "tile": {"shape": [256, 64], "step": [256, 64]}}
    return small(**own)


def test_the_stages_need_no_more_for_ten_times_the_frames(sources, settings, trained):
    conftest = str(Path(__file__).with_name("conftest.py"))
    command = [sys.executable, "-W", "ignore", "-c", STAGES, conftest, *map(str, sources), str(trained)]
    root = Path(__file__).parents[2]
    output = subprocess.run([*command, json.dumps(settings)], cwd=root, check=True, capture_output=True, text=True)
    short, long = json.loads(output.stdout.splitlines()[-1])
    # Two threads, each with a shard of every array. One array kept in memory would be 27 shards, all of them 175.
    assert long - short < 2 * ARRAYS * SHARD_BYTES


@pytest.mark.slow
@pytest.mark.server
def test_the_flow_needs_no_more_for_ten_times_the_frames(sources, settings, flow_runs):
    short, long = (flow_runs(source=s, store=s.with_suffix(".flow.zarr"), **settings)["peak_bytes"] for s in sources)
    # Four task runs at once, each with a shard of every array; a short scan has fewer.
    assert long - short < 4 * ARRAYS * SHARD_BYTES
