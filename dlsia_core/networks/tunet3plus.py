"""Tunable U-Net with full-scale skip connections (UNet 3+, Huang et al. 2020, arXiv:2004.08790)."""

import torch
from torch import Tensor, nn

from dlsia_core.errors import ArrayError
from dlsia_core.networks.blocks import (
    PADDING_MODES,
    activated,
    channel_plan,
    convolution,
    require,
    require_common,
    require_count,
)
from dlsia_core.networks.resampling import enlarge
from dlsia_core.networks.tunet import crop, double_convolution, max_pool, pad_to_multiple


class TUNet3Plus(nn.Module):
    """U-Net each of whose decoder levels sees all levels; any input size, plain output without activation.

    x: (N, in_channels, Y, X), or (N, in_channels, Z, Y, X) for ndim=3, float -> (N, out_channels, ...) of x's size.
    Inside, x is padded at its end to a multiple of 2 ** (depth - 1) by repeating the last pixels.

    depth, base_channels, growth_rate, hidden_rate, ndim, normalization, activation, padding_mode: as for `TUNet`.
    carryover_channels: channels that each skip connection carries; None = base_channels. A decoder level joins `depth`
        of them (Huang et al.: 64 from each of 5 levels) and mixes them by one 3x3 convolution.
    Higher levels come down by maximum pooling and a convolution, as in the paper; lower ones come up by a convolution
    and linear interpolation, in this order: the paper's, interpolation first, holds all channels of the lowest level
    at full size (1 GB for one 512x512 image with 64 base channels and depth 5).
    Raises SettingError for settings that are not allowed, ArrayError for inputs of another number of axes.

    >>> network = TUNet3Plus(1, 2, depth=3, base_channels=4)
    >>> network(torch.zeros(1, 1, 37, 50)).shape
    torch.Size([1, 2, 37, 50])
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        depth: int,
        base_channels: int,
        growth_rate: float = 2,
        hidden_rate: float = 1,
        carryover_channels: int | None = None,
        ndim: int = 2,
        normalization: str | None = None,
        activation: str = "relu",
        padding_mode: str = "zeros",
    ) -> None:
        super().__init__()
        require_common(ndim, normalization, activation)
        require_count("in_channels", in_channels)
        require_count("out_channels", out_channels)
        carried = base_channels if carryover_channels is None else carryover_channels
        require_count("carryover_channels", carried)
        require("padding_mode", padding_mode, padding_mode in PADDING_MODES, f"one of {PADDING_MODES}")
        require("hidden_rate", hidden_rate, hidden_rate > 0, "greater than 0")
        channels = channel_plan(base_channels, growth_rate, depth)
        self.ndim, self.depth = ndim, depth
        fused = depth * carried

        def layer(entering: int, leaving: int) -> nn.Sequential:
            convolved = convolution(ndim, entering, leaving, 3, padding_mode=padding_mode)
            return activated(ndim, convolved, leaving, normalization, activation)

        self.encoder = nn.ModuleList(
            double_convolution(ndim, a, c, hidden_rate, normalization, activation, padding_mode)
            for a, c in zip([in_channels, *channels[:-1]], channels, strict=True)
        )
        # What level `source` offers to level `target`: the encoder's features from above and from the lowest level,
        # the decoder's from between.
        self.carry = nn.ModuleList(
            nn.ModuleList(
                layer(fused if target < source < depth - 1 else channels[source], carried) for source in range(depth)
            )
            for target in range(depth - 1)
        )
        self.fuse = nn.ModuleList(layer(fused, fused) for _ in range(depth - 1))
        self.head = convolution(ndim, fused if depth > 1 else channels[0], out_channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        if x.ndim != self.ndim + 2:
            raise ArrayError(f"input has shape {tuple(x.shape)}; wanted (N, C) and {self.ndim} more axes")
        size = x.shape[2:]
        x = pad_to_multiple(x, 2 ** (self.depth - 1))
        features = []
        for level, block in enumerate(self.encoder):
            x = block(max_pool(x, 2) if level else x)
            features.append(x)
        for target in reversed(range(self.depth - 1)):
            # From here on `features` holds the encoder's levels down to `target` and the decoder's below.
            parts = [self._bring(features[source], source, target) for source in range(self.depth)]
            features[target] = self.fuse[target](torch.cat(parts, dim=1))
        return crop(self.head(features[0]), size)

    def _bring(self, x: Tensor, source: int, target: int) -> Tensor:
        """The features of level `source` as level `target` gets them."""
        carry: nn.Module = self.carry[target][source]  # type: ignore[index]
        if source < target:
            x = max_pool(x, 2 ** (target - source))
        x = carry(x)
        return enlarge(x, 2 ** (source - target)) if source > target else x
