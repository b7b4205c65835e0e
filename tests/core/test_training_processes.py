"""Several processes that train one network: the same result as one, and clear words where it would not be."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from lightning_fabric import Fabric
from torch import nn

from dlsia_core.errors import SettingError
from dlsia_core.losses import Dice
from dlsia_core.training import LabeledExamples, TrainSettings, fit, weighted_l1
from dlsia_core.training.processes import Processes

TRAINING = """
import json, sys
from pathlib import Path
import numpy as np, torch
from lightning_fabric import Fabric
from torch import nn
from dlsia_core.losses import CrossEntropy
from dlsia_core.training import CsvLog, LabeledExamples, TrainSettings, fit

folder, processes, seconds = Path(sys.argv[1]), int(sys.argv[2]), float(sys.argv[3])
torch.set_num_threads(1)
rng = np.random.default_rng(0)
labels = rng.choice([0, 1, 255], p=[0.6, 0.2, 0.2], size=(7, 6, 6)).astype(np.uint8)
inputs = rng.normal(size=(7, 1, 6, 6)).astype(np.float32) + (labels[:, None] == 1)
torch.manual_seed(0)
network = nn.Sequential(nn.Conv2d(1, 4, 3, padding=1), nn.GroupNorm(2, 4), nn.ReLU(), nn.Conv2d(4, 2, 1))
settings = TrainSettings(epochs=3, batch_size=3, learning_rate=0.01, gradient_clip=0.5, monitor="right",
                         monitor_mode="max")

class Right:
    def reset(self): self.right = self.total = 0
    def update(self, logits, target, weight):
        self.right += float(((logits.argmax(1) == target) * weight).sum())
        self.total += float(weight.sum())
    def compute(self): return {"right": self.right / self.total}

options = {"device": "cpu"}
if processes > 1:
    fabric = Fabric(accelerator="cpu", devices=processes, strategy="ddp")
    fabric.launch()
    options = {"fabric": fabric}
result = fit(network, LabeledExamples(inputs, labels), CrossEntropy(), settings, metrics=[Right()],
             validation=LabeledExamples(inputs[:3], labels[:3]), checkpoint_folder=folder / "checkpoint",
             checkpoint_seconds=0, hooks=[CsvLog(folder / "log.csv")], max_seconds=seconds, **options)
if processes == 1 or fabric.global_rank == 0:
    records = [[r.training_loss, r.validation_loss, r.metrics["right"]] for r in result.history]
    weights = [v.tolist() for v in result.last_weights.values()]
    (folder / "result.json").write_text(json.dumps([records, weights, result.best_epoch]))
"""


def run_training(folder: Path, processes: int, seconds: float = 100.0) -> subprocess.CompletedProcess:
    folder.mkdir(exist_ok=True)
    script = folder / "train.py"
    script.write_text(TRAINING)
    command = [sys.executable, "-W", "ignore", script, folder, str(processes), str(seconds)]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)


@pytest.mark.slow
def test_two_processes_give_the_result_of_one_to_rounding(tmp_path: Path) -> None:
    """Batches of 3, 3 and 1 example, so that shares are unequal, and once nothing is left for the second process."""
    for processes in (1, 2):
        done = run_training(tmp_path / str(processes), processes)
        assert done.returncode == 0, done.stderr
    one, two = (json.loads((tmp_path / str(n) / "result.json").read_text()) for n in (1, 2))
    assert np.allclose(one[0], two[0], rtol=1e-5)
    for ours, theirs in zip(one[1], two[1], strict=True):
        assert np.allclose(ours, theirs, rtol=1e-4, atol=1e-6)
    assert one[2] == two[2]
    assert len((tmp_path / "2" / "log.csv").read_text().splitlines()) == 4


@pytest.mark.slow
def test_two_processes_stop_together_and_resume(tmp_path: Path) -> None:
    stopped = run_training(tmp_path / "stopped", 2, seconds=0)
    assert "TrainingTimeoutError" in stopped.stderr
    for name in ("stopped", "undisturbed"):
        done = run_training(tmp_path / name, 2)
        assert done.returncode == 0, done.stderr
    results = [(tmp_path / name / "result.json").read_text() for name in ("stopped", "undisturbed")]
    assert results[0] == results[1]


class TwoProcesses(Processes):
    """The second of two processes, as far as shares go."""

    def __init__(self, rank: int = 1) -> None:
        self.size, self.rank = 2, rank


def test_shares_are_all_of_a_batch_once() -> None:
    for count in range(1, 8):
        shares = [TwoProcesses(rank).share(np.arange(count)) for rank in (0, 1)]
        assert np.concatenate([own for own, is_own in shares if is_own]).tolist() == list(range(count))
        assert all(len(own) for own, _ in shares), "a network cannot be called with nothing"


def test_what_several_processes_would_get_wrong_is_refused() -> None:
    with pytest.raises(SettingError, match="layer 0 is a batch normalization"):
        TwoProcesses().require_same_result(nn.Sequential(nn.BatchNorm2d(3)), weighted_l1)
    with pytest.raises(SettingError, match=r"Dice\(.*is no mean over pixels"):
        TwoProcesses().require_same_result(nn.Conv2d(1, 1, 1), Dice())
    TwoProcesses().require_same_result(nn.Sequential(nn.SyncBatchNorm(3)), weighted_l1)


def test_a_given_fabric_must_agree_with_the_settings() -> None:
    examples = LabeledExamples(np.zeros((1, 1, 2, 2), np.float32), np.zeros((1, 2, 2), np.uint8))
    fabric = Fabric(accelerator="cpu", devices=1, precision="32-true")
    for settings, options, message in (
        (TrainSettings(1, 1), {"device": "cpu"}, "give one of them"),
        (TrainSettings(1, 1, precision="bf16-mixed"), {}, "precision 32-true, the settings bf16-mixed"),
    ):
        with pytest.raises(SettingError, match=message):
            fit(nn.Conv2d(1, 1, 1), examples, weighted_l1, settings, fabric=fabric, **options)
    with pytest.raises(SettingError, match="needs a GPU"):
        fit(nn.Conv2d(1, 1, 1), examples, weighted_l1, TrainSettings(1, 1, precision="16-mixed"), device="cpu")
