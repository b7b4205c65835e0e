"""Plan of a segmentation: what is read, by which network, what is written; refused here if it cannot work."""

import math
import os
import shutil
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from dlsia_core.errors import SettingError
from dlsia_core.networks import network_config
from dlsia_core.rings import RingFilter
from dlsia_core.segmentation import SegmentationRecipe, check_rule, set_dtype
from tasks.devices import check_device
from tasks.errors import SettingsError, SourceError
from tasks.models import ModelRef
from tasks.segmentation_model import SegmentationModel, find_segmentation
from tasks.settings import confine
from tasks.settings.segment_volume import InstanceSettings, RuleSettings, SegmentSettings
from tasks.store import VolumeArray, VolumeStore, slab_slices
from tasks.volumes import Volume, open_volume, ring_filter

WIDE_TILES = {2: (512, 512), 3: (64, 96, 96)}
"""Without margins. Five networks of 45,000 weights take 3.0 processor seconds for a slice of 512 x 512 in one tile of
that size, and 10.4 in tiles of 128 x 128 with a margin of 16."""
NOT_LABELLED, NOT_NUMBERED = 255, np.iinfo(np.uint32).max


@dataclass(frozen=True)
class SegmentPlan:
    """What a run does. Small, so that it can travel; source and model are opened anew where they are needed.

    rings: what takes ring artifacts out of the slices; None: they stay. facts: what results say of the model. recipe:
    the model's, with the tiles of this run. background: number of that class; counted: numbers of those that make
    instances.
    """

    path: str
    source: str
    dataset: str | None
    rings: RingFilter | None
    shape: tuple[int, int, int]
    model: ModelRef
    label: str
    facts: dict[str, Any]
    recipe: SegmentationRecipe
    has_sets: bool
    slab_slices: int
    segment: SegmentSettings
    rule: RuleSettings
    instances: InstanceSettings
    background: int
    counted: tuple[int, ...]

    @property
    def arrays(self) -> dict[str, VolumeArray]:
        """All arrays that the run writes, by name."""
        classes, names = len(self.recipe.classes), {"classes": list(self.recipe.classes)}
        model, rule = {"model": self.facts}, {"rule": self.rule.model_dump(mode="json")}
        # float16 holds probabilities to 2.4e-4, far below what five networks know, in half the room; label and sets
        # are made from the stored values, so that anybody can repeat them.
        found = [
            VolumeArray("probability_mean", "float16", math.nan, classes, attributes=model),
            VolumeArray("probability_std", "float16", math.nan, classes, attributes=model),
            VolumeArray("label", "uint8", NOT_LABELLED, attributes=names | rule),
        ]
        if self.has_sets:
            found.append(VolumeArray("conformal_set", set_dtype(classes).name, 0, attributes=names | model))
        if self.instances.enabled:
            found.append(VolumeArray("instance", "uint32", NOT_NUMBERED))
        return {array.name: array for array in found}

    @property
    def needed_bytes(self) -> int:
        """Room for all arrays, if nothing could be compressed."""
        return math.prod(self.shape) * sum(array.voxel_bytes for array in self.arrays.values())

    @property
    def ring_facts(self) -> dict[str, Any]:
        """How rings are taken out; empty where they stay, so that results of such runs keep their names."""
        return {} if self.rings is None else {"rings": self.rings.to_dict()}

    @property
    def settings(self) -> dict[str, Any]:
        """All that decides the numbers, as JSON can hold it."""
        return {
            "model": self.label,
            "tile_shape": list(self.recipe.tile_shape),
            **self.ring_facts,
            "rule": self.rule.model_dump(mode="json"),
            "instances": self.instances.model_dump(mode="json"),
        }


def plan_segmentation(
    source: str, model: str, store: str, segment: SegmentSettings, rule: RuleSettings, instances: InstanceSettings
) -> SegmentPlan:
    """Look at everything and write nothing.

    Raises `SourceError`, `SettingsError` or `StoreError` for what cannot work: a model that takes other images, missing
    slices, classes that there are not, a store of something else, too little room on the disk.
    """
    path, found = confine(store, "store"), find_segmentation(model)
    volume = open_volume(source, segment.dataset, "volume")
    recipe = _recipe(found.recipe, segment.tile_shape)
    _check_network(found, recipe)
    _check_volume(volume, recipe, path)
    check_device(segment.device)
    background = _background(recipe.classes, rule)
    plan = SegmentPlan(
        path=str(path),
        source=source,
        dataset=segment.dataset,
        rings=ring_filter(volume, segment.rings, found.ring_width),
        shape=volume.shape,
        model=found.ref,
        label=found.label,
        facts=found.describe(),
        recipe=recipe,
        has_sets=found.calibration is not None,
        slab_slices=1,
        segment=segment,
        rule=rule,
        instances=instances,
        background=background,
        counted=_counted(recipe.classes, background, instances),
    )
    held = VolumeStore(path).attributes if (path / "zarr.json").exists() else {}
    usual = slab_slices(volume.shape, list(plan.arrays.values()))
    plan = replace(plan, slab_slices=segment.slab_slices or held.get("slab_slices", usual))
    if held:
        VolumeStore(path).require_facts({"volume_shape": list(volume.shape), "slab_slices": plan.slab_slices})
    _check_room(plan, path)
    return plan


