"""Mixed-scale dense network (Pelt & Sethian 2018; Chavez et al. 2022, §3.1.3; Roberts et al. 2024, §2.3)."""

from collections.abc import Sequence

from torch import Tensor, nn

from dlsia_core.errors import ArrayError
from dlsia_core.networks.blocks import (
    PADDING_MODES,
    activated,
    convolution,
    require,
    require_common,
    require_count,
)
from dlsia_core.networks.mixed_scale.dense import Plan
from dlsia_core.networks.mixed_scale.function import dense_network
from dlsia_core.networks.mixed_scale.rules import Rule


class MSDNet(nn.Module):
    """Dense network of dilated convolutions: each layer sees the input and all layers before it; logits out.

    x: (N, in_channels, Y, X), or (N, in_channels, Z, Y, X) for ndim=3, any size, float -> (N, out_channels, ...) of
    x's size. Activation and normalization act on the layer's own channels, so that all layers see the input as it is.

    num_layers, layer_width: layers, and new channels of each.
    max_dilation: layer i has dilation i mod max_dilation + 1. dilations: instead, dilations that layers take in turn,
        (1, 2, 4, 8) for example. One of the two must be given; a dilation may be larger than the image.
    kernel_size: odd. padding_mode: what the convolutions see beyond the edge, "zeros" or "replicate".
    normalization: None, "batch", "instance" or "group", between convolution and activation.
    Raises SettingError for settings that are not allowed, ArrayError for inputs of another shape.

    Weights are in `layers[i]` (convolution, normalization, activation) and `head`: "layers.0.0.weight" (layer_width,
    in_channels, 3, 3), "layers.0.0.bias", ..., "head.weight", "head.bias". Calling `layers[i]` on the input and all
    outputs before it gives its output, but forward computes all layers at once (`mixed_scale`), so that hooks of single
    layers are not called. Memory is one plane of x's size per channel (in_channels + num_layers * layer_width), for
    training two; three with a normalization or an activation other than "relu", "leaky_relu" and "elu". There are no
    second derivatives. On the CPU an answer has the same bits in any batch.

    >>> import torch
    >>> network = MSDNet(1, 1, num_layers=200, max_dilation=15)
    >>> sum(p.numel() for p in network.parameters())  # Chavez et al. 2022, Table 3, model 3
    181302
    >>> MSDNet(1, 3, num_layers=4, dilations=[1, 20])(torch.zeros(1, 1, 37, 5)).shape
    torch.Size([1, 3, 37, 5])
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        num_layers: int,
        max_dilation: int | None = None,
        layer_width: int = 1,
        dilations: Sequence[int] | None = None,
        ndim: int = 2,
        normalization: str | None = None,
        activation: str = "relu",
        kernel_size: int = 3,
        padding_mode: str = "zeros",
    ) -> None:
        super().__init__()
        require_common(ndim, normalization, activation)
        counts = {"in_channels": in_channels, "out_channels": out_channels, "layer_width": layer_width}
        for name, count in (counts | {"num_layers": num_layers, "kernel_size": kernel_size}).items():
            require_count(name, count)
        require("kernel_size", kernel_size, kernel_size % 2 == 1, "odd")
        require("padding_mode", padding_mode, padding_mode in PADDING_MODES, f"one of {PADDING_MODES}")
        cycle = dilation_cycle(max_dilation, dilations)
        taken = tuple(cycle[layer % len(cycle)] for layer in range(num_layers))
        self.ndim = ndim
        self.plan = Plan(in_channels, layer_width, taken, kernel_size, padding_mode == "replicate")

        def layer(number: int) -> nn.Sequential:
            entering = self.plan.channels(number)
            padded = {"padding_mode": padding_mode}
            convolved = convolution(ndim, entering, layer_width, kernel_size, taken[number], **padded)
            return activated(ndim, convolved, layer_width, normalization, activation)

        self.activation = activation
        self.layers = nn.ModuleList(layer(number) for number in range(num_layers))
        self.head = convolution(ndim, self.plan.channels(num_layers), out_channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        if x.ndim != self.ndim + 2 or x.shape[1] != self.plan.in_channels:
            wanted = f"(N, {self.plan.in_channels}) and {self.ndim} more axes"
            raise ArrayError(f"input has shape {tuple(x.shape)}; wanted {wanted}")
        weights = [layer[0].weight for layer in self.layers]  # type: ignore[index]
        biases = [layer[0].bias for layer in self.layers]  # type: ignore[index]
        return dense_network(self.plan, self.rule(), x, weights, biases, (self.head.weight, self.head.bias))  # type: ignore[no-any-return]

    def rule(self) -> Rule:
        """What layers do after their convolution."""
        return Rule(self.activation, [norm for layer in self.layers for norm in layer[1:-1]])  # type: ignore[index]


def dilation_cycle(max_dilation: int | None, dilations: Sequence[int] | None) -> list[int]:
    """The dilations that layers take in turn.

    >>> dilation_cycle(3, None), dilation_cycle(None, [1, 2, 4])
    ([1, 2, 3], [1, 2, 4])
    """
    both = (max_dilation, dilations)
    require("(max_dilation, dilations)", both, both.count(None) == 1, "one of the two, the other None")
    if dilations is None:
        require_count("max_dilation", max_dilation)
        return list(range(1, int(max_dilation or 0) + 1))
    require("dilations", dilations, not isinstance(dilations, str) and len(dilations) > 0, "whole numbers, one or more")
    for dilation in dilations:
        require_count("dilations", dilation)
    return list(dilations)
