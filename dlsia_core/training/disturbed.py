"""Examples with the gray values of another day's scan: other contrast and brightness, and imitated ring artifacts."""

import math
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from dlsia_core.errors import SettingError
from dlsia_core.training.examples import Batch, Examples

RADII = (8.0, 400.0)
"""Radii of arcs in px, evenly on a logarithmic scale: near the axis of rotation, and far from it."""
WIDTHS = (0.6, 2.2)
"""Standard deviations across an arc in px."""


@dataclass(frozen=True)
class Disturbed:
    """Examples whose inputs are disturbed at random, each a function of (seed, epoch, index) alone.

    Targets and weights stay. For training only: a validation set must not change. What a network has to tell apart by
    shape, it would learn to tell by gray values from few labels, and fail on the next volume.

    contrast: standard deviation of the logarithm of a factor on all values of an example.
    brightness: standard deviation of a number added to all values, in units of the inputs.
    arcs: mean number of arcs across an example, as ring artifacts of tomography: of random radius and width, Gaussian
        in profile, the same in all channels and along z; their axis is z.
    arc_gray: standard deviation of an arc's height, in units of the inputs.
    Raises SettingError for values below 0.
    """

    examples: Examples
    seed: int = 0
    contrast: float = 0.0
    brightness: float = 0.0
    arcs: float = 0.0
    arc_gray: float = 1.0

    def __post_init__(self) -> None:
        given = self.contrast, self.brightness, self.arcs, self.arc_gray
        if min(given) < 0 or not all(map(math.isfinite, given)):
            raise SettingError(f"contrast, brightness, arcs and arc_gray are {given}; wanted numbers, at least 0")

    def __len__(self) -> int:
        return len(self.examples)

    def batch(self, epoch: int, indices: NDArray[np.int64]) -> Batch:
        batch = self.examples.batch(epoch, indices)
        inputs = [
            self._changed(one, np.random.default_rng((self.seed, epoch, int(index), 1)))
            for one, index in zip(batch.inputs.numpy(), indices, strict=True)
        ]
        return Batch(torch.from_numpy(np.stack(inputs)), batch.target, batch.weight)

    @property
    def digest(self) -> str:
        changes = f"{self.contrast} {self.brightness} {self.arcs} {self.arc_gray}"
        return f"{self.examples.digest} disturbed {self.seed} {changes}"

    def _changed(self, values: NDArray[np.float32], rng: np.random.Generator) -> NDArray[np.float32]:
        gain, offset = math.exp(self.contrast * rng.standard_normal()), self.brightness * rng.standard_normal()
        height, width = values.shape[-2:]
        disturbance = np.full((height, width), offset)
        for _ in range(rng.poisson(self.arcs)):
            disturbance += self.arc_gray * rng.standard_normal() * random_arc((height, width), rng)
        return np.asarray(values * np.float32(gain) + disturbance.astype(np.float32), np.float32)


def random_arc(shape: tuple[int, int], rng: np.random.Generator) -> NDArray[np.float64]:
    """An arc across a random point of an image (y, x), 1 along its middle, 0 far from it.

    >>> arc = random_arc((32, 48), np.random.default_rng(0))
    >>> arc.shape, bool(0.5 < arc.max() <= 1.0), bool(arc.mean() < 0.2)
    ((32, 48), True, True)
    """
    through, angle = rng.uniform(0, shape), rng.uniform(0, 2 * np.pi)
    radius, width = math.exp(rng.uniform(*np.log(RADII))), rng.uniform(*WIDTHS)
    y = np.arange(shape[0]) - through[0] - radius * np.sin(angle)
    x = np.arange(shape[1]) - through[1] - radius * np.cos(angle)
    across = (np.hypot(y[:, None], x[None, :]) - radius) / width
    return np.asarray(np.exp(-(across**2) / 2))
