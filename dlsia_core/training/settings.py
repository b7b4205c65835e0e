"""Everything that decides the result of a training, apart from network, data and loss."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import torch
from torch import nn

from dlsia_core.errors import SettingError
from dlsia_core.training.history import EpochRecord, Watch
from dlsia_core.training.optimizers import build_optimizer
from dlsia_core.training.schedules import Moment, Schedule, Steps

PRECISIONS = ("32-true", "bf16-mixed", "16-mixed")
MODES = ("min", "max")


@dataclass(frozen=True)
class TrainSettings:
    """Settings of `fit`; the defaults are those of Chavez et al. 2022, appendix A, at a constant learning rate.

    epochs: passes over the training examples.
    batch_size: examples per step, of all processes together; the last step of an epoch takes what is left.
    learning_rate: what the schedule multiplies.
    milestones, decay: epochs from the start (rising; 2.5 is amid the third) at which the learning rate is multiplied by
        `decay`, in (0, 1]; () = constant. In short for schedule = Steps(milestones, decay), and not to be given
        together with another one.
    gradient_clip: largest norm of all gradients together; None = no limit.
    patience: stop after this many epochs without anything better; None = never early.
    seed: of the order of the examples and of a network's own randomness (dropout).
    precision: "32-true", "bf16-mixed" where the device is fast at it, or, on a GPU only, "16-mixed".
    optimizer, optimizer_settings: a class of torch.optim and its keyword arguments, see `build_optimizer`.
    schedule: see `dlsia_core.training.schedules`; None = the milestones.
    monitor, monitor_mode: what decides which epoch is best: "loss" or the name of a metric; "min" or "max" is best.
    averaging: share of a running average of the weights that each step keeps: 0.99 averages over about the last 100
        steps. The average is what is validated, kept if best, and returned; 0 = the weights themselves (Polyak &
        Juditsky 1992, doi:10.1137/0330046).
    min_delta: how much better counts as better for `patience`; the best epoch is the best by however little.

    >>> settings = TrainSettings(epochs=300, batch_size=50, milestones=(100, 200))
    >>> [round(settings.learning_rate_at(epoch), 6) for epoch in (0, 100, 299)]
    [0.001, 0.0001, 1e-05]
    """

    epochs: int
    batch_size: int
    learning_rate: float = 1e-3
    milestones: tuple[float, ...] = ()
    decay: float = 0.1
    gradient_clip: float | None = None
    patience: int | None = None
    seed: int = 0
    precision: str = "32-true"
    optimizer: str = "Adam"
    optimizer_settings: Mapping[str, Any] = field(default_factory=dict, hash=False)
    schedule: Schedule | None = None
    monitor: str = "loss"
    monitor_mode: str = "min"
    min_delta: float = 0.0
    averaging: float = 0.0

    def __post_init__(self) -> None:
        steps = Steps(self.milestones, self.decay)
        checks = (
            ("epochs", self.epochs >= 1, "at least 1"),
            ("batch_size", self.batch_size >= 1, "at least 1"),
            ("learning_rate", 0 < self.learning_rate < float("inf"), "greater than 0"),
            ("gradient_clip", self.gradient_clip is None or self.gradient_clip > 0, "greater than 0, or None"),
            ("patience", self.patience is None or self.patience >= 1, "at least 1, or None"),
            ("seed", self.seed >= 0, "at least 0"),
            ("precision", self.precision in PRECISIONS, f"one of {PRECISIONS}"),
            ("schedule", self.schedule is None or steps == Steps(), "None where milestones or decay are given"),
            ("schedule", "<" not in repr(self.schedule), "an object whose repr tells its settings"),
            ("monitor_mode", self.monitor_mode in MODES, f"one of {MODES}"),
            ("averaging", 0 <= self.averaging < 1, "at least 0 and less than 1"),
            ("min_delta", 0 <= self.min_delta < float("inf"), "at least 0"),
        )
        for name, allowed, wanted in checks:
            if not allowed:
                raise SettingError(f"{name} is {getattr(self, name)!r}; it must be {wanted}")
        if self.monitor == "loss" and self.monitor_mode != "min":
            raise SettingError("monitor_mode is 'max' for monitor = 'loss', so that the worst epoch would be kept")
        build_optimizer(self.optimizer, self.optimizer_settings, self.learning_rate, [nn.Parameter(torch.zeros(1))])

    @classmethod
    def paper_tunet(cls, batch_size: int, **changes: Any) -> "TrainSettings":
        """300 epochs of Adam, learning rate 1e-3, 1e-4 from epoch 100, 1e-5 from 200 (Chavez et al. 2022, appendix A).

        The paper's batches: 180, 100 and 50 tiles for 16, 32 and 64 base channels.
        """
        preset: dict[str, Any] = {"epochs": 300, "milestones": (100, 200)}
        return cls(batch_size=batch_size, **preset | changes)

    @classmethod
    def paper_msdnet(cls, batch_size: int, num_layers: int = 200, **changes: Any) -> "TrainSettings":
        """As `paper_tunet`; from 200 layers on 180 epochs, with falls at 60 and 120 (Chavez et al. 2022, appendix A).

        The paper's batches: 30 tiles for 50 layers, 7 for 100, 6 to 7 for 200.
        """
        if num_layers < 200:
            return cls.paper_tunet(batch_size, **changes)
        return cls.paper_tunet(batch_size, **{"epochs": 180, "milestones": (60, 120)} | changes)

    def learning_rate_at(self, epoch: float, history: Sequence[EpochRecord] = ()) -> float:
        """The learning rate `epoch` epochs after the start, parts of one included; `history` is for Plateau."""
        schedule = self.schedule or Steps(self.milestones, self.decay)
        return float(self.learning_rate * schedule.factor(Moment(epoch, self.epochs, self.watch.costs(history))))

    @property
    def watch(self) -> Watch:
        return Watch(self.monitor, self.monitor_mode, self.min_delta, self.patience)

    @property
    def identity(self) -> str:
        """All settings as JSON: what a checkpoint must agree with."""
        return json.dumps({**asdict(self), "schedule": repr(self.schedule)}, sort_keys=True)
