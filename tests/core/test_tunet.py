"""Tunable U-Nets: the papers' parameter counts, any size, settings that do what they say."""

from itertools import pairwise

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from dlsia_core.errors import ArrayError, SettingError
from dlsia_core.networks import TUNet, TUNet3Plus, build_network, count_parameters
from dlsia_core.networks.tunet import max_pool

pytestmark = pytest.mark.usefixtures("one_thread")

TUNET = {"network": "TUNet", "in_channels": 1, "out_channels": 2, "depth": 3, "base_channels": 4}


@pytest.mark.parametrize(
    ("depth", "base", "growth", "count"),
    [
        (4, 32, 2, 2_140_065),
        (4, 64, 2, 8_556_353),
        (5, 16, 2, 2_158_417),
        (5, 32, 2, 8_629_921),
        (5, 64, 1.5, 6_033_025),
        (6, 16, 2, 8_648_273),
        (6, 32, 2, 34_585_761),
        (4, 16, 2, 535_505),  # model 0 with growth 2 instead of the misprinted 2.5
        (5, 64, 2, 34_512_193),  # model 8 with depth 5 and growth 2
    ],
)
def test_tunet_has_the_parameters_of_table_2(depth: int, base: int, growth: float, count: int) -> None:
    with torch.device("meta"):
        assert count_parameters(TUNet(1, 1, depth, base, growth, normalization=None, up_kernel_size=3)) == count


@given(
    depth=st.integers(1, 5),
    base=st.integers(2, 20),
    growth=st.sampled_from([0.7, 1, 1.3, 2, 2.5]),
    kernel=st.integers(2, 4),
    entering=st.integers(1, 3),
    leaving=st.integers(1, 3),
)
def test_tunet_has_the_parameters_of_the_closed_form(
    depth: int, base: int, growth: float, kernel: int, entering: int, leaving: int
) -> None:
    channels = [base]
    while len(channels) < depth:
        channels.append(int(channels[-1] * growth))
    if channels[-1] < 1:
        return
    encoder = sum(9 * a * c + c + 9 * c * c + c for a, c in zip([entering, *channels], channels, strict=False))
    pairs = list(pairwise(channels))
    up = sum(kernel**2 * lower * c + c for c, lower in pairs)
    decoder = sum(9 * 2 * c * c + c + 9 * c * c + c for c, _ in pairs)
    with torch.device("meta"):
        network = TUNet(entering, leaving, depth, base, growth, up_kernel_size=kernel)
    assert count_parameters(network) == encoder + up + decoder + (base + 1) * leaving


def test_batch_norm_adds_two_parameters_per_channel() -> None:
    plain, normalized = TUNet(1, 1, 2, 4), TUNet(1, 1, 2, 4, normalization="batch")
    assert count_parameters(normalized) - count_parameters(plain) == 2 * (4 + 4 + 8 + 8 + 4 + 4)


@given(
    size=st.tuples(st.integers(1, 23), st.integers(1, 23)),
    depth=st.integers(1, 4),
    kernel=st.integers(2, 5),
    growth=st.sampled_from([0.6, 1, 1.5]),
)
def test_tunet_keeps_any_size(size: tuple[int, int], depth: int, kernel: int, growth: float) -> None:
    """dlsia's is tied to the size that it was built for."""
    network = TUNet(1, 2, depth, 8, growth, up_kernel_size=kernel)
    assert network(torch.zeros(1, 1, *size)).shape == (1, 2, *size)


@pytest.mark.parametrize("kernel", [2, 3, 4, 5])
def test_the_up_kernel_does_not_change_the_scale(kernel: int) -> None:
    """In dlsia the stride follows the kernel of pooling and transposed convolution; here it is 2 with any kernel."""
    network = TUNet(1, 1, 3, 2, up_kernel_size=kernel)
    sizes = []
    for level in network.encoder:
        level.register_forward_hook(lambda _, __, out: sizes.append(tuple(out.shape[2:])))
    network(torch.zeros(1, 1, 20, 12))
    assert sizes == [(20, 12), (10, 6), (5, 3)]


