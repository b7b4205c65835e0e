"""What a run would do is told before anything is written, and is what the run then does."""

import json

import pytest

from flows.plan_scan import main
from tasks.errors import SourceError
from tasks.forecast import ScanForecast, forecast_scan
from tasks.models import find_model
from tasks.planning import needs
from tasks.store import ScanStore
from tasks.survey import survey_source
from tasks.workers import Workers


@pytest.fixture
def forecast(stage_settings, one_thread):
    def forecast_of(source, store, given, model=None, sample_frames=4) -> ScanForecast:
        ingest, stages = stage_settings(given)
        held = ScanStore(store).frames if store.exists() else None
        found = survey_source(str(source), held, ingest.validity)
        chosen = None if model is None else find_model(model, needs(stages.normalize))
        return forecast_scan(str(source), store, found, ingest, stages, Workers(threads=2), chosen, sample_frames)

    return forecast_of


def to_do(forecast: ScanForecast) -> dict[str, int]:
    return {stage.stage: stage.frames for stage in forecast.stages}


@pytest.fixture(scope="module")
def processed(tmp_path_factory, write_scan, run_stages, small, trained):
    folder = tmp_path_factory.mktemp("planned")
    write_scan(folder / "raw", range(20))
    run_stages(folder / "raw", folder / "scan.zarr", small(), model=trained)
    return folder


def test_disk_is_what_a_run_then_writes(forecast, processed, small, trained, tmp_path):
    planned = forecast(processed / "raw", tmp_path / "scan.zarr", small(), trained)
    assert set(to_do(planned).values()) == {20}
    written = sum(file.stat().st_size for file in (processed / "scan.zarr").rglob("*") if file.is_file())
    models = sum(file.stat().st_size for file in (processed / "scan.zarr" / "models").rglob("*") if file.is_file())
    assert planned.disk_bytes == pytest.approx(written - models, rel=0.15)


def test_nothing_is_written(forecast, processed, small, trained, tmp_path):
    before = {path: path.stat().st_mtime_ns for path in processed.rglob("*")}
    forecast(processed / "raw", tmp_path / "results" / "scan.zarr", small())
    forecast(processed / "raw", processed / "scan.zarr", small(), trained)
    assert {path: path.stat().st_mtime_ns for path in processed.rglob("*")} == before
    assert list(tmp_path.iterdir()) == []


def test_what_a_store_holds_is_not_planned_again(forecast, processed, small, trained):
    planned = forecast(processed / "raw", processed / "scan.zarr", small(), trained)
    assert set(to_do(planned).values()) == {0}
    assert planned.sentence == "0 new frames, 20 in the store; nothing to do"


def test_new_frames_and_other_settings_are_planned_for_the_stages_that_they_touch(
    forecast, write_scan, run_stages, small, trained, tmp_path
):
    source, store = tmp_path / "raw", tmp_path / "scan.zarr"
    write_scan(source, range(16))
    run_stages(source, store, small(), model=trained)
    write_scan(source, range(16, 20))
    assert to_do(forecast(source, store, small(), trained)) == {
        "ingest": 4, "normalize": 4, "tile": 4, "infer": 4, "stitch": 4, "train-encoder": 0, "encode": 4
    }  # fmt: skip
    other = to_do(forecast(source, store, small(stitch={"window": "hann"}), trained))
    assert {stage: other[stage] for stage in ("ingest", "tile", "infer", "stitch", "encode")} == {
        "ingest": 4, "tile": 4, "infer": 4, "stitch": 20, "encode": 20
    }  # fmt: skip


def test_too_small_a_disk_or_memory_is_a_problem_that_the_sentence_names():
    facts = {"source": "raw", "store": "s.zarr", "new_frames": 3, "held_frames": 0, "refused": {}, "tried_frames": 3}
    stages = [{"stage": "ingest", "done_frames": 0, "frames": 3, "seconds": 9.0, "disk_bytes": 100}]
    room = {"disk_bytes": 100, "free_disk_bytes": 111, "memory_bytes": 100, "free_memory_bytes": 111}
    assert not ScanForecast(**facts, stages=stages, **room).problems
    short = ScanForecast(**facts, stages=stages, **room | {"free_disk_bytes": 109, "free_memory_bytes": 109})
    assert "the disk is too small: 1e-07 GB will be written, 1.09e-07 GB are free at s.zarr" in short.sentence
    assert "lower workers.threads" in short.sentence
    assert not ScanForecast(**facts, stages=stages, **room | {"free_memory_bytes": None}).problems


def test_frames_that_cannot_be_read_are_told_apart(forecast, write_scan, small, trained, tmp_path):
    files = write_scan(tmp_path / "raw", range(6))
    files[1].write_bytes(b"###CBF: VERSION 1.5\n")
    planned = forecast(tmp_path / "raw", tmp_path / "scan.zarr", small(), trained)
    assert (planned.new_frames, planned.refused, planned.tried_frames) == (5, {"quarantined": 1}, 4)
    for file in files:
        file.write_bytes(b"###CBF: VERSION 1.5\n")
    with pytest.raises(SourceError, match="none of the first 4 frames"):
        forecast(tmp_path / "raw", tmp_path / "scan.zarr", small(), trained)


@pytest.mark.server
def test_flow_and_command_line_say_it(flow_runs, processed, small, tmp_path, capsys, trained):
    arguments = {"source": processed / "raw", "store": tmp_path / "scan.zarr", "model": str(trained) + "/", **small()}
    ended = flow_runs("plan_scan", **arguments)
    assert ended["status"] == 0, ended
    assert ended["result"]["new_frames"] == 20
    settings = json.dumps({**small(), "model": str(trained) + "/"})
    assert main([str(processed / "raw"), str(tmp_path / "scan.zarr"), "--settings", settings]) == 0
    assert "20 new frames, 0 in the store; about " in capsys.readouterr().out
    assert main([str(tmp_path / "nothing"), str(tmp_path / "scan.zarr")]) == 1
    assert "no such file or folder" in capsys.readouterr().err
    assert not (tmp_path / "scan.zarr").exists()
