"""Networks as plain torch modules, built from a configuration and stored without pickle.

Layout inside this package: (N, C, Y, X), or (N, C, Z, Y, X) where `ndim=3`. Outputs are logits: no hidden activation.
"""

from dlsia_core.networks.autoencoder import ConvAutoencoder
from dlsia_core.networks.registry import NETWORKS, build_network, network_config
from dlsia_core.networks.storage import load_network, model_digest, save_network
from dlsia_core.networks.tunet import TUNet

__all__ = [
    "NETWORKS",
    "ConvAutoencoder",
    "TUNet",
    "build_network",
    "load_network",
    "model_digest",
    "network_config",
    "save_network",
]
