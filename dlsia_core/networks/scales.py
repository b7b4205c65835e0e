"""Sizes of feature maps level by level: what a network pads, and where its lowest level ends, before it is run."""

from collections.abc import Sequence
from dataclasses import dataclass

from torch import nn

from dlsia_core.errors import ArrayError, SettingError
from dlsia_core.networks.autoencoder import Autoencoder, level_sizes
from dlsia_core.networks.blocks import require_count
from dlsia_core.networks.partial_conv_unet import PartialConvUNet
from dlsia_core.networks.tunet import TUNet
from dlsia_core.networks.tunet3plus import TUNet3Plus


@dataclass(frozen=True)
class ScaleTable:
    """padding: pixels added behind the last one of each axis before the first level, and cut from the output.

    sizes: of the feature maps, level by level going down.
    cut: pixels cut from each axis when coming up to that level from the one below, because its size was odd.
    """

    padding: tuple[int, ...]
    sizes: tuple[tuple[int, ...], ...]
    cut: tuple[tuple[int, ...], ...]


def padded_scales(input_shape: Sequence[int], halvings: int) -> ScaleTable:
    """Sizes where the input is padded so that it can be halved without rest.

    >>> padded_scales((37, 50), halvings=2)
    ScaleTable(padding=(3, 2), sizes=((40, 52), (20, 26), (10, 13)), cut=((0, 0), (0, 0)))
    """
    _check(input_shape, halvings)
    padding = tuple(-n % 2**halvings for n in input_shape)
    padded = [n + extra for n, extra in zip(input_shape, padding, strict=True)]
    sizes = tuple(tuple(n // 2**level for n in padded) for level in range(halvings + 1))
    return ScaleTable(padding, sizes, ((0,) * len(padding),) * halvings)


def cut_scales(input_shape: Sequence[int], halvings: int) -> ScaleTable:
    """Sizes where nothing is padded: halves are rounded up, and doubling cuts the surplus.

    >>> cut_scales((37, 50), halvings=2)
    ScaleTable(padding=(0, 0), sizes=((37, 50), (19, 25), (10, 13)), cut=((1, 0), (1, 1)))
    """
    _check(input_shape, halvings)
    sizes = level_sizes(input_shape, halvings)
    cut = tuple(tuple(2 * -(-n // 2) - n for n in size) for size in sizes[:-1])
    return ScaleTable((0,) * len(input_shape), tuple(sizes), cut)


def scale_table(network: nn.Module, input_shape: Sequence[int]) -> ScaleTable:
    """Sizes inside a U-Net or an autoencoder for images of `input_shape`, (Y, X) or (Z, Y, X).

    The first size is the (padded) image's. `TUNet` and `TUNet3Plus` keep it on their first of `depth` levels, so that
    `depth` sizes come back; autoencoders and `PartialConvUNet` halve on each level, so that there is one more.
    Raises SettingError for networks that keep one scale, ArrayError for another number of axes.

    >>> scale_table(TUNet(1, 1, depth=3, base_channels=2), (512, 130)).sizes
    ((512, 132), (256, 66), (128, 33))
    """
    if not isinstance(network, Autoencoder | PartialConvUNet | TUNet | TUNet3Plus):
        raise SettingError(f"{type(network).__name__} has no levels of different scale; wanted a U-Net or autoencoder")
    if len(input_shape) != network.ndim:
        raise ArrayError(f"input_shape is {tuple(input_shape)}; wanted {network.ndim} axes, without N and C")
    if isinstance(network, Autoencoder):
        return cut_scales(input_shape, network.depth)
    return padded_scales(input_shape, network.depth - (not isinstance(network, PartialConvUNet)))


def _check(input_shape: Sequence[int], halvings: int) -> None:
    require_count("halvings", halvings, least=0)
    for length in input_shape:
        require_count("input_shape", length)
