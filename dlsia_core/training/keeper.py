"""When a training writes its checkpoint, when its time is over, and what makes two trainings the same."""

import hashlib
import json
import time
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path

from safetensors.torch import save
from torch import nn
from torch.optim import Optimizer

from dlsia_core.errors import SettingError
from dlsia_core.training.checkpoint import restore, write_checkpoint
from dlsia_core.training.errors import TrainingTimeoutError
from dlsia_core.training.examples import Examples
from dlsia_core.training.history import Progress
from dlsia_core.training.losses import Loss
from dlsia_core.training.settings import TrainSettings


class Keeper:
    """Writes the state of a training into `folder` (None: nowhere) every `seconds`, and watches `max_seconds`."""

    def __init__(
        self, folder: str | Path | None, seconds: float, max_seconds: float | None, identity: Mapping[str, str]
    ) -> None:
        self.folder = None if folder is None else Path(folder)
        self.seconds, self.max_seconds, self.identity = seconds, max_seconds, identity
        self.began = self.written = time.monotonic()

    def restore(self, network: nn.Module, optimizer: Optimizer) -> Progress:
        """The state of the checkpoint; a fresh one where there is none."""
        if self.folder is None:
            return Progress()
        return restore(self.folder, self.identity, network, optimizer)

    def save(self, network: nn.Module, optimizer: Optimizer, progress: Progress) -> None:
        """Write now."""
        if self.folder is not None:
            write_checkpoint(self.folder, self.identity, network, optimizer, progress)
            self.written = time.monotonic()

    def save_if_due(self, network: nn.Module, optimizer: Optimizer, progress: Progress) -> None:
        """Write if the last checkpoint is old enough."""
        if time.monotonic() - self.written >= self.seconds:
            self.save(network, optimizer, progress)

    def require_time(self, network: nn.Module, optimizer: Optimizer, progress: Progress) -> None:
        """Write and raise TrainingTimeoutError if the time is over."""
        if self.max_seconds is None or time.monotonic() - self.began < self.max_seconds:
            return
        self.save(network, optimizer, progress)
        kept = "no checkpoint_folder was given" if self.folder is None else f"the state is kept in {self.folder}"
        raise TrainingTimeoutError(
            f"stopped in epoch {progress.epoch} before step {progress.step}: max_seconds = {self.max_seconds:g} is "
            f"over; {kept}. The same call with more time resumes it; fewer epochs or a smaller network need less"
        )


def identity_of(
    network: nn.Module, training: Examples, validation: Examples | None, loss: Loss, settings: TrainSettings
) -> dict[str, str]:
    """What a checkpoint must agree on with the training that resumes it; compared key by key."""
    weights = {name: value.detach().cpu().clone() for name, value in network.state_dict().items()}
    return {
        "settings": json.dumps(asdict(settings), sort_keys=True),
        "loss": _name(loss),
        "network": json.dumps(network.__dict__.get("config", type(network).__name__), sort_keys=True),
        "initial weights": hashlib.sha256(save(weights)).hexdigest(),
        "training examples": training.digest,
        "validation examples": "none" if validation is None else validation.digest,
    }


def _name(loss: Loss) -> str:
    name = f"{loss.__module__}.{loss.__qualname__}" if hasattr(loss, "__qualname__") else repr(loss)
    if "<" in name:
        raise SettingError(
            f"loss is {name}, which does not tell one loss from another; give a function of a module, or an object "
            "such as a frozen dataclass whose repr shows its settings"
        )
    return name
