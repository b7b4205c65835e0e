"""Random sparse graphs: the paper's distributions and defaults, every node takes part, generation always ends."""

import json
import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dlsia_core.errors import SettingError
from dlsia_core.networks import SparseGraph, SparseGraphSettings

settings_of_any_kind = st.builds(
    SparseGraphSettings,
    depth=st.integers(1, 40),
    min_degree=st.integers(0, 3),
    max_degree=st.integers(3, 50),
    gamma=st.none() | st.floats(0, 1e6),
    alpha=st.none() | st.floats(0, 1e6),
    p_input=st.floats(0, 1),
    p_output=st.floats(0, 1),
    input_to_output=st.booleans(),
    dilations=st.lists(st.integers(1, 64), min_size=1, max_size=4).map(tuple),
)


def reached(steps: dict[int, set[int]], start: set[int]) -> set[int]:
    found = set(start)
    while new := set().union(*(steps.get(node, set()) for node in found)) - found:
        found |= new
    return found


@given(settings=settings_of_any_kind, seed=st.integers(0, 2**40))
def test_every_graph_is_whole_and_comes_back_from_json(settings: SparseGraphSettings, seed: int) -> None:
    """dlsia's generation can fail or never end, for example where exp(-alpha) underflows."""
    graph = settings.draw(seed)
    assert graph == settings.draw(seed)
    assert graph == SparseGraph.from_dict(json.loads(json.dumps(graph.to_dict())))
    settings.check(graph)
    forward = {node: set(graph.leaving(node)) for node in range(settings.depth + 1)}
    backward = {node: set(graph.entering(node)) for node in range(settings.depth + 1)}
    hidden = set(range(1, settings.depth + 1))
    assert hidden <= reached(forward, {0})
    assert hidden <= reached(backward, set(graph.outputs))
    assert (0 in graph.outputs) == settings.input_to_output
    for node in hidden:
        later = settings.depth - node
        assert min(settings.min_degree, later) <= len(forward[node]) <= min(settings.max_degree, later)
    assert {dilation for *_, dilation in graph.edges} <= set(settings.dilations)


def test_the_defaults_are_the_papers() -> None:
    settings = SparseGraphSettings()
    assert (settings.depth, settings.min_degree, settings.max_degree) == (20, 1, 5)
    assert (settings.gamma, settings.alpha) == (None, None)
    assert (settings.p_input, settings.p_output, settings.input_to_output) == (1, 1, True)
    graphs = [settings.draw(seed) for seed in range(400)]
    for values, low, high in (([g.gamma for g in graphs], 0, 0.5), ([g.alpha for g in graphs], 0.75, 1)):
        assert low < min(values) < low + 0.02 * (high - low)
        assert high - 0.02 * (high - low) < max(values) < high
        assert np.mean(values) == pytest.approx((low + high) / 2, abs=4 * (high - low) / math.sqrt(12 * 400))
    assert all(graph.leaving(0) == list(range(1, 21)) for graph in graphs)
    assert all(graph.outputs == tuple(range(21)) for graph in graphs)


@pytest.mark.parametrize("gamma", [0, 0.4, 2])
def test_degrees_follow_the_exponential_law_up_to_the_largest(gamma: float) -> None:
    """dlsia: a power law, and max_degree=5 gives 4 at most."""
    settings = SparseGraphSettings(depth=40, gamma=gamma, min_degree=2, max_degree=5)
    degrees = [len(graph.leaving(n)) for graph in map(settings.draw, range(60)) for n in range(1, 36)]
    weights = np.exp(-gamma * np.arange(2, 6))
    wanted = weights / weights.sum()
    found = np.bincount(degrees, minlength=6)[2:] / len(degrees)
    assert max(degrees) == 5
    np.testing.assert_allclose(found, wanted, atol=4 * 0.5 / math.sqrt(len(degrees)))


def test_lengths_follow_the_exponential_law() -> None:
    """With one edge per node the law is exact; with several the draws exclude each other."""
    settings = SparseGraphSettings(depth=12, alpha=0.7, min_degree=1, max_degree=1)
    lengths = [graph.leaving(1)[0] - 1 for graph in map(settings.draw, range(3000))]
    weights = np.exp(-0.7 * np.arange(1, 12))
    found = np.bincount(lengths, minlength=12)[1:] / len(lengths)
    np.testing.assert_allclose(found, weights / weights.sum(), atol=4 * 0.5 / math.sqrt(3000))


def test_several_targets_are_drawn_one_after_the_other() -> None:
    """Two of three targets: P(a, b) = p_a p_b / (1 - p_a) + p_b p_a / (1 - p_b)."""
    settings = SparseGraphSettings(depth=4, alpha=1, min_degree=2, max_degree=2)
    pairs = [tuple(graph.leaving(1)) for graph in map(settings.draw, range(3000))]
    p = np.exp(-np.arange(1.0, 4))
    p /= p.sum()
    for a, b in ((0, 1), (0, 2), (1, 2)):
        wanted = p[a] * p[b] / (1 - p[a]) + p[b] * p[a] / (1 - p[b])
        assert pairs.count((a + 2, b + 2)) / 3000 == pytest.approx(wanted, abs=4 * 0.5 / math.sqrt(3000))


