"""Sweeps: the grids of the paper, one table, members found again, hopeless ones stopped, a kill in the middle."""

import csv
import json
import os
import signal
import time
from pathlib import Path
from typing import Any

import pytest

from dlsia_core.inpainting import inpainter_channels
from dlsia_core.networks import count_parameters
from dlsia_core.networks.registry import empty_network
from dlsia_core.training.median_stop import Course, MedianRule
from tasks.errors import SettingsError
from tasks.normalized_frames import frames_of_store
from tasks.settings.inpainting import InpaintingTraining
from tasks.settings.sweep import SweepMember, SweepSettings
from tasks.store import ScanRef
from tasks.sweep_grid import planned_sweep
from tasks.sweep_member import member_folder, sweep_member

COMMON = {"tile_shape": [64, 32], "tile_step": [64, 16], "epochs": 3, "batch_size": 8, "max_tiles": 8, "device": "cpu"}
TUNET = {"network": "TUNet", "network_settings": {"depth": 2, "base_channels": 2}}
MSDNET = {"network": "MSDNet", "network_settings": {"num_layers": 3, "max_dilation": 2}}
HOPELESS = {**TUNET, "name": "hopeless", "learning_rate": 1e-9}
COLUMNS = ["member", "network", "settings", "parameters", "epochs", "best_epoch", "l1", "pearson_r", "l1_over_linear"]


def plan_of(grid: Any, preset="quick", settings: SweepSettings = SweepSettings(), **training):
    given = InpaintingTraining.model_validate({**COMMON, **training} if preset == "quick" else training)
    members = grid if isinstance(grid, str) else [SweepMember.model_validate(member) for member in grid]
    return planned_sweep(members, preset, given, settings)


def weights_of(member) -> int:
    plan = member.plan
    return count_parameters(empty_network({**plan.config, **inpainter_channels(plan.network, plan.recipe)}))


def test_networks_and_batches_of_the_paper_are_those_of_tables_2_and_3():
    table_2, table_3 = plan_of("tunet", "paper"), plan_of("msdnet", "paper")
    millions = [f"{weights_of(member) / 1e6:.3f}" for member in table_2.members]
    assert millions == ["0.536", "2.140", "8.556", "2.158", "8.630", "6.033", "8.648", "34.586", "34.512"]
    assert [member.plan.values["batch_size"] for member in table_2.members] == [180, 100, 50] * 2 + [180, 100, 50]
    assert [weights_of(member) for member in table_3.members] == [11_577, 45_652, 45_652, 181_302, 181_302]
    assert [member.plan.values["batch_size"] for member in table_3.members] == [30, 7, 7, 6, 6]
    assert table_2.notes == table_3.notes == ()


def test_smaller_networks_are_said_to_be_smaller():
    plan = plan_of("tunet")
    assert [member.plan.config["base_channels"] for member in plan.members[:3]] == [4, 8, 16]
    assert plan.notes[0] == "Scaled down: networks have 1/4 of the channels of Table 2 (sweep.shrink)."
    assert plan.notes[1] == "Trained with the preset 'quick', not as in the paper."
    assert "1/2 of the layers" in plan_of("msdnet", settings=SweepSettings(shrink=2)).notes[0]


def test_what_cannot_be_compared_is_refused():
    with pytest.raises(SettingsError, match="no members"):
        plan_of([])
    with pytest.raises(SettingsError, match="'0' and '1' have the same training"):
        plan_of([TUNET, TUNET])
    with pytest.raises(SettingsError, match="'same' and 'same' have the same name"):
        plan_of([{**TUNET, "name": "same"}, {**MSDNET, "name": "same"}])
    with pytest.raises(SettingsError, match=r"member '1' cannot be trained.*depth"):
        plan_of([TUNET, {"network": "TUNet", "network_settings": {"depth": 0}}])
    with pytest.raises(SettingsError, match="leave it out with your own members"):
        plan_of([TUNET], settings=SweepSettings(shrink=2))
    with pytest.raises(SettingsError, match="each member's own"):
        plan_of([TUNET], network_settings={"depth": 2})
    with pytest.raises(ValueError, match="unknown: 'tile_shape'"):
        SweepMember.model_validate({"tile_shape": [64, 32]})


