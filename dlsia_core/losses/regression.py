"""Losses of predicted values: pixels of weight 0 do not count, and an empty batch costs 0 instead of NaN."""

from dataclasses import dataclass

import torch
from torch import Tensor

from dlsia_core.errors import ArrayError
from dlsia_core.losses.contract import full_precision, outside_autocast, weighted_mean


def weighted_l1(prediction: Tensor, target: Tensor, weight: Tensor) -> Tensor:
    """Mean absolute error (Chavez et al. 2022, §4.1). Targets of weight 0 may be anything, NaN too.

    All of one shape. Raises ArrayError where they are not: broadcasting would count pixels more than once.

    >>> nan = float("nan")
    >>> weighted_l1(torch.tensor([1.0, 5.0, 9.0]), torch.tensor([2.0, 2.0, nan]), torch.tensor([1.0, 1.0, 0.0]))
    tensor(2.)
    """
    with outside_autocast(prediction):
        return weighted_mean(_error(prediction, target, weight).abs(), full_precision(weight))


def weighted_l2(prediction: Tensor, target: Tensor, weight: Tensor) -> Tensor:
    """Mean square error (Roberts et al. 2024, §4.3); otherwise as `weighted_l1`.

    >>> weighted_l2(torch.tensor([1.0, 5.0]), torch.tensor([2.0, 2.0]), torch.tensor([1.0, 3.0]))
    tensor(7.)
    """
    with outside_autocast(prediction):
        return weighted_mean(_error(prediction, target, weight).square(), full_precision(weight))


@dataclass(frozen=True)
class TotalVariation:
    """Sum of absolute differences between neighbors along each spatial axis, per pixel (after Rudin et al. 1992).

    prediction (example, channel, [z,] y, x); weight: of the same shape; a pair of neighbors counts with the smaller of
    its two weights. The target is not asked: add it to another loss with `WeightedSum`.

    >>> ramp = torch.tensor([[[[0.0, 1.0, 3.0]]]])
    >>> TotalVariation()(ramp, ramp, torch.ones(1, 1, 1, 3))
    tensor(1.)
    """

    def __call__(self, prediction: Tensor, target: Tensor, weight: Tensor) -> Tensor:  # noqa: ARG002 - contract of Loss
        _require_same_shape(prediction, prediction, weight)
        with outside_autocast(prediction):
            values, weight = full_precision(prediction), full_precision(weight)
            total = values.new_zeros(())
            for axis in range(2, values.ndim):
                last = values.shape[axis] - 1
                pair = torch.minimum(weight.narrow(axis, 0, last), weight.narrow(axis, 1, last))
                total = total + (values.diff(dim=axis).abs() * pair).sum()
            pixels = weight.sum()
            return total / torch.where(pixels > 0, pixels, 1)


def _error(prediction: Tensor, target: Tensor, weight: Tensor) -> Tensor:
    _require_same_shape(prediction, target, weight)
    # 0 * NaN is NaN, so the weight alone would not do.
    return full_precision(prediction) - torch.where(weight > 0, full_precision(target), 0)


def _require_same_shape(prediction: Tensor, target: Tensor, weight: Tensor) -> None:
    if not prediction.shape == target.shape == weight.shape:
        shapes = [tuple(tensor.shape) for tensor in (prediction, target, weight)]
        raise ArrayError(f"prediction, target and weight have shapes {shapes}; wanted the same, weight for every value")
