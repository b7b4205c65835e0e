"""Networks: the papers' parameter counts, any input size, independence of the batch, storage without surprises."""

import json

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from dlsia_core.errors import ArrayError, SettingError
from dlsia_core.networks import (
    ConvAutoencoder,
    TUNet,
    build_network,
    load_network,
    model_digest,
    network_config,
    save_network,
)
from dlsia_core.networks.inference import run_in_batches

TUNET = {"network": "TUNet", "in_channels": 1, "out_channels": 2, "depth": 3, "base_channels": 4}
AUTOENCODER = {
    "network": "ConvAutoencoder",
    "in_channels": 1,
    "out_channels": 1,
    "depth": 2,
    "base_channels": 4,
    "latent_dim": 3,
    "input_shape": [19, 26],
}


def parameter_count(network: torch.nn.Module) -> int:
    return sum(parameter.numel() for parameter in network.parameters())


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
        assert parameter_count(TUNet(1, 1, depth, base, growth)) == count


def test_batch_norm_adds_two_parameters_per_channel() -> None:
    plain, normalized = TUNet(1, 1, 2, 4), TUNet(1, 1, 2, 4, normalization="batch")
    assert parameter_count(normalized) - parameter_count(plain) == 2 * (4 + 4 + 8 + 8 + 4 + 4)


@given(
    size=st.tuples(st.integers(1, 23), st.integers(1, 23)),
    depth=st.integers(1, 4),
    kernel=st.integers(2, 5),
    growth=st.sampled_from([0.6, 1, 1.5]),
)
def test_tunet_keeps_any_size(size: tuple[int, int], depth: int, kernel: int, growth: float) -> None:
    network = TUNet(1, 2, depth, 8, growth, up_kernel_size=kernel)
    assert network(torch.zeros(1, 1, *size)).shape == (1, 2, *size)


@pytest.mark.parametrize("normalization", [None, "batch", "instance", "group"])
@pytest.mark.parametrize("padding_mode", ["zeros", "replicate"])
def test_every_parameter_of_the_3d_tunet_learns(normalization: str | None, padding_mode: str) -> None:
    settings = {"normalization": normalization, "padding_mode": padding_mode, "ndim": 3, "activation": "silu"}
    network = build_network(TUNET | settings, seed=0)
    output = network(torch.randn(2, 1, 9, 8, 11, generator=torch.Generator().manual_seed(0)))
    assert output.shape == (2, 2, 9, 8, 11)
    output.square().sum().backward()
    assert all(parameter.grad is not None and parameter.grad.any() for parameter in network.parameters())


def test_hidden_rate_widens_the_middle_of_a_level() -> None:
    network = build_network(TUNET | {"hidden_rate": 1.5}, seed=0)
    assert [tuple(p.shape[:2]) for p in network.encoder[0].parameters() if p.ndim == 4] == [(6, 1), (4, 6)]


@given(size=st.tuples(st.integers(3, 40), st.integers(3, 40)), depth=st.integers(1, 2))
def test_autoencoder_returns_the_size_it_was_built_for(size: tuple[int, int], depth: int) -> None:
    network = ConvAutoencoder(1, 2, depth, 3, latent_dim=4, input_shape=size)
    latent = network.encode(torch.zeros(2, 1, *size))
    assert latent.shape == (2, 4)
    assert network.decode(latent).shape == (2, 2, *size)


def test_autoencoder_for_full_frames_is_small_and_works_in_3d() -> None:
    network = ConvAutoencoder(1, 1, 6, 8, 1.5, latent_dim=32, input_shape=(512, 512))
    assert parameter_count(network) == 444_263
    assert network(torch.zeros(1, 1, 512, 512)).shape == (1, 1, 512, 512)
    cube = ConvAutoencoder(1, 1, 2, 2, latent_dim=3, input_shape=(5, 6, 7))
    assert cube(torch.zeros(1, 1, 5, 6, 7)).shape == (1, 1, 5, 6, 7)


def test_wrong_input_is_refused() -> None:
    with pytest.raises(ArrayError, match=r"2 more axes"):
        TUNet(1, 1, 2, 2)(torch.zeros(1, 4, 4))
    network = build_network(AUTOENCODER, seed=0)
    with pytest.raises(ArrayError, match=r"built for"):
        network(torch.zeros(1, 1, 20, 26))
    with pytest.raises(ArrayError, match=r"wanted \(N, 3\)"):
        network.decode(torch.zeros(1, 4))


