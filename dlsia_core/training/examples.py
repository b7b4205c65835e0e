"""What a training learns from: examples that are a function of (seed, epoch, index), and the order they come in."""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from dlsia_core.errors import ArrayError
from dlsia_core.losses.labels import IGNORE_INDEX
from dlsia_core.training.reading import read_ahead


@dataclass(frozen=True)
class Batch:
    """inputs: what the network is called with; target: what it should answer; weight: what each pixel counts (>= 0)."""

    inputs: Tensor
    target: Tensor
    weight: Tensor

    def to(self, device: torch.device) -> "Batch":
        return Batch(self.inputs.to(device), self.target.to(device), self.weight.to(device))

    def without_weight(self) -> "Batch":
        """The same, so that nothing is learned from it."""
        return Batch(self.inputs, self.target, torch.zeros_like(self.weight))


class Examples(Protocol):
    """A finite set of examples. `batch` must be a pure function: a resumed training asks again for the same ones."""

    def __len__(self) -> int: ...

    def batch(self, epoch: int, indices: NDArray[np.int64]) -> Batch:
        """The examples of the given indices as they look in this epoch."""
        ...

    @property
    def digest(self) -> str:
        """Hexadecimal digest of everything that decides the batches."""
        ...


@dataclass(frozen=True)
class ArrayExamples:
    """Fixed inputs and targets, every pixel of weight 1; with target None the input is its own target.

    inputs: (example, channel, y, x) float32; target: (example, ...) float32.
    Raises ArrayError where the numbers of examples differ or there is none.
    """

    inputs: NDArray[np.float32]
    target: NDArray[np.float32] | None = None

    def __post_init__(self) -> None:
        if not len(self.inputs) or (self.target is not None and len(self.target) != len(self.inputs)):
            given = len(self.inputs), None if self.target is None else len(self.target)
            raise ArrayError(f"{given[0]} inputs and {given[1]} targets; wanted the same number, at least 1")

    def __len__(self) -> int:
        return len(self.inputs)

    def batch(self, epoch: int, indices: NDArray[np.int64]) -> Batch:  # noqa: ARG002 - the same in every epoch
        inputs = torch.from_numpy(self.inputs[indices])
        target = inputs if self.target is None else torch.from_numpy(self.target[indices])
        return Batch(inputs, target, torch.ones_like(target))

    @cached_property
    def digest(self) -> str:
        return array_digest(self.inputs, *(() if self.target is None else (self.target,)))


@dataclass(frozen=True)
class LabeledExamples:
    """Inputs with a class for every pixel; pixels with the label `ignore_index` weigh 0, all others 1.

    inputs: (example, channel, [z,] y, x) float32; labels: (example, [z,] y, x) of an integer type.
    Raises ArrayError where numbers or sizes differ, there is no example, or the labels are no integers.

    >>> examples = LabeledExamples(np.zeros((1, 3, 1, 2), np.float32), np.array([[[1, 255]]], np.uint8))
    >>> batch = examples.batch(0, np.array([0]))
    >>> batch.target, batch.weight
    (tensor([[[  1, 255]]]), tensor([[[1., 0.]]]))
    """

    inputs: NDArray[np.float32]
    labels: NDArray[np.integer[Any]]
    ignore_index: int = IGNORE_INDEX

    def __post_init__(self) -> None:
        if not len(self.inputs) or (len(self.inputs), *self.inputs.shape[2:]) != self.labels.shape:
            raise ArrayError(
                f"inputs have shape {self.inputs.shape} and labels {self.labels.shape}; wanted (example, channel, ...) "
                "and (example, ...), at least 1 example"
            )
        if not np.issubdtype(self.labels.dtype, np.integer):
            raise ArrayError(f"labels are {self.labels.dtype}; wanted an integer type, one class per pixel")

    def __len__(self) -> int:
        return len(self.inputs)

    def batch(self, epoch: int, indices: NDArray[np.int64]) -> Batch:  # noqa: ARG002 - the same in every epoch
        return labeled_batch(self.inputs[indices], self.labels[indices], self.ignore_index)

    @cached_property
    def digest(self) -> str:
        return f"{array_digest(self.inputs, self.labels)} {self.ignore_index}"


def labeled_batch(inputs: NDArray[np.float32], labels: NDArray[np.integer[Any]], ignore_index: int) -> Batch:
    """A batch whose weight is 1 where there is a label."""
    target = torch.from_numpy(labels.astype(np.int64))
    return Batch(torch.from_numpy(inputs), target, (target != ignore_index).float())


def array_digest(*arrays: NDArray[np.generic]) -> str:
    """Hexadecimal SHA-256 over shapes, types and values."""
    digest = hashlib.sha256()
    for array in arrays:
        digest.update(f"{array.shape} {array.dtype.str}".encode())
        digest.update(np.ascontiguousarray(array).data)
    return digest.hexdigest()


def random_state(seed: int, epoch: int, number: int) -> np.random.Generator:
    """The generator of one example (or step) of one epoch; independent of all others and of their order."""
    return np.random.default_rng((seed, epoch, number))


def shuffled_batches(count: int, batch_size: int, seed: int, epoch: int) -> list[NDArray[np.int64]]:
    """All indices once, in an order that depends on seed and epoch alone.

    >>> [len(indices) for indices in shuffled_batches(count=7, batch_size=3, seed=0, epoch=0)]
    [3, 3, 1]
    """
    order = np.random.default_rng((seed, epoch)).permutation(count)
    return [order[start : start + batch_size] for start in range(0, count, batch_size)]


def ordered_batches(examples: Examples, batch_size: int, prefetch: int = 0) -> Iterator[Batch]:
    """All examples in order, as they look in epoch 0: a validation loss must not change with the drawing."""
    starts = range(0, len(examples), batch_size)
    batches = [np.arange(start, min(start + batch_size, len(examples))) for start in starts]
    return read_ahead(lambda indices: examples.batch(0, indices), batches, prefetch)
