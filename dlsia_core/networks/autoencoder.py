"""Convolutional autoencoders with a vector in the middle (Roberts et al. 2024, §2.2 and §4.3)."""

import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from dlsia_core.errors import ArrayError
from dlsia_core.networks.blocks import (
    activated,
    channel_plan,
    convolution,
    require,
    require_common,
    require_count,
    up_convolution,
)
from dlsia_core.networks.resampling import resample
from dlsia_core.networks.tunet import crop

GRID = 4
"""Pixels along each axis of the grid in the middle where no input_shape is given."""


class Autoencoder(nn.Module):
    """What all autoencoders share: halve the image, map the rest to a vector, go the same way back.

    Each level is a 3x3 convolution of stride 2 and a block; two linear layers join grid and latent vector.
    block: makes the module that stands on a level, size and channels unchanged, from the number of channels.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        channels: Sequence[int],
        latent_dim: int,
        input_shape: Sequence[int],
        layer: Callable[[nn.Module, int], nn.Module],
        block: Callable[[int], nn.Module],
    ) -> None:
        super().__init__()
        counts = {"in_channels": in_channels, "out_channels": out_channels, "latent_dim": latent_dim}
        for name, count in counts.items():
            require_count(name, count)
        for length in input_shape:
            require_count("input_shape", length)
        ndim, depth = len(input_shape), len(channels)
        self.ndim, self.depth, self.in_channels, self.latent_dim = ndim, depth, in_channels, latent_dim
        self.input_shape = tuple(input_shape)
        sizes = level_sizes(self.input_shape, depth)
        require("depth", depth, max(sizes[-2]) > 1, f"less: input_shape {self.input_shape} is 1 pixel before")
        self.grid = (channels[-1], *sizes[-1])

        encoder, decoder = [], []
        for above, here in zip([in_channels, *channels[:-1]], channels, strict=True):
            encoder += [layer(convolution(ndim, above, here, 3, stride=2), here), block(here)]
        for above, here in zip([channels[0], *channels[:-1]], channels, strict=True):
            decoder.append(nn.Sequential(block(here), layer(up_convolution(ndim, here, above, 3), above)))
        self.encoder = nn.Sequential(*encoder)
        self.to_latent = nn.Linear(math.prod(self.grid), latent_dim)
        self.from_latent = nn.Linear(latent_dim, math.prod(self.grid))
        self.decoder = nn.ModuleList(decoder)
        self.head = convolution(ndim, channels[0], out_channels, 3)

    def encode(self, x: Tensor) -> Tensor:
        """(N, in_channels, ...) of any size -> latent vectors (N, latent_dim)."""
        if x.ndim != self.ndim + 2 or x.shape[1] != self.in_channels:
            raise ArrayError(
                f"input has shape {tuple(x.shape)}; wanted (N, {self.in_channels}) and {self.ndim} more axes"
            )
        return self.to_latent(resample(self.encoder(x), self.grid[1:]).flatten(1))  # type: ignore[no-any-return]

    def decode(self, z: Tensor, size: Sequence[int] | None = None) -> Tensor:
        """Latent vectors (N, latent_dim) -> (N, out_channels, *size); size None: the network's input_shape."""
        if z.ndim != 2 or z.shape[1] != self.latent_dim:
            raise ArrayError(f"latent vectors have shape {tuple(z.shape)}; wanted (N, {self.latent_dim})")
        size = self.input_shape if size is None else tuple(size)
        if len(size) != self.ndim or min(size) < 1:
            raise ArrayError(f"size is {size}; wanted {self.ndim} whole numbers of at least 1")
        # Sizes of all levels, 33 -> 17 -> 9 -> 5: going up doubles and cuts the surplus row where the size was odd.
        sizes = level_sizes(size, self.depth)
        x = resample(torch.relu(self.from_latent(z)).reshape(-1, *self.grid), sizes[-1])
        for level in reversed(range(self.depth)):
            x = crop(self.decoder[level](x), sizes[level])
        return self.head(x)  # type: ignore[no-any-return]

    def forward(self, x: Tensor) -> Tensor:
        return self.decode(self.encode(x), x.shape[2:])


class ConvAutoencoder(Autoencoder):
    """Halves the image `depth` times, maps the rest to `latent_dim` numbers, and goes the same way back.

    x: (N, in_channels, ...) of any size, float -> (N, out_channels, ...) of x's size, plain output without activation.

    input_shape: size (Y, X) or (Z, Y, X) the network is built for, default size of `decode`; None = 4 * 2 ** depth
        along each axis. It decides the grid in the middle, ceil(input_shape / 2 ** depth). An image of another size
        has its features averaged (or interpolated, where it is smaller) to this grid, and back: detail is lost where
        it is much larger, so give the true size, and a depth that leaves a small grid.
    ndim: 2 or 3; None = as many as input_shape has, 2 without.
    base_channels, growth_rate, normalization, activation: as for `TUNet`.

    Each level is a 3x3 convolution of stride 2 and one of stride 1. The linear layers hold most parameters, 2 *
    latent_dim * last channels * grid size: with depth 6, base 8, growth 1.5, 32 latent numbers and input_shape
    (512, 512) the grid is 8x8 of 60 channels and there are 444,263 parameters.
    Raises SettingError for settings that are not allowed, ArrayError for inputs of a wrong shape.

    >>> network = ConvAutoencoder(1, 1, depth=3, base_channels=4, latent_dim=5)
    >>> latent = network.encode(torch.zeros(2, 1, 33, 50))
    >>> latent.shape, network.decode(latent).shape, network.decode(latent, (33, 50)).shape
    (torch.Size([2, 5]), torch.Size([2, 1, 32, 32]), torch.Size([2, 1, 33, 50]))
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        depth: int = 4,
        base_channels: int = 16,
        growth_rate: float = 2,
        *,
        latent_dim: int,
        input_shape: Sequence[int] | None = None,
        normalization: str | None = None,
        activation: str = "relu",
        ndim: int | None = None,
    ) -> None:
        shape = built_shape(input_shape, ndim, depth)
        axes = len(shape)
        require_common(axes, normalization, activation)
        channels = channel_plan(base_channels, growth_rate, depth)

        def layer(convolved: nn.Module, leaving: int) -> nn.Module:
            return activated(axes, convolved, leaving, normalization, activation)

        def block(here: int) -> nn.Module:
            return layer(convolution(axes, here, here, 3), here)

        super().__init__(in_channels, out_channels, channels, latent_dim, shape, layer, block)


def built_shape(input_shape: Sequence[int] | None, ndim: int | None, depth: int) -> tuple[int, ...]:
    """The size an autoencoder is built for, from the settings that may leave it open.

    >>> built_shape(None, 3, depth=2)
    (16, 16, 16)
    """
    require_count("depth", depth)
    if input_shape is not None:
        require("ndim", ndim, ndim in (None, len(input_shape)), f"None, or the axes of input_shape {input_shape}")
        return tuple(input_shape)
    axes = 2 if ndim is None else ndim
    require("ndim", axes, axes in (2, 3), "2 or 3")
    return (GRID * 2**depth,) * axes


def level_sizes(size: Sequence[int], depth: int) -> list[tuple[int, ...]]:
    """Sizes of the image and of the `depth` levels below it.

    >>> level_sizes((33, 64), 3)
    [(33, 64), (17, 32), (9, 16), (5, 8)]
    """
    return [tuple(math.ceil(n / 2**level) for n in size) for level in range(depth + 1)]
