"""Laws that every network of the registry keeps; a network without a small configuration here fails."""

import hashlib
import inspect
import json
import pickle
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import SafetensorError
from torch import Tensor, nn

from dlsia_core.errors import SettingError
from dlsia_core.networks import NETWORKS, build_network, load_network, network_config, save_network
from dlsia_core.networks.inference import run_in_batches

pytestmark = pytest.mark.usefixtures("one_thread")

CHANNELS = {"in_channels": 2, "out_channels": 3}
LEVELS = CHANNELS | {"depth": 2, "base_channels": 4}

# One small configuration in 2-D and one in 3-D for each network; "ndim" is added where it is missing.
CONFIGS: dict[str, dict[str, Any]] = {
    "ConvAutoencoder": LEVELS | {"latent_dim": 5, "normalization": "group", "activation": "silu"},
    "MixedScaleAutoencoder": LEVELS | {"latent_dim": 5, "num_layers": 3, "max_dilation": 2, "normalization": "batch"},
    "MSDNet": CHANNELS | {"num_layers": 7, "max_dilation": 3, "layer_width": 2, "normalization": "batch"},
    "PartialConvUNet": LEVELS | {"normalization": "batch", "activation": "leaky_relu"},
    "SMSNet": CHANNELS | {"depth": 8, "hidden_channels": 4, "normalization": "batch"},
    "TUNet": LEVELS | {"growth_rate": 1.5, "hidden_rate": 1.5, "normalization": "batch", "activation": "silu"},
    "TUNet3Plus": LEVELS | {"depth": 3, "carryover_channels": 3, "normalization": "group", "activation": "elu"},
}
SIZES = {2: [(16, 16), (13, 22), (1, 9)], 3: [(8, 8, 8), (5, 9, 6), (1, 4, 3)]}

every_config = pytest.mark.parametrize(
    "config",
    [
        pytest.param({"network": name, **config, "ndim": ndim}, id=f"{name}-{ndim}d")
        for name, config in CONFIGS.items()
        for ndim in (2, 3)
    ],
)
every_network = pytest.mark.parametrize(
    "config", [pytest.param({"network": name, **config}, id=name) for name, config in CONFIGS.items()]
)


def sizes_of(config: dict[str, Any]) -> list[tuple[int, ...]]:
    return SIZES[config.get("ndim", 2)]


def example(config: dict[str, Any], count: int, size: tuple[int, ...], seed: int = 0) -> Tensor:
    """Random input (count, channels, *size); a network of partial convolutions gets a last channel of validity."""
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(count, config["in_channels"], *size, generator=generator)
    if config["network"] != "PartialConvUNet":
        return x
    valid = torch.rand(count, 1, *size, generator=generator) > 0.3
    return torch.cat((x, valid.float()), dim=1)


def test_every_network_is_in_the_table() -> None:
    """But for ensembles, whose members are those of the table."""
    assert set(CONFIGS) == set(NETWORKS) - {"Ensemble"}


@every_config
def test_any_size_comes_back_as_it_was(config: dict[str, Any]) -> None:
    network = build_network(config, seed=0).eval()
    for size in sizes_of(config):
        output = network(example(config, 2, size))
        assert output.shape == (2, config["out_channels"], *size)
        assert output.isfinite().all()


@every_config
def test_every_parameter_gets_a_gradient(config: dict[str, Any]) -> None:
    network = build_network(config, seed=0)
    output = network(example(config, 3, sizes_of(config)[1]))
    weights = torch.randn(output.shape, generator=torch.Generator().manual_seed(1))
    (output * weights).sum().backward()
    dead = [name for name, p in network.named_parameters() if p.grad is None or not p.grad.any()]
    assert not dead
    assert all(p.grad is not None and p.grad.isfinite().all() for p in network.parameters())


@every_config
def test_a_saved_network_gives_the_same_bits(config: dict[str, Any], tmp_path: Path) -> None:
    network = build_network(config, seed=5)
    network(example(config, 2, sizes_of(config)[0]))  # moves running statistics, where there are any
    save_network(tmp_path, network.eval(), {})
    loaded, _ = load_network(tmp_path)
    x = example(config, 2, sizes_of(config)[1], seed=2)
    assert torch.equal(network(x), loaded(x))
    assert network_config(loaded) == json.loads(json.dumps(network_config(network)))


@every_network
def test_a_complete_configuration_builds_the_same_network(config: dict[str, Any]) -> None:
    network = build_network(config, seed=3)
    again = build_network(json.loads(json.dumps(network_config(network))), seed=3)
    other = build_network(config, seed=4)
    weights, same = network.state_dict(), again.state_dict()
    assert weights.keys() == same.keys()
    assert all(torch.equal(weights[name], same[name]) for name in weights)
    assert any(not torch.equal(value, other.state_dict()[name]) for name, value in weights.items())


