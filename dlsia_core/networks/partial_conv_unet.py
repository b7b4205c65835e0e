"""U-Net of partial convolutions for filling gaps (Liu et al. 2018, arXiv:1804.07723; Chavez et al. 2022, §3.1.3)."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from dlsia_core.errors import ArrayError
from dlsia_core.networks.blocks import channel_plan, require_common, require_count
from dlsia_core.networks.partial_conv import PartialConvolution, PartialLayer
from dlsia_core.networks.tunet import crop

KERNEL_SIZES = (7, 5, 5)
"""Kernels of the first levels going down, 3 from there on (Liu et al. 2018, table 5 of the supplement)."""


class PartialConvUNet(nn.Module):
    """U-Net that never looks at pixels that were not measured; the gap shrinks from layer to layer.

    x: (N, in_channels, Y, X), or (N, in_channels, Z, Y, X) for ndim=3, float; anything, NaN too, where not measured.
    valid: (N, 1, ...) or (N, in_channels, ...), True or 1 = measured. None: x has one channel more, the last, which
    says so for all others; that is what a training gives, which calls networks with one tensor.
    Returns (N, out_channels, ...) of x's size, without activation; exactly 0 where no measured pixel has any influence
    (`reached` tells where).

    depth: levels; each halves the size by a convolution of stride 2 going down and doubles it (nearest pixel) going up,
        where it is joined with the level's input, so that the last layer sees image and validity themselves. Inside, x
        is extended to a multiple of 2 ** depth by pixels that are not measured.
    base_channels, growth_rate: channels of the levels, as for `TUNet`.
    normalization: None, "batch", "instance" or "group", after all layers but the first and the last; its statistics
        include pixels not reached, as 0.
    Raises SettingError for settings that are not allowed, ArrayError for inputs of a wrong shape.

    >>> network = PartialConvUNet(1, 1, depth=2, base_channels=4)
    >>> image, valid = torch.randn(1, 1, 9, 14), torch.ones(1, 1, 9, 14)
    >>> valid[..., 5:8] = 0
    >>> torch.equal(network(image, valid), network(torch.cat((image, valid), dim=1)))
    True
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        depth: int = 5,
        base_channels: int = 32,
        growth_rate: float = 2,
        ndim: int = 2,
        normalization: str | None = None,
        activation: str = "relu",
    ) -> None:
        super().__init__()
        require_common(ndim, normalization, activation)
        require_count("in_channels", in_channels)
        require_count("out_channels", out_channels)
        self.ndim, self.in_channels, self.depth = ndim, in_channels, depth
        channels = [in_channels, *channel_plan(base_channels, growth_rate, depth)]

        def layer(a: int, b: int, kernel_size: int, stride: int, normalization: str | None) -> PartialLayer:
            return PartialLayer(ndim, a, b, kernel_size, stride, normalization, activation)

        kernels = [*KERNEL_SIZES, *[3] * depth][:depth]
        self.encoder = nn.ModuleList(
            layer(channels[level], channels[level + 1], kernel, 2, normalization if level else None)
            for level, kernel in enumerate(kernels)
        )
        self.decoder = nn.ModuleList(
            layer(channels[level] + channels[level + 1], channels[level], 3, 1, normalization)
            for level in range(1, depth)
        )
        self.head = PartialConvolution(ndim, channels[0] + channels[1], out_channels, 3)

    def forward(self, x: Tensor, valid: Tensor | None = None) -> Tensor:
        return self._run(x, valid)[0]

    def reached(self, x: Tensor, valid: Tensor | None = None) -> Tensor:
        """(N, 1, ...) bool: True where the output for these inputs depends on measured pixels, False where it is 0."""
        return self._run(x, valid)[1]

    def _run(self, x: Tensor, valid: Tensor | None) -> tuple[Tensor, Tensor]:
        size = x.shape[2:]
        x, valid = self._measured(x, valid)
        count = valid.sum(1, keepdim=True, dtype=torch.promote_types(x.dtype, torch.float32))
        above = []
        for layer in self.encoder:
            above.append((x, count))
            x, reached = layer(x, count)
            count = reached.to(count.dtype) * x.shape[1]
        for layer in reversed([self.head, *self.decoder]):
            skip, skip_count = above.pop()
            x, count = torch.cat((skip, _nearest(x)), dim=1), skip_count + _nearest(count)
            x, reached = layer(x, count)
            count = reached.to(count.dtype) * x.shape[1]
        return crop(x, size), crop(reached, size)

    def _measured(self, x: Tensor, valid: Tensor | None) -> tuple[Tensor, Tensor]:
        """Values, 0 where not measured, and validity (bool, of the values' shape), extended to a size that halves."""
        channels, given = self.in_channels, tuple(x.shape)
        if x.ndim != self.ndim + 2 or x.shape[1] != channels + (valid is None):
            wanted = f"{channels} channels" if valid is not None else f"{channels} channels and one of validity"
            raise ArrayError(f"input has shape {given}; wanted (N, {wanted}) and {self.ndim} more axes")
        if valid is None:
            x, valid = x[:, :channels], x[:, channels:]
        if valid.shape not in (x.shape, (len(x), 1, *x.shape[2:])):
            raise ArrayError(f"valid has shape {tuple(valid.shape)}; wanted {tuple(x.shape)}, or 1 channel")
        measured = (valid > 0).expand_as(x)
        sides = [side for n in reversed(x.shape[2:]) for side in (0, -n % 2**self.depth)]
        # Not by a product: 0 * NaN is NaN.
        return F.pad(torch.where(measured, x, 0), sides), F.pad(measured, sides)


def _nearest(x: Tensor) -> Tensor:
    """Each pixel twice along each axis."""
    return F.interpolate(x, scale_factor=2, mode="nearest")
