"""Forward and backward sweep over the layers of a dense network, block by block, on one buffer each."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from dlsia_core.networks.mixed_scale.products import Convolutions, new_planes
from dlsia_core.networks.mixed_scale.rules import Rule, Statistics

# New channels per block. More: fewer passes over all planes, but more of the sums of a block are left to single layers.
BLOCK_CHANNELS = 16
LOW_PRECISION = (torch.float16, torch.bfloat16)


@dataclass(frozen=True)
class Plan:
    """Structure of a dense network: layer i has dilation dilations[i], `width` channels, and sees all before it."""

    in_channels: int
    width: int
    dilations: tuple[int, ...]
    kernel_size: int = 3
    replicate: bool = False

    def channels(self, layer: int) -> int:
        """Channels that layer `layer` sees; for the number of layers: all.

        >>> Plan(2, 3, (1, 2)).channels(2)
        8
        """
        return self.in_channels + layer * self.width

    def blocks(self) -> list[range]:
        """Layers, in runs of about BLOCK_CHANNELS new channels."""
        step, count = max(1, BLOCK_CHANNELS // self.width), len(self.dilations)
        return [range(first, min(first + step, count)) for first in range(0, count, step)]


@dataclass
class Kept:
    """What the way back needs. features: (N, C, P); inputs: (N, C - in_channels, P) of the activations, or None."""

    size: tuple[int, ...]
    features: Tensor
    inputs: Tensor | None
    statistics: list[Statistics] = field(default_factory=list)


def sweep_forward(
    plan: Plan, rule: Rule, x: Tensor, weights: Sequence[Tensor], biases: Sequence[Tensor], keep: bool
) -> Kept:
    """All features of the network: x (N, in_channels, ...) first, then the layers' outputs.

    weights: (width, channels(layer), *kernel) per layer; biases: (width,). keep: whether inputs are to be kept.
    """
    size, total = tuple(x.shape[2:]), plan.channels(len(plan.dilations))
    features = new_planes(x, total, math.prod(size))
    features[:, : plan.in_channels].copy_(x.flatten(2))
    convolutions = Convolutions(size, plan.kernel_size, plan.replicate, x)
    precise = accumulation_dtype(x.dtype)
    inputs = None
    if keep and rule.keeps_inputs:
        inputs = new_planes(x, total - plan.in_channels, features.shape[2], precise)
    kept = Kept(size, features, inputs)
    for block in plan.blocks():
        known, stop = plan.channels(block.start), plan.channels(block.stop)
        sums = features[:, known:stop]
        if precise != x.dtype:  # eighteen and more rounded sums would lose another digit
            sums = new_planes(x, stop - known, features.shape[2], precise)
        sums.copy_(torch.cat(list(biases[block.start : block.stop]))[:, None].expand_as(sums))
        matrix = kernel_matrix(weights[block.start : block.stop], 0, known)
        convolutions.add(matrix, features[:, :known], sums, plan.dilations[block.start : block.stop])
        for layer in block:
            _finish_layer(plan, rule, layer, known, weights[layer], sums, convolutions, kept)
    return kept


def _finish_layer(
    plan: Plan,
    rule: Rule,
    layer: int,
    known: int,
    weight: Tensor,
    sums: Tensor,
    convolutions: Convolutions,
    kept: Kept,
) -> None:
    """Add what the layers of the same block give, which start at channel `known`; then normalize and activate."""
    start, stop = plan.channels(layer), plan.channels(layer + 1)
    own = sums[:, start - known : stop - known]
    if start > known:
        matrix = kernel_matrix([weight], known, start)
        convolutions.add(matrix, kept.features[:, known:start], own, plan.dilations[layer : layer + 1])
    if kept.inputs is not None:
        kept.inputs[:, start - plan.in_channels : stop - plan.in_channels].copy_(own)
    kept.statistics.append(rule.apply_(layer, torch.unflatten(own, 2, kept.size)))
    if own.dtype != kept.features.dtype:
        kept.features[:, start:stop].copy_(own)


def sweep_backward(
    plan: Plan, rule: Rule, kept: Kept, gradient: Tensor, weights: Sequence[Tensor], wants_weights: bool
) -> tuple[list[Tensor], list[Tensor], list[Tensor]]:
    """Gradients with respect to weights, biases and the normalizations' parameters, in the order of the layers.

    gradient: (N, C, P) with respect to the features as the head sees them; becomes, in place, that with respect to x
    (first channels) and to the layers' inputs.
    """
    convolutions = Convolutions(kept.size, plan.kernel_size, plan.replicate, kept.features)
    by_weight: list[Tensor] = []
    by_norm: list[list[Tensor]] = []
    for block in reversed(plan.blocks()):
        known, last, stop = (plan.channels(k) for k in (block.start, block.stop - 1, block.stop))
        for layer in reversed(block):
            by_norm.append(_back_through_rule(plan, rule, layer, kept, gradient))
            start = plan.channels(layer)
            if start > known:
                own, matrix = gradient[:, start : start + plan.width], kernel_matrix([weights[layer]], known, start)
                convolutions.add_transposed(matrix, own, gradient[:, known:start], plan.dilations[layer : layer + 1])
        found = convolutions.add_transposed(
            kernel_matrix(weights[block.start : block.stop], 0, known),
            gradient[:, known:stop],
            gradient[:, :known],
            plan.dilations[block.start : block.stop],
            kept.features[:, :last] if wants_weights else None,
        )
        if found is not None:
            by_weight[:0] = _split_kernels(found, weights[block.start : block.stop])
    by_bias = gradient[:, plan.in_channels :].sum((0, 2)).view(-1, plan.width).unbind()
    return by_weight, list(by_bias), [tensor for layer in reversed(by_norm) for tensor in layer]


def _back_through_rule(plan: Plan, rule: Rule, layer: int, kept: Kept, gradient: Tensor) -> list[Tensor]:
    start, stop = plan.channels(layer), plan.channels(layer + 1)
    own = gradient[:, start:stop]
    if kept.inputs is None:
        rule.back_from_output_(kept.features[:, start:stop], own)
        return []
    z = torch.unflatten(kept.inputs[:, start - plan.in_channels : stop - plan.in_channels], 2, kept.size)
    return rule.back_from_input_(layer, z, torch.unflatten(own, 2, kept.size), kept.statistics[layer])


def kernel_matrix(weights: Sequence[Tensor], start: int, stop: int) -> Tensor:
    """Kernels of some layers on the channels start:stop, rows (layer, channel of the layer, tap).

    >>> kernel_matrix([torch.zeros(2, 7, 3, 3), torch.zeros(2, 9, 3, 3)], 1, 5).shape
    torch.Size([36, 4])
    """
    parts = [weight[:, start:stop].flatten(2).transpose(1, 2).reshape(-1, stop - start) for weight in weights]
    return torch.cat(parts)


def _split_kernels(matrix: Tensor, weights: Sequence[Tensor]) -> list[Tensor]:
    """Inverse of `kernel_matrix` for gradients: each layer takes the channels that it sees."""
    layers = torch.unflatten(matrix, 0, (len(weights), weights[0].shape[0], -1)).transpose(2, 3)
    return [layer[:, : weight.shape[1]].reshape(weight.shape) for layer, weight in zip(layers, weights, strict=True)]


def accumulation_dtype(dtype: torch.dtype) -> torch.dtype:
    """Sums of 16-bit numbers are kept in float32."""
    return torch.float32 if dtype in LOW_PRECISION else dtype