def test_probabilities_of_edges_to_input_and_output() -> None:
    settings = SparseGraphSettings(depth=30, p_input=0.3, p_output=0.6)
    graphs = [settings.draw(seed) for seed in range(100)]
    fed = [(0 in g.entering(n)) for g in graphs for n in range(1, 31) if g.entering(n) != [0]]
    feeding = [(n in g.outputs) for g in graphs for n in range(1, 31) if g.leaving(n)]
    # Nodes that only the input feeds are left out of the count: for them the edge is no matter of chance.
    assert np.mean(fed) == pytest.approx(0.3, abs=0.04)
    assert np.mean(feeding) == pytest.approx(0.6, abs=0.04)
    nothing = SparseGraphSettings(depth=30, p_input=0, p_output=0, input_to_output=False).draw(1)
    assert all(nothing.entering(node) == [0] for node in nothing.leaving(0))
    assert nothing.outputs == (30,)


def test_each_edge_draws_its_own_dilation() -> None:
    edges = [edge for seed in range(40) for edge in SparseGraphSettings(dilations=(1, 2, 4, 8)).draw(seed).edges]
    for source_is_input in (True, False):
        chosen = [dilation for source, _, dilation in edges if (source == 0) == source_is_input]
        assert np.bincount(chosen)[[1, 2, 4, 8]] / len(chosen) == pytest.approx(0.25, abs=0.08)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"depth": 0}, "depth is 0; it must be a whole number of at least 1"),
        ({"min_degree": 6}, "max_degree is 5; it must be a whole number of at least 6"),
        ({"gamma": -0.1}, "gamma is -0.1; it must be None, or a finite number of at least 0"),
        ({"alpha": math.inf}, "alpha is inf"),
        ({"p_input": 1.5}, "p_input is 1.5; it must be between 0 and 1"),
        ({"input_to_output": 1}, "input_to_output is 1; it must be true or false"),
        ({"dilations": ()}, "dilations is .*at least one"),
        ({"dilations": (1, 0)}, "dilations is 0; it must be a whole number"),
    ],
)
def test_bad_settings_are_refused(change: dict[str, object], message: str) -> None:
    with pytest.raises(SettingError, match=message):
        replace(SparseGraphSettings(), **change)


@pytest.mark.parametrize(
    ("graph", "message"),
    [
        ({"edges": ((0, 1, 1), (2, 1, 1)), "outputs": (1,)}, r"edge is \(2, 1, 1\); it must be .* target <= 2"),
        ({"edges": ((0, 1, 1), (1, 2, 0)), "outputs": (2,)}, r"edge is \(1, 2, 0\)"),
        ({"edges": ((0, 1, 1), (0, 2, 1.5)), "outputs": (1, 2)}, r"edge is \(0, 2, 1.5\)"),
        ({"edges": ((0, 2, 1), (0, 1, 1)), "outputs": (1, 2)}, "sorted, each pair of nodes once"),
        ({"edges": ((0, 1, 1), (0, 1, 2), (1, 2, 1)), "outputs": (2,)}, "sorted, each pair of nodes once"),
        ({"edges": ((0, 1, 1), (1, 2, 1)), "outputs": (2, 3)}, r"outputs is \(2, 3\); it must be rising"),
        ({"edges": ((0, 1, 1),), "outputs": (1, 2)}, r"nodes \[2\] have no edge that enters"),
        ({"edges": ((0, 1, 1), (0, 2, 1)), "outputs": (1,)}, r"nodes \[2\] have no edge that leaves"),
    ],
)
def test_bad_graphs_are_refused(graph: dict[str, object], message: str) -> None:
    with pytest.raises(SettingError, match=message):
        SparseGraph(2, **graph)


def test_a_stored_graph_with_other_keys_is_refused() -> None:
    stored = SparseGraphSettings(depth=3).draw(0).to_dict()
    with pytest.raises(SettingError, match="it must have depth, edges, outputs, gamma, alpha"):
        SparseGraph.from_dict(stored | {"nodes": 3})


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"depth": 7}, "graph's depth is 6; it must be 7"),
        ({"gamma": 0.1}, "graph's gamma is 0.25; it must be 0.1"),
        ({"dilations": (1, 2)}, r"graph's dilations is \[3\]"),
        ({"input_to_output": False}, "graph's input_to_output is True"),
        ({"min_degree": 2, "max_degree": 2}, "degree of the graph's node 1 is 1; it must be in 2..2"),
        ({"p_input": 0.0}, "graph's nodes tied by p_input"),
        ({"p_output": 0.0}, "graph's nodes tied by p_output"),
    ],
)
def test_settings_refuse_a_graph_that_they_cannot_draw(change: dict[str, object], message: str) -> None:
    settings = SparseGraphSettings(depth=6, max_degree=1, gamma=0.25, dilations=(3,))
    graph = settings.draw(0)
    settings.check(graph)
    with pytest.raises(SettingError, match=message):
        replace(settings, **change).check(graph)
