"""Networks as plain torch modules, built from a configuration and stored without pickle.

Layout inside this package: (N, C, Y, X), or (N, C, Z, Y, X) where `ndim=3`. Outputs are logits: no hidden activation.
"""

from dlsia_core.networks.autoencoder import ConvAutoencoder
from dlsia_core.networks.counting import LayerCount, count_filters, count_parameters, layer_counts, layer_table
from dlsia_core.networks.ensemble import Ensemble, EnsembleStatistics
from dlsia_core.networks.mixed_scale_autoencoder import MixedScaleAutoencoder
from dlsia_core.networks.msdnet import MSDNet
from dlsia_core.networks.partial_conv_unet import PartialConvUNet
from dlsia_core.networks.registry import NETWORKS, build_network, network_config
from dlsia_core.networks.scales import ScaleTable, scale_table
from dlsia_core.networks.smsnet import SMSNet
from dlsia_core.networks.sparse_ensemble import sparse_ensemble_config
from dlsia_core.networks.sparse_graph import SparseGraph, SparseGraphSettings
from dlsia_core.networks.storage import load_network, model_digest, save_network
from dlsia_core.networks.tunet import TUNet
from dlsia_core.networks.tunet3plus import TUNet3Plus

__all__ = [
    "NETWORKS",
    "ConvAutoencoder",
    "Ensemble",
    "EnsembleStatistics",
    "LayerCount",
    "MSDNet",
    "MixedScaleAutoencoder",
    "PartialConvUNet",
    "SMSNet",
    "ScaleTable",
    "SparseGraph",
    "SparseGraphSettings",
    "TUNet",
    "TUNet3Plus",
    "build_network",
    "count_filters",
    "count_parameters",
    "layer_counts",
    "layer_table",
    "load_network",
    "model_digest",
    "network_config",
    "save_network",
    "scale_table",
    "sparse_ensemble_config",
]
