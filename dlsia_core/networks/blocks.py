"""Pieces that all networks share: layers by number of dimensions, activations, normalizations, channel plans."""

import math
from collections.abc import Callable

from torch import nn

from dlsia_core.errors import SettingError

ACTIVATIONS: dict[str, Callable[[], nn.Module]] = {
    "relu": lambda: nn.ReLU(inplace=True),
    "leaky_relu": lambda: nn.LeakyReLU(0.1, inplace=True),
    "elu": lambda: nn.ELU(inplace=True),
    "gelu": nn.GELU,
    "silu": lambda: nn.SiLU(inplace=True),
}
NORMALIZATIONS: tuple[str | None, ...] = (None, "batch", "instance", "group")
PADDING_MODES = ("zeros", "replicate")
_CONV: dict[int, type[nn.Module]] = {2: nn.Conv2d, 3: nn.Conv3d}
_TRANSPOSED: dict[int, type[nn.Module]] = {2: nn.ConvTranspose2d, 3: nn.ConvTranspose3d}
_BATCH: dict[int, type[nn.Module]] = {2: nn.BatchNorm2d, 3: nn.BatchNorm3d}
_INSTANCE: dict[int, type[nn.Module]] = {2: nn.InstanceNorm2d, 3: nn.InstanceNorm3d}


def require(name: str, value: object, allowed: bool, wanted: str) -> None:
    """Raise SettingError unless `allowed`; the message names the setting, what was given and what is wanted."""
    if not allowed:
        raise SettingError(f"{name} is {value!r}; it must be {wanted}")


def require_count(name: str, value: object, least: int = 1) -> None:
    """Raise SettingError unless `value` is a whole number of at least `least`."""
    whole = isinstance(value, int) and not isinstance(value, bool)
    require(name, value, whole and int(str(value)) >= least, f"a whole number of at least {least}")


def require_common(ndim: int, normalization: str | None, activation: str) -> None:
    """Check the settings that every network has."""
    require("ndim", ndim, ndim in _CONV, "2 or 3")
    require("normalization", normalization, normalization in NORMALIZATIONS, f"one of {NORMALIZATIONS}")
    require("activation", activation, activation in ACTIVATIONS, f"one of {tuple(ACTIVATIONS)}")


def channel_plan(base_channels: int, growth_rate: float, depth: int) -> list[int]:
    """Channels per level, c_i = int(c_{i-1} * growth_rate): Chavez et al. 2022, Table 2.

    >>> channel_plan(64, 1.5, 5)
    [64, 96, 144, 216, 324]
    """
    require_count("depth", depth)
    require_count("base_channels", base_channels)
    require("growth_rate", growth_rate, growth_rate > 0, "greater than 0")
    channels = [base_channels]
    for _ in range(depth - 1):
        channels.append(int(channels[-1] * growth_rate))
    require("growth_rate", growth_rate, channels[-1] >= 1, f"large enough to leave a channel; channels {channels}")
    return channels


def convolution(
    ndim: int, channels_in: int, channels_out: int, kernel_size: int, dilation: int = 1, **settings: object
) -> nn.Module:
    """A convolution that keeps the size at stride 1 (odd kernels)."""
    padding = dilation * (kernel_size // 2)
    return _CONV[ndim](channels_in, channels_out, kernel_size, dilation=dilation, padding=padding, **settings)


def up_convolution(ndim: int, channels_in: int, channels_out: int, kernel_size: int) -> nn.Module:
    """A transposed convolution of stride 2 that doubles the size exactly, for any kernel of 2 or more.

    Size out = 2 (n - 1) - 2 padding + kernel + output_padding = 2 n: kernel 3 needs 1 and 1, kernel 2 needs 0 and 0.
    """
    padding = (kernel_size - 1) // 2
    extra = 2 + 2 * padding - kernel_size
    sizes = {"kernel_size": kernel_size, "stride": 2, "padding": padding, "output_padding": extra}
    return _TRANSPOSED[ndim](channels_in, channels_out, **sizes)


def normalization_layer(ndim: int, name: str | None, channels: int) -> list[nn.Module]:
    """No or one layer that normalizes `channels`; "group" takes groups of the largest size that divides by 8."""
    if name == "batch":
        return [_BATCH[ndim](channels)]
    if name == "instance":
        return [_INSTANCE[ndim](channels, affine=True)]
    if name == "group":
        return [nn.GroupNorm(math.gcd(8, channels), channels)]
    return []


def activated(ndim: int, layer: nn.Module, channels: int, normalization: str | None, activation: str) -> nn.Sequential:
    """A layer, then its normalization, then its activation."""
    return nn.Sequential(layer, *normalization_layer(ndim, normalization, channels), ACTIVATIONS[activation]())
