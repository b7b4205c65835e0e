"""Learning rates as functions of where a training stands: nothing to store, so that a resume cannot get them wrong."""

import math
from dataclasses import dataclass, field
from typing import Protocol

from dlsia_core.errors import SettingError


@dataclass(frozen=True)
class Moment:
    """epoch: finished epochs, with the finished part of the running one; epochs: of the whole training.

    costs: the monitored number of each finished epoch, with the sign with which less is better.
    """

    epoch: float
    epochs: int
    costs: tuple[float, ...] = ()


class Schedule(Protocol):
    """What the learning rate is multiplied by. Its repr must tell its settings: a checkpoint is known by it."""

    def factor(self, moment: Moment) -> float:
        """A pure function, greater than or equal to 0."""
        ...


@dataclass(frozen=True)
class Steps:
    """Multiply by `decay` at each milestone (epochs from the start, parts of one allowed); () = constant.

    >>> [Steps((100, 200), 0.1).factor(Moment(epoch, 300)) for epoch in (0, 99.9, 100, 250)]
    [1.0, 1.0, 0.1, 0.010000000000000002]
    """

    milestones: tuple[float, ...] = ()
    decay: float = 0.1

    def __post_init__(self) -> None:
        rising = all(a < b for a, b in zip((0, *self.milestones), self.milestones, strict=False))
        _require(self, "milestones", rising, "numbers of epochs greater than 0, in rising order")
        _require(self, "decay", 0 < self.decay <= 1, "greater than 0 and at most 1")

    def factor(self, moment: Moment) -> float:
        return float(self.decay ** sum(moment.epoch >= milestone for milestone in self.milestones))


@dataclass(frozen=True)
class Exponential:
    """Multiply by `decay` in every epoch, a little at each step.

    >>> Exponential(decay=0.5).factor(Moment(3, 10))
    0.125
    """

    decay: float

    def __post_init__(self) -> None:
        _require(self, "decay", 0 < self.decay <= 1, "greater than 0 and at most 1")

    def factor(self, moment: Moment) -> float:
        return float(self.decay**moment.epoch)


@dataclass(frozen=True)
class Cosine:
    """Half a cosine from 1 to `final` (Loshchilov & Hutter 2017, eq. 5, without restarts).

    >>> [round(Cosine().factor(Moment(epoch, 10)), 3) for epoch in (0, 5, 10)]
    [1.0, 0.5, 0.0]
    """

    final: float = 0.0

    def __post_init__(self) -> None:
        _require(self, "final", 0 <= self.final <= 1, "0 to 1")

    def factor(self, moment: Moment) -> float:
        return _cosine(1.0, self.final, moment.epoch / moment.epochs)


@dataclass(frozen=True)
class OneCycle:
    """Half a cosine from `start` up to 1 in the first `rise` of the training, another down to `final` (Smith 2018).

    The learning rate of the settings is the peak.

    >>> [round(OneCycle(rise=0.5, start=0.1).factor(Moment(epoch, 10)), 3) for epoch in (0, 5, 10)]
    [0.1, 1.0, 0.0]
    """

    rise: float = 0.3
    start: float = 0.04
    final: float = 0.0

    def __post_init__(self) -> None:
        _require(self, "rise", 0 < self.rise < 1, "greater than 0 and less than 1")
        _require(self, "start", 0 < self.start <= 1, "greater than 0 and at most 1")
        _require(self, "final", 0 <= self.final <= 1, "0 to 1")

    def factor(self, moment: Moment) -> float:
        share = moment.epoch / moment.epochs
        if share < self.rise:
            return _cosine(self.start, 1.0, share / self.rise)
        return _cosine(1.0, self.final, (share - self.rise) / (1 - self.rise))


@dataclass(frozen=True)
class WarmUp:
    """A straight line from `start` to 1 over the first `epochs`, times what `then` says.

    >>> [round(WarmUp(2, start=0.5).factor(Moment(epoch, 10)), 3) for epoch in (0, 1, 2, 9)]
    [0.5, 0.75, 1.0, 1.0]
    """

    epochs: float
    then: Schedule = field(default_factory=Steps)
    start: float = 0.01

    def __post_init__(self) -> None:
        _require(self, "epochs", 0 < self.epochs < math.inf, "greater than 0")
        _require(self, "start", 0 < self.start <= 1, "greater than 0 and at most 1")

    def factor(self, moment: Moment) -> float:
        share = min(moment.epoch / self.epochs, 1.0)
        return (self.start + (1 - self.start) * share) * self.then.factor(moment)


@dataclass(frozen=True)
class Plateau:
    """Multiply by `decay` whenever `patience` epochs in a row brought nothing better by more than `min_delta`.

    Played through again from the costs of all epochs each time, so that a resume needs nothing but the history.

    >>> costs = (3.0, 2.0, 2.0, 2.5, 1.0)
    >>> [Plateau(patience=2, decay=0.1).factor(Moment(n, 10, costs[:n])) for n in range(6)]
    [1.0, 1.0, 1.0, 1.0, 0.1, 0.1]
    """

    patience: int
    decay: float = 0.1
    min_delta: float = 0.0

    def __post_init__(self) -> None:
        _require(self, "patience", self.patience >= 1, "at least 1")
        _require(self, "decay", 0 < self.decay <= 1, "greater than 0 and at most 1")
        _require(self, "min_delta", 0 <= self.min_delta < math.inf, "at least 0")

    def factor(self, moment: Moment) -> float:
        best, waited, falls = math.inf, 0, 0
        for cost in moment.costs:
            better = cost < best - self.min_delta
            best, waited = (cost, 0) if better else (best, waited + 1)
            if waited == self.patience:
                waited, falls = 0, falls + 1
        return float(self.decay**falls)


def _cosine(start: float, end: float, share: float) -> float:
    return end + (start - end) * (1 + math.cos(math.pi * min(share, 1.0))) / 2


def _require(schedule: object, name: str, allowed: bool, wanted: str) -> None:
    if not allowed:
        raise SettingError(f"{name} of {type(schedule).__name__} is {getattr(schedule, name)!r}; it must be {wanted}")
