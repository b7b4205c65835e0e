"""Bring feature maps to a given size, by sums in a fixed order: torch's own gradients vary from run to run on a GPU."""

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F


def resample(x: Tensor, size: Sequence[int]) -> Tensor:
    """(N, C, ...) to (N, C, *size), axis by axis: means where it shrinks, linear interpolation where it grows.

    An axis that has the size already is left as it is, to the bit. A constant stays constant.

    >>> resample(torch.tensor([[[0.0, 2.0, 4.0, 6.0]]]), (2,))
    tensor([[[1., 5.]]])
    """
    for axis, wanted in enumerate(size, start=2):
        if x.shape[axis] != wanted:
            weights = resampling_weights(x.shape[axis], wanted).to(device=x.device, dtype=x.dtype)
            x = torch.movedim(torch.movedim(x, axis, -1) @ weights, -1, axis)
    return x


def enlarge(x: Tensor, factor: int) -> Tensor:
    """Linear interpolation of (N, C, ...) to `factor` times the size: as `resample`, faster on a CPU.

    >>> enlarge(torch.tensor([[[[0.0, 4.0]]]]), 2)[0, 0, 0]
    tensor([0., 1., 3., 4.])
    """
    if x.device.type != "cpu" and x.requires_grad:
        return resample(x, [factor * n for n in x.shape[2:]])
    mode = "bilinear" if x.ndim == 4 else "trilinear"
    return F.interpolate(x, scale_factor=factor, mode=mode, align_corners=False)


def resampling_weights(present: int, wanted: int) -> Tensor:
    """Weights (present, wanted), float64: column j says of which pixels the new pixel j is made; columns sum to 1.

    Shrinking: the mean over the stretch [j, j + 1) * present / wanted, pixels at its ends by the part that lies in it.
    Growing: linear between pixel centers, the outermost pixels continued.

    >>> resampling_weights(2, 4)
    tensor([[1.0000, 0.7500, 0.2500, 0.0000],
            [0.0000, 0.2500, 0.7500, 1.0000]], dtype=torch.float64)
    """
    ratio = present / wanted
    new = torch.arange(wanted, dtype=torch.float64)
    old = torch.arange(present, dtype=torch.float64)[:, None]
    if present > wanted:
        covered = torch.minimum(old + 1, (new + 1) * ratio) - torch.maximum(old, new * ratio)
        return covered.clamp(min=0) / ratio
    center = ((new + 0.5) * ratio - 0.5).clamp(0, present - 1)
    return (1 - (center - old).abs()).clamp(min=0)
