"""What a training that segments is before it begins: preset and settings made into one plan; no pixel is touched."""

from dataclasses import dataclass
from typing import Any, Final

from dlsia_core.errors import SettingError
from dlsia_core.networks import sparse_ensemble_config
from dlsia_core.networks.registry import empty_network
from dlsia_core.segmentation import SegmentationRecipe
from dlsia_core.training import TrainSettings as FitSettings
from tasks.devices import check_device
from tasks.errors import SettingsError
from tasks.settings.segmentation import Preset, SegmentationTraining, SegmentingNetwork

ENSEMBLE: Final = "SMSNet ensemble"
QUICK: dict[str, Any] = {
    "tile_shape": {2: (128, 128), 3: (32, 48, 48)}, "margin": {2: 16, 3: 4}, "max_tiles": 600, "epochs": None,
    "batch_size": 4, "learning_rate": 3e-3, "falls": (0.6, 0.85), "decay": 0.3, "gradient_clip": 1.0, "patience": 0,
}  # fmt: skip
PAPER: dict[str, Any] = {
    "tile_shape": {2: (256, 256), 3: (64, 64, 64)}, "margin": {2: 32, 3: 8}, "max_tiles": 0, "epochs": 300,
    "batch_size": 16, "learning_rate": 1e-3, "falls": (1 / 3, 2 / 3), "decay": 0.1, "gradient_clip": 1.0,
    "patience": 60,
}  # fmt: skip
PRESETS: dict[Preset, dict[str, Any]] = {"quick": QUICK, "paper": PAPER}
SMSNETS = 5
QUICK_STEPS, QUICK_EPOCHS = 400, (4, 200)
NETWORKS: dict[Preset, dict[SegmentingNetwork, dict[str, Any]]] = {
    "quick": {
        ENSEMBLE: {"depth": 16, "hidden_channels": 6, "parameters": (8_000, 16_000)},
        "TUNet": {"depth": 3, "base_channels": 8, "activation": "silu"},
        "TUNet3Plus": {"depth": 3, "base_channels": 8, "activation": "silu"},
        "MSDNet": {"num_layers": 24, "max_dilation": 8},
    },
    "paper": {
        # Roberts et al. 2024, §4.2: "approximately 45 000 parameters".
        ENSEMBLE: {"depth": 30, "hidden_channels": 8, "parameters": (43_000, 47_000)},
        "TUNet": {"depth": 4, "base_channels": 32},
        "TUNet3Plus": {"depth": 4, "base_channels": 32},
        "MSDNet": {"num_layers": 100, "max_dilation": 10},
    },
}
NOT_OF_THE_MODEL = ("device", "checkpoint_s", "max_minutes", "memory_gib")


