"""Training for the registry: every network, both presets, held-out frames, fine-tuning, early stop, resume."""

import csv
import json
import os
import re
import signal
import time
from contextlib import suppress
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from dlsia_core.networks import load_network
from dlsia_core.training import (
    EpochRecord,
    Hook,
    StepRecord,
    TrainingDivergedError,
    TrainingTimeoutError,
    read_checkpoint,
)
from dlsia_core.training.hooks import Start
from flows.server_api import Api
from flows.server_home import server_address
from tasks.errors import StoreError
from tasks.held_out import FrameSplit
from tasks.learning_set import learning_set
from tasks.model_registry import named_model, versions_of
from tasks.normalized_frames import frames_of_store
from tasks.registration import publish_model
from tasks.settings.inpainting import InpaintingTraining
from tasks.settings.stages import NormalizeSettings
from tasks.store import ScanRef, ScanStore
from tasks.store.lock import writer_lock
from tasks.train_model import train_inpainter, work_folder
from tasks.training_plan import planned_training
from tasks.training_progress import TrainingProgress

N_FRAMES = 12
TINY = {
    "TUNet": {"depth": 2, "base_channels": 2}, "MSDNet": {"num_layers": 3, "max_dilation": 2},
    "PartialConvUNet": {"depth": 2, "base_channels": 2},
    "ConvAutoencoder": {"depth": 2, "base_channels": 2, "latent_dim": 4},
}  # fmt: skip
SMALL = {"tile_shape": [64, 32], "tile_step": [64, 16], "epochs": 2, "batch_size": 8, "device": "cpu"}


@pytest.fixture(autouse=True)
def models(tmp_path, monkeypatch) -> Path:
    monkeypatch.setenv("DLSIA_FLOWS_MODELS", str(tmp_path / "models"))
    return tmp_path / "models"


@pytest.fixture(scope="module")
def raw(tmp_path_factory, write_scan) -> Path:
    folder = tmp_path_factory.mktemp("raw")
    write_scan(folder, range(N_FRAMES))
    return folder


@pytest.fixture(scope="module")
def store(tmp_path_factory, raw, run_stages, small) -> Path:
    path = tmp_path_factory.mktemp("store") / "scan.zarr"
    run_stages(raw, path, small(), until="tile")
    return path


@pytest.fixture
def frames(store):
    return frames_of_store(ScanRef(str(store)), None)


def plan_of(network="TUNet", preset="quick", start_from=None, **changes):
    own = {} if start_from else {"network_settings": TINY[network]}
    given = InpaintingTraining.model_validate({**SMALL, **own, **changes})
    return planned_training(None if start_from else network, preset, given, start_from)


@pytest.fixture
def train(tmp_path, frames):
    """Train as the flow does, without a Prefect server."""

    def run(network="TUNet", preset="quick", **changes) -> SimpleNamespace:
        plan = plan_of(network, preset, **changes)
        model = train_inpainter.fn(frames, plan, tmp_path / "output", "saxs", "the source")
        return SimpleNamespace(model=model, folder=Path(model.folder), facts=load_network(model.folder)[1], plan=plan)

    return run


def publish(trained: SimpleNamespace, name="saxs"):
    return publish_model.fn(name, trained.folder)


@pytest.mark.parametrize("preset", ["quick", "paper"])
@pytest.mark.parametrize("network", TINY)
def test_every_network_trains_and_inpaints_a_scan(train, tmp_path, raw, run_stages, small, network, preset):
    assert publish(train(network, preset)).label == "saxs:1"
    filled = run_stages(raw, tmp_path / "scan.zarr", small(), model=named_model("saxs").folder, until="stitch")
    normalized, inpainted, origin = (
        filled.store.read(name, 0, N_FRAMES) for name in ("normalized", "inpainted", "provenance")
    )
    measured = np.isfinite(normalized)
    assert inpainted[measured].tobytes() == normalized[measured].tobytes()
    assert np.isfinite(inpainted[origin == 1]).all()
    assert (origin == 1).any()


def test_the_quick_preset_starts_at_linear_interpolation_and_gets_better(train):
    """On artificial gaps in frames that it was not trained on."""
    untrained = train(epochs=1, learning_rate=1e-12)
    assert [row["L1 over linear"] for row in untrained.facts["quality"]] == pytest.approx([1, 1, 1, 1])
    network = {"depth": 2, "base_channels": 6, "activation": "silu"}
    trained = train(network_settings=network, epochs=10, crop_rows=16, learning_rate=1e-2)
    rows = {(row["method"], row["gaps"]): row for row in trained.facts["quality"]}
    assert set(rows) == {(m, g) for m in ("network", "linear interpolation") for g in ("vertical", "horizontal")}
    assert rows["network", "vertical"]["L1 over linear"] < 0.9
    assert rows["linear interpolation", "vertical"]["L1 over linear"] == 1
    assert all(row["frames"] == 2 for row in rows.values())


