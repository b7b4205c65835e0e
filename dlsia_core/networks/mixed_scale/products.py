"""Dilated convolutions between planes of a buffer, as matrix products over strips that stay in the cache."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from dlsia_core.networks.mixed_scale.shifts import Box, Move, add_shifted, gather_shifted, moves, strides_of, strips

# Numbers in the planes of all taps at once. On a CPU, 9.4 MB of float32 stay in the cache; a GPU wants long rows.
ROOM = {"cpu": 72 * 32768}
ROOM_ELSEWHERE = 1 << 26


@dataclass(frozen=True)
class Unit:
    """A piece of work: some samples of the batch, the pixels in `box`, and where these lie along the axis P."""

    samples: slice
    box: Box
    pixels: slice


class Convolutions:
    """Convolutions of one kernel size on images of one size, with any channels and dilations; holds their workspace.

    Buffers are (N, channels, P). A matrix (rows, channels) holds kernels, its rows are (layer, channel of the layer,
    tap); `dilations` has one number per layer. On the CPU each sample has matrix products of its own, so that its bits
    do not depend on its batch; all sums have a fixed order.
    """

    def __init__(self, size: Sequence[int], kernel_size: int, replicate: bool, like: Tensor) -> None:
        self.size, self.kernel_size, self.replicate = tuple(size), kernel_size, replicate
        self.taps, self.strides = kernel_size ** len(self.size), strides_of(self.size)
        self.room = ROOM.get(like.device.type, ROOM_ELSEWHERE)
        self.workspace = like.new_empty(0)

    def add(self, matrix: Tensor, source: Tensor, target: Tensor, dilations: Sequence[int]) -> None:
        """target (N, layers * width, P) += the convolutions of source (N, channels, P)."""
        for unit in self._units(len(source), len(matrix)):
            planes = self._planes(unit, matrix)
            multiply(matrix, source[unit.samples, :, unit.pixels], planes)
            for image, taps, plan in self._layers(target, planes, unit, dilations):
                add_shifted(image, taps, plan, self.strides)

    def add_transposed(
        self, matrix: Tensor, gradient: Tensor, target: Tensor, dilations: Sequence[int], source: Tensor | None = None
    ) -> Tensor | None:
        """Backward of `add`: target (N, channels, P) += the gradient with respect to `add`'s source.

        gradient: (N, layers * width, P), with respect to `add`'s target.
        Returns, where a source (N, any channels, P) is given, the gradient with respect to the kernels that act on it:
        (rows, its channels).
        """
        weights = None if source is None else gradient.new_zeros(len(matrix), source.shape[1])
        for unit in self._units(len(gradient), len(matrix)):
            planes = self._planes(unit, matrix)
            for image, taps, plan in self._layers(gradient, planes, unit, dilations):
                gather_shifted(taps, image, plan, self.strides)
            for index, sample in enumerate(range(unit.samples.start, unit.samples.stop)):
                accumulate(target[sample, :, unit.pixels], matrix.t(), planes[index])
                if source is not None and weights is not None:
                    accumulate(weights, planes[index], source[sample, :, unit.pixels].t())
        return weights

    def _units(self, count: int, rows: int) -> Iterator[Unit]:
        most = max(1, self.room // rows)
        together = max(1, most // max(1, math.prod(self.size)))
        for start in range(0, count, together):
            for box in strips(self.size, most):
                first = sum(ends[0] * stride for ends, stride in zip(box, self.strides, strict=True))
                length = math.prod(stop - start for start, stop in box)
                yield Unit(slice(start, min(start + together, count)), box, slice(first, first + length))

    def _planes(self, unit: Unit, matrix: Tensor) -> Tensor:
        """Room for (samples, rows, pixels) of this unit."""
        samples, pixels = unit.samples.stop - unit.samples.start, unit.pixels.stop - unit.pixels.start
        row = aligned(pixels)
        needed = samples * len(matrix) * row
        if self.workspace.numel() < needed:
            self.workspace = matrix.new_empty(needed)
        return self.workspace[:needed].view(samples, len(matrix), row)[:, :, :pixels]

    def _layers(
        self, images: Tensor, planes: Tensor, unit: Unit, dilations: Sequence[int]
    ) -> Iterator[tuple[Tensor, Tensor, tuple[Move, ...]]]:
        """For each layer: its images (n, width, P), the planes (n, width, taps, pixels), and how they belong."""
        width = images.shape[1] // len(dilations)
        split = torch.unflatten(planes, 1, (len(dilations), width, self.taps))
        for layer, dilation in enumerate(dilations):
            plan = moves(self.size, unit.box, self.kernel_size, dilation, self.replicate)
            yield images[unit.samples, layer * width : (layer + 1) * width], split[:, layer], plan


def aligned(pixels: int) -> int:
    """Length of a row that holds `pixels` numbers and ends where a vector register does (64 bytes of float32).

    The last bits of MKL's products depend on where rows begin in memory; so they begin alike for each sample.

    >>> aligned(33)
    48
    """
    return -(-pixels // 16) * 16


def new_planes(like: Tensor, channels: int, pixels: int, dtype: torch.dtype | None = None) -> Tensor:
    """Room for (N, channels, pixels), N as in `like`, with aligned rows."""
    return like.new_empty(len(like), channels, aligned(pixels), dtype=dtype or like.dtype)[:, :, :pixels]


def multiply(matrix: Tensor, source: Tensor, result: Tensor) -> None:
    """result (n, rows, P) = matrix (rows, channels) @ source (n, channels, P)."""
    if source.device.type != "cpu":
        torch.bmm(matrix.expand(len(source), -1, -1), source, out=result)
        return
    for sample, planes in zip(source, result, strict=True):
        torch.mm(matrix, sample, out=planes)


def accumulate(result: Tensor, left: Tensor, right: Tensor) -> None:
    """result += left @ right; the sum is kept in the precision of `result`, which may be higher."""
    if result.dtype == left.dtype:
        result.addmm_(left, right)
    else:
        result.add_(left @ right)
