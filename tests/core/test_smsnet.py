"""SMSNet: equal to a computation edge by edge, the same from its configuration alone, batch-independent."""

import json

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from dlsia_core.errors import ArrayError, SettingError
from dlsia_core.networks import (
    SMSNet,
    build_network,
    load_network,
    network_config,
    save_network,
    sparse_ensemble_config,
)

pytestmark = pytest.mark.usefixtures("one_thread")

SMALL = {"network": "SMSNet", "in_channels": 2, "out_channels": 3, "depth": 7, "hidden_channels": 3}


def random_input(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float32) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def edge_by_edge(network: SMSNet, x: Tensor) -> Tensor:
    """The network's formula with one convolution per edge, nothing grouped, and the head on all nodes side by side."""
    weights, biases = {}, {}
    for (source, _, biased, _), group in zip(network._grouped_targets(), network.edges, strict=True):
        for k, target in enumerate(group.targets):
            part = slice(k * network.hidden_channels, (k + 1) * network.hidden_channels)
            weights[source, target] = group.weight[part]
            biases[source, target] = group.bias[part] if biased else None
    convolve = F.conv2d if network.ndim == 2 else F.conv3d
    values = [x]
    for node in range(1, network.graph.depth + 1):
        parts = []
        for source, target, dilation in network.graph.edges:
            if target == node:
                key = (source, target)
                parts.append(convolve(values[source], weights[key], biases[key], padding=dilation, dilation=dilation))
        joined = torch.cat(parts, 1) if network.merge == "concatenate" else torch.stack(parts).sum(0)
        values.append(network.nodes[node - 1](joined))
    return network.head(torch.cat([values[node] for node in network.graph.outputs], 1))


@pytest.mark.parametrize("merge", ["sum", "concatenate"])
@pytest.mark.parametrize(
    "change",
    [
        {},
        {"ndim": 3, "dilations": [1, 2], "normalization": "group"},
        {"p_input": 0.2, "p_output": 0.3, "input_to_output": False, "dilations": [2], "activation": "gelu"},
        {"in_channels": 1, "hidden_channels": 1, "max_degree": 7, "gamma": 0, "normalization": "instance"},
        {"depth": 1, "activation": "elu"},
    ],
)
def test_it_equals_the_computation_edge_by_edge(merge: str, change: dict[str, object]) -> None:
    for graph_seed in range(3):
        network = build_network(SMALL | change | {"merge": merge, "graph_seed": graph_seed}, seed=1)
        size = (13, 22) if network.ndim == 2 else (5, 6, 7)
        x = random_input(2, network.channels[0], *size)
        fast, plain = network(x), edge_by_edge(network, x)
        torch.testing.assert_close(fast, plain, rtol=1e-5, atol=1e-5 * float(plain.detach().abs().max()))
        weights, parameters = random_input(*fast.shape, seed=1), list(network.parameters())
        found = torch.autograd.grad((fast * weights).sum(), parameters)
        wanted = torch.autograd.grad((plain * weights).sum(), parameters)
        largest = max(float(gradient.abs().max()) for gradient in wanted)
        for a, b in zip(found, wanted, strict=True):
            torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-5 * largest)


def test_a_network_computed_by_hand() -> None:
    """One node, one channel: relu(w * x(shifted by the dilation) + b), then the head on input and node."""
    graph = {"depth": 1, "edges": [[0, 1, 2]], "outputs": [0, 1], "gamma": None, "alpha": None}
    network = SMSNet(1, 1, depth=1, hidden_channels=1, graph=graph)
    with torch.no_grad():
        network.edges[0].weight.zero_()
        network.edges[0].weight[0, 0, 1, 0] = 3  # the tap to the left, 2 pixels away
        network.edges[0].bias.fill_(-1)
        network.head.weight.copy_(torch.tensor([10.0, 1.0]).view(1, 2, 1, 1))
        network.head.bias.fill_(0.5)
    x = torch.tensor([1.0, 0.0, 2.0, -1.0]).view(1, 1, 1, 4)
    # node: relu(3 * (0, 0, 1, 0) - 1) = (0, 0, 2, 0)
    assert network(x).flatten().tolist() == [10.5, 0.5, 22.5, -9.5]


@pytest.mark.parametrize("merge", ["sum", "concatenate"])
def test_gradients_are_right_in_double_precision(merge: str) -> None:
    config = SMALL | {"depth": 4, "merge": merge, "activation": "silu", "dilations": [1, 2], "p_input": 0.5}
    network = build_network(config, seed=0).double()
    x = random_input(1, 2, 4, 5, dtype=torch.float64).requires_grad_()
    names, values = zip(*network.named_parameters(), strict=True)

    def call(x: Tensor, *parameters: Tensor) -> Tensor:
        return torch.func.functional_call(network, dict(zip(names, parameters, strict=True)), (x,))

    assert torch.autograd.gradcheck(call, (x, *values))


