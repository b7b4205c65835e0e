"""Autoencoder with mixed-scale dense blocks on its levels (Roberts et al. 2024, Table 1, `msae`: "forthcoming")."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from dlsia_core.networks.autoencoder import Autoencoder, built_shape
from dlsia_core.networks.blocks import activated, channel_plan, convolution, require_common, require_count


class MixedScaleBlock(nn.Module):
    """Dilated 3x3 convolutions, each of which sees the block's input and all layers before it; size is kept.

    x: (N, channels, ...) -> (N, channels, ...). Layer i has dilation i mod max_dilation + 1 (Roberts et al. 2024,
    §2.3); activation and normalization act on its own channels only. A 1x1 convolution mixes input and all layers.
    """

    def __init__(
        self,
        ndim: int,
        channels: int,
        num_layers: int,
        max_dilation: int,
        layer_width: int,
        normalization: str | None,
        activation: str,
    ) -> None:
        super().__init__()

        def layer(number: int) -> nn.Sequential:
            entering, dilation = channels + number * layer_width, number % max_dilation + 1
            convolved = convolution(ndim, entering, layer_width, 3, dilation)
            return activated(ndim, convolved, layer_width, normalization, activation)

        self.layers = nn.ModuleList(layer(number) for number in range(num_layers))
        mixed = convolution(ndim, channels + num_layers * layer_width, channels, 1)
        self.mix = activated(ndim, mixed, channels, normalization, activation)

    def forward(self, x: Tensor) -> Tensor:
        for layer in self.layers:
            x = torch.cat((x, layer(x)), dim=1)
        return self.mix(x)  # type: ignore[no-any-return]


class MixedScaleAutoencoder(Autoencoder):
    """`ConvAutoencoder` whose levels see several length scales at once: their second convolution is a dense block.

    num_layers: dilated layers of each block; layer_width: channels of each layer.
    max_dilation: the layers of a block have the dilations 1, 2, ..., max_dilation, 1, 2, ...
    All else, `encode` and `decode` included, as for `ConvAutoencoder`.

    >>> network = MixedScaleAutoencoder(1, 1, depth=2, base_channels=4, latent_dim=5, layer_width=2)
    >>> network(torch.zeros(2, 1, 21, 30)).shape, network.encode(torch.zeros(2, 1, 21, 30)).shape
    (torch.Size([2, 1, 21, 30]), torch.Size([2, 5]))
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
        num_layers: int = 4,
        max_dilation: int = 4,
        layer_width: int = 4,
        input_shape: Sequence[int] | None = None,
        normalization: str | None = None,
        activation: str = "relu",
        ndim: int | None = None,
    ) -> None:
        shape = built_shape(input_shape, ndim, depth)
        axes = len(shape)
        require_common(axes, normalization, activation)
        for name, count in (("num_layers", num_layers), ("max_dilation", max_dilation), ("layer_width", layer_width)):
            require_count(name, count)
        channels = channel_plan(base_channels, growth_rate, depth)

        def layer(convolved: nn.Module, leaving: int) -> nn.Module:
            return activated(axes, convolved, leaving, normalization, activation)

        def block(here: int) -> nn.Module:
            return MixedScaleBlock(axes, here, num_layers, max_dilation, layer_width, normalization, activation)

        super().__init__(in_channels, out_channels, channels, latent_dim, shape, layer, block)
