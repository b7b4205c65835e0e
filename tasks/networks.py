"""The networks that are trained on a scan, as the settings describe them."""

from typing import Any

from tasks.settings.stages import EncodeSettings, TrainSettings


def inpainter_config(settings: TrainSettings) -> dict[str, Any]:
    """The inpainting network, but for its channels of input and output, which the recipe knows."""
    return {
        "network": "TUNet",
        "depth": settings.depth,
        "base_channels": settings.base_channels,
        "growth_rate": settings.growth_rate,
        "activation": "silu",
    }


def encoder_config(settings: EncodeSettings, size: tuple[int, int]) -> dict[str, Any]:
    """The autoencoder for frames that are pooled to a size (row, column)."""
    return {
        "network": "ConvAutoencoder",
        "in_channels": 1,
        "out_channels": 1,
        "depth": settings.depth,
        "base_channels": settings.base_channels,
        "latent_dim": settings.latent,
        "input_shape": size,
    }


def pooled_size(settings: EncodeSettings, shape: tuple[int, int]) -> tuple[int, int]:
    """Rows and columns to which frames of a shape (row, column) are pooled: never more than they have."""
    return min(settings.pooled_shape[0], shape[0]), min(settings.pooled_shape[1], shape[1])
