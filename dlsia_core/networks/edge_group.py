"""Edges of a sparse network that one convolution computes together."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

KERNEL_SIZE = 3


class EdgeGroup(nn.Module):
    """The edges that leave one node with one dilation: a single 3x3 convolution, split by target.

    x: (N, in_channels, ...) -> per target one tensor (N, channels, ...) of x's size; zeros beyond the edge.

    targets: nodes that the parts belong to, in order.
    fans: for each target, the number of terms in the sum that its activation acts on (all its edges together).
    biased: whether the parts bring a bias.

    >>> group = EdgeGroup(2, 4, 6, dilation=3, targets=(5, 7), fans=(36, 90), biased=False)
    >>> [part.shape for part in group(torch.zeros(1, 4, 8, 9))]
    [torch.Size([1, 6, 8, 9]), torch.Size([1, 6, 8, 9])]
    """

    def __init__(
        self,
        ndim: int,
        in_channels: int,
        channels: int,
        dilation: int,
        targets: Sequence[int],
        fans: Sequence[int],
        biased: bool,
    ) -> None:
        super().__init__()
        self.ndim, self.channels, self.dilation = ndim, channels, dilation
        self.targets, self.fans = tuple(targets), tuple(fans)
        leaving = channels * len(self.targets)
        self.weight = nn.Parameter(torch.zeros(leaving, in_channels, *[KERNEL_SIZE] * ndim))
        self.bias = nn.Parameter(torch.zeros(leaving)) if biased else None

    def initialize(self, generator: torch.Generator) -> None:
        """Uniform in ± √(6 / fan), biases 0: a node's sum then has the same spread however many edges enter it."""
        for weight, fan in zip(torch.split(self.weight, self.channels), self.fans, strict=True):
            bound = math.sqrt(6 / fan)
            nn.init.uniform_(weight, -bound, bound, generator)
        if self.bias is not None:
            nn.init.zeros_(self.bias)

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        convolve = F.conv2d if self.ndim == 2 else F.conv3d
        together = convolve(x, self.weight, self.bias, padding=self.dilation, dilation=self.dilation)
        return (together,) if len(self.targets) == 1 else torch.split(together, self.channels, dim=1)

    def extra_repr(self) -> str:
        return f"dilation={self.dilation}, targets={self.targets}, weight={tuple(self.weight.shape)}"
