"""Networks by name: one configuration (a mapping that JSON can hold) builds one network, weights and all."""

import inspect
import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from dlsia_core.errors import SettingError
from dlsia_core.networks.autoencoder import ConvAutoencoder
from dlsia_core.networks.ensemble import Ensemble
from dlsia_core.networks.mixed_scale_autoencoder import MixedScaleAutoencoder
from dlsia_core.networks.msdnet import MSDNet
from dlsia_core.networks.partial_conv_unet import PartialConvUNet
from dlsia_core.networks.smsnet import SMSNet
from dlsia_core.networks.tunet import TUNet
from dlsia_core.networks.tunet3plus import TUNet3Plus

NETWORKS: dict[str, type[nn.Module]] = {
    "ConvAutoencoder": ConvAutoencoder,
    "Ensemble": Ensemble,
    "MixedScaleAutoencoder": MixedScaleAutoencoder,
    "MSDNet": MSDNet,
    "PartialConvUNet": PartialConvUNet,
    "SMSNet": SMSNet,
    "TUNet": TUNet,
    "TUNet3Plus": TUNet3Plus,
}


def build_network(config: Mapping[str, Any], seed: int | None = None) -> nn.Module:
    """The network that `config` describes, with weights drawn from `seed`.

    config: "network": a name in NETWORKS, the keyword arguments of that class, and "seed" unless given as argument.
    torch's global random state is neither read nor changed; the same seed gives the same bits on every device.
    Raises SettingError for unknown names and keys (it lists the known ones), missing keys and a missing seed.

    >>> network = build_network({"network": "TUNet", "in_channels": 1, "out_channels": 1, "depth": 2,
    ...                          "base_channels": 4}, seed=7)
    >>> network_config(network)["growth_rate"]
    2
    """
    name, settings = _split(config)
    seed = settings.pop("seed", None) if seed is None else seed
    if not isinstance(seed, int) or settings.pop("seed", seed) != seed:
        raise SettingError(f"seed is {seed!r} and the configuration has {config.get('seed')!r}; give one whole number")
    network = empty_network({"network": name, **settings})
    initialize(network, torch.Generator().manual_seed(seed))
    return network


def empty_network(config: Mapping[str, Any]) -> nn.Module:
    """The network that `config` (without "seed") describes, on the CPU, its weights not yet set.

    A list of configurations as a setting (the members of an ensemble) stands for the networks that they describe.
    A network that draws its structure at random has a method `drawn_settings`, whose answer goes into the complete
    configuration; built from that, it draws no more.
    """
    name, settings = _split(config)
    accepted = inspect.signature(NETWORKS[name]).parameters
    known = ["network", "seed", *accepted]
    if unknown := sorted(set(settings) - set(accepted)):
        raise SettingError(f"{name} does not know {', '.join(map(repr, unknown))}; it knows {', '.join(known)}")
    missing = [key for key, p in accepted.items() if p.default is p.empty and key not in settings]
    if missing:
        raise SettingError(f"{name} needs {', '.join(map(repr, missing))}; given: {', '.join(settings) or 'nothing'}")
    complete = {key: settings.get(key, parameter.default) for key, parameter in accepted.items()}
    arguments = {key: _built(value) for key, value in complete.items()}
    # The meta device draws no random numbers, so that other threads see no change of torch's global state.
    with torch.device("meta"):
        network = NETWORKS[name](**arguments)
    network.to_empty(device="cpu")
    drawn: dict[str, Any] = getattr(network, "drawn_settings", dict)()
    object.__setattr__(network, "config", {"network": name, **complete, **drawn})
    return network


def network_config(network: nn.Module) -> dict[str, Any]:
    """The complete configuration, defaults included, of a network made by `build_network` or `load_network`.

    An ensemble of such networks has one, too, however it was put together.
    """
    if isinstance(network, Ensemble):
        return {"network": "Ensemble", "members": [network_config(member) for member in network.members]}
    config = network.__dict__.get("config")
    if not isinstance(config, dict):
        raise SettingError(f"{type(network).__name__} has no configuration; make it with build_network")
    return dict(config)


def initialize(network: nn.Module, generator: torch.Generator) -> None:
    """Set all weights: uniform in ± √(6 / fan_in) in convolutions and linear layers (He et al. 2015); biases 0.

    Torch's own rule is narrower by √6: signals fade with depth, and a TUNet then learns nothing for many steps.
    A module with other parameters or buffers must have a method `initialize(generator)`; else SettingError is raised.
    """
    for module in network.modules():
        own = [*module.parameters(recurse=False), *module.buffers(recurse=False)]
        if callable(rule := getattr(module, "initialize", None)):
            rule(generator)
        elif isinstance(weight := getattr(module, "weight", None), Tensor) and weight.ndim > 1:
            bound = math.sqrt(6 / _fan_in(module, weight))
            nn.init.uniform_(weight, -bound, bound, generator)
            if isinstance(bias := getattr(module, "bias", None), Tensor):
                nn.init.zeros_(bias)
        elif callable(reset := getattr(module, "reset_parameters", None)):
            reset()
        elif own:
            raise SettingError(f"no rule sets the weights of {type(module).__name__}; give it initialize(generator)")


def _fan_in(module: nn.Module, weight: Tensor) -> float:
    """Terms in the sum for one output value; a transposed convolution spreads its kernel over stride^ndim outputs."""
    if isinstance(module, nn.ConvTranspose2d | nn.ConvTranspose3d):
        return weight.shape[0] * weight[0, 0].numel() / math.prod(module.stride)
    return weight[0].numel()


def _built(value: object) -> object:
    """A setting as a network takes it: networks in place of a list of their configurations."""
    if not (isinstance(value, list | tuple) and value and all(isinstance(entry, Mapping) for entry in value)):
        return value
    if any("seed" in entry for entry in value):
        raise SettingError("a member of an ensemble has a seed; all weights follow from that of the ensemble")
    return [empty_network(entry) for entry in value]


def _split(config: Mapping[str, Any]) -> tuple[str, dict[str, Any]]:
    settings = dict(config)
    name = settings.pop("network", None)
    if name not in NETWORKS:
        raise SettingError(f"network is {name!r}; known networks: {', '.join(sorted(NETWORKS))}")
    return str(name), settings
