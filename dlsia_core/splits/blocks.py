"""Pixels of the same frames for training, validation and test: whole blocks, with a guard distance between the sets."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import maximum_filter, minimum_filter

from dlsia_core.errors import ArrayError, SettingError
from dlsia_core.metrics.confusion import counted_pixels
from dlsia_core.splits.items import SETS, Fractions, set_sizes

EXCLUDED = 255
IGNORE = 255
DRAWS = 50  # of blocks, until each class is in each set

SplitArray = NDArray[np.uint8]


@dataclass(frozen=True)
class _Labeled:
    """The labelled pixels: where they are, the number of the class of each, and what the numbers stand for."""

    where: NDArray[np.bool_]
    code: NDArray[np.int64]
    classes: NDArray[np.integer]

    @classmethod
    def of(cls, label: NDArray[np.integer], shape: tuple[int, ...], ignore_index: int) -> "_Labeled":
        if label.shape != shape:
            raise ArrayError(f"label has shape {label.shape}; wanted {shape}")
        where = counted_pixels(label, None, ignore_index)
        classes, code = np.unique(label[where], return_inverse=True)
        return cls(where, code, classes)

    def in_blocks(self, grid: list[NDArray[np.int64]], fractions: Fractions) -> NDArray[np.bool_]:
        """(class, block): True where the block holds a pixel of the class; refused where that is in too few blocks."""
        counts = [int(axis[-1]) + 1 for axis in grid]
        number = np.ravel_multi_index(np.ix_(*grid), counts)
        present = np.zeros((len(self.classes), int(np.prod(counts))), dtype=np.bool_)
        present[self.code, np.broadcast_to(number, self.where.shape)[self.where]] = True
        wanted = sum(fraction > 0 for fraction in fractions)
        for value, blocks in zip(self.classes.tolist(), present.sum(axis=1).tolist(), strict=True):
            if blocks < wanted:
                raise ArrayError(
                    f"class {value} is in {blocks} blocks and cannot be in each of {wanted} sets; take smaller blocks, "
                    "label more of it, or give the fraction 0 to a set"
                )
        return present

    def first_complete(self, drawn: Iterator[SplitArray], fractions: Fractions) -> SplitArray:
        """The first split in which each class has pixels in each set, after the guard was taken away."""
        wanted = [k for k in range(3) if fractions[k] > 0]
        for _ in range(DRAWS):
            split = next(drawn)
            there = np.zeros((len(self.classes), EXCLUDED + 1), dtype=np.bool_)
            there[self.code, np.broadcast_to(split, self.where.shape)[self.where]] = True
            missing = np.argwhere(~there[:, wanted])
            if not missing.size:
                return split
        value, k = missing[0].tolist()
        raise ArrayError(
            f"class {self.classes[value]} has no pixel in the {SETS[wanted[k]]} set in any of {DRAWS} draws of the "
            "blocks; take smaller blocks, a smaller guard, or label more of it"
        )


def split_blocks(
    shape: Sequence[int],
    block_shape: Sequence[int],
    fractions: Fractions,
    *,
    guard: int,
    seed: int,
    label: NDArray[np.integer] | None = None,
    ignore_index: int = IGNORE,
    per_frame: bool = False,
) -> SplitArray:
    """Set of each pixel, uint8 of `shape`: 0 training, 1 validation, 2 test, 255 excluded.

    Law: any two pixels of different sets are more than `guard` pixels apart in rows, columns or slices (the largest of
    them counts). With guard=1 they do not touch, not even by a corner. A network that sees r pixels around the one it
    answers for needs guard = 2r, lest training and test pixels share input. Pixels nearer to another set's block
    (half the guard, rounded up) are excluded.

    shape: (y, x) or (z, y, x), with a frame axis in front where it has one more axis than block_shape.
    block_shape: smallest size of a block; blocks are a little larger where the frame is no multiple. Along an axis
        with more than one block they must be larger than the guard, or nothing is left of a block between two others.
    fractions: of the blocks, see `set_sizes`.
    label: of `shape`; then the blocks of each class are shared out by the fractions, rarest class first, so that each
        class is in each set.
    per_frame: False = the same blocks in every frame, since frames of a scan resemble each other; True = blocks are
        drawn for each frame (and never reach into the next), for frames that have nothing in common.
    Raises SettingError for blocks that do not fit shape or guard, ArrayError where a class is in too few blocks to be
    in each set (it names the class), where there are fewer blocks than sets, or a label does not have `shape`.

    >>> split = split_blocks((64, 64), (16, 16), (0.5, 0.25, 0.25), guard=4, seed=0)
    >>> sorted(np.unique(split).tolist()), int((split == 0).sum()) > 1000
    ([0, 1, 2, 255], True)
    """
    shape, block_shape = tuple(shape), tuple(block_shape)
    _check(shape, block_shape, guard)
    stacked = len(shape) > len(block_shape)
    together = stacked and not per_frame
    drawn_shape = shape[1:] if together else shape
    grid = _grid(drawn_shape, (1, *block_shape) if stacked and not together else block_shape)
    if label is None:
        split = next(_draws(grid, None, fractions, seed, _reach(guard), len(block_shape)))
    else:
        labeled = _Labeled.of(label, shape, ignore_index)
        drawn = _draws(grid, labeled.in_blocks(grid, fractions), fractions, seed, _reach(guard), len(block_shape))
        split = labeled.first_complete(drawn, fractions)
    return np.broadcast_to(split, shape).copy() if together else split


def block_numbers(shape: Sequence[int], block_shape: Sequence[int]) -> NDArray[np.int64]:
    """Number of the block of each pixel, int64 of `shape`, of the blocks that `split_blocks` shares out.

    Each frame has its own where shape has one axis more than block_shape.

    >>> block_numbers((2, 1, 5), (1, 2)).tolist()
    [[[0, 0, 1, 1, 1]], [[2, 2, 3, 3, 3]]]
    """
    shape, block_shape = tuple(shape), tuple(block_shape)
    _check(shape, block_shape, guard=0)
    grid = _grid(shape, block_shape if len(shape) == len(block_shape) else (1, *block_shape))
    return np.ravel_multi_index(np.ix_(*grid), [int(axis[-1]) + 1 for axis in grid]).astype(np.int64)


def in_set(split: SplitArray, name: str) -> NDArray[np.bool_]:
    """True for the pixels of "training", "validation" or "test".

    >>> in_set(np.array([0, 2, 255], np.uint8), "test").tolist()
    [False, True, False]
    """
    if name not in SETS:
        raise SettingError(f"{name!r} is no set; known are {', '.join(SETS)}")
    return np.equal(split, SETS.index(name))


def labels_in_set(
    label: NDArray[np.integer], split: SplitArray, name: str, *, ignore_index: int = IGNORE
) -> NDArray[np.integer]:
    """The labels of one set of pixels, and `ignore_index` on all others.

    >>> labels_in_set(np.array([3, 4, 5]), np.array([0, 2, 255], np.uint8), "test").tolist()
    [255, 4, 255]
    """
    if label.shape != split.shape:
        raise ArrayError(f"label has shape {label.shape} and the split {split.shape}; they must be the same")
    counted_pixels(label, None, ignore_index)  # refuses what is no label
    if not np.iinfo(label.dtype).min <= ignore_index <= np.iinfo(label.dtype).max:
        raise ArrayError(f"labels of type {label.dtype} cannot hold {ignore_index}; use uint8 or a wider type")
    return np.where(in_set(split, name), label, np.asarray(ignore_index, dtype=label.dtype))


def _check(shape: tuple[int, ...], block_shape: tuple[int, ...], guard: int) -> None:
    if len(block_shape) not in (2, 3) or len(shape) - len(block_shape) not in (0, 1):
        raise SettingError(
            f"shape is {shape} and block_shape {block_shape}; wanted a block with 2 or 3 axes, and a shape with as "
            "many or a frame axis more"
        )
    if guard < 0:
        raise SettingError(f"guard is {guard}; it must be 0 or greater")
    frame, given_up = shape[-len(block_shape) :], 2 * _reach(guard)
    for edge, size in zip(block_shape, frame, strict=True):
        if not 1 <= edge <= size or (size // edge > 1 and edge <= given_up):
            raise SettingError(
                f"block_shape is {block_shape}; each number must be at most the frame's {frame}, and greater than "
                f"{given_up} (the guard, rounded up to an even number) where there is more than one block"
            )


def _reach(guard: int) -> int:
    """Pixels that each side of a border gives up."""
    return -(-guard // 2)


def _grid(shape: tuple[int, ...], block_shape: tuple[int, ...]) -> list[NDArray[np.int64]]:
    """Number of the block along each axis for every row, column, ...: 10 rows in blocks of 3 make 0001112222."""
    counts = [size // edge for size, edge in zip(shape, block_shape, strict=True)]
    # The pixel p of s lies in block b of n where floor(b s / n) <= p, so that no block is smaller than asked for.
    edges = [(np.arange(1, n) * size) // n for n, size in zip(counts, shape, strict=True)]
    return [np.searchsorted(edge, np.arange(size), side="right") for edge, size in zip(edges, shape, strict=True)]


def _draws(
    grid: list[NDArray[np.int64]],
    present: NDArray[np.bool_] | None,
    fractions: Fractions,
    seed: int,
    reach: int,
    ndim: int,
) -> Iterator[SplitArray]:
    """Ever new splits from one seed."""
    counts = [int(axis[-1]) + 1 for axis in grid]
    rng = np.random.default_rng(seed)
    while True:
        set_of_block = _assign(int(np.prod(counts)), fractions, present, rng).reshape(counts)
        split: SplitArray = set_of_block[np.ix_(*grid)]
        if reach:
            window = (1,) * (split.ndim - ndim) + (2 * reach + 1,) * ndim
            # Both sides give up `reach` pixels, so 2 * reach + 1 > guard is the distance that is left.
            alone = minimum_filter(split, window, mode="nearest") == maximum_filter(split, window, mode="nearest")
            split = np.where(alone, split, np.uint8(EXCLUDED))
        yield split


def _assign(
    blocks_in_all: int, fractions: Fractions, present: NDArray[np.bool_] | None, rng: np.random.Generator
) -> SplitArray:
    """Set of each block in the exact numbers of `set_sizes`; the blocks of rare classes are shared out first.

    After the iterative stratification of Sechidis, Tsoumakas & Vlahavas 2011 (ECML PKDD, algorithm 1).
    """
    set_of_block = np.full(blocks_in_all, EXCLUDED, dtype=np.uint8)
    left = np.asarray(set_sizes(blocks_in_all, fractions))
    rarest_first = [] if present is None else sorted(present, key=lambda blocks: int(blocks.sum()))
    for blocks in rarest_first:
        wish = np.asarray(set_sizes(int(blocks.sum()), fractions))
        wish -= np.bincount(set_of_block[blocks & (set_of_block != EXCLUDED)], minlength=3)
        for block in rng.permutation(np.flatnonzero(blocks & (set_of_block == EXCLUDED))):
            chosen = int(np.argmax(np.where(left > 0, wish, -blocks_in_all - 1)))
            set_of_block[block] = chosen
            left[chosen] -= 1
            wish[chosen] -= 1
    free = np.flatnonzero(set_of_block == EXCLUDED)
    set_of_block[rng.permutation(free)] = np.repeat(np.arange(3, dtype=np.uint8), left)
    return set_of_block
