"""Cross entropy and its focal form: a cost for every pixel, and the mean of the costs."""

from dataclasses import dataclass

import torch
from torch import Tensor

from dlsia_core.errors import SettingError
from dlsia_core.losses.contract import outside_autocast, weighted_mean
from dlsia_core.losses.labels import IGNORE_INDEX, LabeledLogits, require_class_weights


@dataclass(frozen=True)
class Focal:
    """Cross entropy that counts less where a pixel is already right: -(1 - p)^gamma log p (Lin et al. 2017, eq. 5).

    The factor is each pixel's own; the mean comes afterwards. p is the probability of the true class.
    Called with logits (example, class, ...), or one channel for two classes; labels (example, ...) of an integer type;
    weight (example, ...), at least 0.

    gamma: at least 0; 0 = cross entropy.
    class_weights: one factor per class (two for one channel: Lin's 1 - alpha and alpha); None = 1. The sum is divided
        by the weight of the pixels alone, so that the cost of a pixel does not depend on what else is in its batch.
    ignore_index: the label of pixels that do not count.
    Raises ArrayError for labels that are no class, SettingError for settings that are not allowed.

    >>> logits = torch.tensor([[[9.0, 1.0]]]).logit(eps=0.1)  # class 1 has probability 0.9 at both pixels
    >>> Focal()(logits, torch.tensor([[1, 0]]), torch.ones(1, 2))  # (0.1² · 0.105 + 0.9² · 2.303) / 2
    tensor(0.9331)
    """

    gamma: float = 2.0
    class_weights: tuple[float, ...] | None = None
    ignore_index: int = IGNORE_INDEX

    def __post_init__(self) -> None:
        if not 0 <= self.gamma < float("inf"):
            raise SettingError(f"gamma is {self.gamma}; it must be at least 0")
        require_class_weights(self.class_weights)

    def __call__(self, logits: Tensor, labels: Tensor, weight: Tensor) -> Tensor:
        require_class_weights(self.class_weights, max(2, logits.shape[1]))
        with outside_autocast(logits):
            given = LabeledLogits.checked(logits, labels, weight, self.ignore_index)
            log_probability = given.log_probability()
            cost = -log_probability
            if self.gamma:
                # 1 - p without cancellation; never 0, where the gradient of a power below 1 is infinite.
                wrong = -torch.expm1(log_probability)
                cost = cost * wrong.clamp_min(torch.finfo(wrong.dtype).tiny) ** self.gamma
            if self.class_weights is not None:
                cost = cost * cost.new_tensor(self.class_weights)[given.labels]
            return weighted_mean(cost, given.weight)


@dataclass(frozen=True)
class CrossEntropy:
    """Mean of -log p of the true class; arguments as `Focal`, whose gamma is 0 here.

    With class_weights the sum is divided by the weight of the pixels, not, as torch does, by that of their classes.

    >>> CrossEntropy()(torch.zeros(1, 4, 1), torch.tensor([[2]]), torch.ones(1, 1))  # log 4
    tensor(1.3863)
    """

    class_weights: tuple[float, ...] | None = None
    ignore_index: int = IGNORE_INDEX

    def __post_init__(self) -> None:
        require_class_weights(self.class_weights)

    def __call__(self, logits: Tensor, labels: Tensor, weight: Tensor) -> Tensor:
        return Focal(0.0, self.class_weights, self.ignore_index)(logits, labels, weight)
