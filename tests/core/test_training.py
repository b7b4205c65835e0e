"""The training loop: best weights, frozen validation, exact resume, honest failures."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from dlsia_core.errors import ArrayError, SettingError
from dlsia_core.networks import build_network
from dlsia_core.training import (
    ArrayExamples,
    Batch,
    CheckpointMismatchError,
    FitResult,
    TrainingDivergedError,
    TrainingTimeoutError,
    TrainSettings,
    fit,
    read_checkpoint,
    weighted_l1,
    weighted_l2,
)
from dlsia_core.training.examples import shuffled_batches

pytestmark = pytest.mark.usefixtures("one_thread")
CONFIG = {"network": "TUNet", "in_channels": 1, "out_channels": 1, "depth": 2, "base_channels": 3}
CONFIG |= {"normalization": "batch"}


def examples(count: int, seed: int = 0) -> ArrayExamples:
    values = np.random.default_rng(seed).normal(size=(count, 1, 8, 8)).astype(np.float32)
    return ArrayExamples(values, np.cumsum(values, axis=3) / 3)


def train(settings: TrainSettings, network: nn.Module | None = None, **options: object) -> FitResult:
    options = {"validation": examples(3, seed=1)} | options
    network = network or build_network(CONFIG, seed=0)
    return fit(network, options.pop("training", examples(7)), weighted_l1, settings, **options)


def same_weights(a: nn.Module, b: nn.Module) -> bool:
    ours, theirs = a.state_dict(), b.state_dict()
    return all(torch.equal(ours[name], theirs[name]) for name in ours)


def validation_loss(network: nn.Module) -> float:
    batch = examples(3, seed=1).batch(0, np.arange(3))
    with torch.no_grad():
        return float(weighted_l1(network(batch.inputs), batch.target, batch.weight))


def test_the_returned_network_is_that_of_the_best_epoch() -> None:
    """In dlsia "best" was another name for the live weights, so that the last epoch came back."""
    result = train(TrainSettings(epochs=12, batch_size=3, learning_rate=0.2))
    losses = [record.validation_loss for record in result.history]
    assert result.best_epoch == int(np.argmin(losses)) < 11, "the last epoch must not be the best here"
    assert result.best_loss == min(losses)
    assert not result.network.training
    assert validation_loss(result.network) == pytest.approx(result.best_loss, rel=1e-6)


def test_validation_changes_nothing() -> None:
    """In dlsia validation ran in training mode and changed the batch norm's statistics."""
    settings = TrainSettings(epochs=1, batch_size=3)
    with_validation, without = train(settings), train(settings, validation=None)
    assert same_weights(with_validation.network, without.network)
    assert without.history[0].validation_loss is None
    assert without.best_loss == without.history[0].training_loss


def test_the_same_call_gives_the_same_bits_and_leaves_the_global_random_state_alone() -> None:
    before = torch.get_rng_state()
    settings = TrainSettings(epochs=2, batch_size=3, seed=4, gradient_clip=0.1)
    first = train(settings)
    torch.manual_seed(99)
    assert same_weights(first.network, train(settings).network)
    torch.set_rng_state(before)
    assert not same_weights(first.network, train(TrainSettings(epochs=2, batch_size=3, seed=5)).network)
    assert torch.equal(before, torch.get_rng_state())


def test_epoch_means_are_weighted_over_unequal_batches() -> None:
    """With batches of 3, 3 and 1 the plain mean of batch means would count the last example threefold."""
    result = train(TrainSettings(epochs=1, batch_size=2, learning_rate=1e-12))
    assert result.history[0].validation_loss == pytest.approx(validation_loss(result.network), rel=1e-6)
    uneven = np.ones((3, 1, 2, 2), np.float32)
    uneven[2] = 4
    identity = nn.Conv2d(1, 1, 1)
    nn.init.zeros_(identity.weight)
    nn.init.zeros_(identity.bias)
    settings = TrainSettings(epochs=1, batch_size=2, learning_rate=1e-12)
    assert train(settings, identity, training=ArrayExamples(uneven)).history[0].training_loss == pytest.approx(2)


def test_learning_stops_when_patience_is_over() -> None:
    result = train(TrainSettings(epochs=50, batch_size=7, learning_rate=0.5, patience=2))
    assert result.stopped == "patience"
    assert len(result.history) == result.best_epoch + 3 < 50


def test_the_callback_hears_of_every_epoch() -> None:
    heard = []
    settings = TrainSettings(epochs=3, batch_size=3, learning_rate=0.01, milestones=(2,))
    result = train(settings, on_epoch=lambda record, seconds_left: heard.append((record, seconds_left)))
    assert tuple(record for record, _ in heard) == result.history
    assert [record.learning_rate for record, _ in heard] == pytest.approx([0.01, 0.01, 0.001])
    assert heard[0][1] > heard[2][1] == 0


