"""What segmentation losses do with labels: which pixels count, which classes there are, and what is refused."""

from dataclasses import dataclass

import torch
from torch import Tensor

from dlsia_core.errors import ArrayError, SettingError
from dlsia_core.losses.contract import full_precision

IGNORE_INDEX = 255


@dataclass(frozen=True)
class LabeledLogits:
    """logits: (example, class, ...) in full precision; labels: (example, ...) int64, 0 where ignored; weight alike."""

    logits: Tensor
    labels: Tensor
    weight: Tensor

    @classmethod
    def checked(cls, logits: Tensor, labels: Tensor, weight: Tensor, ignore_index: int) -> "LabeledLogits":
        """Give no weight to what is ignored. Raises ArrayError for other shapes, types or labels than there can be.

        One channel of logits means two classes: the logit of class 1 against class 0.
        """
        _require_shapes(logits, labels, weight)
        labels = labels.long()
        ignored = labels == ignore_index
        n_classes = max(2, logits.shape[1])
        out_of_range = ~ignored & ((labels < 0) | (labels >= n_classes))
        if out_of_range.any():
            found = sorted(set(labels[out_of_range].tolist()))[:5]
            raise ArrayError(
                f"labels hold {found}; wanted 0 to {n_classes - 1} for logits of {logits.shape[1]} channels, or "
                f"ignore_index = {ignore_index} for pixels without a label"
            )
        weight = torch.where(ignored, 0, full_precision(weight))
        return cls(full_precision(logits), torch.where(ignored, 0, labels), weight)

    @property
    def binary(self) -> bool:
        return self.logits.shape[1] == 1

    def log_probability(self) -> Tensor:
        """Logarithm of the probability of the class that is true, (example, ...)."""
        if self.binary:
            logits = self.logits[:, 0]
            return torch.nn.functional.logsigmoid(torch.where(self.labels == 1, logits, -logits))
        return self.logits.log_softmax(1).gather(1, self.labels[:, None])[:, 0]

    def overlaps(self) -> tuple[Tensor, Tensor, Tensor]:
        """Weighted sums, each (class,): probability where true, probability where not, missed where true.

        With one channel of logits: of class 1 alone.
        """
        if self.binary:
            probabilities, classes = self.logits.sigmoid(), self.labels.new_ones(1)
        else:
            probabilities, classes = (
                self.logits.softmax(1),
                torch.arange(self.logits.shape[1], device=self.labels.device),
            )
        is_true = self.labels[:, None] == classes.reshape(1, -1, *[1] * (self.labels.ndim - 1))
        counted = self.weight[:, None] * is_true
        others = self.weight[:, None] * ~is_true
        axes = [axis for axis in range(probabilities.ndim) if axis != 1]
        return (
            (probabilities * counted).sum(axes),
            (probabilities * others).sum(axes),
            ((1 - probabilities) * counted).sum(axes),
        )


def require_class_weights(weights: tuple[float, ...] | None, n_classes: int | None = None) -> None:
    """Raise SettingError for weights that are negative or all 0, or not one for each of `n_classes`."""
    if weights is None:
        return
    if not weights or not all(0 <= weight < float("inf") for weight in weights) or not any(weights):
        raise SettingError(f"class_weights is {weights}; it must hold numbers of at least 0, not all of them 0")
    if n_classes is not None and len(weights) != n_classes:
        raise SettingError(f"class_weights is {weights}; the logits ask for {n_classes} weights")


def _require_shapes(logits: Tensor, labels: Tensor, weight: Tensor) -> None:
    wanted = (len(logits), *logits.shape[2:])
    if logits.ndim < 2 or not logits.shape[1] or tuple(labels.shape) != wanted or weight.shape != labels.shape:
        raise ArrayError(
            f"logits have shape {tuple(logits.shape)}, labels {tuple(labels.shape)} and weight {tuple(weight.shape)}; "
            "wanted (example, class, ...) and twice (example, ...)"
        )
    if labels.is_floating_point() or labels.is_complex():
        raise ArrayError(f"labels are {labels.dtype}; wanted an integer type, one class per pixel")
