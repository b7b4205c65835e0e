"""What a sweep trains: the grids of Tables 2 and 3 of Chavez et al. 2022, or the caller's; checked before any work."""

from collections.abc import Sequence
from dataclasses import dataclass

from dlsia_core.training.median_stop import MedianRule
from tasks.errors import SettingsError
from tasks.settings.base import digest
from tasks.settings.inpainting import InpaintingTraining, PresetName
from tasks.settings.sweep import GridName, SweepMember, SweepSettings
from tasks.training_plan import TrainingPlan, planned_training

# Depth, base channels, growth rate, batch size. The table lists growth 2.5 for model 0 and depth 6, growth 1.5 for
# model 8; its parameter counts (0.535 and 34.512 million) are those of the numbers here.
TABLE_2 = (
    (4, 16, 2.0, 180), (4, 32, 2.0, 100), (4, 64, 2.0, 50), (5, 16, 2.0, 180), (5, 32, 2.0, 100), (5, 64, 1.5, 50),
    (6, 16, 2.0, 180), (6, 32, 2.0, 100), (5, 64, 2.0, 50),
)  # fmt: skip
# Layers, largest dilation, batch size.
TABLE_3 = ((50, 12, 30), (100, 12, 7), (100, 20, 7), (200, 15, 6), (200, 20, 6))
SHRINK: dict[PresetName, int] = {"quick": 4, "paper": 1}


@dataclass(frozen=True)
class PlannedMember:
    """A member under the name that the table calls it by, what it is asked to be, and its training."""

    name: str
    asked: SweepMember
    plan: TrainingPlan

    def rule(self, settings: SweepSettings) -> MedianRule:
        """When the member is given up."""
        if not settings.stop_early:
            return MedianRule()
        epochs = int(self.plan.values["epochs"])
        looks = {max(1, round(share * epochs)) for share in settings.stop_after}
        return MedianRule(tuple(sorted(looks)), settings.stop_margin, settings.stop_least)


@dataclass(frozen=True)
class SweepPlan:
    """Members in their order, and what people must know of them."""

    title: str
    members: tuple[PlannedMember, ...]
    notes: tuple[str, ...]


def named_grid(grid: GridName, preset: PresetName, shrink: int) -> tuple[SweepMember, ...]:
    """The members of Table 2 ("tunet") or 3 ("msdnet"), smaller by a factor; the paper's batches in its preset.

    >>> [member.network_settings["num_layers"] for member in named_grid("msdnet", "quick", 4)]
    [12, 25, 25, 50, 50]
    """

    def less(size: int) -> int:
        return max(1, size // shrink)

    def batch(size: int) -> int | None:
        return size if preset == "paper" else None

    if grid == "msdnet":
        return tuple(
            SweepMember(
                network="MSDNet",
                network_settings={"num_layers": less(layers), "max_dilation": less(dilation)},
                batch_size=batch(size),
            )
            for layers, dilation, size in TABLE_3
        )
    return tuple(
        SweepMember(
            network="TUNet",
            network_settings={"depth": depth, "base_channels": less(channels), "growth_rate": growth},
            batch_size=batch(size),
        )
        for depth, channels, growth, size in TABLE_2
    )


def planned_sweep(
    grid: GridName | Sequence[SweepMember], preset: PresetName, training: InpaintingTraining, settings: SweepSettings
) -> SweepPlan:
    """Plan all members.

    Raises `SettingsError` for an empty grid, members that are the same training or have the same name, and settings
    that a member cannot be trained with (it says which).
    """
    notes: list[str] = []
    if isinstance(grid, str):
        shrink = SHRINK[preset] if settings.shrink is None else settings.shrink
        members, title = named_grid(grid, preset, shrink), f"Table {2 if grid == 'tunet' else 3}"
        if shrink > 1:
            less = "layers and dilations" if grid == "msdnet" else "channels"
            notes.append(f"Scaled down: networks have 1/{shrink} of the {less} of {title} (sweep.shrink).")
        if preset != "paper":
            notes.append(f"Trained with the preset {preset!r}, not as in the paper.")
    else:
        members, title = tuple(grid), f"{len(grid)} members"
        if settings.shrink is not None:
            raise SettingsError("sweep.shrink is of the grids 'tunet' and 'msdnet'; leave it out with your own members")
    if not members:
        raise SettingsError("the grid has no members; give some, or 'tunet' or 'msdnet'")
    if training.network_settings:
        raise SettingsError("training.network_settings are each member's own in a sweep; leave them out of training")
    planned = tuple(_planned(number, member, preset, training) for number, member in enumerate(members))
    _refuse_twins(planned)
    return SweepPlan(title, planned, tuple(notes))


def _planned(number: int, member: SweepMember, preset: PresetName, training: InpaintingTraining) -> PlannedMember:
    name = member.name or str(number)
    given = InpaintingTraining.model_validate({**training.model_dump(), **member.training})
    try:
        return PlannedMember(name, member, planned_training(member.network, preset, given))
    except SettingsError as error:
        raise SettingsError(f"member {name!r} cannot be trained: {error}") from error


def _refuse_twins(members: Sequence[PlannedMember]) -> None:
    seen: dict[str, str] = {}
    for member in members:
        for key, what in ((member.name, "name"), (digest(member.plan.identity), "training")):
            if key in seen:
                raise SettingsError(
                    f"members {seen[key]!r} and {member.name!r} have the same {what}; change or remove one"
                )
            seen[key] = member.name
