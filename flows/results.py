"""What a flow returns: facts that JSON can hold, so that a person, the UI and the next flow can read them."""

from typing import cast

from prefect.states import Completed
from pydantic import Field

from tasks.settings import Settings


class RefusedFrame(Settings):
    """A source frame that is not in the store's data."""

    file: str
    index: int
    state: str
    reason: str


class LeftOut(Settings):
    """A stage that made no sense for this scan."""

    what: str
    why: str


class ScanResult(Settings):
    """What became of a scan; every source frame is counted in exactly one state."""

    store: str
    n_frames: int = Field(description="Frames in the store.")
    frames_by_state: dict[str, int]
    refused: tuple[RefusedFrame, ...] = ()
    left_out: tuple[LeftOut, ...] = ()
    warnings: tuple[str, ...] = ()
    report: str | None = Field(default=None, description="The HTML report.")

    @property
    def sentence(self) -> str:
        """The result in one line.

        >>> ScanResult(store="s.zarr", n_frames=48, frames_by_state={"ingested": 48, "quarantined": 2}).sentence
        '48 of 50 frames in s.zarr; 2 quarantined'
        """
        total = sum(self.frames_by_state.values())
        others = [f"{n} {state}" for state, n in self.frames_by_state.items() if n and state != "ingested"]
        return "; ".join([f"{self.n_frames} of {total} frames in {self.store}", *others])


def completed(result: ScanResult) -> ScanResult:
    """The result as a final state whose message shows in the UI; the caller of the flow gets the result itself."""
    return cast(ScanResult, Completed(message=result.sentence, data=result))
