"""Losses as weighted means: pixels of weight 0 do not count, and an empty batch costs 0 instead of NaN."""

from collections.abc import Callable

import torch
from torch import Tensor

Loss = Callable[[Tensor, Tensor, Tensor], Tensor]
"""(prediction, target, weight), all of one shape -> the mean over pixels, weighted, as a tensor without axes."""


def weighted_l1(prediction: Tensor, target: Tensor, weight: Tensor) -> Tensor:
    """Mean absolute error (Chavez et al. 2022, §4.1). Targets of weight 0 may be anything, NaN too.

    >>> nan = float("nan")
    >>> weighted_l1(torch.tensor([1.0, 5.0, 9.0]), torch.tensor([2.0, 2.0, nan]), torch.tensor([1.0, 1.0, 0.0]))
    tensor(2.)
    """
    return _weighted_mean((prediction - _finite(target, weight)).abs(), weight)


def weighted_l2(prediction: Tensor, target: Tensor, weight: Tensor) -> Tensor:
    """Mean square error (Roberts et al. 2024, §4.3).

    >>> weighted_l2(torch.tensor([1.0, 5.0]), torch.tensor([2.0, 2.0]), torch.tensor([1.0, 3.0]))
    tensor(7.)
    """
    return _weighted_mean((prediction - _finite(target, weight)).square(), weight)


def _finite(target: Tensor, weight: Tensor) -> Tensor:
    return torch.where(weight > 0, target, 0)  # 0 * NaN is NaN, so the weight alone would not do


def _weighted_mean(values: Tensor, weight: Tensor) -> Tensor:
    total = weight.sum()
    return (values * weight).sum() / torch.where(total > 0, total, 1)