def test_a_model_says_everything_about_itself(train):
    trained = train(seed=3)
    facts, published = trained.facts, publish(trained)
    assert facts["scale"] == {"kind": "log", "unit_counts": 1.0, "ceiling_counts": 2.0**20}
    assert facts["normalize"] == NormalizeSettings(shape=(64, 64)).model_dump(mode="json")
    assert facts["detector"] == {
        "name": None, "frame_shape": [128, 160], "normalized_shape": [64, 64],
        "gap_rows": [[30, 32]], "gap_columns": [[24, 26]],
    }  # fmt: skip
    assert (facts["tile_shape"], facts["tile_step"]) == ([64, 32], [64, 16])
    assert facts["recipe"]["prefill"] == "linear"
    assert facts["trained_on"]["source"] == "the source"
    assert facts["trained_on"]["frames"] == 8
    assert {row["method"] for row in facts["scores"]} == {"network", "linear"}
    with (trained.folder / "training.csv").open() as file:
        assert [float(row["training_loss"]) for row in csv.DictReader(file)] == facts["curve"]["train"]
    effort = json.loads((trained.folder / "training.json").read_text())
    assert (effort["epochs"], effort["stopped"]) == (2, "epochs")
    assert not (trained.folder / "checkpoint").exists()
    for text in (
        "# saxs:1",
        "TUNet",
        "`the source`",
        "128 x 160",
        "rows 30-32; columns 24-26",
        "prefill linear",
        "CPU",
    ):
        assert text in published.card
    assert f"{facts['quality'][0]['L1 (normalized counts)']:.4g}" in published.card
    page = Path(published.report).read_text()
    assert "best validation loss" in page
    assert "frame " in page
    assert page.count("data:image/png") >= 6


def test_the_same_training_is_found_and_the_same_model_has_one_version(train):
    first = publish(train())
    weights = Path(first.folder, "model.safetensors").stat().st_mtime_ns
    assert publish(train()).label == first.label == "saxs:1"
    assert Path(first.folder, "model.safetensors").stat().st_mtime_ns == weights
    assert publish(train(seed=1)).label == "saxs:2"
    assert publish(train(), "other").label == "other:1"


def test_how_a_training_is_computed_makes_no_other_one(train):
    folder = train().folder
    assert train(max_minutes=7, checkpoint_s=3, memory_gib=2).folder == folder
    assert train(batch_size=4).folder != folder


def test_tiles_that_do_not_fit_in_memory_are_read_as_needed_and_give_the_same_model(train, frames):
    inside = train("PartialConvUNet")
    weights = (inside.folder / "model.safetensors").read_bytes()
    inside.folder.rename(inside.folder.with_name("kept"))
    outside = train("PartialConvUNet", memory_gib=0)
    learning = learning_set(frames, outside.plan)
    assert not learning.fits_in_memory(learning.training)
    assert learning_set(frames, inside.plan).fits_in_memory(learning.training)
    assert (outside.folder / "model.safetensors").read_bytes() == weights
    assert outside.model.digest == inside.model.digest


def test_stored_tiles_are_those_of_the_grid(frames):
    learning = learning_set(frames, plan_of())
    tiles = learning.training
    for index in (0, len(tiles.places) - 1):
        frame, number = tiles.places[index]
        wanted = learning.grid.cut(frames.read(int(frame)))[number]
        np.testing.assert_array_equal(tiles[index, slice(5, 40)], wanted[5:40])
        np.testing.assert_array_equal(tiles.in_memory()[index], wanted)


@pytest.mark.parametrize("n_frames", [3, 4, 10, 101])
def test_whole_frames_are_held_out_and_follow_from_seed_and_count(n_frames):
    split, same, other = (FrameSplit(n_frames, seed, 0.15, 0.15) for seed in (0, 0, 1))
    parts = [split.training, split.validation, split.test]
    assert sorted([*parts[0], *parts[1], *parts[2]]) == list(range(n_frames))
    assert all(parts)
    assert split.to_dict() == same.to_dict()
    assert n_frames < 10 or split.test != other.test
    assert split.holds_out


def test_short_sources_say_what_they_cannot_hold_out():
    assert [FrameSplit(2, 0, 0.15, 0.15).to_dict()[key] for key in ("validation", "test")] == [[1], [1]]
    single = FrameSplit(1, 0, 0.15, 0.15)
    assert single.training == single.validation == single.test == [0]
    assert not single.holds_out


