"""The median stopping rule: which of several trainings on the same data is not worth its remaining epochs."""

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median

from dlsia_core.errors import SettingError


@dataclass(frozen=True)
class Course:
    """Losses of a training by epoch; ended: it went to its own end and was not stopped by a rule."""

    losses: Sequence[float]
    ended: bool = True


@dataclass(frozen=True)
class Stop:
    """What a rule found: after `epoch` epochs the best loss was `loss`, and the others' median was `median`."""

    epoch: int
    loss: float
    median: float
    n_others: int

    @property
    def reason(self) -> str:
        """In words.

        >>> Stop(6, 0.3, 0.2, 4).reason
        'after 6 epochs its best validation loss was 0.3, 1.50 times the median 0.2 of 4 earlier members'
        """
        ratio = f"{self.loss / self.median:.2f} times the median" if self.median else "above the median"
        return (
            f"after {self.epoch} epochs its best validation loss was {self.loss:.4g}, {ratio} {self.median:.4g} of "
            f"{self.n_others} earlier members"
        )


@dataclass(frozen=True)
class MedianRule:
    """Stop a training whose best loss is above `margin` times the median of the others' best losses at that time.

    epochs: after which epochs to look; none = never stop. least: others that are needed for a median. Source: Golovin
    et al. 2017 (Vizier), section 3.2.3, with best losses instead of running averages, and a margin.
    """

    epochs: tuple[int, ...] = ()
    margin: float = 1.1
    least: int = 3

    def __post_init__(self) -> None:
        if any(epoch < 1 for epoch in self.epochs) or self.margin < 1 or self.least < 1:
            raise SettingError(
                f"epochs are {self.epochs}, margin {self.margin}, least {self.least}; wanted at least 1 each"
            )

    def judge(self, losses: Sequence[float], others: Sequence[Course]) -> Stop | None:
        """The first look after which to stop, or None; it depends on the epochs before it alone.

        Others count where they came as far; one that ended earlier counts with its best.

        >>> others = [Course([3.0, 1.0]), Course([3.0, 2.0]), Course([4.0, 3.0])]
        >>> MedianRule((2,), margin=1.5).judge([9.0, 3.1, 1.0], others).epoch
        2
        >>> MedianRule((2,), margin=1.5).judge([9.0, 3.0, 1.0], others) is None
        True
        """
        for epoch in sorted(self.epochs):
            if epoch > len(losses):
                break
            bests = [min(o.losses[:epoch]) for o in others if o.losses and (o.ended or len(o.losses) >= epoch)]
            best = min(losses[:epoch])
            if len(bests) >= self.least and best > self.margin * median(bests):
                return Stop(epoch, best, median(bests), len(bests))
        return None
