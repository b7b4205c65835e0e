"""Shifted sums: how the planes that belong to the taps of a dilated kernel add up to an image, and the way back."""

import math
from collections.abc import Sequence
from functools import lru_cache
from itertools import product
from typing import NamedTuple

import torch
from torch import Tensor

Box = tuple[tuple[int, int], ...]


class Move(NamedTuple):
    """A region of the plane of one tap, and where it goes.

    extent: of the region; in_image, in_strip: offsets of its first pixel in the image and in the strip of the taps.
    repeated: axes along which one pixel of the strip, at the edge, goes to `extent` pixels of the image.
    strides: of the region in the strip, 0 along repeated axes.
    """

    tap: int
    extent: tuple[int, ...]
    in_image: int
    in_strip: int
    repeated: tuple[int, ...]
    strides: tuple[int, ...]


def strides_of(size: Sequence[int]) -> tuple[int, ...]:
    """Of a contiguous image.

    >>> strides_of((4, 5, 6))
    (30, 6, 1)
    """
    return tuple(math.prod(size[axis + 1 :]) for axis in range(len(size)))


@lru_cache(maxsize=256)
def strips(size: tuple[int, ...], most: int) -> tuple[Box, ...]:
    """Boxes that cover an image in order, contiguous in memory, of at most `most` pixels each, or of one row.

    >>> strips((5, 10), 25)
    (((0, 2), (0, 10)), ((2, 4), (0, 10)), ((4, 5), (0, 10)))
    >>> strips((2, 3, 4), 8)[1]
    ((0, 1), (2, 3), (0, 4))
    """
    row = math.prod(size[1:])
    if row > most and len(size) > 2:
        inner = strips(size[1:], most)
        return tuple(((index, index + 1), *box) for index in range(size[0]) for box in inner)
    step = max(1, most // max(1, row))
    rest = tuple((0, length) for length in size[1:])
    return tuple(((start, min(start + step, size[0])), *rest) for start in range(0, size[0], step))


@lru_cache(maxsize=1 << 14)
def moves(size: tuple[int, ...], box: Box, kernel_size: int, dilation: int, replicate: bool) -> tuple[Move, ...]:
    """All moves from the taps at the pixels of `box`, one of `strips(size, ...)`, to the image.

    Tap t of a kernel adds the pixel p = q + s_t of its plane to the pixel q of the image, s_t the tap's shift; beyond
    the edge there are zeros, or the edge pixels again where `replicate`.

    >>> for move in moves((1, 5), ((0, 1), (0, 5)), 3, 2, False):
    ...     move[:4]
    (3, (1, 3), 2, 0)
    (4, (1, 5), 0, 0)
    (5, (1, 3), 0, 2)
    """
    strides = strides_of(size)
    reach = range(-(kernel_size // 2), kernel_size // 2 + 1)
    found = []
    for tap, place in enumerate(product(reach, repeat=len(size))):
        spans = [_spans(n, *ends, step * dilation, replicate) for n, ends, step in zip(size, box, place, strict=True)]
        for parts in product(*spans):
            found.append(_move(tap, parts, box, strides))
    return tuple(found)


def _spans(length: int, start: int, stop: int, shift: int, replicate: bool) -> list[tuple[int, int, int, bool]]:
    """Along one axis: (first pixel in the image, first in the plane, pixels, whether it is one pixel repeated)."""
    first, last = max(start, shift), min(stop, length + shift)
    spans = [(first - shift, first, last - first, False)] if first < last else []
    if replicate and start == 0 and shift < 0:
        spans.append((0, 0, min(-shift, length), True))
    if replicate and stop == length and shift > 0:
        spans.append((max(0, length - shift), length - 1, min(shift, length), True))
    return spans


def _move(tap: int, parts: Sequence[tuple[int, int, int, bool]], box: Box, strides: tuple[int, ...]) -> Move:
    return Move(
        tap,
        extent=tuple(extent for _, _, extent, _ in parts),
        in_image=sum(part[0] * stride for part, stride in zip(parts, strides, strict=True)),
        in_strip=sum((p[1] - ends[0]) * stride for p, ends, stride in zip(parts, box, strides, strict=True)),
        repeated=tuple(axis for axis, part in enumerate(parts) if part[3]),
        strides=tuple(0 if part[3] else stride for part, stride in zip(parts, strides, strict=True)),
    )


def add_shifted(image: Tensor, taps: Tensor, plan: tuple[Move, ...], strides: tuple[int, ...]) -> None:
    """Add the planes of the taps, shifted, to the image.

    image: (N, channels, P); taps: (N, channels, taps, pixels of the strip); both contiguous along the last axis.
    """
    n, channels, step = image.shape[0], image.shape[1], taps.stride(2)
    ahead, behind = (image.stride(0), image.stride(1)), (taps.stride(0), taps.stride(1))
    to, of = image.storage_offset(), taps.storage_offset()
    for move in plan:
        shape = (n, channels, *move.extent)
        target = torch.as_strided(image, shape, (*ahead, *strides), to + move.in_image)
        source = torch.as_strided(taps, shape, (*behind, *move.strides), of + move.tap * step + move.in_strip)
        target.add_(source)


def gather_shifted(taps: Tensor, image: Tensor, plan: tuple[Move, ...], strides: tuple[int, ...]) -> None:
    """The transpose of `add_shifted`: each plane of the taps is set to the image shifted the other way, else to 0."""
    n, channels, step = image.shape[0], image.shape[1], taps.stride(2)
    ahead, behind = (taps.stride(0), taps.stride(1)), (image.stride(0), image.stride(1))
    to, of = taps.storage_offset(), image.storage_offset()
    taps.zero_()
    for move in plan:
        shape = (n, channels, *move.extent)
        source = torch.as_strided(image, shape, (*behind, *strides), of + move.in_image)
        if move.repeated:
            source = source.sum([axis + 2 for axis in move.repeated], keepdim=True)
        place = to + move.tap * step + move.in_strip
        target = torch.as_strided(taps, source.shape, (*ahead, *strides), place)
        # The pixels of the plain moves lie apart; those that repeat an edge come later, on top of them.
        target.add_(source) if move.repeated else target.copy_(source)