@dataclass(frozen=True)
class SegmentationPlan:
    """Everything that decides a training, but for images and labels. values: the preset's, over which settings go."""

    network: SegmentingNetwork
    preset: Preset
    given: SegmentationTraining
    values: dict[str, Any]

    @property
    def identity(self) -> dict[str, Any]:
        """All that decides the model, as JSON can hold it."""
        given = self.given.model_dump(mode="json", exclude=set(NOT_OF_THE_MODEL) | set(self.values))
        settings = {**NETWORKS[self.preset][self.network], **self.given.network_settings}
        return {
            "network": self.network,
            "preset": self.preset,
            **given,
            **{key: list(value) if isinstance(value, tuple) else value for key, value in self.values.items()},
            "members": self.members,
            "network_settings": {k: list(v) if isinstance(v, tuple) else v for k, v in settings.items()},
        }

    def recipe(
        self, classes: tuple[str, ...], shape: tuple[int, int, int], center: float, scale: float
    ) -> SegmentationRecipe:
        """Tiles are at most as large as the images, and a margin that leaves less than half of them is cut down."""
        wanted: tuple[int, ...] = self.values["tile_shape"]
        tile = tuple(min(size, have) for size, have in zip(wanted, shape[-len(wanted) :], strict=True))
        margin = min(self.values["margin"], min(tile) // 4) if self.given.margin is None else self.given.margin
        return SegmentationRecipe(classes, tile, margin, center, scale, self.given.context)

    def configs(self, n_classes: int) -> list[dict[str, Any]]:
        """The networks to train, one for each member. Raises `SettingsError` for impossible settings."""
        settings = {**NETWORKS[self.preset][self.network], **self.given.network_settings}
        common: dict[str, Any] = {} if self.given.dimensions == 2 else {"ndim": 3}
        channels = 2 * self.given.context + 1
        try:
            if self.network == ENSEMBLE:
                size = self._sizes(settings.pop("parameters"))
                seed = 1000 * self.given.seed
                found = sparse_ensemble_config(channels, n_classes, self.members, size, seed, **common, **settings)
                return [dict(member) for member in found["members"]]
            config = {"network": self.network, "in_channels": channels, "out_channels": n_classes, **common, **settings}
            empty_network(config)
        except (SettingError, TypeError, ValueError) as error:
            raise SettingsError(f"no {self.network} can be made of training.network_settings: {error}") from error
        return [dict(config) for _ in range(self.members)]

    @property
    def members(self) -> int:
        """Networks that answer together."""
        return self.given.members or (SMSNETS if self.network == ENSEMBLE else 1)

    def fit_settings(self, tiles: int, member: int) -> FitSettings:
        """The training loop's settings for so many training tiles."""
        steps = -(-tiles // self.values["batch_size"])
        least, most = QUICK_EPOCHS
        epochs = self.values["epochs"] or min(most, max(least, -(-QUICK_STEPS // steps)))
        return FitSettings(
            epochs,
            self.values["batch_size"],
            self.values["learning_rate"],
            milestones=tuple(sorted({share * epochs for share in self.values["falls"]})),
            decay=self.values["decay"],
            gradient_clip=self.values["gradient_clip"] or None,
            patience=self.values["patience"] or None,
            seed=self.given.seed + member,
            precision=self.given.precision,
            averaging=self.given.averaging,
        )

    @property
    def shares(self) -> tuple[float, float, float]:
        """Of training, validation and test."""
        used = self.given.training_share, self.given.validation_share
        return (*used, round(1 - sum(used), 12))

    def _sizes(self, parameters: tuple[int, int]) -> tuple[int, int]:
        """Least and most weights of a member; any where graphs are not those that the preset's sizes are for."""
        least, most = parameters
        given = set(self.given.network_settings)
        if "parameters" in given:
            return least, most
        if given - {"dilations", "activation"}:
            return 1, 10**9
        return (3 * least, 3 * most) if self.given.dimensions == 3 else (least, most)


def planned_segmentation(network: SegmentingNetwork, preset: Preset, given: SegmentationTraining) -> SegmentationPlan:
    """One plan of preset and settings. Raises `SettingsError`, before any work, for what cannot work."""
    check_device(given.device)
    if fixed := sorted(
        {"network", "in_channels", "out_channels", "ndim", "seed", "members"} & set(given.network_settings)
    ):
        raise SettingsError(
            f"training.network_settings has {', '.join(fixed)}: these follow from `network`, the classes, and "
            "training.dimensions, .seed and .members; leave them out"
        )
    values = {
        key: value[given.dimensions] if isinstance(value, dict) else value for key, value in PRESETS[preset].items()
    }
    values |= {key: getattr(given, key) for key in values if getattr(given, key) is not None}
    plan = SegmentationPlan(network, preset, given, values)
    if network == ENSEMBLE and plan.members < 2:
        raise SettingsError(f"training.members is {given.members}; an {ENSEMBLE} has 2 or more")
    plan.configs(2)
    try:
        plan.fit_settings(1, 0)
    except SettingError as error:
        raise SettingsError(f"no training can be made of the settings: {error}") from error
    if any(not 0 < share < 1 for share in values["falls"]):
        raise SettingsError(f"training.falls is {values['falls']}; give shares of the epochs, above 0 and below 1")
    return plan
