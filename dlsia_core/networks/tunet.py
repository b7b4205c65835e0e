"""Tunable U-Net (Chavez et al. 2022, §3.1.2; Roberts et al. 2024, §2.1)."""

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from dlsia_core.errors import ArrayError
from dlsia_core.networks.blocks import (
    PADDING_MODES,
    activated,
    channel_plan,
    convolution,
    require,
    require_common,
    require_count,
    up_convolution,
)


class TUNet(nn.Module):
    """U-Net whose depth, channels and growth are settings; any input size, plain output without activation.

    x: (N, in_channels, Y, X), or (N, in_channels, Z, Y, X) for ndim=3, float -> (N, out_channels, ...) of x's size.

    depth: levels, the lowest included; channels of level i: int(channels of level i - 1 * growth_rate).
    hidden_rate: channels between the two convolutions of a level, as a multiple of the level's channels.
    normalization: None, "batch", "instance" or "group" (after each 3x3 convolution, before the activation);
        "instance" needs more than one pixel on the lowest level.
    up_kernel_size: kernel of the transposed convolutions of stride 2; 3 gives the papers' parameter counts.
    padding_mode: what the 3x3 convolutions see beyond the edge, "zeros" or "replicate".
    ndim: 2 or 3.
    Raises SettingError for settings that are not allowed, ArrayError for inputs of another number of axes.

    >>> network = TUNet(1, 1, depth=4, base_channels=16)
    >>> sum(p.numel() for p in network.parameters())  # Chavez et al. 2022, Table 2, model 0
    535505
    >>> network(torch.zeros(1, 1, 37, 50)).shape
    torch.Size([1, 1, 37, 50])
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        depth: int,
        base_channels: int,
        growth_rate: float = 2,
        hidden_rate: float = 1,
        ndim: int = 2,
        normalization: str | None = None,
        activation: str = "relu",
        up_kernel_size: int = 3,
        padding_mode: str = "zeros",
    ) -> None:
        super().__init__()
        require_common(ndim, normalization, activation)
        require_count("in_channels", in_channels)
        require_count("out_channels", out_channels)
        require_count("up_kernel_size", up_kernel_size, least=2)
        require("padding_mode", padding_mode, padding_mode in PADDING_MODES, f"one of {PADDING_MODES}")
        require("hidden_rate", hidden_rate, hidden_rate > 0, "greater than 0")
        channels = channel_plan(base_channels, growth_rate, depth)
        self.ndim, self.depth = ndim, depth

        pairs = list(pairwise(channels))

        def block(entering: int, leaving: int) -> nn.Sequential:
            return double_convolution(ndim, entering, leaving, hidden_rate, normalization, activation, padding_mode)

        self.encoder = nn.ModuleList(block(a, c) for a, c in zip([in_channels, *channels[:-1]], channels, strict=True))
        self.up = nn.ModuleList(up_convolution(ndim, lower, upper, up_kernel_size) for upper, lower in pairs)
        self.decoder = nn.ModuleList(block(2 * upper, upper) for upper, _ in pairs)
        self.head = convolution(ndim, channels[0], out_channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        if x.ndim != self.ndim + 2:
            raise ArrayError(f"input has shape {tuple(x.shape)}; wanted (N, C) and {self.ndim} more axes")
        size = x.shape[2:]
        x = pad_to_multiple(x, 2 ** (self.depth - 1))
        skips = []
        for level, block in enumerate(self.encoder):
            if level:
                skips.append(x)
                x = max_pool(x, 2)
            x = block(x)
        for level in reversed(range(self.depth - 1)):
            x = self.decoder[level](torch.cat((skips[level], self.up[level](x)), dim=1))
        return crop(self.head(x), size)


def double_convolution(
    ndim: int,
    entering: int,
    leaving: int,
    hidden_rate: float,
    normalization: str | None,
    activation: str,
    padding_mode: str,
) -> nn.Sequential:
    """A level of a U-Net: two 3x3 convolutions, with hidden_rate * `leaving` channels between them."""
    hidden = max(1, int(leaving * hidden_rate))
    first = convolution(ndim, entering, hidden, 3, padding_mode=padding_mode)
    second = convolution(ndim, hidden, leaving, 3, padding_mode=padding_mode)
    return nn.Sequential(
        activated(ndim, first, hidden, normalization, activation),
        activated(ndim, second, leaving, normalization, activation),
    )


def max_pool(x: Tensor, factor: int) -> Tensor:
    """Largest value of each block of `factor` pixels per axis; factor: a power of 2 by which all sizes can be divided.

    >>> max_pool(torch.tensor([[[[1.0, 2.0, 5.0, 0.0], [3.0, 0.0, 1.0, 1.0]]]]), 2)
    tensor([[[[3., 5.]]]])
    """
    if x.requires_grad:
        return F.max_pool2d(x, factor) if x.ndim == 4 else F.max_pool3d(x, factor)
    # The same values; on a CPU 3 to 19 times as fast, but its gradient is 2 to 10 times as slow.
    for _ in range(factor.bit_length() - 1):
        for axis in range(2, x.ndim):
            x = torch.maximum(*torch.unflatten(x, axis, (-1, 2)).unbind(axis + 1))
    return x


def pad_to_multiple(x: Tensor, multiple: int) -> Tensor:
    """Repeat the last row, column (and plane) of (N, C, ...) until each size is a multiple of `multiple`.

    >>> pad_to_multiple(torch.zeros(1, 1, 5, 8), 4).shape
    torch.Size([1, 1, 8, 8])
    """
    missing = [-size % multiple for size in x.shape[2:]]
    if not any(missing):
        return x
    sides = [side for extra in reversed(missing) for side in (0, extra)]
    return F.pad(x, sides, mode="replicate")


def crop(x: Tensor, size: Sequence[int]) -> Tensor:
    """The first `size` elements of the axes behind (N, C)."""
    for axis, length in enumerate(size, start=2):
        x = x.narrow(axis, 0, length)
    return x
