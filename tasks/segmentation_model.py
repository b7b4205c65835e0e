"""Models that segment: a folder of model.safetensors and model.json, as train_segmentation writes and others read it.

The metadata in model.json hold "kind": "segmentation"; "recipe": see `SegmentationRecipe`; "conformal": the calibration
of sets (`SetCalibration.to_dict`) or {"reason": why there is none}; and what people want to know of the training.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import nn

from dlsia_core.conformal import SetCalibration, log_probabilities
from dlsia_core.errors import SettingError
from dlsia_core.networks import load_network, model_digest, network_config, save_network
from dlsia_core.segmentation import SegmentationRecipe
from tasks.errors import SettingsError
from tasks.model_registry import named_model
from tasks.models import ModelRef

KIND = "segmentation"


@dataclass(frozen=True)
class SegmentationModel:
    """A loaded model: network (an `Ensemble` or a single one, on the CPU, in eval mode), and all that is known of it.

    label: "name:version", or the folder as given.
    """

    label: str
    ref: ModelRef
    network: nn.Module
    facts: dict[str, Any]

    @cached_property
    def recipe(self) -> SegmentationRecipe:
        return SegmentationRecipe.from_dict(self.facts["recipe"])

    @cached_property
    def calibration(self) -> SetCalibration | None:
        """The calibration of conformal sets; None where there is none, and `no_calibration` says why."""
        stored = self.facts["conformal"]
        return None if "reason" in stored else SetCalibration.from_dict(stored)

    @property
    def no_calibration(self) -> str:
        return str(self.facts["conformal"].get("reason", ""))

    @property
    def ring_width(self) -> int | None:
        """Width with which ring artifacts had been taken out of the images it learned from; None: they had not."""
        rings = self.facts.get("trained_on", {}).get("rings")
        return None if rings is None else int(rings["width"])

    @property
    def members(self) -> int:
        """Networks that answer together."""
        config = network_config(self.network)
        return len(config["members"]) if config["network"] == "Ensemble" else 1

    def sets(self, probability_mean: NDArray[np.float32]) -> NDArray[np.bool_]:
        """Which classes are in the conformal set of each pixel, (class, …) bool, from mean probabilities (class, …).

        Raises `SettingsError` for a model without a calibration.
        """
        if self.calibration is None:
            raise SettingsError(f"the model {self.label} has no conformal calibration: {self.no_calibration}")
        sets: NDArray[np.bool_] = self.calibration.sets([log_probabilities(probability_mean, axis=0)])[0]
        return sets

    def describe(self) -> dict[str, Any]:
        """What results should say of the model, as JSON can hold it."""
        recipe = self.recipe
        return {
            "model": self.label,
            "digest": self.ref.digest,
            "members": self.members,
            "classes": list(recipe.classes),
            "dimensions": recipe.ndim,
            "tile_shape": list(recipe.tile_shape),
            "margin_px": recipe.margin,
            "context_slices": recipe.context,
            "coverage": self.calibration.settings.coverage if self.calibration else None,
        }


def save_segmentation(
    folder: Path,
    network: nn.Module,
    recipe: SegmentationRecipe,
    calibration: SetCalibration | str,
    facts: Mapping[str, Any],
) -> ModelRef:
    """Write a model; calibration: of conformal sets, or the reason why there is none. Same arguments, same bytes."""
    conformal = {"reason": calibration} if isinstance(calibration, str) else calibration.to_dict()
    metadata = {**facts, "kind": KIND, "recipe": recipe.to_dict(), "conformal": conformal}
    return ModelRef(str(folder), save_network(folder, network, metadata))


def find_segmentation(model: str) -> SegmentationModel:
    """The model of a name, name:version, or folder (with a slash in it), loaded and checked.

    Raises `SettingsError` for one that is not there, cannot be read, or is no segmentation model.
    """
    named = named_model(model)
    return load_segmentation(named.folder, named.label)


def load_segmentation(folder: Path, label: str | None = None) -> SegmentationModel:
    """The model in a folder; label: what people call it, the folder if None. Raises as `find_segmentation`."""
    label = label or str(folder)
    try:
        network, facts = load_network(folder)
        digest = model_digest(folder)
    except (OSError, ValueError, KeyError, RuntimeError) as error:
        raise SettingsError(
            f"no usable model in {folder}: {error}; give a name, or a folder with model.safetensors and model.json"
        ) from error
    if facts.get("kind") != KIND:
        raise SettingsError(
            f"the model {label} is of kind {facts.get('kind', 'inpainting')!r}, wanted {KIND!r}; train one with "
            "train_segmentation(images=…, labels=…, output=…)"
        )
    found = SegmentationModel(label, ModelRef(str(folder), digest), network, facts)
    try:
        _ = found.recipe, found.calibration
    except (SettingError, TypeError, KeyError) as error:
        raise SettingsError(f"the model {label} is of another version: {error}; train it again") from error
    return found


@lru_cache(maxsize=2)
def segmentation_of(ref: ModelRef) -> SegmentationModel:
    """The model behind a reference, loaded once per process; raises `SettingsError` if it has changed since."""
    found = load_segmentation(Path(ref.folder))
    if found.ref.digest != ref.digest:
        raise SettingsError(f"the model in {ref.folder} has changed since the run began; start the run again")
    return found
