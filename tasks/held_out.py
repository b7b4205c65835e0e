"""Frames that a model is not trained on: which they are, and how well it fills gaps in them."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from dlsia_core.errors import SettingError
from dlsia_core.gaps import draw_strips, fill_linear
from dlsia_core.inpainting import InpaintingRecipe, inpaint_frames
from dlsia_core.inpainting_scores import MethodScore, compare_methods, score_frame
from dlsia_core.judged_gaps import paper_vertical_gaps, shifted_gaps
from dlsia_core.metrics import PairMoments
from dlsia_core.splits import split_items
from dlsia_core.tiling import TileGrid
from tasks.normalized_frames import NormalizedFrames

FloatArray = npt.NDArray[np.float32]
BoolArray = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class FrameSplit:
    """Whole frames for training, for choosing the best epoch, and for the figures; a function of seed and count.

    Of two frames the second one has both parts that are held out, and a single frame has all three.
    """

    n_frames: int
    seed: int
    validation_share: float
    test_share: float

    @property
    def training(self) -> list[int]:
        return self._parts[0]

    @property
    def validation(self) -> list[int]:
        return self._parts[1]

    @property
    def test(self) -> list[int]:
        return self._parts[2]

    @property
    def holds_out(self) -> bool:
        """False where there is but one frame, so that a model is judged by what it was trained on."""
        return self.n_frames > 1

    @property
    def _parts(self) -> tuple[list[int], list[int], list[int]]:
        if self.n_frames < 3:
            return [0], [self.n_frames - 1], [self.n_frames - 1]
        shares = (1 - self.validation_share - self.test_share, self.validation_share, self.test_share)
        rounded = (round(1 - sum(shares[1:]), 9), *shares[1:])
        split = split_items(self.n_frames, rounded, seed=self.seed)
        return split.training.tolist(), split.validation.tolist(), split.test.tolist()

    def to_dict(self) -> dict[str, Any]:
        """With the frames themselves, so that a model tells on which of them it may be judged."""
        return {
            "seed": self.seed,
            "n_frames": self.n_frames,
            "validation_share": self.validation_share,
            "test_share": self.test_share,
            "validation": self.validation,
            "test": self.test,
            "holds_out": self.holds_out,
        }


def spread(frames: list[int], most: int) -> list[int]:
    """At most so many of the frames, evenly over them.

    >>> spread([0, 2, 4, 6, 8], 3), spread([5], 3)
    ([0, 4, 8], [5])
    """
    places = np.unique(np.linspace(0, len(frames) - 1, min(most, len(frames))).round().astype(int))
    return [frames[place] for place in places]


@dataclass(frozen=True)
class TrainedNetwork:
    """A network at the end of its training, with all that is needed to say more of it.

    seed: of what is hidden in the frames that are judged; other numbers than those of the training.
    """

    network: nn.Module
    recipe: InpaintingRecipe
    grid: TileGrid
    frames: NormalizedFrames
    split: FrameSplit
    judged_frames: int
    device: torch.device

    @property
    def seed(self) -> int:
        return self.split.seed + 2

    def fill(self, frame: FloatArray) -> FloatArray:
        """Predictions (row, column) for all pixels of a frame (row, column) with NaN."""
        filled = inpaint_frames(self.network, self.recipe, frame[None], self.grid, device=self.device)
        return np.asarray(filled[0])


def gap_draws(measured: BoolArray, grid: TileGrid) -> dict[str, Callable[[np.random.Generator], BoolArray]]:
    """Ways to draw gaps of the detector's own geometry, by direction, to hide in a frame of `measured` (row, column).

    "vertical" as in the paper where its rule works, else moved together, "horizontal" moved together, as far as the
    detector has such gaps; "strips" where it has neither.
    """
    ways: dict[str, list[Callable[[np.random.Generator], BoolArray]]] = {
        "vertical": [
            lambda rng: paper_vertical_gaps(measured, rng, tile_width=grid.tile_shape[1], tile_step=grid.step[1]),
            lambda rng: shifted_gaps(measured, "vertical", rng),
        ],
        "horizontal": [lambda rng: shifted_gaps(measured, "horizontal", rng)],
    }
    found = {}
    for direction, draws in ways.items():
        for draw in draws:
            try:
                draw(np.random.default_rng(0))
            except SettingError:
                continue
            found[direction] = draw
            break
    width = max(1, min(8, min(measured.shape) // 8))
    return found or {"strips": lambda rng: draw_strips(grid.frame_shape, (width, width), rng)}


def held_out_scores(trained: TrainedNetwork) -> list[MethodScore]:
    """The network and linear interpolation on artificial gaps in whole test frames, by direction of the gaps."""
    rows: list[MethodScore] = []
    for direction, draw in gap_draws(trained.frames.measured, trained.grid).items():
        scores: dict[str, list[PairMoments]] = {"network": [], "linear": []}
        for frame, hidden in _hidden_frames(trained, draw):
            judged = hidden & np.isfinite(frame)
            if judged.any() and judged.sum() != np.isfinite(frame).sum():
                shown = np.where(hidden, np.float32(np.nan), frame)
                scores["network"].append(score_frame(trained.fill(shown), frame, judged))
                scores["linear"].append(score_frame(fill_linear(shown), frame, judged))
        if scores["network"]:
            rows += compare_methods(scores, direction, seed=trained.seed)
    return rows


def _hidden_frames(
    trained: TrainedNetwork, draw: Callable[[np.random.Generator], BoolArray]
) -> Iterator[tuple[FloatArray, BoolArray]]:
    for number in spread(trained.split.test, trained.judged_frames):
        yield trained.frames.read(number), draw(np.random.default_rng((trained.seed, number)))


QUALITY = {
    "gaps": "gaps",
    "L1 (normalized counts)": "l1",
    "L1 over linear": "l1_over_linear",
    "Pearson r": "pearson_r",
    "frames": "n_frames",
    "pixels": "n_pixels",
}
"""Columns of what people are shown, and where they come from."""


def readable(scores: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Scores, as a model holds them, as people are shown them."""
    names = {"network": "network", "linear": "linear interpolation"}
    return [{"method": names[row["method"]], **{key: row[own] for key, own in QUALITY.items()}} for row in scores]
