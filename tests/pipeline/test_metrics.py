"""What Prometheus scrapes is what the ledgers and the server say, whenever it asks."""

import os
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from flows.server_api import Api
from flows.server_home import server_address

Scrape = Callable[[], dict[tuple[str, ...], float]]


@pytest.fixture
def exporter(tmp_path: Path) -> Iterator[Callable[..., Scrape]]:
    started: list[subprocess.Popen[str]] = []

    def start(*words: str, home: Path = tmp_path / "home") -> Scrape:
        kept = {key: value for key, value in os.environ.items() if not key.startswith(("PREFECT_", "DLSIA_FLOWS_"))}
        root = str(Path(__file__).parents[2])
        process = subprocess.Popen(
            [sys.executable, "-W", "ignore", "-m", "deployments.metrics", str(tmp_path), "--port", "0", *words],
            env=kept | {"DLSIA_FLOWS_HOME": str(home), "PYTHONPATH": root},
            stdout=subprocess.PIPE,
            text=True,
        )
        started.append(process)
        assert process.stdout
        url = process.stdout.readline().strip()

        def scrape() -> dict[tuple[str, ...], float]:
            with urllib.request.urlopen(url) as answer:
                families = text_string_to_metric_families(answer.read().decode())
            found = [sample for family in families for sample in family.samples]
            return {(s.name.removeprefix("dlsia_flows_"), *s.labels.values()): s.value for s in found}

        return scrape

    yield start
    for process in started:
        with process:
            process.send_signal(signal.SIGTERM)
            assert process.wait(60) == 0


def test_frames_and_stages_are_counted_from_the_ledgers(tmp_path, exporter, write_scan, run_stages, small):
    files = write_scan(tmp_path / "raw", range(5))
    files[2].write_bytes(b"###CBF: VERSION 1.5\n")
    run_stages(tmp_path / "raw", tmp_path / "a" / "one.zarr", small(), until="tile")
    run_stages(tmp_path / "raw", tmp_path / "two.zarr", small(), until="tile")
    scrape = exporter()
    before = scrape()
    assert before["frames", "a/one.zarr", "ingested"] == before["frames", "two.zarr", "ingested"] == 4
    assert before["frames", "a/one.zarr", "quarantined"] == 1
    assert before["prefect_up",] == 0
    assert before["results_free_bytes", str(tmp_path)] > 0
    for stage in ("ingest", "normalize", "tile"):
        assert before["stage_frames_total", "a/one.zarr", stage] == 4
        assert before["stage_seconds_total", "a/one.zarr", stage] > 0
        assert before["stage_stored_bytes_total", "a/one.zarr", stage] > 0
    assert before["last_frame_age_seconds", "a/one.zarr"] > before["last_frame_age_seconds", "two.zarr"] >= 0
    write_scan(tmp_path / "raw", range(5, 8))
    run_stages(tmp_path / "raw", tmp_path / "a" / "one.zarr", small(), until="tile")
    after = scrape()
    assert after["frames", "a/one.zarr", "ingested"] == after["stage_frames_total", "a/one.zarr", "ingest"] == 7
    assert after["last_frame_age_seconds", "a/one.zarr"] < after["last_frame_age_seconds", "two.zarr"]
    run_stages(tmp_path / "raw", tmp_path / "a" / "one.zarr", small(), until="tile")  # computes nothing
    assert scrape()["stage_frames_total", "a/one.zarr", "tile"] == after["stage_frames_total", "a/one.zarr", "tile"]


def test_older_scans_are_added_up_and_damaged_ledgers_left_out(tmp_path, exporter, write_frames, ingest_all):
    write_frames(tmp_path / "raw", [1, 2, 3])
    for name in ("one.zarr", "two.zarr", "three.zarr", "four.zarr"):
        ingest_all(tmp_path / "raw", tmp_path / name)
    scrape = exporter("--newest", "2")
    found = scrape()
    assert {key[1]: value for key, value in found.items() if key[::2] == ("frames", "ingested")} == {
        "four.zarr": 3, "three.zarr": 3, "(older)": 6
    }  # fmt: skip
    with (tmp_path / "two.zarr" / "ledger" / "frames.jsonl").open("a") as ledger:
        ledger.write("not JSON\n")
    found = scrape()
    assert found["unreadable_stores",] == 1
    assert found["frames", "(older)", "ingested"] == 3


@pytest.mark.server
def test_a_run_that_waits_has_an_age(exporter, flow_runs):
    api = Api(str(server_address(flow_runs.home)))
    flow = api.call("/flows/", {"name": "waiting"})
    scrape = exporter(home=flow_runs.home)
    assert scrape()["prefect_up",] == 1
    assert scrape()["queue_age_seconds",] == 0
    due = datetime.now(UTC) - timedelta(hours=2)
    for when in (due, datetime.now(UTC) + timedelta(hours=2)):
        state = {"type": "SCHEDULED", "state_details": {"scheduled_time": when.isoformat()}}
        api.call("/flow_runs/", {"flow_id": flow["id"], "state": state})
    found = scrape()
    assert 7200 <= found["queue_age_seconds",] <= 7200 + (time.time() - due.timestamp())
    assert found["runs", "Scheduled"] == 1
