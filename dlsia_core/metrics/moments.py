"""Errors and correlation of two weighted sets of numbers, in float64, from parts that can be merged."""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from dlsia_core.errors import ArrayError


@dataclass(frozen=True)
class PairMoments:
    """Weighted sums over pairs (prediction, truth), the squares about their own mean; two of them merge into one.

    Squares about the mean instead of sums of squares: a variance of 1 at a mean of 1e8 would be lost in the latter
    (Chan, Golub & LeVeque 1983, Am. Stat. 37, 242, formula 2.1).
    """

    weight: float = 0.0
    absolute: float = 0.0
    square: float = 0.0
    mean_prediction: float = 0.0
    mean_truth: float = 0.0
    spread_prediction: float = 0.0
    spread_truth: float = 0.0
    spread_both: float = 0.0

    def merge(self, other: "PairMoments") -> "PairMoments":
        """The moments of both sets together.

        >>> left, right = pair_moments([1.0, 2.0], [1.0, 3.0]), pair_moments([5.0], [4.0])
        >>> round(left.merge(right).scores()["pearson_r"], 9)
        0.891042111
        >>> round(pair_moments([1.0, 2.0, 5.0], [1.0, 3.0, 4.0]).scores()["pearson_r"], 9)
        0.891042111
        """
        if not self.weight or not other.weight:
            return self if self.weight else other
        weight = self.weight + other.weight
        share = other.weight / weight
        step_prediction = other.mean_prediction - self.mean_prediction
        step_truth = other.mean_truth - self.mean_truth
        between = self.weight * share
        return PairMoments(
            weight,
            self.absolute + other.absolute,
            self.square + other.square,
            self.mean_prediction + share * step_prediction,
            self.mean_truth + share * step_truth,
            self.spread_prediction + other.spread_prediction + between * step_prediction**2,
            self.spread_truth + other.spread_truth + between * step_truth**2,
            self.spread_both + other.spread_both + between * step_prediction * step_truth,
        )

    def scores(self) -> dict[str, float]:
        """l1 (mean absolute error), l2 (mean square error), rmse and pearson_r.

        All are NaN where nothing was counted; pearson_r also where either side is constant, so that it is undefined.
        """
        if not self.weight:
            return dict.fromkeys(("l1", "l2", "rmse", "pearson_r"), math.nan)
        # One root for each side: their product could overflow or vanish.
        spread = math.sqrt(self.spread_prediction) * math.sqrt(self.spread_truth)
        correlation = max(-1.0, min(1.0, self.spread_both / spread)) if spread > 0 else math.nan
        l1, l2 = self.absolute / self.weight, self.square / self.weight
        return {"l1": l1, "l2": l2, "rmse": math.sqrt(l2), "pearson_r": correlation}


def pair_moments(
    prediction: NDArray[np.floating] | list[float],
    truth: NDArray[np.floating] | list[float],
    weight: NDArray[np.generic] | None = None,
) -> PairMoments:
    """Moments of arrays of one shape.

    weight: what each pixel counts (>= 0), or `valid` (bool); None = all pixels count once. Where it is 0 the truth may
    be anything, NaN too.
    Raises ArrayError for different shapes, negative weights, and numbers that count but are not finite.
    """
    x, y = np.asarray(prediction, dtype=np.float64).ravel(), np.asarray(truth, dtype=np.float64).ravel()
    w = np.ones(y.shape) if weight is None else np.asarray(weight, dtype=np.float64).ravel()
    if np.shape(prediction) != np.shape(truth) or (weight is not None and np.shape(weight) != np.shape(truth)):
        shapes = np.shape(prediction), np.shape(truth), None if weight is None else np.shape(weight)
        raise ArrayError(f"prediction, truth and weight have shapes {shapes}; they must be the same")
    if not (w >= 0).all():
        raise ArrayError("weights must be 0 or greater, and finite")
    counted = w > 0
    x, y, w = x[counted], y[counted], w[counted]
    if not w.size:
        return PairMoments()
    total, difference = float(w.sum()), x - y
    mean_x, mean_y = float(w @ x) / total, float(w @ y) / total
    if not math.isfinite(total + mean_x + mean_y):
        raise ArrayError("prediction or truth holds numbers that are not finite where the weight is above 0")
    dx, dy = x - mean_x, y - mean_y
    parts = [float(w @ values) for values in (np.abs(difference), difference**2, dx**2, dy**2, dx * dy)]
    return PairMoments(total, parts[0], parts[1], mean_x, mean_y, *parts[2:])


def regression_scores(
    prediction: NDArray[np.floating], truth: NDArray[np.floating], weight: NDArray[np.generic] | None = None
) -> dict[str, float]:
    """l1, l2, rmse and pearson_r of whole arrays on the pixels that count; see `pair_moments`.

    >>> prediction, truth = np.array([1.0, 2.0, 4.0]), np.array([1.0, 3.0, np.nan])
    >>> regression_scores(prediction, truth, np.isfinite(truth))["l1"]
    0.5
    """
    return pair_moments(prediction, truth, weight).scores()