@pytest.mark.parametrize("normalization", [None, "batch", "instance", "group"])
@pytest.mark.parametrize("padding_mode", ["zeros", "replicate"])
@pytest.mark.parametrize("name", ["TUNet", "TUNet3Plus"])
def test_every_parameter_learns_with_every_setting(name: str, normalization: str | None, padding_mode: str) -> None:
    settings = {"network": name, "normalization": normalization, "padding_mode": padding_mode, "activation": "silu"}
    network = build_network(TUNET | settings | {"ndim": 3}, seed=0)
    output = network(torch.randn(2, 1, 9, 8, 11, generator=torch.Generator().manual_seed(0)))
    assert output.shape == (2, 2, 9, 8, 11)
    output.square().sum().backward()
    assert all(parameter.grad is not None and parameter.grad.any() for parameter in network.parameters())


@pytest.mark.parametrize(("mode", "kept"), [("zeros", False), ("replicate", True)])
def test_replicated_edges_keep_a_constant_image_constant(mode: str, kept: bool) -> None:
    network = build_network(TUNET | {"depth": 1, "padding_mode": mode}, seed=0)
    output = network(torch.ones(1, 1, 12, 12))[0, 0]
    assert torch.allclose(output, output[6, 6].expand_as(output), atol=1e-6) == kept


def test_hidden_rate_widens_the_middle_of_a_level() -> None:
    network = build_network(TUNET | {"hidden_rate": 1.5}, seed=0)
    assert [tuple(p.shape[:2]) for p in network.encoder[0].parameters() if p.ndim == 4] == [(6, 1), (4, 6)]


def test_signals_neither_fade_nor_grow_through_the_network() -> None:
    network = build_network(TUNET | {"depth": 4, "base_channels": 16}, seed=0)
    x = torch.randn(2, 1, 64, 64, generator=torch.Generator().manual_seed(0))
    assert 0.3 < network(x).std() < 10  # 0.05 with torch's own rule


@pytest.mark.parametrize("network", [TUNet(1, 1, 2, 2), TUNet3Plus(1, 1, 2, 2)])
def test_wrong_number_of_axes_is_refused(network: torch.nn.Module) -> None:
    with pytest.raises(ArrayError, match=r"2 more axes"):
        network(torch.zeros(1, 4, 4))


def test_full_scale_skips_have_the_shape_of_the_paper() -> None:
    """Huang et al. 2020: each of 5 levels gives 64 channels to each decoder level, which mixes the 320."""
    with torch.device("meta"):
        network = TUNet3Plus(3, 1, depth=5, base_channels=64, normalization="batch")
    assert [[tuple(carry[0].weight.shape[:2]) for carry in level] for level in network.carry] == [
        [(64, 64), (64, 320), (64, 320), (64, 320), (64, 1024)],
        [(64, 64), (64, 128), (64, 320), (64, 320), (64, 1024)],
        [(64, 64), (64, 128), (64, 256), (64, 320), (64, 1024)],
        [(64, 64), (64, 128), (64, 256), (64, 512), (64, 1024)],
    ]
    assert [tuple(fuse[0].weight.shape) for fuse in network.fuse] == [(320, 320, 3, 3)] * 4


def test_carryover_channels_follow_the_base_channels_unless_given() -> None:
    assert TUNet3Plus(1, 1, 3, 4).head.in_channels == 3 * 4
    assert TUNet3Plus(1, 1, 3, 4, carryover_channels=5).head.in_channels == 3 * 5
    with pytest.raises(SettingError, match=r"carryover_channels is 0; it must be a whole number of at least 1"):
        TUNet3Plus(1, 1, 3, 4, carryover_channels=0)


@pytest.mark.parametrize("source", range(4))
def test_every_level_reaches_the_output_directly(source: int) -> None:
    """Without the carry from a level to the top one, the answer is another: a skip that nobody reads was dlsia's."""
    network = build_network({**TUNET, "network": "TUNet3Plus", "depth": 4, "activation": "silu"}, seed=0)
    x = torch.randn(1, 1, 16, 24, generator=torch.Generator().manual_seed(0))
    before = network(x)
    with torch.no_grad():
        for parameter in network.carry[0][source].parameters():
            parameter.zero_()
    assert (network(x) - before).abs().max() > 1e-3


@given(size=st.lists(st.integers(1, 3), min_size=2, max_size=3), power=st.integers(0, 3))
def test_both_ways_of_pooling_agree_to_the_bit(size: list[int], power: int) -> None:
    x = torch.randn(2, 3, *[n * 2**power for n in size], generator=torch.Generator().manual_seed(0))
    assert torch.equal(max_pool(x, 2**power), max_pool(x.clone().requires_grad_(), 2**power))
