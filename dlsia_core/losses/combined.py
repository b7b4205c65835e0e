"""Losses made of others."""

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from dlsia_core.errors import SettingError
from dlsia_core.losses.contract import Loss, loss_name, sees_whole_batch
from dlsia_core.losses.labels import IGNORE_INDEX
from dlsia_core.losses.overlap import Dice
from dlsia_core.losses.pixelwise import CrossEntropy


@dataclass(frozen=True, repr=False)
class WeightedSum:
    """factors[0] * losses[0] + factors[1] * losses[1] + …

    Raises SettingError where the numbers of losses and factors differ, or a factor is below 0.

    >>> from dlsia_core.losses import TotalVariation, weighted_l1
    >>> WeightedSum((weighted_l1, TotalVariation()), (1.0, 0.1))
    WeightedSum(1.0 * dlsia_core.losses.regression.weighted_l1 + 0.1 * TotalVariation())
    """

    losses: tuple[Loss, ...]
    factors: tuple[float, ...]

    def __post_init__(self) -> None:
        if not self.losses or len(self.losses) != len(self.factors):
            raise SettingError(f"{len(self.losses)} losses and {len(self.factors)} factors; wanted one for each loss")
        if not all(0 <= factor < float("inf") for factor in self.factors):
            raise SettingError(f"factors are {self.factors}; each must be at least 0")

    def __call__(self, prediction: Tensor, target: Tensor, weight: Tensor) -> Tensor:
        total = self.factors[0] * self.losses[0](prediction, target, weight)
        for loss, factor in zip(self.losses[1:], self.factors[1:], strict=True):
            total = total + factor * loss(prediction, target, weight)
        return total

    def __repr__(self) -> str:
        terms = [f"{factor} * {loss_name(loss)}" for loss, factor in zip(self.losses, self.factors, strict=True)]
        return f"WeightedSum({' + '.join(terms)})"

    @property
    def whole_batch(self) -> bool:
        return any(map(sees_whole_batch, self.losses))


@dataclass(frozen=True)
class DiceCrossEntropy:
    """Dice plus cross entropy, both with the same labels ignored (Isensee et al. 2021); arguments as theirs.

    cross_entropy_weights: the class_weights of `CrossEntropy`; those of Dice are equal.

    >>> import torch
    >>> logits, labels, weight = torch.zeros(1, 1, 2), torch.tensor([[1, 0]]), torch.ones(1, 2)
    >>> DiceCrossEntropy(smooth=0)(logits, labels, weight)  # 0.5 + log 2
    tensor(1.1931)
    """

    dice_factor: float = 1.0
    cross_entropy_factor: float = 1.0
    smooth: float = 1.0
    cross_entropy_weights: tuple[float, ...] | None = None
    ignore_index: int = IGNORE_INDEX
    whole_batch: ClassVar[bool] = True

    def __post_init__(self) -> None:
        self._sum()

    def __call__(self, logits: Tensor, labels: Tensor, weight: Tensor) -> Tensor:
        return self._sum()(logits, labels, weight)

    def _sum(self) -> WeightedSum:
        dice = Dice(self.smooth, ignore_index=self.ignore_index)
        cross_entropy = CrossEntropy(self.cross_entropy_weights, self.ignore_index)
        return WeightedSum((dice, cross_entropy), (self.dice_factor, self.cross_entropy_factor))