@pytest.fixture(scope="module")
def raw(tmp_path_factory, write_scan) -> Path:
    folder = tmp_path_factory.mktemp("raw")
    write_scan(folder, range(8))
    return folder


@pytest.fixture(scope="module")
def frames(tmp_path_factory, raw, run_stages, small):
    path = tmp_path_factory.mktemp("store") / "scan.zarr"
    run_stages(raw, path, small(), until="tile")
    return frames_of_store(ScanRef(str(path)), None)


def test_a_hopeless_member_is_stopped_and_goes_on_where_it_was_without_the_rule(tmp_path, frames):
    (member,) = plan_of([HOPELESS], checkpoint_s=0, prefill="zero").members
    rule, others = MedianRule((2,), least=2), (Course([0.01, 0.01]),) * 2
    stopped = sweep_member.fn(frames, member, tmp_path, "raw", rule, others)
    assert (stopped.state, stopped.epochs, len(stopped.losses), stopped.l1) == ("stopped", 2, 2, None)
    assert stopped.reason.startswith("after 2 epochs its best validation loss was")
    record = member_folder(tmp_path, frames, member) / "record.json"
    before = record.stat().st_mtime_ns
    assert sweep_member.fn(frames, member, tmp_path, "raw", rule, others) == stopped
    assert record.stat().st_mtime_ns == before
    finished = sweep_member.fn(frames, member, tmp_path, "raw", MedianRule(), others)
    assert (finished.state, finished.epochs, finished.losses[:2]) == ("finished", 3, stopped.losses)
    assert finished.l1 is not None
    # What is finished stays so, whatever the rule says today.
    assert sweep_member.fn(frames, member, tmp_path, "raw", rule, others) == finished


def test_a_member_that_diverges_is_recorded_and_does_not_end_the_sweep(tmp_path, frames):
    (member,) = plan_of([{**TUNET, "learning_rate": 1e30, "gradient_clip": 0}]).members
    record = sweep_member.fn(frames, member, tmp_path, "raw", MedianRule(), ())
    assert record.state == "failed"
    assert "training.learning_rate below 1e+30" in record.reason


@pytest.mark.server
def test_a_sweep_killed_in_the_middle_trains_finished_members_no_second_time(tmp_path, flow_runs, raw):
    output = tmp_path / "sweep"
    members = [TUNET, MSDNET, {**MSDNET, "name": "long", "epochs": 12}]
    arguments = {
        "source": raw, "output": output, "grid": members, "training": {**COMMON, "checkpoint_s": 0},
        "normalize": {"shape": [64, 64]},
    }  # fmt: skip
    process = flow_runs.start("sweep_inpainting", **arguments)
    while "member long: epoch 3 of 12" not in flow_runs.log.read_text():
        time.sleep(0.002)
    os.kill(process, signal.SIGKILL)
    assert flow_runs.ended()["status"] == -signal.SIGKILL
    first = {path: path.stat().st_mtime_ns for path in output.glob("members/*/record.json")}
    assert len(first) == 2
    found = flow_runs("sweep_inpainting", **arguments)
    assert "result" in found, found
    log = flow_runs.log.read_text()
    assert "member 0: finished before" in log
    assert "member long: epoch 1 of 12" not in log
    assert {path: path.stat().st_mtime_ns for path in first} == first
    with (output / "sweep.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert list(rows[0])[:9] == COLUMNS
    assert [(row["member"], row["state"], row["epochs"]) for row in rows] == [
        ("0", "finished", "3"), ("1", "finished", "3"), ("long", "finished", "12"),
    ]  # fmt: skip
    assert json.loads(rows[1]["settings"]) == {"network_settings": MSDNET["network_settings"]}
    best = min(rows, key=lambda row: float(row["l1"]))
    assert found["result"]["best"] == best["model"]
    assert Path(best["model"], "model.safetensors").exists()
    page = (output / "report.html").read_text()
    assert f"best is member {best['member']} " in page
    assert "http" not in page.split("</style>")[1]