def test_gradients_are_clipped_together(tmp_path: Path) -> None:
    """Adam's first step hides the size of a gradient, its second moment shows it: 0.001 * gradient ** 2."""
    norms = []
    for clip in (None, 1e-3):
        settings = TrainSettings(epochs=1, batch_size=7, gradient_clip=clip)
        train(settings, checkpoint_folder=tmp_path / str(clip))
        _, _, tensors = read_checkpoint(tmp_path / str(clip))
        squares = [value.sum() for name, value in tensors.items() if name.endswith("exp_avg_sq")]
        norms.append(float(torch.stack(squares).sum() / 1e-3) ** 0.5)
    assert norms[0] > 0.01
    assert norms[1] == pytest.approx(1e-3, rel=1e-2)


def test_a_loss_that_is_no_number_ends_the_training_and_keeps_the_checkpoint(tmp_path: Path) -> None:
    class Spoilt(ArrayExamples):
        def batch(self, epoch: int, indices: np.ndarray) -> Batch:
            batch = super().batch(epoch, indices)
            return Batch(batch.inputs * (np.nan if epoch == 2 else 1), batch.target, batch.weight)

    spoilt = Spoilt(examples(7).inputs, examples(7).target)
    settings = TrainSettings(epochs=4, batch_size=7)
    with pytest.raises(TrainingDivergedError, match="epoch 2, step 0: the loss is nan"):
        train(settings, training=spoilt, checkpoint_folder=tmp_path, checkpoint_seconds=0)
    _, progress, tensors = read_checkpoint(tmp_path)
    assert (progress.epoch, progress.step) == (2, 0)
    assert all(value.isfinite().all() for value in tensors.values())


def test_a_gradient_that_is_no_number_never_reaches_the_weights() -> None:
    network = nn.Conv2d(1, 1, 1)
    before = network.weight.detach().clone()
    huge = ArrayExamples(np.full((1, 1, 2, 2), 1e30, np.float32), np.full((1, 1, 2, 2), -1e4, np.float32))
    with pytest.raises(TrainingDivergedError, match="gradient norm is inf"):
        fit(network, huge, weighted_l1, TrainSettings(epochs=1, batch_size=1))
    assert torch.equal(network.weight, before)


def test_a_trained_network_can_be_trained_further() -> None:
    """The first training leaves channels-last weights, which safetensors refused to name."""
    first = train(TrainSettings(epochs=1, batch_size=4))
    assert len(train(TrainSettings(epochs=2, batch_size=4), first.network).history) == 2


def test_time_running_out_is_an_error_that_can_be_resumed(tmp_path: Path) -> None:
    settings = TrainSettings(epochs=3, batch_size=3)
    with pytest.raises(TrainingTimeoutError, match=r"epoch 0 before step 0: max_seconds = 0 is over; the"):
        train(settings, checkpoint_folder=tmp_path, max_seconds=0)
    assert same_weights(train(settings, checkpoint_folder=tmp_path).network, train(settings).network)
    with pytest.raises(TrainingTimeoutError, match="no checkpoint_folder was given"):
        train(settings, max_seconds=0)


def test_a_finished_training_returns_at_once_with_the_same_result(tmp_path: Path) -> None:
    settings = TrainSettings(epochs=3, batch_size=3)
    first = train(settings, checkpoint_folder=tmp_path)
    again = train(settings, checkpoint_folder=tmp_path, max_seconds=0)
    assert again.history == first.history
    assert same_weights(first.network, again.network)


@pytest.mark.parametrize(
    ("change", "differing"),
    [
        ({"settings": TrainSettings(epochs=2, batch_size=4)}, "settings: checkpoint has .*batch_size.*: 7"),
        ({"training": examples(7, seed=8)}, "training examples"),
        ({"validation": None}, "validation examples"),
        ({"network": build_network(CONFIG, seed=1)}, "initial weights"),
        ({"network": build_network(CONFIG | {"base_channels": 4}, seed=0)}, "network: checkpoint has"),
    ],
)
def test_a_checkpoint_of_another_training_is_refused(tmp_path: Path, change: dict, differing: str) -> None:
    settings = TrainSettings(epochs=2, batch_size=7)
    train(settings, checkpoint_folder=tmp_path)
    with pytest.raises(CheckpointMismatchError, match=differing):
        train(**{"settings": settings, "checkpoint_folder": tmp_path} | change)


def test_a_loss_without_a_name_cannot_be_told_from_another() -> None:
    with pytest.raises(SettingError, match="a function of a module"):
        fit(
            nn.Conv2d(1, 1, 1),
            examples(2),
            lambda prediction, *_: prediction.sum(),
            TrainSettings(epochs=1, batch_size=1),
        )


