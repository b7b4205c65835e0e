"""The health check on a real server: what it finds wrong, what it says to do, and that it passes when all is well."""

import json
import subprocess
from pathlib import Path

import pytest

SCRIPT = """
import json, os, sys, time
from pathlib import Path
from prefect import get_client
from prefect.client.schemas.actions import WorkPoolCreate
from flows.embedded_server import running_server
from flows.health_check import health_check

results, beamtime = map(Path, sys.argv[1:3])

def look(**more):
    try:
        return health_check(results=results, **more).checks
    except Exception as error:
        return [type(error).__name__, str(error)]

with running_server(grace_s=1) as url:
    from prefect.settings import temporary_settings
    found = {"no pool": look()}
    with temporary_settings({"api.url": url}), get_client(sync_client=True) as client:
        client.create_work_pool(WorkPoolCreate(name="local-process", type="process"))
        found["no worker"] = look()
        client.send_worker_heartbeat("local-process", "worker-1")
    found["well"] = look(beamtime=beamtime)
    found["little space"] = look(min_free_gb=1e9)
    (beamtime / "scan").mkdir(parents=True)
    (beamtime / "scan" / "a.cbf").write_text("frame")
    os.utime(beamtime / "scan" / "a.cbf", (time.time() - 3600,) * 2)
    found["behind"] = look(beamtime=beamtime, max_idle_min=30)
    (results / "scan.zarr" / "ledger").mkdir(parents=True)
    (results / "scan.zarr" / "ledger" / "frames.jsonl").write_text("")
    found["ingested"] = look(beamtime=beamtime)
print(json.dumps(found))
"""


@pytest.mark.slow
@pytest.mark.server
def test_each_problem_is_told_with_what_to_do_and_none_where_all_is_well(
    tmp_path: Path, isolated: dict[str, str], python: list[str]
) -> None:
    results, beamtime = tmp_path / "results", tmp_path / "beamtime"
    results.mkdir()
    beamtime.mkdir()
    environment = isolated | {"DLSIA_FLOWS_HOME": str(tmp_path / "home"), "PREFECT_LOGGING_LEVEL": "CRITICAL"}
    command = [*python, "-c", SCRIPT, str(results), str(beamtime)]
    done = subprocess.run(command, env=environment, cwd=tmp_path, capture_output=True, text=True, timeout=280)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["no pool"][0] == "HealthError"
    assert "there is no work pool 'local-process'; run `make serve` once" in found["no pool"][1]
    assert "none alive in pool 'local-process', there was never one; start one: `make serve`" in found["no worker"][1]
    assert found["well"]["workers"] == "1 alive"
    assert found["well"]["frames on disk"] == f"none in {beamtime}"
    assert "less than 1e+09 GB: move finished stores away" in found["little space"][1]
    assert "look at detector, shutter and mounts" in found["behind"][1]
    assert "nothing was ingested since the newest frame came; see that the watcher runs" in found["behind"][1]
    assert found["behind"][1].startswith("2 of 7 checks found a problem")
    assert found["ingested"]["frames in stores"] == "up to date, or under way"
