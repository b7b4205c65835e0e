"""How far filled gaps are from the truth: L1 and Pearson r on gap pixels only, over frames, between methods.

Every frame keeps its moments, so that a set's figures are those of all its pixels together, whatever the frames' sizes,
and so that frames can be drawn again for an interval.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import reduce
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dlsia_core.errors import ArrayError
from dlsia_core.metrics.bootstrap import bootstrap_interval
from dlsia_core.metrics.moments import PairMoments, pair_moments

Bounds = tuple[float | None, float | None]


@dataclass(frozen=True, kw_only=True)
class MethodScore:
    """One row of a comparison; the fields are columns of its table.

    gaps                 "horizontal" or "vertical"
    l1, l1_low, l1_high  mean absolute error of all pixels together, and its interval over frames
    pearson_r            of all pixels together; None where either side is constant
    l1_over_*            ratio to another method on the same pixels, with its interval: each draw takes the same frames
                         for both, so what they have in common drops out
    noise_floor          L1 that noise alone makes on these pixels

    What is not known is None: ratios to methods that were not scored, intervals of fewer than two frames.
    """

    method: str
    gaps: str
    n_frames: int
    n_pixels: int
    l1: float
    l1_low: float | None = None
    l1_high: float | None = None
    pearson_r: float | None = None
    l1_over_biharmonic: float | None = None
    l1_over_linear: float | None = None
    noise_floor: float | None = None
    l1_over_biharmonic_low: float | None = None
    l1_over_biharmonic_high: float | None = None
    l1_over_linear_low: float | None = None
    l1_over_linear_high: float | None = None
    l1_over_noise_floor: float | None = None

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


def score_frame(predicted: NDArray[Any], truth: NDArray[Any], judged: NDArray[np.bool_]) -> PairMoments:
    """Moments of the judged pixels (True) of a filled frame and its truth, all (row, column).

    Raises ArrayError for unequal shapes, where nothing is judged, and where a judged pixel is not finite.

    >>> moments = score_frame(np.array([1.0, 2.0, 9.0]), np.array([1.0, 4.0, 0.0]), np.array([True, True, False]))
    >>> moments.scores()["l1"]
    1.0
    """
    if not predicted.shape == truth.shape == judged.shape or judged.dtype != np.bool_:
        raise ArrayError(
            f"predicted {predicted.shape}, truth {truth.shape} and judged {judged.shape} must have one shape, and "
            f"judged must be bool; got {judged.dtype}"
        )
    if not judged.any():
        raise ArrayError("no pixel is judged; judge gap pixels whose truth was measured")
    for name, values in (("predicted", predicted), ("truth", truth)):
        if n_bad := np.count_nonzero(~np.isfinite(values[judged])):
            raise ArrayError(f"{n_bad} of {np.count_nonzero(judged)} judged pixels are not finite in {name}")
    return pair_moments(predicted[judged], truth[judged])


def pool_scores(scores: Iterable[PairMoments]) -> PairMoments:
    """The moments of all pixels of several frames together, as if they had been scored as one."""
    return reduce(PairMoments.merge, scores, PairMoments())


def compare_methods(
    scores: Mapping[str, Sequence[PairMoments]],
    gaps: str,
    *,
    noise_floor: float | None = None,
    seed: int = 0,
    confidence: float = 0.95,
    resamples: int = 1000,
) -> list[MethodScore]:
    """One row for each method, in the given order; every method scored on the same pixels of the same frames.

    noise_floor  L1 that noise alone makes on these pixels, see `dlsia_core.noise_floor`
    seed         of the bootstrap over frames (percentiles)

    Raises ArrayError where methods were scored on different pixels, SettingError for settings out of range.
    """
    _check_same_pixels(scores)
    sums = {method: np.array([[m.absolute, m.weight] for m in frames]) for method, frames in scores.items()}

    def ratio(over: NDArray[np.float64], under: NDArray[np.float64]) -> Bounds:
        if len(over) < 2:  # frames cannot vary, which is not the same as being sure
            return None, None
        interval = bootstrap_interval(
            np.stack([over, under], axis=1), _quotient, seed=seed, confidence=confidence, resamples=resamples
        )
        return interval.low, interval.high

    rows = []
    for method, frames in scores.items():
        errors, pixels = sums[method].T
        pooled = pool_scores(frames).scores()
        low, high = ratio(errors, pixels)
        columns: dict[str, float | None] = {"l1_low": low, "l1_high": high}
        for baseline in ("biharmonic", "linear"):
            if baseline in sums and sums[baseline][:, 0].sum() > 0:
                name, others = f"l1_over_{baseline}", sums[baseline][:, 0]
                columns[name] = float(errors.sum() / others.sum())
                columns[f"{name}_low"], columns[f"{name}_high"] = ratio(errors, others)
        rows.append(
            MethodScore(
                method=method,
                gaps=gaps,
                n_frames=len(frames),
                n_pixels=int(pixels.sum()),
                l1=pooled["l1"],
                pearson_r=None if math.isnan(pooled["pearson_r"]) else pooled["pearson_r"],
                noise_floor=noise_floor,
                l1_over_noise_floor=pooled["l1"] / noise_floor if noise_floor else None,
                **columns,
            )
        )
    return rows


def _quotient(sums: NDArray[np.float64]) -> float:
    return float(sums[0] / sums[1]) if sums[1] > 0 else math.nan


def _check_same_pixels(scores: Mapping[str, Sequence[PairMoments]]) -> None:
    pixels = {method: [moments.weight for moments in frames] for method, frames in scores.items()}
    if not pixels or not all(pixels.values()):
        raise ArrayError(f"nothing has been scored by {[m for m, n in pixels.items() if not n] or 'any method'}")
    (first, reference), *others = pixels.items()
    for method, own in others:
        if own != reference:
            raise ArrayError(
                f"{method} was scored on {sum(own):.0f} px of {len(own)} frames and {first} on {sum(reference):.0f} px "
                f"of {len(reference)}; a comparison needs the same pixels of the same frames"
            )
