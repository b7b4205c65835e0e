"""A network on disk: `model.safetensors` (weights) and `model.json` (configuration, metadata); nothing can run code."""

import hashlib
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from safetensors.torch import load, save
from torch import nn

from dlsia_core.errors import ArrayError
from dlsia_core.networks.registry import empty_network, network_config

WEIGHTS, DESCRIPTION = "model.safetensors", "model.json"
FORMAT = 1


def save_network(folder: str | Path, network: nn.Module, metadata: Mapping[str, Any]) -> str:
    """Write a network made by `build_network` and return its digest (see `model_digest`).

    metadata: anything JSON can hold; the same network and metadata give the same bytes.
    Each file is written beside and renamed, weights first; a description that does not fit the weights (an interrupted
    overwrite) is refused by `load_network`, and saving again heals it.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    state = {name: value.detach().cpu().contiguous() for name, value in network.state_dict().items()}
    weights = save(state)
    description = {
        "format": FORMAT,
        "config": network_config(network),
        "metadata": dict(metadata),
        "weights_sha256": hashlib.sha256(weights).hexdigest(),
    }
    text = json.dumps(description, indent=2, sort_keys=True, allow_nan=False)
    write_atomically(folder / WEIGHTS, weights)
    write_atomically(folder / DESCRIPTION, text.encode())
    return model_digest(folder)


def load_network(folder: str | Path) -> tuple[nn.Module, dict[str, Any]]:
    """The network (on the CPU, in eval mode) and the metadata that `save_network` wrote.

    Raises FileNotFoundError where there is no model, ArrayError where the two files do not belong together.
    """
    folder = Path(folder)
    description = json.loads((folder / DESCRIPTION).read_text())
    weights = (folder / WEIGHTS).read_bytes()
    if description.get("format") != FORMAT:
        raise ArrayError(f"{folder / DESCRIPTION}: format {description.get('format')!r}; this version reads {FORMAT}")
    if hashlib.sha256(weights).hexdigest() != description["weights_sha256"]:
        raise ArrayError(f"{folder}: {WEIGHTS} is not the file that {DESCRIPTION} describes; save the network again")
    network = empty_network(description["config"])
    network.load_state_dict(load(weights), strict=True)
    return network.eval(), dict(description["metadata"])


def model_digest(folder: str | Path) -> str:
    """Hexadecimal SHA-256 over both files: it changes with the weights, the configuration and the metadata."""
    digest = hashlib.sha256()
    for name in (WEIGHTS, DESCRIPTION):
        digest.update(hashlib.sha256((Path(folder) / name).read_bytes()).digest())
    return digest.hexdigest()


def write_atomically(path: Path, content: bytes) -> None:
    """Write beside `path`, flush to the disk, rename: readers and a killed writer see the old file or the new one."""
    for left in path.parent.glob(f".{path.name}.*.part"):  # by a writer that was killed
        left.unlink(missing_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        with temporary.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
