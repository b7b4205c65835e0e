"""The presets of a training for the registry: "quick" on two cores, "paper" as in Chavez et al. 2022, appendix A."""

from collections.abc import Mapping
from typing import Any

from dlsia_core.inpainting import InpaintingRecipe
from tasks.settings.inpainting import NetworkName, PresetName

QUICK: dict[str, Any] = {
    "prefill": "linear", "tile_shape": None, "tile_step": None, "crop_rows": 64, "max_tiles": 240,
    "max_validation_tiles": 24, "epochs": 30, "batch_size": 8, "learning_rate": 3e-3, "falls": (0.6, 0.85),
    "decay": 0.3, "gradient_clip": 1.0, "patience": 8,
}  # fmt: skip
PAPER: dict[str, Any] = {
    "prefill": "zero", "tile_shape": (512, 128), "tile_step": (512, 64), "crop_rows": 0, "max_tiles": 0,
    "max_validation_tiles": 600, "epochs": 300, "batch_size": 50, "learning_rate": 1e-3, "falls": (1 / 3, 2 / 3),
    "decay": 0.1, "gradient_clip": 0.0, "patience": 60,
}  # fmt: skip
PRESETS: dict[PresetName, dict[str, Any]] = {"quick": QUICK, "paper": PAPER}

NETWORKS: dict[PresetName, dict[NetworkName, dict[str, Any]]] = {
    "quick": {
        "TUNet": {"depth": 3, "base_channels": 8, "growth_rate": 2.0, "activation": "silu"},
        "MSDNet": {"num_layers": 24, "max_dilation": 8},
        "PartialConvUNet": {"depth": 3, "base_channels": 8, "activation": "silu"},
        "ConvAutoencoder": {"depth": 4, "base_channels": 8, "growth_rate": 1.5, "latent_dim": 64, "activation": "silu"},
    },
    # The best of Tables 2 and 3, and section 3.1. The paper's autoencoder has no vector in the middle, ours has: with
    # the paper's two levels of 32 channels it would have hundreds of millions of weights, so it is four levels deep.
    "paper": {
        "TUNet": {"depth": 4, "base_channels": 64, "growth_rate": 2.0},
        "MSDNet": {"num_layers": 200, "max_dilation": 15},
        "PartialConvUNet": {"depth": 5, "base_channels": 32},
        "ConvAutoencoder": {"depth": 4, "base_channels": 32, "growth_rate": 1.5, "latent_dim": 512},
    },
}
CORRECTION_FALL = 1 / 3
"""Of the learning rate, where a training goes on from a model."""


def preset_values(preset: PresetName, config: Mapping[str, Any]) -> dict[str, Any]:
    """What a preset says for a network of a configuration."""
    values = {**PRESETS[preset], "batch_size": batch_size(preset, config)}
    if config["network"] == "ConvAutoencoder":
        values["crop_rows"] = 0  # it is built for one size, and loses detail on others
    return values


def batch_size(preset: PresetName, config: Mapping[str, Any]) -> int:
    """Tiles per step; Tables 2 and 3 for the paper's networks of that size, those of a TUNet for the other two.

    >>> batch_size("paper", {"network": "TUNet", "base_channels": 64}), batch_size("quick", {"network": "TUNet"})
    (50, 8)
    """
    if preset == "quick":
        return int(QUICK["batch_size"])
    if config["network"] == "MSDNet":
        layers = config.get("num_layers", 200)
        return 30 if layers <= 50 else 7 if layers <= 100 else 6
    channels = config.get("base_channels", 64)
    return 180 if channels <= 16 else 100 if channels <= 32 else 50


def blank_recipe(network: str, prefill: str) -> InpaintingRecipe:
    """The recipe by which a network is trained, before the data say its center and scale.

    >>> blank_recipe("PartialConvUNet", "zero").channels, blank_recipe("MSDNet", "zero").channels
    (2, 1)
    """
    return InpaintingRecipe(prefill, validity_channel=network == "PartialConvUNet")


def config_for(config: Mapping[str, Any], tile_shape: tuple[int, int]) -> dict[str, Any]:
    """The configuration for tiles of a shape, which an autoencoder is built for."""
    if config["network"] == "ConvAutoencoder" and "input_shape" not in config:
        return {**config, "input_shape": list(tile_shape)}
    return dict(config)
