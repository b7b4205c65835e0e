"""Metrics that follow a training or an evaluation batch by batch and stand for the whole set at the end."""

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from dlsia_core.errors import ArrayError, SettingError
from dlsia_core.metrics.confusion import IGNORE, classification_scores
from dlsia_core.metrics.moments import PairMoments


class SegmentationMetrics:
    """Accuracy, F1, IoU, precision and recall (see `classification_scores`) of all batches together.

    classes: at least 2. Two classes may come as one logit channel (class 1 where it is above 0) or as two.
    The state is a matrix of whole numbers, so the result does not depend on batches or their order, to the last bit.

    >>> metrics = SegmentationMetrics(classes=2)
    >>> label = torch.tensor([[[0, 1, 1, 255]]])
    >>> metrics.update(torch.tensor([[[[-3.0, 2.0, -1.0, 5.0]]]]), label, torch.ones(label.shape))
    >>> metrics.compute()["f1_binary"]
    0.6666666666666666
    """

    def __init__(
        self, classes: int, *, ignore_index: int = IGNORE, averaged_classes: Sequence[int] | None = None
    ) -> None:
        if classes < 2:
            raise SettingError(f"classes is {classes}; it must be at least 2 (two for one logit channel)")
        self.classes, self.ignore_index, self.averaged_classes = classes, ignore_index, averaged_classes
        classification_scores(np.zeros((classes, classes)), averaged_classes=averaged_classes)  # refuses strange ones
        self.reset()

    def __repr__(self) -> str:
        return f"SegmentationMetrics({self.classes}, {self.ignore_index}, {self.averaged_classes})"

    def reset(self) -> None:
        """Forget everything."""
        self.matrix: NDArray[np.int64] = np.zeros((self.classes, self.classes), dtype=np.int64)

    def update(self, logits: Tensor, target: Tensor, weight: Tensor) -> None:
        """Count a batch.

        logits: (frame, channel, ...); target: class of each pixel, (frame, ...) or (frame, 1, ...), whole numbers in
            any type; weight: the target's shape; a pixel counts, once, where it is above 0 and the target is not
            `ignore_index`. How much a pixel counts in the loss does not change what a score means.
        Raises ArrayError for shapes that do not fit, classes that do not exist and logits that are no numbers.
        """
        predicted = predicted_classes(logits.detach(), self.classes)
        target, weight = (
            _like_labels(name, t.detach(), predicted) for name, t in (("target", target), ("weight", weight))
        )
        counted = (weight > 0) & (target != self.ignore_index)
        truth = target.long()
        strange = counted & ((truth < 0) | (truth >= self.classes) | (truth != target))
        if bool(strange.any()):
            raise ArrayError(
                f"target holds {float(target[strange][0]):g}; wanted whole numbers in 0 .. {self.classes - 1}, or "
                f"{self.ignore_index} = leave out"
            )
        if bool(logits.isnan().any()) and bool(_any_channel_nan(logits)[counted].any()):
            raise ArrayError("logits hold NaN on pixels that count")
        cells = self.classes**2
        cell = torch.where(counted, truth * self.classes + predicted, cells)  # one more cell for what does not count
        counts = torch.bincount(cell.flatten(), minlength=cells + 1)[:cells]
        self.matrix += counts.cpu().numpy().reshape(self.classes, self.classes)

    def merge(self, other: "SegmentationMetrics") -> None:
        """Add what another instance, e.g. that of another process, has counted."""
        self.matrix = self.matrix + other.matrix

    def compute(self) -> dict[str, float]:
        """All scores by name; NaN where undefined."""
        return classification_scores(self.matrix, averaged_classes=self.averaged_classes)


class RegressionMetrics:
    """Mean absolute and square error and Pearson's r of all batches together, weighted, in float64.

    Another order or cutting of the batches changes the result by rounding (1e-15) only.

    >>> metrics = RegressionMetrics()
    >>> for values in ([1.0, 2.0], [4.0]):
    ...     metrics.update(torch.tensor(values), torch.tensor(values) + 1, torch.ones(len(values)))
    >>> metrics.compute()
    {'l1': 1.0, 'l2': 1.0, 'rmse': 1.0, 'pearson_r': 1.0}
    """

    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        """Forget everything."""
        self.moments = PairMoments()

    def update(self, logits: Tensor, target: Tensor, weight: Tensor) -> None:
        """Add a batch: the network's answer, the target and what each number counts (>= 0), all of one shape.

        Where the weight is 0 the target may be anything, NaN too.
        Raises ArrayError for different shapes, negative weights, and numbers that count but are not finite.
        """
        if not logits.shape == target.shape == weight.shape:
            shapes = tuple(logits.shape), tuple(target.shape), tuple(weight.shape)
            raise ArrayError(f"answer, target and weight have shapes {shapes}; they must be the same")
        if not bool((weight >= 0).all()):
            raise ArrayError("weights must be 0 or greater, and finite")
        counted = weight > 0
        x, y, w = (t.detach()[counted].double() for t in (logits, target, weight))
        self.moments = self.moments.merge(_moments(x, y, w))

    def merge(self, other: "RegressionMetrics") -> None:
        """Add what another instance, e.g. that of another process, has seen."""
        self.moments = self.moments.merge(other.moments)

    def compute(self) -> dict[str, float]:
        """l1, l2, rmse and pearson_r; NaN where undefined."""
        return self.moments.scores()


def predicted_classes(logits: Tensor, classes: int) -> Tensor:
    """Class of each pixel, (frame, ...) int64, from logits (frame, channel, ...); the first of equal ones.

    One channel is a binary network: class 1 where the logit is above 0.
    Raises ArrayError where the number of channels is neither `classes` nor, for two classes, 1.

    >>> predicted_classes(torch.tensor([[[0.5, -0.5]]]), classes=2).tolist()
    [[1, 0]]
    """
    channels = logits.shape[1] if logits.ndim >= 2 else 0
    if channels == 1 and classes == 2:
        return (logits[:, 0] > 0).long()
    if channels != classes:
        raise ArrayError(f"logits have shape {tuple(logits.shape)}; wanted (frame, {classes}, ...)")
    return logits.max(dim=1).indices  # the first of equal ones, like argmax, which takes seven times as long on a CPU


def _like_labels(name: str, values: Tensor, predicted: Tensor) -> Tensor:
    if values.ndim == predicted.ndim + 1 and values.shape[1] == 1:
        values = values[:, 0]
    if values.shape != predicted.shape:
        raise ArrayError(f"{name} has shape {tuple(values.shape)}; wanted {tuple(predicted.shape)}, one per pixel")
    return values


def _any_channel_nan(logits: Tensor) -> Tensor:
    return logits.isnan().any(dim=1)


def _moments(x: Tensor, y: Tensor, w: Tensor) -> PairMoments:
    """`pair_moments` on the tensors' device; one transfer for all sums."""
    if not w.numel():
        return PairMoments()
    total, difference = w.sum(), x - y
    mean_x, mean_y = w @ x / total, w @ y / total
    dx, dy = x - mean_x, y - mean_y
    squares = w @ difference.square(), mean_x, mean_y, w @ dx.square(), w @ dy.square(), w @ (dx * dy)
    numbers = torch.stack([total, w @ difference.abs(), *squares])
    if not bool(numbers.isfinite().all()):
        raise ArrayError("answer or target holds numbers that are not finite where the weight is above 0")
    return PairMoments(*numbers.tolist())
