"""Everything that the report of a scan shows, as plain values and small arrays."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from dlsia_core.errors import ArrayError, SettingError

Float = npt.NDArray[np.float32]
Integer = npt.NDArray[np.integer[Any]]

FRAME_STATES = ("ingested", "quarantined", "double", "pending")
"""States that a source frame may have in the ledger."""
STAGE_STATES = ("done", "reused", "left out")
MEASURED, INPAINTED, DEAD = 0, 1, 2
MAX_THUMBNAILS = 2000
"""More would make a page that browsers open slowly."""


@dataclass(frozen=True)
class StageFacts:
    """What a stage did in this run: `seconds` of work, `n_frames` that it computed or found done."""

    name: str
    state: str
    n_frames: int
    seconds: float = 0.0
    frames_per_second: float | None = None
    bytes_written: int | None = None
    reason: str = ""
    """Why the stage was left out or reused."""

    def __post_init__(self) -> None:
        if self.state not in STAGE_STATES:
            raise SettingError(f"stage {self.name!r} has state {self.state!r}; allowed are {', '.join(STAGE_STATES)}")


@dataclass(frozen=True)
class QuarantinedFrame:
    """A file, or a frame in it, that was not read as data."""

    file: str
    reason: str
    size_bytes: int


@dataclass(frozen=True, eq=False)
class FramePair:
    """One frame before and after inpainting.

    `before` (row, column) normalized log counts, NaN = not measured; `after` the same, NaN = dead; `provenance`
    (row, column) 0 measured, 1 inpainted, 2 dead; `uncertainty` (row, column), half-widths of intervals in the unit of
    `after`, NaN = not known. Raises `ArrayError` for shapes that differ or other provenance.
    """

    name: str
    before: Float
    after: Float
    provenance: npt.NDArray[np.uint8]
    uncertainty: Float | None = None

    def __post_init__(self) -> None:
        arrays = (self.before, self.after, self.provenance, self.uncertainty)
        shapes = [np.shape(values) for values in arrays if values is not None]
        if len(set(shapes)) > 1 or len(shapes[0]) != 2 or 0 in shapes[0]:
            raise ArrayError(
                f"pictures of {self.name!r}: before, after, provenance and uncertainty have shapes {shapes}; they must "
                "be the same (row, column), none of them 0"
            )
        if self.provenance.max() > DEAD:
            raise ArrayError(f"provenance of {self.name!r} holds {self.provenance.max()}; allowed are 0, 1 and 2")


@dataclass(frozen=True)
class Sureness:
    """How often the intervals around inpainted values hold the true one.

    `promised` share of pixels; `frames` calibrated on; `measured` what was found on held-out frames: "coverage", "low",
    "high" (NaN = unknown), "half_width", "frames", "pixels" and "way"; None where there is no calibration, with the
    `reason`.
    """

    promised: float
    frames: int
    measured: Mapping[str, Any] | None
    reason: str = ""


@dataclass(frozen=True)
class LossCurve:
    """Losses of one training, by epoch; `best_epoch` is a position in the lists (0 = the first), None if unknown.

    `validation` may be empty. Raises `SettingError` for a best epoch outside the lists.
    """

    name: str
    train: Sequence[float]
    validation: Sequence[float]
    best_epoch: int | None
    unit: str

    def __post_init__(self) -> None:
        n_epochs = max(len(self.train), len(self.validation))
        if self.best_epoch is not None and not 0 <= self.best_epoch < n_epochs:
            raise SettingError(f"best epoch of {self.name!r} is {self.best_epoch}; it must be in [0, {n_epochs - 1}]")


@dataclass(frozen=True, eq=False)
class LatentMap:
    """The latent map, or, with `left_out_reason`, why there is none.

    `coordinates` (frame, 2); `cluster` (frame,), -1 = noise; `frame_numbers` (frame,), negative = unknown;
    `thumbnails` (thumbnail, row, column) normalized log counts, NaN = not measured. `thumbnail_of` (thumbnail,) says
    which frame each one shows; None: there is one for each frame. Raises `ArrayError` for lengths that disagree.
    """

    coordinates: Float
    cluster: Integer
    frame_names: Sequence[str]
    frame_numbers: Integer
    thumbnails: Float
    thumbnail_of: Integer | None = None
    left_out_reason: str = ""

    def __post_init__(self) -> None:
        n_frames = len(self.frame_names)
        lengths = {"coordinates": len(self.coordinates), "cluster": len(self.cluster)}
        lengths["frame_numbers"] = len(self.frame_numbers)
        if set(lengths.values()) != {n_frames}:
            raise ArrayError(f"latent map of {n_frames} frame names has other lengths: {lengths}")
        if n_frames and np.shape(self.coordinates)[1:] != (2,):
            raise ArrayError(f"coordinates have shape {np.shape(self.coordinates)}; (frame, 2) is wanted")
        shown = self.shown_frames
        if len(self.thumbnails) != len(shown) or (len(shown) and not 0 <= min(shown) <= max(shown) < n_frames):
            raise ArrayError(
                f"{len(self.thumbnails)} thumbnails for {len(shown)} of {n_frames} frames; each needs one frame "
                f"in [0, {n_frames - 1}], given by thumbnail_of"
            )
        if len(shown) and np.ndim(self.thumbnails) != 3:
            raise ArrayError(f"thumbnails have {np.ndim(self.thumbnails)} axes; (thumbnail, row, column) is wanted")

    @property
    def shown_frames(self) -> Integer:
        """Frame of each thumbnail."""
        return np.arange(len(self.frame_names)) if self.thumbnail_of is None else np.asarray(self.thumbnail_of)


@dataclass(frozen=True, eq=False)
class ReportContent:
    """What the report of one run shows. `frames` counts the ledger's frames by state.

    `frames_found` is the number of frames in the source, counted apart from the ledger; a difference is reported as
    lost frames. None: take the ledger's word. `group` is the group in the store that holds this run's results.
    `inpainting` says which model filled the gaps and why it was taken, `unfamiliar` how many frames it does not know.
    Raises `SettingError` for an unknown state or a negative count.
    """

    scan_name: str
    source: str
    store_path: str
    created: str
    versions: Mapping[str, str]
    settings: Mapping[str, Mapping[str, Any]]
    stages: Sequence[StageFacts]
    frames: Mapping[str, int]
    quarantined: Sequence[QuarantinedFrame] = ()
    warnings: Sequence[str] = ()
    numbering_holes: str = ""
    pictures: Sequence[FramePair] = ()
    curves: Sequence[LossCurve] = ()
    inpainting_quality: Sequence[Mapping[str, Any]] = ()
    latent: LatentMap | None = None
    left_out: Sequence[tuple[str, str]] = field(default_factory=tuple)
    frames_found: int | None = None
    group: str = ""
    inpainting: str = ""
    sureness: Sureness | None = None
    unfamiliar: int = 0

    def __post_init__(self) -> None:
        unknown = [state for state in self.frames if state not in FRAME_STATES]
        if unknown:
            raise SettingError(f"frames counted in states {unknown}; known are {', '.join(FRAME_STATES)}")
        negative = {state: count for state, count in self.frames.items() if count < 0}
        if negative:
            raise SettingError(f"counts of frames are negative: {negative}")


def frames_with_thumbnail(n_frames: int, limit: int = MAX_THUMBNAILS) -> npt.NDArray[np.int64]:
    """Positions of the frames that get a thumbnail: all, or `limit` of them evenly spread, first and last included.

    >>> frames_with_thumbnail(3).tolist(), frames_with_thumbnail(101, limit=5).tolist()
    ([0, 1, 2], [0, 25, 50, 75, 100])
    """
    return np.round(np.linspace(0, max(n_frames - 1, 0), min(n_frames, limit))).astype(np.int64)