def test_a_model_of_one_frame_is_registered_with_a_warning(tmp_path, write_scan, run_stages, small):
    write_scan(tmp_path / "raw", range(1))
    run_stages(tmp_path / "raw", tmp_path / "scan.zarr", small(), until="tile")
    one = frames_of_store(ScanRef(str(tmp_path / "scan.zarr")), None)
    model = train_inpainter.fn(one, plan_of(), tmp_path / "output", "one", "one frame")
    published = publish_model.fn("one", Path(model.folder))
    assert any("judged on the frame that it was trained on" in warning for warning in published.warnings)
    assert "its own training frame: too optimistic" in published.card


def test_training_frames_have_no_part_in_the_figures(train, frames):
    """Tiles of training, validation and test come from different frames."""
    trained = train()
    learning, split = learning_set(frames, trained.plan), trained.facts["split"]
    used = set(learning.training.places[:, 0]) | set(learning.validation.places[:, 0])
    assert used & set(split["test"]) == set()
    assert set(learning.training.places[:, 0]) & set(split["validation"]) == set()


def test_fine_tuning_goes_on_from_the_weights_of_the_model(train, tmp_path):
    first = train(seed=1)
    publish(first)
    plan = plan_of(start_from="saxs")
    start = plan.build(plan.recipe, (64, 32)).state_dict()
    held = load_network(first.folder)[0].state_dict()
    assert all(torch.equal(start[name], held[name]) for name in held)
    tuned = train(start_from="saxs", epochs=3)
    assert tuned.facts["started_from"] == "saxs:1"
    assert tuned.facts["recipe"] == first.facts["recipe"]
    assert tuned.facts["origin"]["plan"]["learning_rate"] == pytest.approx(1e-3)
    assert publish(tuned).label == "saxs:2"
    assert "Started from: saxs:1" in (named_model("saxs").folder / "card.md").read_text()


def test_a_training_that_gets_no_better_stops_early(train):
    """With a step of nothing the loss stays where it is."""
    trained = train(epochs=30, patience=2, learning_rate=1e-30)
    assert len(trained.facts["curve"]["train"]) == 3
    assert json.loads((trained.folder / "training.json").read_text())["stopped"] == "patience"


def test_a_loss_that_is_no_number_leaves_the_last_good_checkpoint(train, tmp_path, frames):
    with pytest.raises(TrainingDivergedError) as caught:
        train(learning_rate=1e30, gradient_clip=0, epochs=9, checkpoint_s=0)
    work = work_folder(tmp_path / "output", frames, plan_of(learning_rate=1e30, gradient_clip=0, epochs=9))
    assert f"Of the last good checkpoint: it is in {work / 'checkpoint'}" in str(caught.value)
    assert "training.learning_rate below 1e+30" in str(caught.value)
    _, progress, tensors = read_checkpoint(work / "checkpoint")
    assert progress.epoch * 8 + progress.step > 0
    assert all(torch.isfinite(value).all() for name, value in tensors.items() if name.startswith("weights/"))
    assert not versions_of("saxs")
    assert train(epochs=1).folder != work


def test_a_training_that_runs_out_of_time_goes_on_where_it_was(train, tmp_path):
    undisturbed = train()
    undisturbed.folder.rename(tmp_path / "kept")
    for _ in range(2):
        with pytest.raises(TrainingTimeoutError, match="same call with more time resumes it"):
            train(max_minutes=1e-9)
    assert train().model.digest == undisturbed.model.digest


def test_whoever_watches_may_end_a_training_which_then_goes_on(tmp_path, frames, train):
    """A sweep stops its hopeless members; whoever trains one of them later finds what was done."""

    class StoppedError(RuntimeError):
        pass

    class Watcher(Hook):
        def on_epoch(self, record: EpochRecord, seconds_left: float) -> None:
            raise StoppedError(f"{record.epoch}, {seconds_left}")

    with pytest.raises(StoppedError):
        train_inpainter.fn(frames, plan_of(checkpoint_s=0), tmp_path / "output", "saxs", "the source", (Watcher(),))
    stopped = work_folder(tmp_path / "output", frames, plan_of())
    assert read_checkpoint(stopped / "checkpoint")[1].epoch == 1
    ended = train()
    assert ended.folder == stopped
    assert len(ended.facts["curve"]["train"]) == 2


def test_two_runs_do_not_train_the_same_model_at_once(train, tmp_path, frames):
    work = work_folder(tmp_path / "output", frames, plan_of())
    with writer_lock(work / "lock"), pytest.raises(StoreError, match="is being written by another run"):
        train()


def test_progress_tells_rate_and_time_left_of_its_own_steps():
    """A resumed training has 10 of 40 steps behind it; 5 steps in 10 s are half a step per second."""
    times = [100.0]
    progress = TrainingProgress("saxs", clock=lambda: times[0])
    progress.on_start(Start(4, 10, (EpochRecord(0, 0.1, 1.0, None, 20.0),)))
    for step in range(5):
        times[0] = 102.0 + 2 * step
        progress.on_step(StepRecord(1, step, 10, 0.1, 0.5))
    assert progress.text == "saxs: step 15 of 40, 0.50 steps/s, 50 s left"