def test_it_runs_under_autocast() -> None:
    network = build_network(SMALL, seed=0)
    x = random_input(1, 2, 16, 16)
    with torch.autocast("cpu", torch.bfloat16):
        output = network(x)
        output.float().square().mean().backward()
    assert (output - network(x)).abs().max() < 0.03 * network(x).abs().max()
    assert all(parameter.grad.isfinite().all() for parameter in network.parameters())


def test_it_compiles() -> None:
    network = build_network(SMALL, seed=0)
    x = random_input(1, 2, 16, 16)
    compiled = torch.compile(network, backend="aot_eager", fullgraph=True)
    torch.testing.assert_close(compiled(x), network(x))


@pytest.mark.parametrize("normalization", [None, "instance", "group"])
def test_an_answer_does_not_depend_on_its_batch_even_in_training_mode(normalization: str | None) -> None:
    """dlsia takes statistics of the batch, in eval mode, too."""
    network = build_network(SMALL | {"normalization": normalization}, seed=0)
    x = random_input(4, 2, 16, 16)
    loud = x.clone()
    loud[1:] *= 100
    torch.testing.assert_close(network(loud)[:1], network(x[:1]), rtol=1e-4, atol=1e-4)


def test_the_configuration_holds_the_graph_whatever_the_random_numbers(
    tmp_path, monkeypatch: pytest.MonkeyPatch
) -> None:
    network = build_network(SMALL | {"graph_seed": 5}, seed=0).eval()
    config = json.loads(json.dumps(network_config(network)))
    assert config["graph"] == network.graph.to_dict()
    save_network(tmp_path, network, {})
    original = np.random.default_rng
    monkeypatch.setattr(np.random, "default_rng", lambda seed: original(seed + 1))
    assert build_network(SMALL | {"graph_seed": 5}, seed=0).graph != network.graph
    loaded, _ = load_network(tmp_path)
    assert loaded.graph == network.graph
    assert network_config(loaded) == config
    x = random_input(1, 2, 16, 16)
    assert torch.equal(loaded(x), network(x))


def test_a_graph_that_contradicts_the_settings_is_refused() -> None:
    config = network_config(build_network(SMALL, seed=0))
    with pytest.raises(SettingError, match="graph's depth is 7; it must be 9, as `depth` says"):
        build_network(config | {"depth": 9}, seed=0)


def test_the_seed_decides_graph_and_weights_are_another_matter() -> None:
    first, same, other = (build_network(SMALL | {"graph_seed": seed}, seed=0) for seed in (1, 1, 2))
    assert first.graph == same.graph != other.graph
    assert build_network(SMALL | {"graph_seed": 1}, seed=7).graph == first.graph


def test_parameters_follow_the_formula() -> None:
    network = SMSNet(3, 2, depth=20, hidden_channels=8, graph_seed=4)
    hidden = sum(source > 0 for source, *_ in network.graph.edges)
    assert network.parameter_count == 9 * 8 * (3 * 20 + 8 * hidden) + 8 * 20 + (3 + 8 * 20 + 1) * 2


def test_five_members_of_about_45000_parameters() -> None:
    ensemble = build_network(sparse_ensemble_config(1, 2), seed=0)
    sizes = [member.parameter_count for member in ensemble.members]
    assert len(sizes) == 5
    assert all(43_000 <= size <= 47_000 for size in sizes)
    assert len({member.graph for member in ensemble.members}) == 5
    with pytest.raises(SettingError, match=r"0 of 1000 random graphs give 10 to 20 parameters, 1 are wanted; they"):
        sparse_ensemble_config(1, 2, 1, (10, 20), depth=2)


def test_no_bias_that_a_normalization_would_cancel() -> None:
    for normalization, biased in ((None, True), ("group", True), ("batch", False), ("instance", False)):
        network = build_network(SMALL | {"normalization": normalization}, seed=0)
        assert any(group.bias is not None for group in network.edges) == biased


def test_signals_neither_fade_nor_grow_with_the_number_of_edges() -> None:
    for settings in ({"max_degree": 1, "min_degree": 1}, {"gamma": 0.0, "min_degree": 5}):
        network = build_network(SMALL | settings | {"depth": 30, "hidden_channels": 8}, seed=0)
        assert 0.2 < network(random_input(1, 2, 48, 48)).std() < 5


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"merge": "mean"}, r"merge is 'mean'; it must be one of \('sum', 'concatenate'\)"),
        ({"hidden_channels": 0}, "hidden_channels is 0"),
        ({"graph_seed": -1}, "graph_seed is -1"),
        ({"graph": {"depth": 7}}, "graph has the keys"),
        ({"dilations": []}, "dilations is"),
    ],
)
def test_bad_settings_are_refused(change: dict[str, object], message: str) -> None:
    with pytest.raises(SettingError, match=message):
        build_network(SMALL | change, seed=0)


def test_another_number_of_channels_or_axes_is_refused() -> None:
    network = build_network(SMALL, seed=0)
    for shape in ((1, 1, 8, 8), (1, 2, 8, 8, 8), (2, 8, 8)):
        with pytest.raises(ArrayError, match=r"wanted \(N, 2\) and 2 more axes"):
            network(torch.zeros(shape))
