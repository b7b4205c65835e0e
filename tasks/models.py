"""Models that stages use: a folder with weights and description, checked against the scan before work starts."""

from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from torch import nn

from dlsia_core.networks import load_network, model_digest
from tasks.errors import SettingsError
from tasks.settings import confine


@dataclass(frozen=True)
class ModelRef:
    """A model's folder and the digest of what it holds."""

    folder: str
    digest: str


def find_model(folder: str, needs: dict[str, Any]) -> ModelRef:
    """Point to a model, after checking that it was trained for data like the scan's.

    `needs`: description entries that must be equal, such as the scale of the counts. Raises `SettingsError`.
    """
    path = confine(folder, "source")
    try:
        _, description = load_network(path)
    except (OSError, ValueError) as error:
        raise SettingsError(
            f"no usable model in {path}: {error}; give a folder with model.safetensors and model.json"
        ) from error
    for key, needed in needs.items():
        if description.get(key) != needed:
            raise SettingsError(
                f"the model in {path} was trained with {key} = {description.get(key)!r}, the scan has {needed!r}; "
                "change the scan's settings to the model's, give another model, or none to train one on the scan"
            )
    return ModelRef(str(path), model_digest(path))


@lru_cache(maxsize=4)
def network_of(model: ModelRef) -> tuple[nn.Module, dict[str, Any]]:
    """The network, in evaluation mode on the CPU, and its description; raises `SettingsError` if it has changed."""
    if model_digest(Path(model.folder)) != model.digest:
        raise SettingsError(f"the model in {model.folder} has changed since the run began; start the run again")
    return load_network(Path(model.folder))
