"""Labelled pixels for training, validation and test: whole blocks, apart from each other."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from dlsia_core.errors import ArrayError, SettingError
from dlsia_core.splits import EXCLUDED, block_numbers, split_blocks

LABEL_SETS = ("training", "validation", "test")
Shares = tuple[float, float, float]
BLOCKS = (64, 48, 32, 24, 16, 12, 8)
IGNORE = 255
TEST_UNITS = 120
"""Wanted: the coverage of sets that are calibrated on them is known to 2 or 3 %, and so is F1."""

Box = tuple[slice, ...]
Element = TypeVar("Element", bound=np.generic)


@dataclass(frozen=True)
class LabelSplit:
    """sets: (z, y, x) uint8, place in LABEL_SETS of each labelled pixel, 255 = unlabelled or too near another set.

    unit: (z, y, x) int64, the block of each pixel; block: its side in px; notes: what was given up for want of labels.
    """

    sets: NDArray[np.uint8]
    unit: NDArray[np.int64]
    block: int
    guard: int
    notes: tuple[str, ...] = ()

    def where(self, *names: str) -> NDArray[np.bool_]:
        """True for the labelled pixels of these sets."""
        return np.isin(self.sets, [LABEL_SETS.index(name) for name in names])

    @property
    def pixels(self) -> dict[str, int]:
        """Labelled pixels of each set, and those between the sets ("guard")."""
        counts = np.bincount(self.sets.ravel(), minlength=EXCLUDED + 1)
        return {name: int(counts[number]) for number, name in enumerate(LABEL_SETS)}


def split_labels(
    label: NDArray[np.uint8], shares: Shares, *, guard: int, seed: int, block: int | None = None, separate: bool = False
) -> LabelSplit:
    """Share out the blocks in which there are labels so that each class is in each set.

    label: (z, y, x), 255 = unlabelled. shares: of the blocks, in the order of LABEL_SETS; they add up to 1.
    guard: pixels of different sets are more than so many apart along some axis.
    block: side of the blocks; None = the largest of BLOCKS with which a test has blocks enough.
    separate: slices are no neighbors, so that each has blocks of its own; else blocks are as deep as wide.
    Where labels are too few for all sets, validation is given up first, then the test; `notes` say so.
    Raises ArrayError where a given `block` is too large for even that, SettingError for one that does not fit.

    >>> label = np.tile(np.array([[0, 1]], np.uint8), (1, 64, 32))
    >>> split = split_labels(label, (0.5, 0.1, 0.4), guard=2, seed=0)
    >>> split.block, all(split.pixels.values())
    (8, True)
    """
    box = (slice(None), *_box(label)[1:]) if separate else _box(label)
    inside = label[box]
    apart = separate or len(inside) == 1
    failure: ArrayError | None = None
    for tried, note in _given_up(shares):
        for side in [block] if block else _sides(inside, tried, guard, apart):
            try:
                sets = _shared(inside, _block_shape(inside.shape, side, apart), tried, guard, seed, apart)
            except ArrayError as error:
                failure = error
                continue
            unit = block_numbers(inside.shape, _block_shape(inside.shape, side, apart))
            placed = _placed(sets, box, label.shape, EXCLUDED), _placed(unit, box, label.shape, -1)
            return LabelSplit(*placed, side, guard, note)
    raise failure or ArrayError("there is no labelled pixel to share out")


def _given_up(shares: Shares) -> Iterator[tuple[Shares, tuple[str, ...]]]:
    """Shares as asked for, and then with one set less each time."""
    test = shares[2]
    yield shares, ()
    said = "the labels are too few to share them out to all sets: "
    yield (
        (1 - test, 0.0, test),
        (said + "the best epoch is chosen by the training loss; label more regions, or take smaller blocks",),
    )
    yield (
        (1.0, 0.0, 0.0),
        (said + "all are trained on, so that nobody knows how good the model is; label more regions",),
    )


def _sides(label: NDArray[np.uint8], shares: Shares, guard: int, apart: bool) -> list[int]:
    """Sides of blocks in the order in which they are tried: the largest with blocks enough, then smaller ones."""
    wanted = TEST_UNITS / shares[2] if shares[2] else 1
    allowed = [side for side in BLOCKS if side > 2 * guard] or [2 * guard + 1]
    counts = [_fewest_blocks(label, _block_shape(label.shape, side, apart)) for side in allowed]
    enough = [side for side, count in zip(allowed, counts, strict=True) if count >= wanted]
    first = enough[0] if enough else allowed[int(np.argmax(counts))]
    return [side for side in allowed if side <= first]


def _fewest_blocks(label: NDArray[np.uint8], block_shape: tuple[int, ...]) -> int:
    """Blocks with pixels of the class that is in the fewest of them."""
    there = label != IGNORE
    pairs = np.unique(np.stack([label[there], block_numbers(label.shape, block_shape)[there]]), axis=1)
    return int(np.unique(pairs[0], return_counts=True)[1].min())


def _block_shape(shape: tuple[int, ...], side: int, apart: bool) -> tuple[int, ...]:
    return tuple(min(side, size) for size in (shape[1:] if apart else shape))


def _shared(
    label: NDArray[np.uint8], block_shape: tuple[int, ...], shares: Shares, guard: int, seed: int, apart: bool
) -> NDArray[np.uint8]:
    """Set of each labelled pixel."""
    _require_shares(shares)
    if shares[0] == 1:
        return np.where(label == IGNORE, np.uint8(EXCLUDED), np.uint8(0))
    sets = split_blocks(label.shape, block_shape, shares, guard=guard, seed=seed, label=label, per_frame=apart)
    return np.where(label == IGNORE, np.uint8(EXCLUDED), sets)


def _require_shares(shares: Sequence[float]) -> None:
    if len(shares) != 3 or min(shares) < 0 or shares[0] == 0 or abs(sum(shares) - 1) > 1e-9:
        raise SettingError(f"shares are {tuple(shares)}; wanted those of {', '.join(LABEL_SETS)}, with the sum 1")


def _box(label: NDArray[np.uint8]) -> Box:
    """The smallest box around all labels: blocks begin where they do."""
    there = label != IGNORE
    if not there.any():
        raise ArrayError("no pixel is labelled")
    found = []
    for axis in range(label.ndim):
        places = np.flatnonzero(there.any(axis=tuple(other for other in range(label.ndim) if other != axis)))
        found.append(slice(int(places[0]), int(places[-1]) + 1))
    return tuple(found)


def _placed(values: NDArray[Element], box: Box, shape: tuple[int, ...], outside: int) -> NDArray[Element]:
    """The values of a box in an array of the whole shape."""
    whole = np.full(shape, outside, values.dtype)
    whole[box] = values
    return whole
