"""Sparse mixed-scale network (Roberts et al. 2024, §2.4)."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from dlsia_core.errors import ArrayError
from dlsia_core.networks.blocks import (
    ACTIVATIONS,
    convolution,
    normalization_layer,
    require,
    require_common,
    require_count,
)
from dlsia_core.networks.edge_group import KERNEL_SIZE, EdgeGroup
from dlsia_core.networks.sparse_graph import SparseGraph, SparseGraphSettings

MERGES = ("sum", "concatenate")
_CHANNELS_LAST = {2: torch.channels_last, 3: torch.channels_last_3d}


class SMSNet(nn.Module):
    """Random sparse network: nodes joined by 3x3 convolutions of random dilation; any input size, logits out.

    x: (N, in_channels, Y, X), or (N, in_channels, Z, Y, X) for ndim=3, float -> (N, out_channels, ...) of x's size.
    Beyond the edge of x the convolutions see zeros; the output is a 1x1 convolution of the nodes that it reads.

    depth to dilations: the paper's hyperparameters, see `SparseGraphSettings`; graph_seed: of the random graph.
    graph: a drawn graph (`SparseGraph.to_dict`), taken instead of a draw and checked against the settings above;
        `network_config` holds it, so that a stored network does not depend on how random numbers are made.
    hidden_channels: of each node with merge="sum", of each edge with merge="concatenate".
    merge: "sum": a node is activation(bias + sum of its edges), as in a mixed-scale dense network that was pruned;
        "concatenate": each edge has its own bias and activation and a node is all of them side by side, as in the
        software that the paper came with.
    normalization: None, "batch", "instance" or "group", of a node before its activation; an answer depends on its
        batch in training mode with "batch" only.
    The number of parameters depends on the graph: 42,000 ± 5,000 with depth=30 and 8 hidden channels; for an ensemble
    of networks of one size see `sparse_ensemble_config`.
    Raises SettingError for settings that are not allowed, ArrayError for inputs of another shape.

    >>> network = SMSNet(1, 2, depth=30, hidden_channels=8, graph_seed=0)
    >>> network.parameter_count
    40900
    >>> network(torch.zeros(1, 1, 37, 50)).shape
    torch.Size([1, 2, 37, 50])
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        depth: int = 20,
        hidden_channels: int = 8,
        graph_seed: int = 0,
        min_degree: int = 1,
        max_degree: int = 5,
        gamma: float | None = None,
        alpha: float | None = None,
        p_input: float = 1.0,
        p_output: float = 1.0,
        input_to_output: bool = True,
        dilations: Sequence[int] = tuple(range(1, 11)),
        graph: Mapping[str, Any] | None = None,
        ndim: int = 2,
        merge: str = "sum",
        normalization: str | None = None,
        activation: str = "relu",
    ) -> None:
        super().__init__()
        require_common(ndim, normalization, activation)
        require("merge", merge, merge in MERGES, f"one of {MERGES}")
        for name, count in (("in_channels", in_channels), ("out_channels", out_channels)):
            require_count(name, count)
        require_count("hidden_channels", hidden_channels)
        settings = SparseGraphSettings(
            depth, min_degree, max_degree, gamma, alpha, p_input, p_output, input_to_output, dilations
        )
        self.graph = settings.draw(graph_seed) if graph is None else SparseGraph.from_dict(graph)
        settings.check(self.graph)
        self.ndim, self.merge, self.hidden_channels = ndim, merge, hidden_channels
        self._with_bias = normalization not in ("batch", "instance")  # these would take it off again
        blocks = [1 if merge == "sum" else len(self.graph.entering(node)) for node in range(1, depth + 1)]
        self.channels = [in_channels, *(hidden_channels * count for count in blocks)]
        groups = [self._group(*key, targets) for key, targets in self._grouped_targets().items()]
        self.edges = nn.ModuleList(groups)
        self.nodes = nn.ModuleList(
            nn.Sequential(*normalization_layer(ndim, normalization, count), ACTIVATIONS[activation]())
            for count in self.channels[1:]
        )
        self.head = convolution(ndim, sum(self.channels[node] for node in self.graph.outputs), out_channels, 1)
        # An input's edge is computed when its target is: all at once would take as much memory as all nodes together.
        self._from_input = {group.targets[0]: group for group in groups[: len(self.graph.leaving(0))]}
        self._leaving: dict[int, list[EdgeGroup]] = {node: [] for node in range(1, depth + 1)}
        for (source, *_), group in zip(self._grouped_targets(), groups, strict=True):
            self._leaving.get(source, []).append(group)

    @property
    def parameter_count(self) -> int:
        """Trainable numbers. For merge="sum", h hidden channels, c in, o out, E edges from the input, H among hidden
        nodes, d nodes all read by the output as is the input: 9 h (c E + h H) + h d + (c + h d + 1) o in 2-D."""
        return sum(parameter.numel() for parameter in self.parameters())

    def drawn_settings(self) -> dict[str, Any]:
        """What was drawn at random; given as settings, it builds this structure again."""
        return {"graph": self.graph.to_dict()}

    def forward(self, x: Tensor) -> Tensor:
        if x.ndim != self.ndim + 2 or x.shape[1] != self.channels[0]:
            raise ArrayError(
                f"input has shape {tuple(x.shape)}; wanted (N, {self.channels[0]}) and {self.ndim} more axes"
            )
        if x.device.type == "cpu":
            # oneDNN then fills its vectors with channels; with few of them the backward pass takes half the time.
            # `contiguous` would leave one channel as it is, and every sum would then mix two layouts.
            x = x.to(memory_format=_CHANNELS_LAST[self.ndim])
        weights = self.head.get_parameter("weight").flatten(1)
        sizes = [self.channels[node] for node in self.graph.outputs]
        reading = dict(zip(self.graph.outputs, torch.split(weights, sizes, dim=1), strict=True))
        logits = self.head.get_parameter("bias").view(-1, *[1] * self.ndim)
        pending: dict[int, list[Tensor]] = {node: [] for node in self._leaving}
        for node in range(self.graph.depth + 1):
            value = self._value(node, x, pending.pop(node)) if node else x
            if node in reading:
                # Part by part: the nodes side by side would take their memory twice, and 1x1 convolutions are slower.
                logits = logits + torch.einsum("oc,nc...->no...", reading[node], value)
            for group in self._leaving.get(node, []):
                for target, part in zip(group.targets, group(value), strict=True):
                    self._collect(pending[target], part)
        return logits

    def _collect(self, parts: list[Tensor], part: Tensor) -> None:
        """Keep what an edge brings to its target; sums are formed at once, so that one tensor per target waits."""
        if self.merge == "sum" and parts:
            part = parts.pop() + part
        parts.append(part)

    def _value(self, node: int, x: Tensor, parts: list[Tensor]) -> Tensor:
        if node in self._from_input:
            parts = [*self._from_input[node](x), *parts]
        # Both make a new tensor, which the activation may overwrite.
        joined = parts[0] + parts[1] if self.merge == "sum" and len(parts) == 2 else torch.cat(parts, dim=1)
        return self.nodes[node - 1](joined)  # type: ignore[no-any-return]

    def _grouped_targets(self) -> dict[tuple[int, int, bool, int], list[int]]:
        """Targets by (source, dilation, biased, target if the source is the input), in the order of computation.

        A node's bias comes with the first of its edges; with merge="concatenate" each edge brings one.
        """
        groups: dict[tuple[int, int, bool, int], list[int]] = {}
        for source, target, dilation in self.graph.edges:
            first = source == self.graph.entering(target)[0]
            biased = self._with_bias and (first or self.merge == "concatenate")
            groups.setdefault((source, dilation, biased, 0 if source else target), []).append(target)
        return groups

    def _group(self, source: int, dilation: int, biased: bool, _: int, targets: list[int]) -> EdgeGroup:
        summed = [[source] if self.merge == "concatenate" else self.graph.entering(target) for target in targets]
        fans = [KERNEL_SIZE**self.ndim * sum(self.channels[node] for node in sources) for sources in summed]
        return EdgeGroup(self.ndim, self.channels[source], self.hidden_channels, dilation, targets, fans, biased)