@pytest.mark.parametrize("config", [TUNET | {"normalization": "batch"}, AUTOENCODER])
def test_an_answer_does_not_depend_on_its_batch(config: dict[str, object]) -> None:
    network = build_network(config, seed=1)
    x = torch.randn(5, 1, 19, 26, generator=torch.Generator().manual_seed(2))
    together = next(run_in_batches(network, network, [x], "cpu"))
    alone = torch.cat(list(run_in_batches(network, network, list(x.flip(0).split(1)), "cpu"))).flip(0)
    assert torch.equal(together, alone)
    assert network.training  # the mode it had before


def test_weights_follow_from_the_seed_and_leave_the_global_state_alone() -> None:
    before = torch.get_rng_state()
    first, again, other = (build_network(TUNET, seed=seed).state_dict() for seed in (3, 3, 4))
    assert torch.equal(before, torch.get_rng_state())
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert not torch.equal(first["head.weight"], other["head.weight"])
    assert torch.equal(build_network(TUNET | {"seed": 3}).head.weight, first["head.weight"])


def test_signals_neither_fade_nor_grow_through_the_network() -> None:
    network = build_network(TUNET | {"depth": 4, "base_channels": 16}, seed=0)
    x = torch.randn(2, 1, 64, 64, generator=torch.Generator().manual_seed(0))
    assert 0.3 < network(x).std() < 10  # 0.05 with torch's own rule


@pytest.mark.parametrize(
    ("config", "seed", "message"),
    [
        ({"network": "UNet"}, 0, r"network is 'UNet'; known networks: ConvAutoencoder, TUNet"),
        (TUNET | {"bass": 3}, 0, r"TUNet does not know 'bass'; it knows network, seed, in_channels"),
        ({"network": "TUNet", "depth": 3}, 0, r"needs 'in_channels', 'out_channels', 'base_channels'; given: depth"),
        (TUNET, None, r"seed is None"),
        (TUNET | {"seed": 1}, 2, r"seed is 2 and the configuration has 1"),
        (TUNET | {"depth": 2.0}, 0, r"depth is 2.0; it must be a whole number of at least 1"),
        (TUNET | {"growth_rate": 0.3}, 0, r"large enough to leave a channel"),
        (TUNET | {"activation": "softmax"}, 0, r"activation is 'softmax'; it must be one of"),
        (TUNET | {"up_kernel_size": 1}, 0, r"up_kernel_size is 1"),
        (AUTOENCODER | {"depth": 9}, 0, r"depth is 9; it must be less"),
    ],
)
def test_bad_configurations_are_refused(config: dict[str, object], seed: int | None, message: str) -> None:
    with pytest.raises(SettingError, match=message):
        build_network(config, seed)


def test_a_module_without_a_rule_for_its_weights_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    class Offset(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.offset = torch.nn.Parameter(torch.zeros(1))

    monkeypatch.setitem(build_network.__globals__["NETWORKS"], "Offset", Offset)
    with pytest.raises(SettingError, match="no rule sets the weights of Offset"):
        build_network({"network": "Offset"}, seed=0)


@pytest.mark.parametrize("config", [TUNET | {"normalization": "batch", "growth_rate": 1.5}, AUTOENCODER])
def test_a_saved_network_comes_back_the_same(tmp_path, config: dict[str, object]) -> None:
    network = build_network(config, seed=5).eval()
    digest = save_network(tmp_path, network, {"scale": 0.5})
    loaded, metadata = load_network(tmp_path)
    x = torch.randn(1, 1, 19, 26, generator=torch.Generator().manual_seed(2))
    assert torch.equal(network(x), loaded(x))
    assert metadata == {"scale": 0.5}
    assert network_config(loaded) == json.loads(json.dumps(network_config(network)))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["model.json", "model.safetensors"]
    assert save_network(tmp_path / "again", loaded, metadata) == digest == model_digest(tmp_path)
    assert save_network(tmp_path, loaded, {"scale": 0.6}) != digest


def test_files_that_do_not_belong_together_are_refused(tmp_path) -> None:
    save_network(tmp_path / "a", build_network(TUNET, seed=0), {})
    save_network(tmp_path / "b", build_network(TUNET, seed=1), {})
    (tmp_path / "a" / "model.safetensors").replace(tmp_path / "b" / "model.safetensors")
    with pytest.raises(ArrayError, match=r"is not the file that model\.json describes"):
        load_network(tmp_path / "b")
    with pytest.raises(FileNotFoundError):
        load_network(tmp_path / "none")
    with pytest.raises(SettingError, match="make it with build_network"):
        save_network(tmp_path / "c", TUNet(1, 1, 2, 2), {})
