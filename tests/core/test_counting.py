"""Counts and sizes against what the networks really hold and do."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from dlsia_core.errors import ArrayError, SettingError
from dlsia_core.networks import build_network, count_filters, count_parameters, layer_counts, layer_table, scale_table

pytestmark = pytest.mark.usefixtures("one_thread")

LEVELS = {"in_channels": 1, "out_channels": 1, "depth": 3, "base_channels": 2}
NETWORKS_WITH_LEVELS = {
    "ConvAutoencoder": LEVELS | {"latent_dim": 2},
    "MixedScaleAutoencoder": LEVELS | {"latent_dim": 2, "num_layers": 1},
    "PartialConvUNet": LEVELS,
    "TUNet": LEVELS,
    "TUNet3Plus": LEVELS,
}


def test_layers_of_a_small_unet_by_hand() -> None:
    network = build_network({"network": "TUNet", **LEVELS, "depth": 2, "normalization": "batch"}, seed=0)
    rows = layer_counts(network)
    assert [(row.name, row.parameters, row.filters) for row in rows if row.kind != "BatchNorm2d"] == [
        ("encoder.0.0.0", 2 * 9 + 2, 2),
        ("encoder.0.1.0", 2 * 2 * 9 + 2, 2),
        ("encoder.1.0.0", 4 * 2 * 9 + 4, 4),
        ("encoder.1.1.0", 4 * 4 * 9 + 4, 4),
        ("up.0", 4 * 2 * 9 + 2, 2),
        ("decoder.0.0.0", 2 * 4 * 9 + 2, 2),
        ("decoder.0.1.0", 2 * 2 * 9 + 2, 2),
        ("head", 2 + 1, 1),
    ]
    assert count_filters(network) == 2 + 2 + 4 + 4 + 2 + 2 + 2 + 1
    assert sum(row.parameters for row in rows) == count_parameters(network)
    lines = layer_table(rows).splitlines()
    assert lines[-1].split() == ["sum", str(count_parameters(network)), str(count_filters(network))]
    assert len({len(line) for line in lines}) == 1


@pytest.mark.parametrize("name", NETWORKS_WITH_LEVELS)
def test_layers_add_up(name: str) -> None:
    network = build_network({"network": name, **NETWORKS_WITH_LEVELS[name]}, seed=0)
    assert sum(row.parameters for row in layer_counts(network)) == count_parameters(network)


def test_frozen_and_shared_parameters() -> None:
    first = nn.Linear(3, 3)
    network = nn.Sequential(first, nn.Linear(3, 1), first)
    assert count_parameters(network) == 9 + 3 + 3 + 1
    first.requires_grad_(False)
    assert count_parameters(network, trainable_only=True) == 3 + 1


@given(name=st.sampled_from(sorted(NETWORKS_WITH_LEVELS)), size=st.tuples(st.integers(1, 40), st.integers(1, 40)))
def test_sizes_are_those_of_the_feature_maps(name: str, size: tuple[int, int]) -> None:
    network = build_network({"network": name, **NETWORKS_WITH_LEVELS[name]}, seed=0)
    table = scale_table(network, size)
    seen: list[tuple[int, ...]] = []
    blocks = network.encoder[1::2] if "Autoencoder" in name else network.encoder

    def note(_: nn.Module, __: object, out: torch.Tensor | tuple[torch.Tensor, ...]) -> None:
        seen.append(tuple((out[0] if isinstance(out, tuple) else out).shape[2:]))

    for block in blocks:
        block.register_forward_hook(note)
    channels = 2 if name == "PartialConvUNet" else 1
    network(torch.ones(1, channels, *size))
    assert seen == list(table.sizes)[-len(seen) :]
    padded = tuple(n + extra for n, extra in zip(size, table.padding, strict=True))
    assert table.sizes[0] == padded
    for upper, lower, cut in zip(table.sizes[:-1], table.sizes[1:], table.cut, strict=True):
        assert upper == tuple(2 * n - surplus for n, surplus in zip(lower, cut, strict=True))


def test_sizes_by_hand() -> None:
    volume = build_network({"network": "TUNet", **LEVELS, "ndim": 3}, seed=0)
    table = scale_table(volume, (5, 64, 127))
    assert table.padding == (3, 0, 1)
    assert table.sizes == ((8, 64, 128), (4, 32, 64), (2, 16, 32))
    encoder = build_network({"network": "ConvAutoencoder", **NETWORKS_WITH_LEVELS["ConvAutoencoder"]}, seed=0)
    assert scale_table(encoder, (33, 64)).sizes == ((33, 64), (17, 32), (9, 16), (5, 8))
    assert scale_table(encoder, (33, 64)).cut == ((1, 0), (1, 0), (1, 0))


def test_networks_without_levels_and_wrong_sizes_are_refused() -> None:
    with pytest.raises(SettingError, match="Conv2d has no levels of different scale"):
        scale_table(nn.Conv2d(1, 1, 3), (4, 4))
    network = build_network({"network": "TUNet", **LEVELS}, seed=0)
    with pytest.raises(ArrayError, match=r"input_shape is \(4,\); wanted 2 axes"):
        scale_table(network, (4,))
    with pytest.raises(SettingError, match="input_shape is 0"):
        scale_table(network, (0, 4))


def test_convolutions_of_our_own_are_counted() -> None:
    """Ten edges of 3 channels each, and a head of 2: torch's classes alone would give 2."""
    config = {"network": "SMSNet", "in_channels": 1, "out_channels": 2, "depth": 5, "hidden_channels": 3}
    network = build_network(config, seed=0)
    edges = {(source, dilation, target) for source, target, dilation in network.graph.edges}
    assert count_filters(network) == 3 * len(edges) + 2
