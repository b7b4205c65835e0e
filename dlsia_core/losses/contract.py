"""What every loss is, and what all of them need: a name, full precision, a mean that survives an empty batch."""

from collections.abc import Callable

import torch
from torch import Tensor

from dlsia_core.errors import SettingError

Loss = Callable[[Tensor, Tensor, Tensor], Tensor]
"""(prediction, target, weight) -> a tensor without axes: 0, with a gradient of 0, where all weight is 0.

A loss that is a sum over pixels divided by the sum of `weight` gives the same number however a set is cut into batches.
One that is not (Dice, for example) has an attribute `whole_batch` that is True.
"""


def loss_name(loss: Loss) -> str:
    """What tells one loss from another: module and name of a function, or the repr of an object.

    Raises SettingError for a lambda, a local function or an object whose repr is an address.

    >>> from dlsia_core.losses import weighted_l1
    >>> loss_name(weighted_l1)
    'dlsia_core.losses.regression.weighted_l1'
    """
    name = f"{loss.__module__}.{loss.__qualname__}" if hasattr(loss, "__qualname__") else repr(loss)
    if "<" in name:
        raise SettingError(
            f"loss is {name}, which does not tell one loss from another; give a function of a module, or an object "
            "such as a frozen dataclass whose repr shows its settings"
        )
    return name


def sees_whole_batch(loss: Loss) -> bool:
    """True for a loss that is no mean over pixels, so that two halves of a batch do not add up to the batch."""
    return bool(getattr(loss, "whole_batch", False))


def full_precision(values: Tensor) -> Tensor:
    """float32 for half precision, which overflows in sums over pixels; float64 stays.

    >>> full_precision(torch.zeros(1, dtype=torch.bfloat16)).dtype
    torch.float32
    """
    return values if values.dtype == torch.float64 else values.float()


def outside_autocast(values: Tensor) -> torch.autocast:
    """A context in which autocast, if the caller is in it, leaves the arithmetic alone."""
    return torch.autocast(values.device.type, enabled=False)


def weighted_mean(values: Tensor, weight: Tensor) -> Tensor:
    """Mean of what has weight, 0 if nothing has.

    >>> weighted_mean(torch.tensor([1.0, 5.0]), torch.tensor([1.0, 3.0])), weighted_mean(torch.ones(1), torch.zeros(1))
    (tensor(4.), tensor(0.))
    """
    total = weight.sum()
    return (values * weight).sum() / torch.where(total > 0, total, 1)
