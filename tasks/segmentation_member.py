"""Train one network of a segmenting ensemble, or find it trained; a killed one goes on where it was."""

import json
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from dlsia_core.networks import build_network, count_parameters, network_config, save_network
from dlsia_core.networks.storage import write_atomically
from dlsia_core.training import CsvLog, FitResult, TrainingDivergedError, fit
from tasks.devices import device_slot
from tasks.errors import SettingsError
from tasks.learning import curve_of, finished_model, resumable
from tasks.logs import logger_of
from tasks.models import ModelRef
from tasks.segmentation_learning import Learning
from tasks.settings.base import digest
from tasks.stage import stage_task
from tasks.training_progress import TrainingProgress

VERSION = 1
CHECKPOINT = "checkpoint"


@dataclass(frozen=True)
class PlannedNetwork:
    """One network to train: its place among `count`, and its configuration."""

    number: int
    count: int
    config: dict[str, Any]

    @property
    def name(self) -> str:
        return f"member {self.number + 1} of {self.count}" if self.count > 1 else str(self.config["network"])


def work_folder(folder: Path, learning: Learning) -> Path:
    """Where a training keeps its state; the same training has the same folder."""
    return folder / f"training-{digest([VERSION, learning.plan.identity, learning.digest])[:12]}"


def require_room(folder: Path, networks: list[PlannedNetwork]) -> None:
    """Raise `SettingsError` where the disk cannot hold checkpoints and models."""
    weights = [count_parameters(build_network(network.config, seed=0)) for network in networks]
    # Weights, the best ones, two moments of Adam, and a second copy while a checkpoint is replaced; then the models.
    needed = 4 * (2 * 4 * max(weights) + 3 * sum(weights)) + 2**25
    there = next(parent for parent in (folder, *folder.parents) if parent.exists())
    if (free := shutil.disk_usage(there).free) < needed:
        raise SettingsError(
            f"the training needs {needed / 2**20:.0f} MiB in {folder}, and {free / 2**20:.0f} MiB are left on that "
            "disk; make room, or give another output"
        )


@stage_task("train-segmenter")
def train_network(learning: Learning, network: PlannedNetwork, work: Path) -> ModelRef:
    """Train one network in a folder of its own inside `work`, or return the one that is there.

    Raises `TrainingError` (the last good checkpoint stays).
    """
    folder = work / f"member-{network.number}"
    if found := finished_model(folder):
        logger_of(__name__).info("%s: trained before", network.name)
        return found
    with device_slot(learning.plan.given.device) as device:
        fitted = resumable(folder / CHECKPOINT, lambda state: _fit(learning, network, state, device))
    device_name = torch.cuda.get_device_name(device) if device.type == "cuda" else "CPU"
    effort = {"seconds": round(sum(record.seconds for record in fitted.history), 1), "device": device_name}
    write_atomically(folder / "effort.json", json.dumps(effort, sort_keys=True).encode())
    curve = curve_of(network.name, fitted, "cross entropy")
    facts = {"curve": curve, "config": network_config(fitted.network), "stopped": fitted.stopped}
    saved = save_network(folder, fitted.network, facts)
    shutil.rmtree(folder / CHECKPOINT, ignore_errors=True)
    return ModelRef(str(folder), saved)


def _fit(learning: Learning, network: PlannedNetwork, checkpoint: Path, device: torch.device) -> FitResult:
    plan = learning.plan
    try:
        return fit(
            build_network(network.config, seed=plan.given.seed + network.number),
            learning.training,
            learning.loss,
            plan.fit_settings(len(learning.training), network.number),
            validation=learning.validation,
            checkpoint_folder=checkpoint,
            device=device,
            hooks=(CsvLog(checkpoint.parent / "training.csv"), TrainingProgress(network.name)),
            checkpoint_seconds=plan.given.checkpoint_s,
            max_seconds=60 * plan.given.max_minutes,
        )
    except TrainingDivergedError as error:
        raise TrainingDivergedError(
            f"{error}. Run again with training.learning_rate below {plan.values['learning_rate']:g}"
        ) from error
