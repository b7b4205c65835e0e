"""Convolutional autoencoder with a vector in the middle (Roberts et al. 2024, §2.4 and §4.3)."""

import math
from collections.abc import Sequence

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
from dlsia_core.networks.tunet import crop


class ConvAutoencoder(nn.Module):
    """Halves the image `depth` times, maps the rest to `latent_dim` numbers, and goes the same way back.

    x: (N, in_channels, *input_shape), float -> (N, out_channels, *input_shape), plain output without activation.

    Each level is a 3x3 convolution of stride 2 and one of stride 1; two linear layers join grid and latent vector and
    hold most parameters: 2 * latent_dim * last channels * grid size. With depth 6, base 8, growth 1.5 and 32 latent
    numbers, 512x512 has an 8x8 grid of 60 channels and 444,263 parameters.
    Raises SettingError for settings that are not allowed, ArrayError for inputs of another shape.

    >>> network = ConvAutoencoder(1, 1, depth=3, base_channels=4, latent_dim=5, input_shape=(33, 50))
    >>> latent = network.encode(torch.zeros(2, 1, 33, 50))
    >>> latent.shape, network.decode(latent).shape
    (torch.Size([2, 5]), torch.Size([2, 1, 33, 50]))
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        depth: int,
        base_channels: int,
        growth_rate: float = 2,
        *,
        latent_dim: int,
        input_shape: Sequence[int],
        normalization: str | None = None,
        activation: str = "relu",
    ) -> None:
        super().__init__()
        ndim = len(input_shape)
        require_common(ndim, normalization, activation)
        for name, count in (("in_channels", in_channels), ("out_channels", out_channels), ("latent_dim", latent_dim)):
            require_count(name, count)
        for length in input_shape:
            require_count("input_shape", length)
        channels = channel_plan(base_channels, growth_rate, depth)
        self.in_channels, self.latent_dim = in_channels, latent_dim
        # Sizes of all levels, 33 -> 17 -> 9 -> 5: going up doubles and cuts the surplus row where the size was odd.
        self.sizes = [tuple(math.ceil(n / 2**level) for n in input_shape) for level in range(depth + 1)]
        require("depth", depth, max(self.sizes[-2]) > 1, f"less: input_shape {tuple(input_shape)} is 1 pixel before")
        self.grid = (channels[-1], *self.sizes[-1])

        def layer(convolved: nn.Module, leaving: int) -> nn.Sequential:
            return activated(ndim, convolved, leaving, normalization, activation)

        encoder, decoder = [], []
        for above, here in zip([in_channels, *channels[:-1]], channels, strict=True):
            encoder.append(layer(convolution(ndim, above, here, 3, stride=2), here))
            encoder.append(layer(convolution(ndim, here, here, 3), here))
        for above, here in zip([channels[0], *channels[:-1]], channels, strict=True):
            up = layer(up_convolution(ndim, here, above, 3), above)
            decoder.append(nn.Sequential(layer(convolution(ndim, here, here, 3), here), up))
        self.encoder = nn.Sequential(*encoder)
        self.to_latent = nn.Linear(math.prod(self.grid), latent_dim)
        self.from_latent = nn.Linear(latent_dim, math.prod(self.grid))
        self.decoder = nn.ModuleList(decoder)
        self.head = convolution(ndim, channels[0], out_channels, 3)

    def encode(self, x: Tensor) -> Tensor:
        """(N, in_channels, *input_shape) -> latent vectors (N, latent_dim)."""
        wanted = (self.in_channels, *self.sizes[0])
        if tuple(x.shape[1:]) != wanted:
            raise ArrayError(f"input has shape {tuple(x.shape)}; this network was built for (N, {wanted})")
        return self.to_latent(self.encoder(x).flatten(1))  # type: ignore[no-any-return]

    def decode(self, z: Tensor) -> Tensor:
        """Latent vectors (N, latent_dim) -> (N, out_channels, *input_shape)."""
        if z.ndim != 2 or z.shape[1] != self.latent_dim:
            raise ArrayError(f"latent vectors have shape {tuple(z.shape)}; wanted (N, {self.latent_dim})")
        x = torch.relu(self.from_latent(z)).reshape(-1, *self.grid)
        for level in reversed(range(len(self.decoder))):
            x = crop(self.decoder[level](x), self.sizes[level])
        return self.head(x)  # type: ignore[no-any-return]

    def forward(self, x: Tensor) -> Tensor:
        return self.decode(self.encode(x))
