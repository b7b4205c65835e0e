"""Configurations for ensembles of sparse mixed-scale networks of about the same size (Roberts et al. 2024, §4.2)."""

from itertools import count
from typing import Any

import torch

from dlsia_core.errors import SettingError
from dlsia_core.networks.blocks import require, require_count
from dlsia_core.networks.smsnet import SMSNet

MOST_DRAWS = 1000  # one takes a few milliseconds


def sparse_ensemble_config(
    in_channels: int,
    out_channels: int,
    members: int = 5,
    parameters: tuple[int, int] = (43_000, 47_000),
    first_seed: int = 0,
    *,
    depth: int = 30,
    hidden_channels: int = 8,
    **settings: Any,
) -> dict[str, Any]:
    """A configuration for `build_network`: the first random graphs whose networks have the wanted size.

    parameters: least and most of each member, both included; the default is the paper's "approximately 45 000".
    first_seed: graph seeds are tried from here on. settings: more keyword arguments of SMSNet.
    Raises SettingError where 1000 graphs hold too few of that size; it says which sizes there were.

    >>> config = sparse_ensemble_config(1, 2)
    >>> [member["graph_seed"] for member in config["members"]]
    [2, 3, 5, 6, 7]
    """
    require_count("members", members)
    require("parameters", parameters, 0 < parameters[0] <= parameters[1], "(least, most)")
    found: list[dict[str, Any]] = []
    sizes: list[int] = []
    for seed in count(first_seed):
        config = {"depth": depth, "hidden_channels": hidden_channels, "graph_seed": seed, **settings}
        with torch.device("meta"):
            sizes.append(SMSNet(in_channels, out_channels, **config).parameter_count)
        if parameters[0] <= sizes[-1] <= parameters[1]:
            channels = {"in_channels": in_channels, "out_channels": out_channels}
            found.append({"network": "SMSNet", **channels, **config})
        if len(found) == members:
            return {"network": "Ensemble", "members": found}
        if len(sizes) == MOST_DRAWS:
            break
    raise SettingError(
        f"{len(found)} of {MOST_DRAWS} random graphs give {parameters[0]:,} to {parameters[1]:,} parameters, "
        f"{members} are wanted; they have {min(sizes):,} to {max(sizes):,}: change depth or hidden_channels"
    )