@every_config
def test_an_answer_depends_on_its_own_input_only(config: dict[str, Any]) -> None:
    """To the bit as the pipeline runs networks, and beyond rounding in one batch, next to an input of huge values."""
    network = build_network(config, seed=1)
    x = example(config, 4, sizes_of(config)[1])
    network(x)
    together = next(run_in_batches(network, network, [x], "cpu"))
    alone = torch.cat(list(run_in_batches(network, network, list(x.flip(0).split(1)), "cpu"))).flip(0)
    assert torch.equal(together, alone)
    loud = x.clone()
    loud[1:, : config["in_channels"]] *= 100
    in_batch = network.eval()(loud)[0]
    torch.testing.assert_close(in_batch, together[0], rtol=1e-4, atol=1e-5)


@every_network
def test_it_learns_one_tile_by_heart(config: dict[str, Any]) -> None:
    network = build_network(config | {"out_channels": 1}, seed=0)
    x = example(config, 1, (16, 16))
    row = torch.arange(16.0)
    target = torch.exp(-(((row[:, None] - 8).hypot(row - 6) - 4) ** 2) / 4)[None, None]  # a ring
    x[:, :1] = target + 0.1 * x[:, :1]
    optimizer = torch.optim.Adam(network.parameters(), lr=1e-2)
    for _ in range(150):
        optimizer.zero_grad()
        loss = (network(x) - target).square().mean()
        loss.backward()
        optimizer.step()
    assert loss < 0.05 * target.var()


@every_network
def test_unknown_keys_are_refused_with_the_known_ones(config: dict[str, Any]) -> None:
    name = config["network"]
    with pytest.raises(SettingError, match=f"{name} does not know 'bass'; it knows network, seed, ") as caught:
        build_network(config | {"bass": 3}, seed=0)
    assert all(key in str(caught.value) for key in inspect.signature(NETWORKS[name]).parameters)


@every_network
def test_the_global_random_state_is_neither_read_nor_changed(config: dict[str, Any]) -> None:
    torch.manual_seed(1)
    before = torch.get_rng_state()
    network = build_network(config, seed=3)
    network(example(config, 2, (13, 22)))
    assert torch.equal(before, torch.get_rng_state())
    torch.manual_seed(2)
    again = build_network(config, seed=3)
    assert all(torch.equal(a, b) for a, b in zip(network.parameters(), again.parameters(), strict=True))


@every_network
def test_everything_moves_with_the_network(config: dict[str, Any]) -> None:
    x = example(config, 2, (13, 22))
    network = build_network(config, seed=0).eval()
    single, double = network(x), network.to(torch.float64)(x.double())
    assert double.dtype == torch.float64
    torch.testing.assert_close(double.float(), single, rtol=1e-4, atol=1e-5)
    assert network.to("meta")(x.double().to("meta")).device.type == "meta"  # fails for a tensor left behind


@every_network
def test_the_last_layer_has_its_name(config: dict[str, Any]) -> None:
    """`build_inpainter` starts it at zero, so that the untrained network answers exactly 0."""
    network = build_network(config, seed=0)
    assert isinstance(network.head, nn.Module)
    for parameter in network.head.parameters():
        nn.init.zeros_(parameter)
    assert not network(example(config, 1, (13, 22))).any()


def test_pickled_weights_are_not_read(tmp_path: Path) -> None:
    """dlsia's models are pickles: loading one can run anything."""

    class Trap:
        def __reduce__(self) -> tuple[Any, ...]:
            return Path.touch, (tmp_path / "sprung",)

    save_network(tmp_path, build_network({"network": "TUNet", **CONFIGS["TUNet"]}, seed=0), {})
    weights = pickle.dumps(Trap())
    (tmp_path / "model.safetensors").write_bytes(weights)
    description = json.loads((tmp_path / "model.json").read_text())
    description["weights_sha256"] = hashlib.sha256(weights).hexdigest()
    (tmp_path / "model.json").write_text(json.dumps(description))
    with pytest.raises(SafetensorError):
        load_network(tmp_path)
    assert not (tmp_path / "sprung").exists()


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="this machine has no CUDA device")
@every_config
def test_a_gpu_gives_the_same_answers_and_gradients(config: dict[str, Any]) -> None:
    x = example(config, 2, sizes_of(config)[1])
    on_cpu = build_network(config, seed=0)
    on_gpu = build_network(config, seed=0).to("cuda")
    with torch.backends.cudnn.flags(allow_tf32=False, deterministic=True):
        here, there = on_cpu(x), on_gpu(x.cuda())
        here.square().sum().backward()
        there.square().sum().backward()
    torch.testing.assert_close(there.cpu(), here, rtol=1e-3, atol=1e-4)
    for a, b in zip(on_cpu.parameters(), on_gpu.parameters(), strict=True):
        assert (a.grad - b.grad.cpu()).norm() <= 1e-3 * a.grad.norm() + 1e-4
