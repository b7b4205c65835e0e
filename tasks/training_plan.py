"""What a training is before it begins: preset, the caller's settings and the model it starts from, made into one plan.

Nothing here touches a frame: a plan is checked, shown and compared before any work.
"""

from dataclasses import dataclass
from typing import Any

from torch import nn

from dlsia_core.errors import ArrayError, SettingError
from dlsia_core.inpainting import InpaintingRecipe, build_inpainter, inpainter_channels, require_inpainter
from dlsia_core.networks import load_network, network_config
from dlsia_core.networks.registry import empty_network
from dlsia_core.tiling import TileGrid
from dlsia_core.training import TrainSettings as FitSettings
from tasks.devices import check_device
from tasks.errors import SettingsError
from tasks.model_registry import named_model
from tasks.models import find_model
from tasks.settings.inpainting import InpaintingTraining, NetworkName, PresetName
from tasks.settings.stages import TileSettings
from tasks.training_presets import CORRECTION_FALL, NETWORKS, PRESETS, blank_recipe, config_for, preset_values

PAPER_TILE = (512, 128)


@dataclass(frozen=True)
class StartingPoint:
    """The model that a training goes on from."""

    label: str
    folder: str
    digest: str
    recipe: InpaintingRecipe
    scale: dict[str, Any]
    """Of the counts: the frames must have the same."""


@dataclass(frozen=True)
class TrainingPlan:
    """Everything that decides a training, but for the frames.

    config: of the network, but for its channels. values: every field of `InpaintingTraining` that a preset knows, with
    no field left open (tiles may be: they follow the frames). given: the settings as the caller gave them.
    """

    preset: PresetName
    config: dict[str, Any]
    values: dict[str, Any]
    given: InpaintingTraining
    start: StartingPoint | None = None

    @property
    def network(self) -> str:
        return str(self.config["network"])

    @property
    def identity(self) -> dict[str, Any]:
        """All that decides the model, as JSON can hold it."""
        more = ("seed", "precision", "validation_share", "test_share", "judged_frames")
        return {
            "preset": self.preset,
            "config": self.config,
            **{key: list(value) if isinstance(value, tuple) else value for key, value in self.values.items()},
            **self.given.model_dump(mode="json", include=set(more)),
            "start_from": self.start and self.start.digest,
        }

    @property
    def recipe(self) -> InpaintingRecipe:
        """How tiles become inputs; center and scale are still to be set, but where the training starts from a model."""
        return self.start.recipe if self.start else blank_recipe(self.network, self.values["prefill"])

    def grid(self, frame_shape: tuple[int, int]) -> TileGrid:
        """Where tiles lie on normalized frames. Raises `SettingsError` for tiles that do not fit."""
        tiles = TileSettings(shape=self.values["tile_shape"], step=self.values["tile_step"])
        try:
            return tiles.grid(frame_shape)
        except (ArrayError, SettingError) as error:
            raise SettingsError(
                f"the tiles do not fit the normalized frames of {frame_shape[0]} x {frame_shape[1]}: {error}; change "
                "training.tile_shape and training.tile_step, or normalize.shape"
            ) from error

    def fit_settings(self) -> FitSettings:
        """The training loop's settings."""
        values, epochs = self.values, self.values["epochs"]
        return FitSettings(
            epochs,
            values["batch_size"],
            values["learning_rate"],
            milestones=tuple(sorted({share * epochs for share in values["falls"]})),
            decay=values["decay"],
            gradient_clip=values["gradient_clip"] or None,
            patience=values["patience"] or None,
            seed=self.given.seed,
            precision=self.given.precision,
        )

    def build(self, recipe: InpaintingRecipe, tile_shape: tuple[int, int]) -> nn.Module:
        """The network at the start of the training: new, or the one that it starts from."""
        if self.start is not None:
            return load_network(self.start.folder)[0]
        return build_inpainter(config_for(self.config, tile_shape), recipe, self.given.seed)


def planned_training(
    network: NetworkName | None, preset: PresetName, given: InpaintingTraining, start_from: str | None = None
) -> TrainingPlan:
    """One plan of preset, settings and starting point; without a network and a starting point a TUNet.

    Raises `SettingsError`, before any work, for what cannot work: no such device, model or network, settings that
    contradict the model that the training starts from.
    """
    check_device(given.device)
    if fixed_keys := sorted({"network", "in_channels", "out_channels", "seed"} & set(given.network_settings)):
        raise SettingsError(
            f"training.network_settings has {', '.join(fixed_keys)}: the network is the parameter `network`, its seed "
            "is training.seed, and its channels follow from prefill; leave them out"
        )
    start: StartingPoint | None = None
    if start_from is None:
        name: NetworkName = network or "TUNet"
        config = {"network": name, **NETWORKS[preset][name], **given.network_settings}
        values = preset_values(preset, config)
    else:
        start, config, fixed = _start(start_from, network, given)
        slower = PRESETS[preset]["learning_rate"] * CORRECTION_FALL
        values = preset_values(preset, config) | {"learning_rate": slower} | fixed
    asked = {key: getattr(given, key) for key in values if getattr(given, key) is not None}
    plan = TrainingPlan(preset, config, values | asked, given, start)
    _check(plan)
    return plan


def _start(
    start_from: str, network: NetworkName | None, given: InpaintingTraining
) -> tuple[StartingPoint, dict[str, Any], dict[str, Any]]:
    """The model that a training starts from, its configuration, and the settings that it fixes."""
    named = named_model(start_from)
    model = find_model(named.folder, {})
    loaded, description = load_network(named.folder)
    config, recipe = network_config(loaded), InpaintingRecipe(**description["recipe"])
    tile_shape = tuple(description["tile_shape"]) if "tile_shape" in description else None
    held = {
        "network": (network, config["network"]),
        "training.network_settings": (given.network_settings or None, "its own"),
        "training.prefill": (given.prefill, recipe.prefill),
        "training.tile_shape": (given.tile_shape, tile_shape or given.tile_shape),
    }
    for setting, (asked, own) in held.items():
        if asked is not None and asked != own:
            raise SettingsError(
                f"{setting} is {asked!r}, and the model {start_from!r} that the training starts from has {own!r}; "
                "leave it empty, or train a new model without start_from"
            )
    point = StartingPoint(named.label, model.folder, model.digest, recipe, description.get("scale", {}))
    return point, config, {"prefill": recipe.prefill, "tile_shape": tile_shape}


def _check(plan: TrainingPlan) -> None:
    """Build what can be built without frames."""
    try:
        if any(not 0 < share < 1 for share in plan.values["falls"]):
            raise SettingError(f"falls are {plan.values['falls']}; wanted shares of the epochs, above 0 and below 1")
        plan.fit_settings()
        if plan.start is None:
            config = config_for(plan.config, plan.values["tile_shape"] or PAPER_TILE)
            require_inpainter(empty_network({**config, **inpainter_channels(plan.network, plan.recipe)}), plan.recipe)
    except SettingError as error:
        raise SettingsError(f"no training can be made of the settings: {error}") from error