KILLED_TRAINING = """
import json, os, signal, sys, time
from pathlib import Path
import numpy as np, torch
from torch import nn
from dlsia_core.networks import build_network
from dlsia_core.training import ArrayExamples, TrainSettings, fit, read_checkpoint, weighted_l1

folder = Path(sys.argv[1])
torch.set_num_threads(1)
values = np.random.default_rng(0).normal(size=(9, 1, 16, 16)).astype(np.float32)
config = dict(network="TUNet", in_channels=1, out_channels=1, depth=2, base_channels=4, normalization="batch")
settings = TrainSettings(epochs=20, batch_size=2, learning_rate=3e-3, milestones=(3, 15), gradient_clip=1.0)

def train(name, seconds):
    network = nn.Sequential(build_network(config, seed=0), nn.Dropout(0.1))
    result = fit(network, ArrayExamples(values), weighted_l1, settings, validation=ArrayExamples(values[:3] + 1),
                 checkpoint_folder=folder / name, checkpoint_seconds=seconds)
    records = [(r.training_loss, r.validation_loss) for r in result.history]
    state = {k: v.numpy().tobytes().hex() for k, v in result.network.state_dict().items()}
    (folder / f"{name}.json").write_text(json.dumps([records, result.best_epoch, state]))

def state_of_file():
    path = folder / "killed" / "checkpoint.safetensors"
    return path.stat().st_ino if path.exists() else None

positions = []
for kill in range(6):
    child = os.fork()  # no arithmetic happened here yet, so that no thread of torch is lost
    if child == 0:
        train("killed", seconds=0)
        os._exit(0)
    seen, written = state_of_file(), 0
    while written < 5 + kill:  # then somewhere inside the next step, or inside the next write
        if os.waitpid(child, os.WNOHANG)[0]:
            sys.exit(f"the child ended before kill {kill}")
        written, seen = written + (state_of_file() != seen), state_of_file()
        time.sleep(1e-4)
    time.sleep(1e-3 * kill)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    _, progress, _ = read_checkpoint(folder / "killed")
    positions.append((progress.epoch, progress.step))
train("killed", seconds=0)
train("undisturbed", seconds=1e9)
print(json.dumps(positions))
"""


def test_a_training_killed_many_times_ends_with_the_bits_of_an_undisturbed_one(tmp_path: Path) -> None:
    script = tmp_path / "train.py"
    script.write_text(KILLED_TRAINING)
    run = subprocess.run([sys.executable, script, tmp_path], capture_output=True, text=True, timeout=120, check=False)
    assert run.returncode == 0, run.stderr
    killed_at = [tuple(position) for position in json.loads(run.stdout)]
    assert len(set(killed_at)) == 6, "every kill must come after some progress"
    assert max(killed_at) < (20, 0), "every kill must come before the end"
    assert [path.name for path in (tmp_path / "killed").iterdir()] == ["checkpoint.safetensors"], "nothing left lying"
    assert (tmp_path / "killed.json").read_text() == (tmp_path / "undisturbed.json").read_text()


@given(count=st.integers(1, 40), batch_size=st.integers(1, 50), seed=st.integers(0, 5), epoch=st.integers(0, 5))
def test_an_epoch_takes_each_example_once(count: int, batch_size: int, seed: int, epoch: int) -> None:
    batches = shuffled_batches(count, batch_size, seed, epoch)
    assert sorted(np.concatenate(batches)) == list(range(count))
    assert {len(indices) for indices in batches[:-1]} <= {batch_size}


def test_losses_ignore_what_has_no_weight_and_survive_nothing() -> None:
    prediction = torch.tensor([1.0, 2.0, 3.0], requires_grad=True)
    target = torch.tensor([0.0, 4.0, float("nan")])
    weight = torch.tensor([1.0, 1.0, 0.0])
    assert weighted_l1(prediction, target, weight) == 1.5
    assert weighted_l2(prediction, target, weight) == 2.5
    for loss in (weighted_l1, weighted_l2):
        value = loss(prediction, target, torch.zeros(3))
        value.backward()
        assert value == 0
    assert not prediction.grad.any()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"epochs": 0}, "epochs is 0; it must be at least 1"),
        ({"learning_rate": -1.0}, "learning_rate is -1.0"),
        ({"milestones": (3, 2)}, "in rising order"),
        ({"decay": 0.0}, "decay of Steps is 0.0"),
        ({"patience": 0}, "patience is 0"),
        ({"precision": "16"}, "precision is '16'; it must be one of"),
    ],
)
def test_bad_settings_are_refused(settings: dict, message: str) -> None:
    with pytest.raises(SettingError, match=message):
        TrainSettings(**{"epochs": 1, "batch_size": 1} | settings)


def test_examples_that_do_not_fit_are_refused() -> None:
    with pytest.raises(ArrayError, match="2 inputs and 1 targets"):
        ArrayExamples(np.zeros((2, 1, 2, 2), np.float32), np.zeros((1, 1, 2, 2), np.float32))
