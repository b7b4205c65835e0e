"""What a flow returns: facts that JSON can hold, so that a person, the UI and the next flow can read them."""

from collections import Counter
from typing import Any, Protocol, TypeVar, cast

from prefect.states import Completed
from pydantic import Field

from tasks.settings import Settings


class Result(Protocol):
    """What a flow returns can be said in one line."""

    @property
    def sentence(self) -> str: ...


R = TypeVar("R", bound=Result)


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
    inpainting: str = Field(default="", description="What filled the gaps, and why it was taken.")
    uncertainty: str = Field(default="", description="How often the errors hold that are given with inpainted values.")

    @property
    def sentence(self) -> str:
        """The result in one line.

        >>> ScanResult(store="s.zarr", n_frames=48, frames_by_state={"ingested": 48, "quarantined": 2}).sentence
        '48 of 50 frames in s.zarr; 2 quarantined'
        """
        total = sum(self.frames_by_state.values())
        others = [f"{n} {state}" for state, n in self.frames_by_state.items() if n and state != "ingested"]
        return "; ".join([f"{self.n_frames} of {total} frames in {self.store}", *others])


class BeamtimeScan(Settings):
    """What became of one scan of a beamtime."""

    scan: str = Field(description="Path below the beamtime folder.")
    store: str
    frames_by_state: dict[str, int] = Field(default_factory=dict)
    report: str | None = Field(default=None, description="The HTML report.")
    error: str = Field(default="", description="Why the scan could not be processed; empty: it was.")


class ProcessedBeamtime(Settings):
    """What became of the scans of a beamtime, in natural order."""

    folder: str
    stores: str
    scans: tuple[BeamtimeScan, ...]

    @property
    def failed(self) -> tuple[BeamtimeScan, ...]:
        """Scans that could not be processed."""
        return tuple(scan for scan in self.scans if scan.error)

    @property
    def sentence(self) -> str:
        """The result in one line.

        >>> done = BeamtimeScan(scan="a", store="a.zarr", frames_by_state={"ingested": 9, "quarantined": 1})
        >>> lost = BeamtimeScan(scan="b", store="b.zarr", error="two shapes")
        >>> ProcessedBeamtime(folder="f", stores="s", scans=(done, lost)).sentence
        '1 of 2 scans in s: 9 of 10 frames; 1 quarantined; 1 scan failed'
        """
        states: Counter[str] = Counter()
        for scan in self.scans:
            states.update(scan.frames_by_state)
        others = [f"{n} {state}" for state, n in states.items() if n and state != "ingested"]
        done, n_failed = len(self.scans) - len(self.failed), len(self.failed)
        failed = [f"{n_failed} {'scan' if n_failed == 1 else 'scans'} failed"] if n_failed else []
        frames = f"{done} of {len(self.scans)} scans in {self.stores}: {states['ingested']} of {states.total()} frames"
        return "; ".join([frames, *others, *failed])

    @property
    def table(self) -> list[dict[str, str | int]]:
        """A row for each scan, failed ones first."""
        return [
            {
                "scan": scan.scan,
                "frames": scan.frames_by_state.get("ingested", 0),
                "refused": sum(scan.frames_by_state.values()) - scan.frames_by_state.get("ingested", 0),
                "report": scan.report or "",
                "error": scan.error,
            }
            for scan in sorted(self.scans, key=lambda scan: not scan.error)
        ]


class TrainedModel(Settings):
    """A model that was trained, or found trained, and where it is registered."""

    model: str = Field(description="Name and version, as process_scan takes them.")
    folder: str
    digest: str
    n_frames: int = Field(description="Frames of the source; the model's card says which of them it learned from.")
    quality: tuple[dict[str, Any], ...] = Field(description="On artificial gaps in frames that it was not trained on.")
    epochs: int
    best_epoch: int
    warnings: tuple[str, ...] = ()
    report: str

    @property
    def sentence(self) -> str:
        """The result in one line."""
        network = [row for row in self.quality if row["method"] == "network"]
        said = [f"{row['gaps']} gaps {row['L1 over linear']:.2f} of linear interpolation's L1" for row in network]
        return "; ".join([f"{self.model}, best of {self.epochs} epochs: {self.best_epoch + 1}", *said])


class SegmentedVolume(Settings):
    """What became of a volume."""

    store: str
    model: str = Field(description="Name and version, or the folder.")
    shape: tuple[int, int, int] = Field(description="Voxels (z, y, x).")
    arrays: dict[str, str] = Field(description="Where the results of these settings are in the store.")
    class_shares: dict[str, float] = Field(description="Share of the voxels of each class, by the rule.")
    n_instances: int | None = None
    instances: str | None = Field(default=None, description="The table of instances.")
    left_out: tuple[LeftOut, ...] = ()
    warnings: tuple[str, ...] = ()

    @property
    def sentence(self) -> str:
        """The result in one line.

        >>> shares = {"background": 0.98, "fibre": 0.02}
        >>> SegmentedVolume(store="v.zarr", model="m", shape=(2, 3, 4), arrays={}, class_shares=shares).sentence
        '2 x 3 x 4 voxels in v.zarr: background 98.0 %, fibre 2.0 %'
        """
        shares = ", ".join(f"{name} {100 * share:.1f} %" for name, share in self.class_shares.items())
        counted = [] if self.n_instances is None else [f"{self.n_instances} instances"]
        return "; ".join([f"{' x '.join(map(str, self.shape))} voxels in {self.store}: {shares}", *counted])

    @property
    def markdown(self) -> str:
        """The result as an artifact shows it."""
        lines = [f"# {self.sentence}", f"Model {self.model}", *self.warnings]
        lines += [f"Table of instances: `{self.instances}`"] if self.instances else []
        return "\n\n".join([*lines, *(f"No {part.what}: {part.why}" for part in self.left_out)]) + "\n"


def completed(result: R) -> R:
    """The result as a final state whose message shows in the UI; the caller of the flow gets the result itself."""
    return cast(R, Completed(message=result.sentence, data=result))
