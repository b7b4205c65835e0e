"""What a layer does to its own channels after the convolution: normalization and activation, and the way back."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from dlsia_core.errors import SettingError
from dlsia_core.networks.blocks import ACTIVATIONS

Statistics = tuple[Tensor, Tensor] | None


def _relu_slope(y: Tensor) -> Tensor:
    return y > 0


def _leaky_relu_slope(y: Tensor) -> Tensor:
    return torch.where(y > 0, torch.ones_like(y), 0.1)  # two plain numbers would be rounded to float32


def _elu_slope(y: Tensor) -> Tensor:
    return torch.where(y > 0, torch.ones_like(y), y + 1)


# Slopes that follow from the output, so that the input need not be kept.
SLOPES = {"relu": _relu_slope, "leaky_relu": _leaky_relu_slope, "elu": _elu_slope}


class Rule:
    """Normalization and activation of all layers of one network.

    norms: one per layer, or empty. Without normalization, for activations in SLOPES, only outputs are needed for the
    way back; otherwise the inputs have to be kept too (`keeps_inputs`).
    """

    def __init__(self, activation: str, norms: Sequence[nn.Module]) -> None:
        self.activation, self.norms = activation, list(norms)
        self.keeps_inputs = bool(self.norms) or activation not in SLOPES

    def parameters(self) -> list[Tensor]:
        return [parameter for norm in self.norms for parameter in norm.parameters()]

    def apply_(self, layer: int, z: Tensor) -> Statistics:
        """z (N, width, ...), all layers' convolutions summed, becomes the output; moves running statistics."""
        statistics = None
        if self.norms:
            norm = self.norms[layer]
            statistics = frozen_statistics(norm)
            z.copy_(norm(_fitting(norm, z).contiguous()))  # else the bits depend on the batch
        y = ACTIVATIONS[self.activation]()(z)
        if y is not z:
            z.copy_(y)
        return statistics

    def back_from_output_(self, y: Tensor, gradient: Tensor) -> None:
        """The gradient with respect to the output y becomes that with respect to the input."""
        gradient.mul_(SLOPES[self.activation](y))

    def back_from_input_(self, layer: int, z: Tensor, gradient: Tensor, statistics: Statistics) -> list[Tensor]:
        """As `back_from_output_`, from the kept input; returns the gradients of the normalization's parameters."""
        with torch.enable_grad():
            z = z.detach().requires_grad_()
            parameters = list(self.norms[layer].parameters()) if self.norms else []
            copies = [parameter.detach().requires_grad_() for parameter in parameters]
            normalized = normalize(self.norms[layer], z, copies, statistics) if self.norms else z.clone()
            y = ACTIVATIONS[self.activation]()(normalized)
        found = torch.autograd.grad(y, [z, *copies], gradient)
        gradient.copy_(found[0])
        return list(found[1:])


def frozen_statistics(norm: nn.Module) -> Statistics:
    """Copies of the running statistics where the layer is going to use them; it may move them before the way back."""
    if isinstance(norm, nn.BatchNorm2d | nn.BatchNorm3d) and not norm.training:
        if norm.running_mean is None or norm.running_var is None:
            return None
        return norm.running_mean.clone(), norm.running_var.clone()
    return None


def normalize(norm: nn.Module, z: Tensor, parameters: Sequence[Tensor], statistics: Statistics) -> Tensor:
    """What `norm` did to z: by its own statistics, or by frozen ones; no running statistics move."""
    weight, bias = parameters
    z = _fitting(norm, z)
    if isinstance(norm, nn.BatchNorm2d | nn.BatchNorm3d):
        mean, variance = statistics or (None, None)
        return F.batch_norm(z, mean, variance, weight, bias, statistics is None, 0.0, norm.eps)
    if isinstance(norm, nn.InstanceNorm2d | nn.InstanceNorm3d):
        return F.instance_norm(z, None, None, weight, bias, True, 0.0, norm.eps)
    if isinstance(norm, nn.GroupNorm):
        return F.group_norm(z, norm.num_groups, weight, bias, norm.eps)
    raise SettingError(f"normalization is {type(norm).__name__}; a dense network can use batch, instance and group")


def _fitting(norm: nn.Module, z: Tensor) -> Tensor:
    """z in the precision of the layer's parameters, which may be lower than that of the sums."""
    return z.to(next(norm.parameters()).dtype)