def flow_arguments(source: Path, output: Path, name: str, **training) -> dict:
    training = {**SMALL, "network_settings": TINY["TUNet"], **training}
    normalize = NormalizeSettings(shape=(64, 64)).model_dump(mode="json")
    return {"source": source, "name": name, "output": output, "training": training, "normalize": normalize}


def written_since(begun: float, folder: Path) -> bool:
    """Whether a checkpoint of a training was written, and put in its place, after that time."""
    for file in folder.rglob("checkpoint.*"):
        with suppress(FileNotFoundError):  # replaced meanwhile
            if file.stat().st_mtime > begun:
                return True
    return False


@pytest.mark.server
def test_a_training_killed_in_the_middle_ends_with_the_weights_of_an_undisturbed_one(tmp_path, flow_runs, raw):
    long = {"epochs": 30, "batch_size": 2, "checkpoint_s": 0.3, "patience": 0}
    undisturbed = flow_runs("train_inpainting", **flow_arguments(raw, tmp_path / "first", "whole", **long))["result"]
    arguments = flow_arguments(raw, tmp_path / "output", "resumed", **long)
    process = flow_runs.start("train_inpainting", **arguments)
    while "epoch 2 of 30" not in flow_runs.log.read_text():
        time.sleep(0.002)
    begun = time.time()
    while not written_since(begun, tmp_path / "output"):  # an older checkpoint may lie in the first epoch
        time.sleep(0.002)
    os.kill(process, signal.SIGKILL)
    assert flow_runs.ended()["status"] == -signal.SIGKILL
    assert not list((tmp_path / "output").rglob("model.json"))
    found = flow_runs("train_inpainting", **arguments)
    assert found["status"] == 0, found
    log = flow_runs.log.read_text()
    assert "epoch 1 of 30" not in log
    assert "epoch 30 of 30" in log
    result = found["result"]
    assert result["model"] == "resumed:1"
    for file in ("model.safetensors", "model.json"):
        killed, whole = (
            Path(folder, file).read_text("latin-1") for folder in (result["folder"], undisturbed["folder"])
        )
        assert killed.replace("resumed", "whole") == whole
    with Path(result["folder"], "training.csv").open() as file:
        assert [int(row["epoch"]) for row in csv.DictReader(file)] == list(range(30))


def artifacts_of(home: Path, *keys: str) -> dict[str, str]:
    """Descriptions of the newest artifacts on the server of a home folder."""
    url = server_address(home)
    assert url
    wanted = {"artifacts": {"key": {"any_": list(keys)}}}
    return {found["key"]: found["description"] for found in Api(url).call("/artifacts/latest/filter", wanted)}


@pytest.mark.server
def test_files_and_a_store_of_them_train_the_same_network_and_process_scan_takes_it(
    tmp_path, flow_runs, raw, store, small
):
    by_files = flow_runs("train_inpainting", **flow_arguments(raw, tmp_path / "files", "twice"))["result"]
    held = flow_arguments(store, tmp_path / "held", "twice") | {"normalize": None}
    by_store = flow_runs("train_inpainting", **held)["result"]
    weights = [Path(result["folder"], "model.safetensors").read_bytes() for result in (by_files, by_store)]
    assert weights[0] == weights[1]
    assert (by_files["n_frames"], by_files["model"], by_store["model"]) == (N_FRAMES, "twice:1", "twice:2")
    artifacts = artifacts_of(flow_runs.home, "training-progress", "model-card")
    assert re.search(r"twice: step 2 of 2, \d+\.\d\d steps/s, 0 s left; ended", artifacts["training-progress"])
    assert artifacts["model-card"] == "Card of twice:2"
    assert ScanStore(tmp_path / "files" / "frames.zarr").n_frames == N_FRAMES
    assert not (tmp_path / "held" / "frames.zarr").exists()

    scan = {"source": raw, "store": tmp_path / "scan.zarr", **small()}
    first = flow_runs(**scan, model="twice:1")["result"]
    assert first["inpainting"] == "a model was given: twice:1"
    assert {"what": "train", "why": first["inpainting"]} in first["left_out"]
    newest = flow_runs(**scan, model="twice")["result"]
    assert newest["inpainting"] == "a model was given: twice:2"
    assert "twice:2" in Path(newest["report"]).read_text()
    # The descriptions differ (source), so the results lie beside each other, never over each other.
    assert newest["report"] != first["report"]
    [group] = (tmp_path / "scan.zarr").glob("settings-*")
    assert json.loads((group / "zarr.json").read_text())["attributes"]["settings"]["model"] == "twice:2"
