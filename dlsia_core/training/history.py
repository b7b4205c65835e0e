"""What happened so far in a training: one record per epoch, and the position inside the running one."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from torch import Tensor

from dlsia_core.errors import SettingError


@dataclass(frozen=True)
class EpochRecord:
    """One finished epoch. Losses are weighted means over the whole epoch; `seconds` is wall time, kills included not.

    learning_rate: at the start of the epoch.
    validation_loss: None where there are no validation examples.
    metrics: of the validation set, by name; NaN where a metric is not defined.
    """

    epoch: int
    learning_rate: float
    training_loss: float
    validation_loss: float | None
    seconds: float
    metrics: Mapping[str, float] = field(default_factory=dict)

    @property
    def loss(self) -> float:
        """Validation loss where there is one, else training loss."""
        return self.training_loss if self.validation_loss is None else self.validation_loss


@dataclass(frozen=True)
class Watch:
    """What decides which epoch is best and when to stop: `monitor` ("loss" or a metric) and `mode` ("min" or "max").

    >>> records = [EpochRecord(n, 0.1, loss, None, 1.0) for n, loss in enumerate((3.0, 2.0, 1.99, 2.5))]
    >>> watch = Watch("loss", "min", min_delta=0.1, patience=2)
    >>> [watch.out_of_patience(records[:n]) for n in range(5)]  # 1.99 is the best, but not better by enough
    [False, False, False, False, True]
    """

    monitor: str
    mode: str
    min_delta: float
    patience: int | None

    def cost(self, record: EpochRecord) -> float:
        """The monitored number, with the sign with which less is better; infinite where it is not defined."""
        if self.monitor != "loss" and self.monitor not in record.metrics:
            known = ", ".join(["loss", *record.metrics])
            raise SettingError(f"monitor is {self.monitor!r}; the validation of epoch {record.epoch} has {known}")
        value = record.loss if self.monitor == "loss" else record.metrics[self.monitor]
        return math.inf if math.isnan(value) else value if self.mode == "min" else -value

    def costs(self, history: Sequence[EpochRecord]) -> tuple[float, ...]:
        return tuple(map(self.cost, history))

    def out_of_patience(self, history: Sequence[EpochRecord]) -> bool:
        """True when the last `patience` epochs brought nothing better by more than `min_delta`."""
        reference, waited = math.inf, 0
        for cost in self.costs(history):
            better = cost < reference - self.min_delta
            reference, waited = (cost, 0) if better else (reference, waited + 1)
        return self.patience is not None and waited >= self.patience


@dataclass
class WeightedMean:
    """Mean over unequal batches; 0 while nothing was added."""

    total: float = 0.0
    weight: float = 0.0

    def add(self, mean: float, weight: float) -> None:
        self.total += mean * weight
        self.weight += weight

    @property
    def value(self) -> float:
        return self.total / self.weight if self.weight else 0.0


@dataclass
class Progress:
    """Everything a resume needs beside weights and optimizer state: where to go on, and the best weights by value."""

    epoch: int = 0
    step: int = 0
    seconds: float = 0.0
    mean: WeightedMean = field(default_factory=WeightedMean)
    history: list[EpochRecord] = field(default_factory=list)
    best_epoch: int | None = None
    best_weights: dict[str, Tensor] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """All but the weights; metrics as text where they are no numbers, which JSON does not know."""
        facts = asdict(replace(self, best_weights={}))
        for record in facts["history"]:
            record["metrics"] = {k: v if math.isfinite(v) else str(v) for k, v in record["metrics"].items()}
        return facts

    @classmethod
    def from_json(cls, facts: dict[str, Any], best_weights: dict[str, Tensor]) -> "Progress":
        history = [
            EpochRecord(**record | {"metrics": {k: float(v) for k, v in record.get("metrics", {}).items()}})
            for record in facts["history"]
        ]
        return cls(**facts | {"mean": WeightedMean(**facts["mean"]), "history": history, "best_weights": best_weights})