@lru_cache(maxsize=4)
def volume_of(source: str, dataset: str | None) -> Volume:
    """The volume, opened once per process."""
    return open_volume(source, dataset, "volume")


def _recipe(recipe: SegmentationRecipe, tile_shape: tuple[int, ...] | None) -> SegmentationRecipe:
    if tile_shape is None:
        known = zip(recipe.tile_shape, WIDE_TILES[recipe.ndim], strict=True)
        wide = (max(own, size + 2 * recipe.margin) for own, size in known)
        return replace(recipe, tile_shape=tuple(wide))
    if len(tile_shape) != recipe.ndim:
        axes = "(y, x)" if recipe.ndim == 2 else "(z, y, x)"
        raise SettingsError(f"tile_shape is {tile_shape}, and the model looks at {recipe.ndim} axes; give {axes}")
    try:
        return replace(recipe, tile_shape=tile_shape)
    except SettingError as error:
        raise SettingsError(f"tile_shape does not fit the model: {error}") from error


def _check_network(found: SegmentationModel, recipe: SegmentationRecipe) -> None:
    config = network_config(found.network)
    for member in config.get("members", [config]):
        channels = recipe.seen_slices if recipe.ndim == 2 else 1
        facts = {"in_channels": channels, "out_channels": len(recipe.classes), "ndim": recipe.ndim}
        for name, wanted in facts.items():
            given = member.get(name, wanted if name != "ndim" else 2)
            if given != wanted:
                raise SettingsError(
                    f"a network of the model {found.label} has {name} = {given}, wanted {wanted}: it must take "
                    f"{channels} channels in {recipe.ndim} dimensions and answer for the classes "
                    f"{', '.join(recipe.classes)}; give another model"
                )
    if found.calibration is not None and found.calibration.settings.randomized:
        raise SettingsError(
            f"the conformal sets of the model {found.label} are randomized, and would depend on how the volume is cut; "
            "calibrate it with randomized=False"
        )


def _check_volume(volume: Volume, recipe: SegmentationRecipe, store: Path) -> None:
    if volume.dtype.kind not in "biuf":
        raise SourceError(f"{volume.source} holds {volume.dtype}; wanted whole or floating point numbers, one channel")
    if recipe.ndim == 3 and volume.shape[0] == 1:
        raise SourceError(
            f"{volume.source} is one slice, and the model looks at volumes (z, y, x) of tiles {recipe.tile_shape}; "
            "give a volume, or a model that was trained with dimensions=2"
        )
    source = Path(volume.source).expanduser().resolve()
    if source == store or source.is_relative_to(store):
        raise SettingsError(f"the source {source} lies in the store {store}; give another path for the store")


def _background(classes: tuple[str, ...], rule: RuleSettings) -> int:
    name = rule.background or ("background" if "background" in classes else classes[0])
    if name not in classes:
        raise SettingsError(f"rule.background is {name!r}; the model's classes are {', '.join(classes)}")
    try:
        check_rule(len(classes), rule.k, rule.threshold, classes.index(name))
    except SettingError as error:
        raise SettingsError(f"the rule cannot be used: {error}") from error
    return classes.index(name)


def _counted(classes: tuple[str, ...], background: int, instances: InstanceSettings) -> tuple[int, ...]:
    """Numbers of the classes that make instances."""
    names = [name for name in classes if name != classes[background]]
    wanted = names if instances.classes is None else list(instances.classes)
    if strange := [name for name in wanted if name not in names]:
        raise SettingsError(
            f"instances.classes names {', '.join(map(repr, strange))}; instances can be of {', '.join(names)} "
            f"({classes[background]!r} is the background)"
        )
    return tuple(number for number, name in enumerate(classes) if name in wanted)


def _check_room(plan: SegmentPlan, path: Path) -> None:
    there = next(folder for folder in (path, *path.parents) if folder.exists())
    held = sum(file.stat().st_size for file in path.rglob("*") if file.is_file()) if path.exists() else 0
    free, needed = shutil.disk_usage(there).free, max(0, plan.needed_bytes - held)
    if free < needed:
        raise SettingsError(
            f"a volume of {' x '.join(map(str, plan.shape))} voxels and {len(plan.recipe.classes)} classes may need "
            f"{needed / 2**30:.1f} GiB more in {path}, and {there} has {free / 2**30:.1f} GiB left; make room, give a "
            "store on another disk, or cut the volume"
        )
    if not os.access(there, os.W_OK):
        raise SettingsError(f"{there} cannot be written to; give a store in a folder that can")
