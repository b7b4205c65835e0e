"""Autoencoders: any size with one latent length, models of former versions, blocks of several scales."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.nn import functional as F

from dlsia_core.errors import ArrayError, SettingError
from dlsia_core.networks import ConvAutoencoder, MixedScaleAutoencoder, build_network, count_parameters
from dlsia_core.networks.mixed_scale_autoencoder import MixedScaleBlock
from dlsia_core.networks.resampling import enlarge, resample, resampling_weights

pytestmark = pytest.mark.usefixtures("one_thread")

CONFIG = {"in_channels": 1, "out_channels": 2, "depth": 2, "base_channels": 3, "latent_dim": 4}
KINDS = ["ConvAutoencoder", "MixedScaleAutoencoder"]


@given(
    kind=st.sampled_from(KINDS),
    size=st.lists(st.integers(1, 40), min_size=2, max_size=2) | st.lists(st.integers(1, 9), min_size=3, max_size=3),
    wanted=st.integers(1, 30),
)
def test_any_size_becomes_a_vector_and_any_size_comes_out(kind: str, size: list[int], wanted: int) -> None:
    network = build_network({"network": kind, **CONFIG, "ndim": len(size)}, seed=0)
    x = torch.randn(2, 1, *size, generator=torch.Generator().manual_seed(0))
    latent = network.encode(x)
    assert latent.shape == (2, 4)
    assert network.decode(latent).shape == (2, 2, *[16] * len(size))
    assert network.decode(latent, [wanted] * len(size)).shape == (2, 2, *[wanted] * len(size))
    assert torch.equal(network(x), network.decode(latent, size))


@given(size=st.tuples(st.integers(3, 40), st.integers(3, 40)), depth=st.integers(1, 2))
def test_the_size_it_was_built_for_is_not_resampled(size: tuple[int, int], depth: int) -> None:
    """Its grid has as many pixels as the encoder leaves, as in former versions, which took no other size."""
    network = ConvAutoencoder(1, 2, depth, 3, latent_dim=4, input_shape=size)
    x = torch.randn(2, 1, *size, generator=torch.Generator().manual_seed(0))
    latent = network.encode(x)
    assert torch.equal(latent, network.to_latent(network.encoder(x).flatten(1)))
    assert torch.equal(network.decode(latent), network(x))


def test_calls_leave_nothing_behind() -> None:
    """`decode` answers the same whatever size was encoded before."""
    network = build_network({"network": "ConvAutoencoder", **CONFIG}, seed=0)
    latent = network.encode(torch.ones(1, 1, 16, 16))
    before = network.decode(latent)
    network(torch.ones(1, 1, 9, 31))
    assert torch.equal(network.decode(latent), before)


def test_a_stored_configuration_of_a_former_version_builds_the_same_network() -> None:
    """It has input_shape, as a list, and no ndim; names and shapes of the weights are what the stored files hold."""
    former = {"growth_rate": 2, "input_shape": [19, 26], "normalization": None, "activation": "relu"}
    network = build_network({"network": "ConvAutoencoder", **CONFIG, **former}, seed=0)
    assert {name: tuple(value.shape) for name, value in network.state_dict().items() if "bias" not in name} == {
        "encoder.0.0.weight": (3, 1, 3, 3),
        "encoder.1.0.weight": (3, 3, 3, 3),
        "encoder.2.0.weight": (6, 3, 3, 3),
        "encoder.3.0.weight": (6, 6, 3, 3),
        "to_latent.weight": (4, 6 * 5 * 7),
        "from_latent.weight": (6 * 5 * 7, 4),
        "decoder.0.0.0.weight": (3, 3, 3, 3),
        "decoder.0.1.0.weight": (3, 3, 3, 3),
        "decoder.1.0.0.weight": (6, 6, 3, 3),
        "decoder.1.1.0.weight": (6, 3, 3, 3),
        "head.weight": (2, 3, 3, 3),
    }


def test_full_frames_are_affordable() -> None:
    built = ConvAutoencoder(1, 1, 6, 8, 1.5, latent_dim=32, input_shape=(512, 512))
    assert count_parameters(built) == 444_263
    for network in (built, ConvAutoencoder(1, 1, depth=4, base_channels=16, latent_dim=16)):
        assert count_parameters(network) < 700_000
        assert network(torch.zeros(1, 1, 512, 512)).shape == (1, 1, 512, 512)


def test_the_number_of_axes_follows_from_the_size() -> None:
    cube = ConvAutoencoder(1, 1, 2, 2, latent_dim=3, input_shape=(5, 6, 7))
    assert cube(torch.zeros(1, 1, 5, 6, 7)).shape == (1, 1, 5, 6, 7)
    with pytest.raises(SettingError, match=r"ndim is 2; it must be None, or the axes of input_shape \(5, 6, 7\)"):
        ConvAutoencoder(1, 1, 2, 2, latent_dim=3, input_shape=(5, 6, 7), ndim=2)
    with pytest.raises(SettingError, match=r"ndim is 4; it must be 2 or 3"):
        ConvAutoencoder(1, 1, 2, 2, latent_dim=3, ndim=4)
    with pytest.raises(SettingError, match=r"depth is 9; it must be less: input_shape \(19, 26\) is 1 pixel before"):
        ConvAutoencoder(1, 1, 9, 2, latent_dim=3, input_shape=(19, 26))


@pytest.mark.parametrize("kind", KINDS)
def test_wrong_inputs_are_refused(kind: str) -> None:
    network = build_network({"network": kind, **CONFIG}, seed=0)
    with pytest.raises(ArrayError, match=r"shape \(1, 2, 16, 16\); wanted \(N, 1\) and 2 more axes"):
        network(torch.zeros(1, 2, 16, 16))
    with pytest.raises(ArrayError, match=r"wanted \(N, 4\)"):
        network.decode(torch.zeros(1, 5))
    with pytest.raises(ArrayError, match=r"size is \(3,\); wanted 2 whole numbers"):
        network.decode(torch.zeros(1, 4), (3,))


@given(present=st.integers(1, 30), wanted=st.integers(1, 30))
def test_resampling_keeps_constants_and_the_mean(present: int, wanted: int) -> None:
    weights = resampling_weights(present, wanted)
    torch.testing.assert_close(weights.sum(0), torch.ones(wanted, dtype=torch.float64))
    assert (weights >= 0).all()
    if present >= wanted:  # every pixel counts the same
        torch.testing.assert_close(weights.sum(1), torch.full((present,), wanted / present, dtype=torch.float64))


@given(present=st.integers(1, 12), factor=st.integers(1, 5))
def test_resampling_agrees_with_torch_where_torch_does_the_same(present: int, factor: int) -> None:
    x = torch.randn(2, 3, present, 7, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    larger = F.interpolate(x, size=(present * factor, 7), mode="bilinear", align_corners=False)
    torch.testing.assert_close(resample(x, (present * factor, 7)), larger)
    torch.testing.assert_close(resample(larger, (present, 7)), F.adaptive_avg_pool2d(larger, (present, 7)))


@given(size=st.lists(st.integers(1, 7), min_size=2, max_size=3), factor=st.sampled_from([2, 4, 8]))
def test_both_ways_of_enlarging_agree(size: list[int], factor: int) -> None:
    x = torch.randn(2, 3, *size, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    torch.testing.assert_close(enlarge(x, factor), resample(x, [factor * n for n in size]))


def test_a_mixed_scale_block_sees_as_far_as_its_dilations() -> None:
    """Dilations 1, 2, 3, 1 one after the other reach 1 + 2 + 3 + 1 pixels to each side; all layers are joined."""
    block = MixedScaleBlock(2, 1, num_layers=4, max_dilation=3, layer_width=2, normalization=None, activation="silu")
    x = torch.zeros(1, 1, 31, 31, requires_grad=True)
    block(x)[0, 0, 15, 15].backward()
    seen = x.grad[0, 0].nonzero()
    assert (seen.amin(0).tolist(), seen.amax(0).tolist()) == ([8, 8], [22, 22])
    assert [tuple(layer[0].weight.shape[:2]) for layer in block.layers] == [(2, 1), (2, 3), (2, 5), (2, 7)]
    assert tuple(block.mix[0].weight.shape[:2]) == (1, 9)


def test_a_mixed_scale_block_leaves_its_input_to_all_layers() -> None:
    """Activation acts on new channels only: a negative image reaches the last convolution as it is."""
    block = MixedScaleBlock(2, 1, 2, 2, 1, None, "relu")
    entering = []
    block.mix.register_forward_hook(lambda _, given, __: entering.append(given[0]))
    x = -torch.rand(1, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    block(x)
    assert torch.equal(entering[0][:, :1], x)


@pytest.mark.parametrize("setting", ["num_layers", "max_dilation", "layer_width"])
def test_impossible_blocks_are_refused(setting: str) -> None:
    with pytest.raises(SettingError, match=f"{setting} is 0; it must be a whole number of at least 1"):
        MixedScaleAutoencoder(1, 1, 2, 2, latent_dim=3, **{setting: 0})
