"""Random sparse graphs for mixed-scale networks (Roberts et al. 2024, §2.4)."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from dlsia_core.errors import SettingError
from dlsia_core.networks.blocks import require, require_count

GAMMA_RANGE, ALPHA_RANGE = (0.0, 0.5), (0.75, 1.0)  # the paper's defaults: uniform distributions over these


@dataclass(frozen=True)
class SparseGraph:
    """Which nodes of a network feed which, and with what dilation.

    depth: d hidden nodes, 1..d in the order of computation; node 0 is the input, node d + 1 the output.
    edges: (source, target, dilation in pixels), target a hidden node, source any node before it; sorted, no pair twice.
    outputs: rising numbers of the nodes that the output reads, without dilation; 0 among them is an edge from input
        to output.
    gamma, alpha: the values that the degrees and lengths were drawn with; None for a graph made by other means.
    Every hidden node is reached from the input and reaches the output; else SettingError.

    >>> graph = SparseGraph(2, edges=((0, 1, 1), (1, 2, 4)), outputs=(0, 2))
    >>> SparseGraph.from_dict(graph.to_dict()) == graph
    True
    """

    depth: int
    edges: tuple[tuple[int, int, int], ...]
    outputs: tuple[int, ...]
    gamma: float | None = None
    alpha: float | None = None

    def __post_init__(self) -> None:
        require_count("depth", self.depth)
        for edge in self.edges:
            whole = len(edge) == 3 and all(type(number) is int for number in edge)
            fits = whole and 0 <= edge[0] < edge[1] <= self.depth and edge[2] >= 1
            require("edge", edge, fits, f"(source, target, dilation), 0 <= source < target <= {self.depth}")
        pairs = [(source, target) for source, target, _ in self.edges]
        require("edges", pairs, pairs == sorted(set(pairs)), "sorted, each pair of nodes once")
        rising = list(self.outputs) == sorted(set(self.outputs)) and set(self.outputs) <= set(range(self.depth + 1))
        require("outputs", self.outputs, rising, f"rising numbers of nodes in 0..{self.depth}")
        hidden = set(range(1, self.depth + 1))
        # An edge always points forward, so one edge in and one out for each node are enough: follow them back to
        # node 0 and on to the output.
        if lost := sorted(hidden - {target for _, target in pairs}):
            raise SettingError(f"nodes {lost} have no edge that enters; every hidden node must be reached")
        if lost := sorted(hidden - {source for source, _ in pairs} - set(self.outputs)):
            raise SettingError(f"nodes {lost} have no edge that leaves; every hidden node must reach the output")

    def entering(self, node: int) -> list[int]:
        """The sources of the edges that enter `node`, rising."""
        return [source for source, target, _ in self.edges if target == node]

    def leaving(self, node: int) -> list[int]:
        """The hidden nodes that `node` feeds, rising."""
        return [target for source, target, _ in self.edges if source == node]

    def to_dict(self) -> dict[str, Any]:
        """A mapping that JSON can hold."""
        return {**asdict(self), "edges": [list(edge) for edge in self.edges], "outputs": list(self.outputs)}

    @classmethod
    def from_dict(cls, stored: Mapping[str, Any]) -> "SparseGraph":
        """The graph that `to_dict` described; SettingError for other keys."""
        known = list(cls.__dataclass_fields__)
        if set(stored) != set(known):
            raise SettingError(f"graph has the keys {sorted(stored)}; it must have {', '.join(known)}")
        edges = tuple(tuple(edge) for edge in stored["edges"])
        return cls(stored["depth"], edges, tuple(stored["outputs"]), stored["gamma"], stored["alpha"])


@dataclass(frozen=True)
class SparseGraphSettings:
    """The paper's seven hyperparameters, with its defaults, and the dilations to choose from.

    depth: d, hidden nodes.
    min_degree, max_degree: k_min and k_max, both included: node j sends n_j edges to later hidden nodes,
        n_j in [min(k_min, d - j), min(k_max, d - j)], with probability proportional to exp(-gamma n_j).
    gamma: LL_gamma, at least 0; None draws it from U(0, 0.5).
    alpha: LL_alpha, at least 0: the targets of node i are drawn, none twice, with probability proportional to
        exp(-alpha |i - j|); None draws it from U(0.75, 1).
    p_input, p_output: P_IL and P_LO in [0, 1], the probability of an edge between the input, or the output, and each
        hidden node. A node that no hidden node feeds is tied to the input all the same, and one that feeds no hidden
        node to the output, so that every node takes part.
    input_to_output: P_IO, whether the output reads the input.
    dilations: pixels; each edge between input and hidden nodes, and among these, draws one, all equally likely. The
        default is the range of Pelt & Sethian (2018); the paper recommends powers of two for deep networks.

    >>> settings = SparseGraphSettings(depth=3, dilations=(1, 2, 4))
    >>> settings.draw(seed=1) == settings.draw(seed=1)
    True
    """

    depth: int = 20
    min_degree: int = 1
    max_degree: int = 5
    gamma: float | None = None
    alpha: float | None = None
    p_input: float = 1.0
    p_output: float = 1.0
    input_to_output: bool = True
    dilations: Sequence[int] = tuple(range(1, 11))

    def __post_init__(self) -> None:
        require_count("depth", self.depth)
        require_count("min_degree", self.min_degree, least=0)
        require_count("max_degree", self.max_degree, least=max(1, self.min_degree))
        for name in ("gamma", "alpha"):
            value = getattr(self, name)
            require(name, value, value is None or 0 <= value < math.inf, "None, or a finite number of at least 0")
        for name in ("p_input", "p_output"):
            require(name, getattr(self, name), 0 <= getattr(self, name) <= 1, "between 0 and 1")
        require("input_to_output", self.input_to_output, isinstance(self.input_to_output, bool), "true or false")
        require("dilations", self.dilations, len(self.dilations) > 0, "at least one number of pixels")
        for dilation in self.dilations:
            require_count("dilations", dilation)

    def draw(self, seed: int) -> SparseGraph:
        """A random graph; the same settings and seed give the same graph. A fixed number of draws: it always ends."""
        require_count("graph_seed", seed, least=0)
        random = np.random.default_rng(seed)
        gamma = random.uniform(*GAMMA_RANGE) if self.gamma is None else self.gamma
        alpha = random.uniform(*ALPHA_RANGE) if self.alpha is None else self.alpha
        hidden = [(i, j) for i in range(1, self.depth) for j in self._targets(random, i, gamma, alpha)]
        nodes = range(1, self.depth + 1)
        to_input = random.random(self.depth) < self.p_input
        to_output = random.random(self.depth) < self.p_output
        fed, feeding = {target for _, target in hidden}, {source for source, _ in hidden}
        pairs = [(0, node) for node in nodes if to_input[node - 1] or node not in fed] + hidden
        outputs = [0] * self.input_to_output + [node for node in nodes if to_output[node - 1] or node not in feeding]
        chosen = random.choice(np.asarray(self.dilations), len(pairs))
        edges = tuple((i, j, int(dilation)) for (i, j), dilation in zip(pairs, chosen, strict=True))
        return SparseGraph(self.depth, edges, tuple(outputs), float(gamma), float(alpha))

    def check(self, graph: SparseGraph) -> None:
        """Raise SettingError where these settings could not have drawn `graph`."""
        require("graph's depth", graph.depth, graph.depth == self.depth, f"{self.depth}, as `depth` says")
        for name in ("gamma", "alpha"):
            wanted = getattr(self, name)
            require(f"graph's {name}", getattr(graph, name), wanted in (None, getattr(graph, name)), f"{wanted}")
        strange = sorted({dilation for *_, dilation in graph.edges} - set(self.dilations))
        require("graph's dilations", strange, not strange, f"among {tuple(self.dilations)}")
        direct = 0 in graph.outputs
        require("graph's input_to_output", direct, direct == self.input_to_output, f"{self.input_to_output}")
        for node in range(1, self.depth + 1):
            degree, (least, most) = len(graph.leaving(node)), self._degree_range(node)
            require(f"degree of the graph's node {node}", degree, least <= degree <= most, f"in {least}..{most}")
        nodes = set(range(1, self.depth + 1))
        hidden = [edge for edge in graph.edges if edge[0] > 0]
        for name, present, forced in (
            ("p_input", set(graph.leaving(0)), nodes - {target for _, target, _ in hidden}),
            ("p_output", set(graph.outputs) - {0}, nodes - {source for source, *_ in hidden}),
        ):
            possible = {0: present == forced, 1: present == nodes}.get(getattr(self, name), True)
            require(f"graph's nodes tied by {name}", present, possible, f"as {name}={getattr(self, name)} ties them")

    def _degree_range(self, node: int) -> tuple[int, int]:
        later = self.depth - node
        return min(self.min_degree, later), min(self.max_degree, later)

    def _targets(self, random: np.random.Generator, node: int, gamma: float, alpha: float) -> list[int]:
        """The later nodes that `node` feeds, rising."""
        least, most = self._degree_range(node)
        degrees = np.arange(least, most + 1)
        weights = np.exp(-gamma * (degrees - least))
        degree = random.choice(degrees, p=weights / weights.sum())
        later = np.arange(node + 1, self.depth + 1)
        # The largest of logarithmic weight + Gumbel noise are a draw without repetition (Kool et al. 2019); the
        # weights themselves would underflow for large alpha, and leave fewer nodes than are to be drawn.
        keys = -alpha * (later - node) + random.gumbel(size=len(later))
        return sorted(int(j) for j in later[np.argsort(-keys)[:degree]])
