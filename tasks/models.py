"""Models that stages use: a folder with weights and description, checked against the scan before work starts."""

from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from torch import nn

from dlsia_core.errors import SettingError
from dlsia_core.inpainting import InpaintingRecipe, require_inpainter
from dlsia_core.networks import load_network, model_digest
from tasks.errors import SettingsError


@dataclass(frozen=True)
class ModelRef:
    """A model's folder and the digest of what it holds."""

    folder: str
    digest: str


def find_model(folder: str | Path, needs: dict[str, Any], tile_shape: tuple[int, int] | None = None) -> ModelRef:
    """Point to an inpainting model, after checking that it was trained for data like the scan's.

    `needs`: description entries that must be equal, such as the scale of the counts. `tile_shape`: of the scan's tiles,
    where it is known. Raises `SettingsError`, also for a network whose channels do not fit its own recipe.
    """
    network, description = _loaded(folder)
    for key, needed in needs.items():
        if description.get(key) != needed:
            raise SettingsError(
                f"the model in {folder} was trained with {key} = {description.get(key)!r}, the scan has {needed!r}; "
                "change the scan's settings to the model's, give another model, or none to train one on the scan"
            )
    try:
        require_inpainter(network, InpaintingRecipe(**description["recipe"]))
    except (SettingError, TypeError, KeyError) as error:
        raise SettingsError(f"the model in {folder} is no inpainting model: {error}; give another one") from error
    trained = description.get("tile_shape")
    if tile_shape is not None and trained is not None and tuple(trained) != tile_shape:
        raise SettingsError(
            f"the model in {folder} was trained on tiles of {trained[0]} x {trained[1]}, the scan's are "
            f"{tile_shape[0]} x {tile_shape[1]}; give tile={{'shape': {list(trained)}}}, or another model"
        )
    return ModelRef(str(folder), model_digest(folder))


def _loaded(folder: str | Path) -> tuple[nn.Module, dict[str, Any]]:
    try:
        return load_network(folder)
    except (OSError, ValueError, KeyError, RuntimeError) as error:
        raise SettingsError(
            f"no usable model in {folder}: {error}; give a folder with model.safetensors and model.json"
        ) from error


@lru_cache(maxsize=4)
def network_of(model: ModelRef) -> tuple[nn.Module, dict[str, Any]]:
    """The network, in evaluation mode on the CPU, and its description; raises `SettingsError` if it has changed."""
    if model_digest(Path(model.folder)) != model.digest:
        raise SettingsError(f"the model in {model.folder} has changed since the run began; start the run again")
    return load_network(Path(model.folder))
