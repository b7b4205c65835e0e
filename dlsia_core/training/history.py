"""What happened so far in a training: one record per epoch, and the position inside the running one."""

from dataclasses import asdict, dataclass, field, replace
from typing import Any

from torch import Tensor


@dataclass(frozen=True)
class EpochRecord:
    """One finished epoch. Losses are weighted means over the whole epoch; `seconds` is wall time, kills included not.

    validation_loss: None where there are no validation examples.
    """

    epoch: int
    learning_rate: float
    training_loss: float
    validation_loss: float | None
    seconds: float

    @property
    def loss(self) -> float:
        """The loss that decides which epoch is best: validation where there is one, else training."""
        return self.training_loss if self.validation_loss is None else self.validation_loss


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

    @property
    def best_loss(self) -> float:
        return float("inf") if self.best_epoch is None else self.history[self.best_epoch].loss

    def out_of_patience(self, patience: int | None) -> bool:
        """True when the last `patience` epochs brought nothing better."""
        return patience is not None and self.best_epoch is not None and self.epoch - 1 - self.best_epoch >= patience

    def to_json(self) -> dict[str, Any]:
        """All but the weights."""
        return asdict(replace(self, best_weights={}))

    @classmethod
    def from_json(cls, facts: dict[str, Any], best_weights: dict[str, Tensor]) -> "Progress":
        history = [EpochRecord(**record) for record in facts["history"]]
        return cls(**facts | {"mean": WeightedMean(**facts["mean"]), "history": history, "best_weights": best_weights})
