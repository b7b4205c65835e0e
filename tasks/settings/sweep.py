"""Settings of a sweep over networks and trainings."""

from typing import Any, Literal, Self

from pydantic import Field, model_validator

from tasks.settings.base import Settings
from tasks.settings.inpainting import NetworkName

GridName = Literal["tunet", "msdnet"]


class SweepMember(Settings):
    """One training of a sweep: a network, and what differs for it from the trainings of all; empty: as for all.

    What decides on which tiles a model is trained and judged is the same for all members, or they could not be
    compared: it belongs to the sweep's `training`.
    """

    name: str = Field(default="", description="How the table calls the member. Empty: its number in the grid.")
    network: NetworkName = Field(default="TUNet", description="The network.")
    network_settings: dict[str, Any] = Field(
        default={}, description="Keyword arguments of the network, over those of the preset: {'depth': 4}."
    )
    epochs: int | None = Field(default=None, ge=1, description="Passes over the training tiles.")
    batch_size: int | None = Field(default=None, ge=1, description="Tiles per step.")
    learning_rate: float | None = Field(default=None, gt=0, description="Of the Adam optimizer, at the start.")
    falls: tuple[float, ...] | None = Field(
        default=None, description="Shares of the epochs after which the learning rate is multiplied by `decay`."
    )
    decay: float | None = Field(default=None, gt=0, le=1, description="Factor of the learning rate at each fall.")
    gradient_clip: float | None = Field(
        default=None, ge=0, description="Largest norm of all gradients together; 0: no limit."
    )
    patience: int | None = Field(
        default=None, ge=0, description="Stop after this many epochs that brought nothing better; 0: never."
    )

    @property
    def training(self) -> dict[str, Any]:
        """What differs from the trainings of all members."""
        given = self.model_dump(exclude={"name", "network"})
        return {key: value for key, value in given.items() if value is not None}


class SweepSettings(Settings):
    """How large the networks of a named grid are, and when a member is given up."""

    shrink: int | None = Field(
        default=None,
        ge=1,
        description="Divides the channels of TUNets, and layers and dilations of MSDNets, of the grids 'tunet' and "
        "'msdnet'; 1: as in the paper. Empty: 1 with the preset 'paper', 4 with 'quick'. Report and result say it.",
    )
    stop_early: bool = Field(
        default=True, description="Stop members whose validation loss stays above the median of the earlier members."
    )
    stop_after: tuple[float, ...] = Field(
        default=(0.25, 0.5, 0.75), description="Shares of a member's epochs after which it is looked at."
    )
    stop_margin: float = Field(
        default=1.1, ge=1, description="A member is stopped above this many times the median of the earlier ones."
    )
    stop_least: int = Field(
        default=3, ge=1, description="Earlier members that are needed for a median; the first ones are never stopped."
    )

    @model_validator(mode="after")
    def _shares(self) -> Self:
        if any(not 0 < share < 1 for share in self.stop_after):
            raise ValueError(f"stop_after is {self.stop_after}; give shares of the epochs, above 0 and below 1")
        return self
