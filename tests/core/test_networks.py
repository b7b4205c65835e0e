"""Networks by name: seeds, refused configurations, storage without surprises."""

import json

import pytest
import torch

from dlsia_core.errors import ArrayError, SettingError
from dlsia_core.networks import (
    TUNet,
    build_network,
    load_network,
    model_digest,
    network_config,
    save_network,
)

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


def test_weights_follow_from_the_seed_and_leave_the_global_state_alone() -> None:
    before = torch.get_rng_state()
    first, again, other = (build_network(TUNET, seed=seed).state_dict() for seed in (3, 3, 4))
    assert torch.equal(before, torch.get_rng_state())
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert not torch.equal(first["head.weight"], other["head.weight"])
    assert torch.equal(build_network(TUNET | {"seed": 3}).head.weight, first["head.weight"])


@pytest.mark.parametrize(
    ("config", "seed", "message"),
    [
        ({"network": "UNet"}, 0, r"network is 'UNet'; known networks: ConvAutoencoder, "),
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
