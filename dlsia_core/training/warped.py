"""Labelled examples turned by any angle, stretched and bent: few objects, seen in more ways than they lie."""

import math
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import ndimage
from torch import Tensor
from torch.nn.functional import grid_sample

from dlsia_core.errors import SettingError
from dlsia_core.training.examples import Batch, Examples

BEND_LENGTH = 12.0
"""Standard deviation in px of the Gaussian that smooths displacements: objects bend, and do not tear."""


@dataclass(frozen=True)
class Warped:
    """Examples turned, stretched and bent at random in the plane (y, x), each a function of (seed, epoch, index) alone.

    All channels and slices of an example alike. Inputs are interpolated by cubic convolution and mirrored at the
    border; a target is that of the nearest pixel, and weighs 0 where that lies outside. For training only: a validation
    set must not change.

    turn: largest angle in degrees, either way. stretch: standard deviation of the logarithm of a factor along y, and
    of another one along x. bend: standard deviation in px of smooth displacements, along y and along x
    (Simard, Steinkraus & Platt 2003, doi:10.1109/ICDAR.2003.1227801; Ronneberger et al. 2015, arXiv:1505.04597, §3.1).
    Raises SettingError for numbers below 0.
    """

    examples: Examples
    seed: int = 0
    turn: float = 0.0
    stretch: float = 0.0
    bend: float = 0.0

    def __post_init__(self) -> None:
        given = self.turn, self.stretch, self.bend
        if min(given) < 0 or not all(map(math.isfinite, given)):
            raise SettingError(f"turn, stretch and bend are {given}; wanted numbers, at least 0")

    def __len__(self) -> int:
        return len(self.examples)

    def batch(self, epoch: int, indices: NDArray[np.int64]) -> Batch:
        batch = self.examples.batch(epoch, indices)
        changed = [
            self._changed(image, target, weight, np.random.default_rng((self.seed, epoch, int(index), 2)))
            for image, target, weight, index in zip(batch.inputs, batch.target, batch.weight, indices, strict=True)
        ]
        return Batch(*(torch.stack(parts) for parts in zip(*changed, strict=True)))

    @property
    def digest(self) -> str:
        return f"{self.examples.digest} warped {self.seed} {self.turn} {self.stretch} {self.bend}"

    def _changed(
        self, inputs: Tensor, target: Tensor, weight: Tensor, rng: np.random.Generator
    ) -> tuple[Tensor, Tensor, Tensor]:
        grid = torch.from_numpy(self._sources((inputs.shape[-2], inputs.shape[-1]), rng))[None]

        def sampled(values: Tensor, mode: str, padding: str) -> Tensor:
            planes = values.reshape(1, -1, *values.shape[-2:]).float()
            found = grid_sample(planes, grid, mode=mode, padding_mode=padding, align_corners=True)
            return found.reshape(values.shape).to(values.dtype)

        return (
            sampled(inputs, "bicubic", "reflection"),
            sampled(target, "nearest", "border"),
            sampled(weight, "nearest", "zeros"),
        )

    def _sources(self, shape: tuple[int, int], rng: np.random.Generator) -> NDArray[np.float32]:
        """Where each pixel comes from: (y, x, 2), x and y as -1 to 1 from edge to edge."""
        angle = math.radians(self.turn) * rng.uniform(-1, 1)
        factors = np.exp(self.stretch * rng.standard_normal(2))
        half = (np.array(shape) - 1) / 2
        y, x = np.meshgrid(*(np.arange(size) - middle for size, middle in zip(shape, half, strict=True)), indexing="ij")
        turned_y = factors[0] * (math.cos(angle) * y - math.sin(angle) * x)
        turned_x = factors[1] * (math.sin(angle) * y + math.cos(angle) * x)
        for moved in (turned_y, turned_x):
            noise = ndimage.gaussian_filter(rng.standard_normal(shape), BEND_LENGTH, mode="wrap")
            moved += self.bend * noise * (2 * math.sqrt(math.pi) * BEND_LENGTH)
        return np.stack([turned_x / half[1], turned_y / half[0]], axis=-1).astype(np.float32)
