"""Examples made of other examples: a part of them, or turned and mirrored at random."""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from dlsia_core.errors import ArrayError
from dlsia_core.training.examples import Batch, Examples, array_digest, random_state


@dataclass(frozen=True)
class Subset:
    """The examples at `indices`: the training or the validation part of a split.

    Raises ArrayError for indices that are none of the examples, given twice, or none at all.
    """

    examples: Examples
    indices: NDArray[np.int64]

    def __post_init__(self) -> None:
        count, given = len(self.examples), np.asarray(self.indices)
        allowed = given.ndim == 1 and given.size and np.issubdtype(given.dtype, np.integer)
        if not allowed or given.min() < 0 or given.max() >= count or len(np.unique(given)) != given.size:
            raise ArrayError(
                f"indices are {given!r}; wanted different whole numbers from 0 to {count - 1}, at least one"
            )

    def __len__(self) -> int:
        return len(self.indices)

    def batch(self, epoch: int, indices: NDArray[np.int64]) -> Batch:
        return self.examples.batch(epoch, self.indices[indices])

    @cached_property
    def digest(self) -> str:
        return f"{self.examples.digest} at {array_digest(np.asarray(self.indices, np.int64))}"


@dataclass(frozen=True)
class Augmented:
    """Examples mirrored and turned by multiples of 90° at random, each a function of (seed, epoch, index) alone.

    Input, target and weight are changed alike. For training only: a validation set must not change.

    flips: mirror along every spatial axis or not, with equal chances.
    rotations: turn in the plane of the last two axes (y, x) by 0, 90, 180 or 270°. Raises ArrayError, when a batch is
        taken, where tiles are not square: a turned tile would have another shape than its neighbors.
    stacked: the channels of the input are slices in order, and are mirrored as well: the last first, or not.
    """

    examples: Examples
    seed: int = 0
    flips: bool = True
    rotations: bool = True
    stacked: bool = False

    def __len__(self) -> int:
        return len(self.examples)

    def batch(self, epoch: int, indices: NDArray[np.int64]) -> Batch:
        batch = self.examples.batch(epoch, indices)
        spatial = batch.inputs.ndim - 2
        height, width = batch.inputs.shape[-2:]
        if self.rotations and height != width:
            raise ArrayError(
                f"tiles of {height} x {width} px cannot be turned by 90°; take square ones or no rotations"
            )
        changes = [self._draw(epoch, int(index), spatial) for index in indices]

        def changed(values: Tensor) -> Tensor:
            pairs = zip(values, changes, strict=True)
            return torch.stack([one.flip(axes).rot90(turns, (-2, -1)) for one, (axes, turns, _) in pairs])

        inputs = changed(batch.inputs)
        if self.stacked:
            upside_down = torch.tensor([change[2] for change in changes]).view(-1, *[1] * (spatial + 1))
            inputs = torch.where(upside_down, inputs.flip(1), inputs)
        target = inputs if batch.target is batch.inputs else changed(batch.target)
        return Batch(inputs, target, changed(batch.weight))

    @property
    def digest(self) -> str:
        stacked = " stacked" if self.stacked else ""
        return f"{self.examples.digest} augmented {self.seed} {self.flips} {self.rotations}{stacked}"

    def _draw(self, epoch: int, index: int, spatial: int) -> tuple[list[int], int, bool]:
        """Axes to mirror, counted from the last, quarter turns, and whether stacked slices are turned upside down."""
        rng = random_state(self.seed, epoch, index)
        mirrored = rng.integers(2, size=spatial).astype(bool)
        turns = int(rng.integers(4))
        upside_down = bool(rng.integers(2)) and self.flips
        axes = [-1 - int(axis) for axis in np.flatnonzero(mirrored) if self.flips]
        return axes, turns if self.rotations else 0, upside_down
