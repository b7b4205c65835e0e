"""Several networks that answer together (Roberts et al. 2024, §4.2: mean and standard deviation of five SMSNets)."""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from dlsia_core.errors import ArrayError, SettingError
from dlsia_core.networks.blocks import require
from dlsia_core.networks.inference import evaluating

OUTPUT_RULES: dict[str | None, Callable[[Tensor], Tensor]] = {
    "softmax": lambda logits: logits.softmax(dim=1),
    "sigmoid": torch.sigmoid,
    None: lambda values: values,
}


@dataclass(frozen=True)
class EnsembleStatistics:
    """What the members of an ensemble answer together.

    mean, std: (N, C, ...), float32: mean and standard deviation of the members.
    quantiles: (quantile, N, C, ...) in the order asked for; None where none was asked for.
    """

    mean: Tensor
    std: Tensor
    quantiles: Tensor | None = None

    def lower(self, k: float = 1.0) -> Tensor:
        """mean - k std: pixels where it exceeds 0.5 are kept in Roberts et al. 2024, §4.2, with k = 1.

        >>> EnsembleStatistics(torch.tensor([0.8]), torch.tensor([0.25])).lower()
        tensor([0.5500])
        """
        return self.mean - k * self.std


class Ensemble(nn.Module):
    """Networks with one input and outputs of one shape; they may differ in kind.

    members: at least one network; in a configuration, a list of theirs: {"network": "Ensemble", "members": [...]}.
    x: what the members take -> the mean of their plain outputs, of an output's shape. For probabilities, call
    `statistics`: the mean of softmaxes is not the softmax of the mean. Train the members one by one.

    >>> ensemble = Ensemble([nn.Conv2d(1, 2, 1) for _ in range(3)])
    >>> found = ensemble.statistics(torch.zeros(4, 1, 8, 8), "softmax", quantiles=(0.1, 0.9))
    >>> found.mean.shape, found.std.shape, found.quantiles.shape
    (torch.Size([4, 2, 8, 8]), torch.Size([4, 2, 8, 8]), torch.Size([2, 4, 2, 8, 8]))
    """

    def __init__(self, members: Sequence[nn.Module]) -> None:
        super().__init__()
        require("members", members, len(members) > 0, "at least one network")
        self.members = nn.ModuleList(members)

    def forward(self, x: Tensor) -> Tensor:
        total: Tensor | None = None
        for output in self._outputs(x):
            total = output if total is None else total + output
        assert total is not None  # there is at least one member
        return total / len(self.members)

    @torch.inference_mode()
    def statistics(
        self,
        x: Tensor,
        output_rule: str | None,
        *,
        quantiles: Sequence[float] = (),
        ddof: int = 1,
        max_values: int = 2**24,
    ) -> EnsembleStatistics:
        """Mean, standard deviation and quantiles over the members, all in eval mode (put back afterwards).

        output_rule: applied to each member's output before anything else: "softmax" over the channels, "sigmoid", or
            None for regression.
        quantiles: in [0, 1]; between two members linearly interpolated.
        ddof: the squares are divided by M - ddof. 1, the default, because the members are a sample of the networks
            that other seeds would have given; 0 describes these M only and is 11 % smaller for five. Never divided by
            √M: that would be the error of the mean.
        max_values: members' values that are held at once for the quantiles, 4 bytes each. Where the members' answers
            are more than that, the members run again for each part of the pixels.
        Memory: the results, the answer of one member, and `max_values`; it does not grow with the number of members.
        Raises SettingError for settings that are not allowed, ArrayError for members of different shapes.
        """
        require("output_rule", output_rule, output_rule in OUTPUT_RULES, f"one of {tuple(OUTPUT_RULES)}")
        require("ddof", ddof, ddof in (0, 1), "0 or 1")
        require("quantiles", quantiles, all(0 <= q <= 1 for q in quantiles), "between 0 and 1")
        if len(self.members) <= ddof:
            raise SettingError(f"a standard deviation with ddof={ddof} needs {ddof + 1} members or more; this has 1")
        with evaluating(self):
            mean, std = self._moments(x, output_rule, ddof)
            if not quantiles:
                return EnsembleStatistics(mean, std)
            return EnsembleStatistics(mean, std, self._quantiles(x, output_rule, quantiles, mean.shape, max_values))

    def _outputs(self, x: Tensor, output_rule: str | None = None) -> Iterator[Tensor]:
        """One member's answer after the other, so that only one has to be held; each convolution uses all cores."""
        shape: torch.Size | None = None
        for number, member in enumerate(self.members):
            output = OUTPUT_RULES[output_rule](member(x))
            if shape not in (None, output.shape):
                raise ArrayError(f"member {number} answers {tuple(output.shape)}, those before it {tuple(shape or ())}")
            shape = output.shape
            yield output

    def _moments(self, x: Tensor, output_rule: str | None, ddof: int) -> tuple[Tensor, Tensor]:
        """Running mean and sum of squared differences (Welford 1962): exact where members agree, at any offset."""
        mean, squares = torch.zeros(()), torch.zeros(())
        for count, output in enumerate(self._outputs(x, output_rule), start=1):
            output = output.float()
            if count == 1:
                mean, squares = output.clone(), torch.zeros_like(output)
                continue
            difference = output - mean
            mean += difference / count
            squares += difference * (output - mean)
        return mean, (squares / (len(self.members) - ddof)).sqrt_()

    def _quantiles(
        self, x: Tensor, output_rule: str | None, quantiles: Sequence[float], shape: torch.Size, max_values: int
    ) -> Tensor:
        """(quantile, *shape), a part of the flattened values at a time."""
        part = max_values // len(self.members)
        require("max_values", max_values, part > 0, f"at least one per member, {len(self.members)}")
        levels = torch.tensor(quantiles, dtype=torch.float32, device=x.device)
        result = x.new_empty((len(quantiles), math.prod(shape)), dtype=torch.float32)
        for start in range(0, result.shape[1], part):
            here = slice(start, start + part)
            values = torch.stack([o.float().reshape(-1)[here].clone() for o in self._outputs(x, output_rule)])
            result[:, here] = _sorted_quantiles(values, levels)
        return result.view(len(quantiles), *shape)


def _sorted_quantiles(values: Tensor, levels: Tensor) -> Tensor:
    """(member, value) -> (level, value), linear between members; torch.quantile refuses more than 16 million values."""
    values = values.sort(dim=0).values
    place = levels * (len(values) - 1)
    below = place.floor().long()
    above = place.ceil().long()
    return torch.lerp(values[below], values[above], (place - below)[:, None])
