"""Everything that decides the result of a training, apart from network, data and loss."""

from dataclasses import dataclass

from dlsia_core.errors import SettingError

PRECISIONS = ("32-true", "bf16-mixed")


@dataclass(frozen=True)
class TrainSettings:
    """Settings of `fit`; Adam is the optimizer (Chavez et al. 2022, appendix A).

    epochs: passes over the training examples.
    batch_size: examples per step; the last step of an epoch takes what is left.
    learning_rate: Adam's, before the first milestone.
    milestones: epochs (from 0, rising) at whose start the learning rate is multiplied by `decay`; () = constant.
    decay: factor in (0, 1].
    gradient_clip: largest norm of all gradients together; None = no limit.
    patience: stop after this many epochs without a better loss; None = never early.
    seed: of the order of the examples and of a network's own randomness (dropout).
    precision: "32-true", or "bf16-mixed" where the device is fast at it.

    >>> settings = TrainSettings(epochs=300, batch_size=50, milestones=(100, 200))
    >>> [round(settings.learning_rate_at(epoch), 6) for epoch in (0, 100, 299)]
    [0.001, 0.0001, 1e-05]
    """

    epochs: int
    batch_size: int
    learning_rate: float = 1e-3
    milestones: tuple[int, ...] = ()
    decay: float = 0.1
    gradient_clip: float | None = None
    patience: int | None = None
    seed: int = 0
    precision: str = "32-true"

    def __post_init__(self) -> None:
        rising = all(a < b for a, b in zip((0, *self.milestones), self.milestones, strict=False))
        checks = (
            ("epochs", self.epochs >= 1, "at least 1"),
            ("batch_size", self.batch_size >= 1, "at least 1"),
            ("learning_rate", self.learning_rate > 0, "greater than 0"),
            ("milestones", rising, "epochs greater than 0 in rising order"),
            ("decay", 0 < self.decay <= 1, "greater than 0 and at most 1"),
            ("gradient_clip", self.gradient_clip is None or self.gradient_clip > 0, "greater than 0, or None"),
            ("patience", self.patience is None or self.patience >= 1, "at least 1, or None"),
            ("seed", self.seed >= 0, "at least 0"),
            ("precision", self.precision in PRECISIONS, f"one of {PRECISIONS}"),
        )
        for name, allowed, wanted in checks:
            if not allowed:
                raise SettingError(f"{name} is {getattr(self, name)!r}; it must be {wanted}")

    def learning_rate_at(self, epoch: int) -> float:
        """The learning rate of an epoch: a function of its number alone, so that a resume needs no scheduler state."""
        return float(self.learning_rate * self.decay ** sum(epoch >= milestone for milestone in self.milestones))
