"""Check all settings of a run against each other and the scan before any work is done."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dlsia_core.errors import ArrayError, SettingError
from dlsia_core.networks.registry import empty_network
from tasks.devices import check_device
from tasks.errors import SettingsError
from tasks.models import find_model
from tasks.networks import encoder_config, inpainter_config, pooled_size
from tasks.settings import Settings
from tasks.settings.stages import (
    ClusterSettings,
    EncodeSettings,
    InferSettings,
    NormalizeSettings,
    StitchSettings,
    TileSettings,
    TrainSettings,
)
from tasks.store import ScanStore
from tasks.survey import Survey


@dataclass(frozen=True)
class StageSettings:
    """The settings of all stages behind ingest."""

    normalize: NormalizeSettings
    tile: TileSettings
    train: TrainSettings
    infer: InferSettings
    stitch: StitchSettings
    encode: EncodeSettings
    cluster: ClusterSettings

    def to_dict(self) -> dict[str, Any]:
        """All settings, stage by stage, as JSON can hold them."""
        return {
            name: value.model_dump(mode="json") for name, value in vars(self).items() if isinstance(value, Settings)
        }


def check_settings(stages: StageSettings, path: Path, found: Survey, model: Path | None) -> None:
    """Raise `SettingsError` for what cannot work: tiles larger than frames, no such device, model or network."""
    check_device(stages.infer.device)
    tile_shape = None
    frame_shape = found.shape
    if (path / "zarr.json").exists():
        held = ScanStore(path).attributes.get("frame_shape")
        frame_shape = frame_shape or (tuple(held) if held else None)
    shape = stages.normalize.shape or frame_shape
    if shape is not None:
        try:
            tile_shape = stages.tile.grid(shape).tile_shape
        except (ArrayError, SettingError) as error:
            raise SettingsError(
                f"the tiles do not fit the normalized frames of {shape[0]} x {shape[1]}: {error}"
            ) from error
        _check_network("encode", encoder_config(stages.encode, pooled_size(stages.encode, shape)))
    if model is None:
        _check_network("train", {**inpainter_config(stages.train), "in_channels": 1, "out_channels": 1})
    else:
        find_model(model, needs(stages.normalize), tile_shape)


def _check_network(stage: str, config: dict[str, Any]) -> None:
    try:
        empty_network(config)
    except SettingError as error:
        raise SettingsError(f"no network can be made from the settings of {stage}: {error}") from error


def needs(normalize: NormalizeSettings) -> dict[str, Any]:
    """What a model's description must say for it to understand the scan's normalized frames."""
    return {"scale": normalize.intensity_scale().to_dict()}
