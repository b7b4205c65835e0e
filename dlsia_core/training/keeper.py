"""When a training writes its checkpoint, when its time is over, and what makes two trainings the same."""

import hashlib
import json
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from safetensors.torch import save
from torch import nn

from dlsia_core.losses import Loss, loss_name
from dlsia_core.training.checkpoint import Live, restore, write_checkpoint
from dlsia_core.training.errors import TrainingTimeoutError
from dlsia_core.training.examples import Examples
from dlsia_core.training.history import Progress
from dlsia_core.training.metrics import Metric
from dlsia_core.training.processes import Processes
from dlsia_core.training.settings import TrainSettings


class Keeper:
    """Writes the state of a training into `folder` (None: nowhere) every `seconds`, and watches `max_seconds`.

    Of several processes the first one writes; all read.
    """

    def __init__(
        self,
        folder: str | Path | None,
        seconds: float,
        max_seconds: float | None,
        identity: Mapping[str, str],
        processes: Processes,
    ) -> None:
        self.folder = None if folder is None else Path(folder)
        self.seconds, self.max_seconds, self.identity, self.processes = seconds, max_seconds, identity, processes
        self.began = self.written = time.monotonic()

    def restore(self, live: Live) -> Progress:
        """The state of the checkpoint; a fresh one where there is none."""
        if self.folder is None:
            return Progress()
        progress = restore(self.folder, self.identity, live)
        self.processes.fabric.barrier()  # nobody may write before all have read
        return progress

    def save(self, live: Live, progress: Progress) -> None:
        """Write now."""
        if self.folder is not None and self.processes.rank == 0:
            write_checkpoint(self.folder, self.identity, live, progress)
            self.written = time.monotonic()

    def save_if_due(self, live: Live, progress: Progress) -> None:
        """Write if the last checkpoint is old enough."""
        if time.monotonic() - self.written >= self.seconds:
            self.save(live, progress)

    def require_time(self, live: Live, progress: Progress) -> None:
        """Write and raise TrainingTimeoutError if the time is over."""
        if self.max_seconds is None or self.processes.first(time.monotonic() - self.began) < self.max_seconds:
            return
        self.save(live, progress)
        kept = "no checkpoint_folder was given" if self.folder is None else f"the state is kept in {self.folder}"
        raise TrainingTimeoutError(
            f"stopped in epoch {progress.epoch} before step {progress.step}: max_seconds = {self.max_seconds:g} is "
            f"over; {kept}. The same call with more time resumes it; fewer epochs or a smaller network need less"
        )


def identity_of(
    network: nn.Module,
    training: Examples,
    validation: Examples | None,
    loss: Loss,
    settings: TrainSettings,
    metrics: Sequence[Metric] = (),
) -> dict[str, str]:
    """What a checkpoint must agree on with the training that resumes it; compared key by key."""
    # Contiguous, because a network that was trained before has channels-last weights, which safetensors refuses.
    weights = {name: value.detach().cpu().clone().contiguous() for name, value in network.state_dict().items()}
    return {
        "settings": settings.identity,
        "loss": loss_name(loss),
        "metrics": ", ".join(map(_metric_name, metrics)) or "none",
        "network": json.dumps(network.__dict__.get("config", type(network).__name__), sort_keys=True),
        "initial weights": hashlib.sha256(save(weights)).hexdigest(),
        "training examples": training.digest,
        "validation examples": "none" if validation is None else validation.digest,
    }


def _metric_name(metric: Metric) -> str:
    """Its repr where that tells its settings; else its class."""
    kind = type(metric)
    return f"{kind.__module__}.{kind.__qualname__}" if kind.__repr__ is object.__repr__ else repr(metric)
