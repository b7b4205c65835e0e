"""What `fit` asks of a metric: numbers accumulated over the whole validation set, never averaged over batches."""

from collections.abc import Sequence
from typing import Protocol

from torch import Tensor

from dlsia_core.errors import SettingError


class Metric(Protocol):
    """`reset`, `update` once per batch, `compute`: the numbers of everything since the last `reset`."""

    def reset(self) -> None: ...

    def update(self, logits: Tensor, target: Tensor, weight: Tensor) -> None:
        """Take the network's output, the target and the weight of a batch, all as the loss gets them."""
        ...

    def compute(self) -> dict[str, float]: ...


def computed(metrics: Sequence[Metric]) -> dict[str, float]:
    """All numbers of all metrics. Raises SettingError where two of them have one name."""
    numbers: dict[str, float] = {}
    for metric in metrics:
        for name, value in metric.compute().items():
            if name in numbers:
                raise SettingError(f"two metrics both compute {name!r}; give one of them another name")
            numbers[name] = float(value)
    return numbers
