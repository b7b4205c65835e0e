"""Losses of the overlap between a predicted and a true region: sums over the whole batch, then a ratio."""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from dlsia_core.errors import SettingError
from dlsia_core.losses.contract import outside_autocast, weighted_mean
from dlsia_core.losses.labels import IGNORE_INDEX, LabeledLogits, require_class_weights


@dataclass(frozen=True)
class Tversky:
    """1 - (TP + s) / (TP + alpha FP + beta FN + s), the mean over classes (Salehi et al. 2017, eq. 3).

    TP, FP and FN are sums of probabilities over all pixels of a batch. Called with logits (example, class, ...), labels
    (example, ...) of an integer type and weight (example, ...), at least 0. With one channel of logits there is one
    region, that of class 1; with more, each class is one, background too.

    alpha, beta: cost of a pixel wrongly taken and wrongly left, at least 0; a larger beta finds more of a rare class.
    smooth: s in pixels, at least 0; a class that is neither there nor predicted costs 0 in any case.
    class_weights: weights of the mean over classes, one per channel; None = all the same.
    ignore_index: the label of pixels that do not count.
    Raises ArrayError for labels that are no class, SettingError for settings that are not allowed.

    >>> likely = torch.tensor([[[0.5, 0.5]]]).logit()  # TP = 0.5, FP = 0.5, FN = 0.5
    >>> Tversky(0.3, 0.7, smooth=0)(likely, torch.tensor([[1, 0]]), torch.ones(1, 2))
    tensor(0.5000)
    """

    alpha: float = 0.3
    beta: float = 0.7
    smooth: float = 1.0
    class_weights: tuple[float, ...] | None = None
    ignore_index: int = IGNORE_INDEX
    whole_batch: ClassVar[bool] = True

    def __post_init__(self) -> None:
        _require_not_negative(alpha=self.alpha, beta=self.beta, smooth=self.smooth)
        if not self.alpha + self.beta:
            raise SettingError("alpha and beta are both 0, so that nothing would cost anything; one must be above 0")
        require_class_weights(self.class_weights)

    def __call__(self, logits: Tensor, labels: Tensor, weight: Tensor) -> Tensor:
        return _mean_over_classes(self.costs(logits, labels, weight), self.class_weights)

    def costs(self, logits: Tensor, labels: Tensor, weight: Tensor) -> Tensor:
        """1 - Tversky index of each class, (class,)."""
        with outside_autocast(logits):
            given = LabeledLogits.checked(logits, labels, weight, self.ignore_index)
            found, wrongly_taken, wrongly_left = given.overlaps()
            errors = self.alpha * wrongly_taken + self.beta * wrongly_left
            total = found + errors + self.smooth
            # 1 - (found + s) / total, without the cancellation; 0 where a class has no pixel at all.
            return errors / torch.where(total > 0, total, 1)


@dataclass(frozen=True)
class Dice:
    """1 - (2 TP + s) / (2 TP + FP + FN + s) (Milletari et al. 2016, without squares); otherwise as `Tversky`.

    >>> Dice(smooth=0)(torch.tensor([[[0.5, 0.5]]]).logit(), torch.tensor([[1, 0]]), torch.ones(1, 2))
    tensor(0.5000)
    """

    smooth: float = 1.0
    class_weights: tuple[float, ...] | None = None
    ignore_index: int = IGNORE_INDEX
    whole_batch: ClassVar[bool] = True

    def __post_init__(self) -> None:
        self._tversky()

    def __call__(self, logits: Tensor, labels: Tensor, weight: Tensor) -> Tensor:
        return self._tversky()(logits, labels, weight)

    def _tversky(self) -> Tversky:
        # Both terms of the ratio are halved, and s with them.
        return Tversky(0.5, 0.5, self.smooth / 2, self.class_weights, self.ignore_index)


@dataclass(frozen=True)
class FocalTversky:
    """The mean over classes of (1 - Tversky index)^gamma (Abraham & Khan 2019, eq. 4); otherwise as `Tversky`.

    gamma: above 0; the paper writes 1/gamma, with gamma = 4/3: here 0.75. Below 1 it lifts what is nearly right.

    >>> likely = torch.tensor([[[0.5, 0.5]]]).logit()
    >>> FocalTversky(gamma=2.0, smooth=0)(likely, torch.tensor([[1, 0]]), torch.ones(1, 2))
    tensor(0.2500)
    """

    gamma: float = 0.75
    alpha: float = 0.3
    beta: float = 0.7
    smooth: float = 1.0
    class_weights: tuple[float, ...] | None = None
    ignore_index: int = IGNORE_INDEX
    whole_batch: ClassVar[bool] = True

    def __post_init__(self) -> None:
        if not 0 < self.gamma < float("inf"):
            raise SettingError(f"gamma is {self.gamma}; it must be greater than 0")
        self._tversky()

    def __call__(self, logits: Tensor, labels: Tensor, weight: Tensor) -> Tensor:
        costs = self._tversky().costs(logits, labels, weight)
        # The gradient of a power below 1 is infinite at 0, and infinity times 0 is no number.
        powers = torch.where(costs > 0, torch.where(costs > 0, costs, 1) ** self.gamma, 0)
        return _mean_over_classes(powers, self.class_weights)

    def _tversky(self) -> Tversky:
        return Tversky(self.alpha, self.beta, self.smooth, self.class_weights, self.ignore_index)


def _mean_over_classes(costs: Tensor, class_weights: tuple[float, ...] | None) -> Tensor:
    require_class_weights(class_weights, len(costs))
    return costs.mean() if class_weights is None else weighted_mean(costs, costs.new_tensor(class_weights))


def _require_not_negative(**settings: float) -> None:
    for name, value in settings.items():
        if not 0 <= value < float("inf"):
            raise SettingError(f"{name} is {value}; it must be at least 0")
