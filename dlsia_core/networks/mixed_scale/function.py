"""The dense network as one differentiable function."""

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from dlsia_core.networks.mixed_scale.dense import Kept, Plan, accumulation_dtype, sweep_backward, sweep_forward
from dlsia_core.networks.mixed_scale.products import multiply, new_planes
from dlsia_core.networks.mixed_scale.rules import Rule


@torch.compiler.disable  # type: ignore[untyped-decorator]
def dense_network(
    plan: Plan, rule: Rule, x: Tensor, weights: Sequence[Tensor], biases: Sequence[Tensor], head: Sequence[Tensor]
) -> Tensor:
    """Logits (N, out_channels, ...) of the dense network on x (N, in_channels, ...).

    weights: (width, plan.channels(layer), *kernel) per layer; biases: (width,) per layer.
    head: weight (out_channels, all channels, 1, ...) and bias (out_channels,) of the last, 1x1 convolution.
    Memory: one plane per channel for the features, for the way back one more for the gradient, and one more for the
    activations' inputs where the rule needs them. Under autocast features and products have its precision, sums and
    gradients float32. `torch.compile` leaves this function as it is.
    """
    device = x.device.type
    dtype = x.dtype
    if _autocast_available(device) and torch.is_autocast_enabled(device) and dtype != torch.float64:
        dtype = torch.get_autocast_dtype(device)
    x, parameters = x.to(dtype), (*weights, *biases, *head, *rule.parameters())
    if torch.is_grad_enabled() and any(tensor.requires_grad for tensor in (x, *parameters)):
        return _DenseNetwork.apply(plan, rule, x, *parameters)  # type: ignore[no-any-return,no-untyped-call]
    with _without_autocast(device):
        kept = sweep_forward(plan, rule, x, _cast(weights, x), _cast(biases, x), keep=False)
        return _head(kept, *_cast(head, x))


class _DenseNetwork(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, plan: Plan, rule: Rule, x: Tensor, *parameters: Tensor) -> Tensor:
        layers = len(plan.dilations)
        with _without_autocast(x.device.type):
            weights, biases = _cast(parameters[:layers], x), _cast(parameters[layers : 2 * layers], x)
            kept = sweep_forward(plan, rule, x, weights, biases, keep=True)
            logits = _head(kept, *_cast(parameters[2 * layers : 2 * layers + 2], x))
        ctx.plan, ctx.rule, ctx.size, ctx.statistics = plan, rule, kept.size, kept.statistics
        ctx.save_for_backward(kept.features, kept.inputs, *parameters)
        return logits

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Any, ...]:
        features, inputs, *parameters = ctx.saved_tensors
        layers, kept = len(ctx.plan.dilations), Kept(ctx.size, features, inputs, ctx.statistics)
        x_wanted, *wanted = ctx.needs_input_grad[2:]
        with _without_autocast(features.device.type):
            planes, by_head = _back_through_head(gradient.flatten(2), features, parameters[2 * layers])
            found: list[Any] = [*[None] * (2 * layers), *by_head, *[None] * (len(parameters) - 2 * layers - 2)]
            if x_wanted or any(wanted[: 2 * layers]) or any(wanted[2 * layers + 2 :]):
                weights = _cast(parameters[:layers], features)
                by_weight, by_bias, by_norm = sweep_backward(
                    ctx.plan, ctx.rule, kept, planes, weights, any(wanted[:layers])
                )
                found = [*(by_weight or found[:layers]), *by_bias, *by_head, *by_norm]
        by_x = planes[:, : ctx.plan.in_channels].clone()  # a view would keep all planes alive
        return None, None, torch.unflatten(by_x, 2, ctx.size) if x_wanted else None, *found


def _head(kept: Kept, weight: Tensor, bias: Tensor) -> Tensor:
    logits = new_planes(kept.features, len(weight), kept.features.shape[2])
    multiply(weight.flatten(1), kept.features, logits)
    return torch.unflatten(logits.add_(bias[:, None]).contiguous(), 2, kept.size)


def _back_through_head(gradient: Tensor, features: Tensor, weight: Tensor) -> tuple[Tensor, list[Tensor]]:
    """The gradient with respect to the features (N, C, P), and to the head's weight and bias."""
    precise = accumulation_dtype(features.dtype)
    gradient, flat = gradient.to(precise).contiguous(), weight.flatten(1).to(precise)
    planes = new_planes(features, features.shape[1], features.shape[2], precise)
    multiply(flat.t(), gradient, planes)
    by_weight = torch.zeros_like(flat)
    for sample, known in zip(gradient, features, strict=True):
        by_weight += (sample.to(features.dtype) @ known.t()).to(precise)
    return planes, [by_weight.view(weight.shape), gradient.sum((0, 2))]


def _cast(tensors: Sequence[Tensor], like: Tensor) -> list[Tensor]:
    return [tensor.to(like.dtype) for tensor in tensors]


def _autocast_available(device: str) -> bool:
    return torch.amp.is_autocast_available(device)


def _without_autocast(device: str) -> AbstractContextManager[Any]:
    return torch.autocast(device, enabled=False) if _autocast_available(device) else nullcontext()
