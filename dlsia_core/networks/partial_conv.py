"""Convolutions that see measured pixels only (partial convolutions, Liu et al. 2018, arXiv:1804.07723, §3.1)."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from dlsia_core.networks.blocks import ACTIVATIONS, convolution, normalization_layer


class PartialConvolution(nn.Module):
    """A convolution of the measured values, scaled up by how much of its window was measured.

    out = W x * (values in the window / measured values in the window) + bias; exactly 0 for a window without any.
    Values in the window are those inside the image, so that with everything measured this is the ordinary convolution
    with zero padding (the paper counts the padding as not measured).

    x: (N, channels_in, ...) float, 0 where not measured; count: (N, 1, ...), how many of x's channels are measured.
    Returns the result (N, channels_out, ...) and where it is one, (N, 1, ...) bool.

    >>> layer = PartialConvolution(2, 1, 1, kernel_size=3)
    >>> out, reached = layer(torch.ones(1, 1, 1, 5), torch.tensor([[[[1.0, 0.0, 0.0, 0.0, 1.0]]]]))
    >>> reached[0, 0, 0]
    tensor([ True,  True, False,  True,  True])
    """

    def __init__(self, ndim: int, channels_in: int, channels_out: int, kernel_size: int, stride: int = 1) -> None:
        super().__init__()
        self.ndim, self.channels_in, self.kernel_size, self.stride = ndim, channels_in, kernel_size, stride
        self.convolution = convolution(ndim, channels_in, channels_out, kernel_size, stride=stride, bias=False)
        self.bias = nn.Parameter(torch.zeros(channels_out))

    def initialize(self, generator: torch.Generator) -> None:  # noqa: ARG002 - nothing random
        """Set the bias to 0; the convolution has the rule of all convolutions."""
        nn.init.zeros_(self.bias)

    def window_sum(self, count: Tensor) -> Tensor:
        """Sum over each window; exact, because float32 holds whole numbers to 16 million."""
        pool = F.avg_pool2d if self.ndim == 2 else F.avg_pool3d
        padded = F.pad(count, [self.kernel_size // 2] * 2 * self.ndim)
        return pool(padded, self.kernel_size, self.stride, divisor_override=1)

    def forward(self, x: Tensor, count: Tensor) -> tuple[Tensor, Tensor]:
        measured = self.window_sum(count)
        present = self.window_sum(torch.full_like(count[:1], self.channels_in))
        reached = measured > 0
        out = self.convolution(x)
        scale = (present / measured.clamp(min=1)).to(out.dtype)
        bias = self.bias.to(out.dtype).reshape(-1, *[1] * self.ndim)
        return torch.where(reached, torch.addcmul(bias, out, scale), 0), reached


class PartialLayer(nn.Module):
    """A partial convolution, a normalization and an activation; 0 stays where nothing was reached.

    Takes and returns what `PartialConvolution` does.
    """

    def __init__(
        self,
        ndim: int,
        channels_in: int,
        channels_out: int,
        kernel_size: int,
        stride: int,
        normalization: str | None,
        activation: str,
    ) -> None:
        super().__init__()
        self.partial = PartialConvolution(ndim, channels_in, channels_out, kernel_size, stride)
        self.rest = nn.Sequential(*normalization_layer(ndim, normalization, channels_out), ACTIVATIONS[activation]())
        self.keeps_zero = normalization is None  # as all activations do

    def forward(self, x: Tensor, count: Tensor) -> tuple[Tensor, Tensor]:
        out, reached = self.partial(x, count)
        out = self.rest(out)
        return out if self.keeps_zero else torch.where(reached, out, 0), reached
