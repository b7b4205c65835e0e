"""How wrong an inpainted pixel may be: half the width of an interval that holds the truth as often as promised.

How the numbers are found, and what they promise, is said in `dlsia_core.uncertainty_calibration`.
"""

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dlsia_core.conformal import Band, IntervalCalibration, bin_groups
from dlsia_core.errors import ArrayError, SettingError
from dlsia_core.gap_surroundings import GapSurroundings
from dlsia_core.gaps import INPAINTED, MEASURED

FloatArray = NDArray[np.float64]
FORMAT = 1


@dataclass(frozen=True)
class MeasuredCoverage:
    """How often intervals held the truth, in artificial gaps of frames that they were not calibrated on.

    coverage, low, high: mean over frames of the share of covered pixels, and its 95 % bootstrap interval over frames.
    half_width: mean, in normalized units. way: "other frames", which the stored calibration has not seen, or "each
    frame by the others", with calibrations like the stored one.
    """

    coverage: float
    low: float
    high: float
    half_width: float
    frames: int
    pixels: int
    way: str


@dataclass(frozen=True)
class PixelKinds:
    """Which pixels are alike in their errors, and in which unit errors are measured.

    distance_edges, intensity_edges: inner edges of the bins, in pixels and in normalized units. window: of the
    roughness, in pixels. offset: added to the roughness, so that flat surroundings do not promise that there is no
    error. reach: largest distance, in pixels, of which the calibration knows.
    """

    distance_edges: tuple[float, ...]
    intensity_edges: tuple[float, ...]
    window: int
    offset: float
    reach: float

    def groups(self, distance: NDArray[np.floating], intensity: NDArray[np.floating]) -> NDArray[np.int64]:
        """Number of the kind of each pixel."""
        return bin_groups((distance, self.distance_edges), (intensity, self.intensity_edges))

    def scale(self, roughness: FloatArray) -> FloatArray:
        """What errors are measured in."""
        return roughness + self.offset


@dataclass(frozen=True)
class InpaintingUncertainty:
    """A calibration that belongs to a model, or the reason why there is none; kept as JSON with the model.

    coverage: promised, e.g. 0.9. kinds, calibration, measured: None where `reason` says why.
    frames: calibrated on so many.
    """

    coverage: float
    frames: int
    kinds: PixelKinds | None = None
    calibration: IntervalCalibration | None = None
    measured: MeasuredCoverage | None = None
    reason: str = ""

    def __post_init__(self) -> None:
        parts = (self.kinds, self.calibration, self.measured)
        if any((part is None) != bool(self.reason) for part in parts):
            raise SettingError(
                "an uncertainty has kinds, calibration and measured coverage, or a reason why it has none"
            )

    @property
    def calibrated(self) -> bool:
        return not self.reason

    def half_width(
        self,
        filled: NDArray[np.floating],
        provenance: NDArray[np.uint8],
        surroundings: GapSurroundings | None = None,
    ) -> NDArray[np.float32]:
        """Half the width of the promised interval around each value, (row, column) float32 in units of `filled`.

        filled: (row, column), gaps filled. provenance: as `dlsia_core.gaps.provenance` gives it. surroundings: of the
        measured pixels, where they are known from another frame.
        0 where measured; NaN where dead or not processed, where the nearest measured pixel is farther than any gap of
        the calibration reached, and on all inpainted pixels if there is no calibration.
        """
        if filled.shape != provenance.shape or filled.ndim != 2:
            shapes = filled.shape, provenance.shape
            raise ArrayError(f"filled and provenance have shapes {shapes}; wanted (row, column), the same")
        measured, inpainted = provenance == MEASURED, provenance == INPAINTED
        half = np.where(measured, np.float32(0), np.float32(np.nan))
        if self.kinds is None or self.calibration is None or not measured.any() or not inpainted.any():
            return half
        around = surroundings or GapSurroundings.of(measured, self.kinds.window)
        scale = self.kinds.scale(around.roughness(filled)[inpainted])
        distance, center = around.distance[inpainted], filled[inpainted].astype(np.float64)
        group = self.kinds.groups(distance, center)
        lower, upper = self.calibration.interval(Band.around(np.zeros_like(center), scale), group)
        known = np.isfinite(upper) & (distance <= self.kinds.reach)
        half[inpainted] = np.where(known, (upper - lower) / 2, np.nan)
        return half

    def half_widths(self, filled: NDArray[np.floating], provenance: NDArray[np.uint8]) -> NDArray[np.float32]:
        """The same for (frame, row, column); frames that measure with the same pixels share what is costly."""
        half = np.empty(filled.shape, np.float32)
        around: GapSurroundings | None = None
        for number, (frame, origin) in enumerate(zip(filled, provenance, strict=True)):
            measured = origin == MEASURED
            if self.kinds is not None and measured.any() and not (around and np.array_equal(measured, around.measured)):
                around = GapSurroundings.of(measured, self.kinds.window)
            half[number] = self.half_width(frame, origin, around if measured.any() else None)
        return half

    @property
    def statement(self) -> str:
        """What is promised and what was measured, or why there is nothing; one or two sentences."""
        if self.measured is None:
            return f"No calibrated error: {self.reason}."
        found = self.measured
        sure = "" if math.isnan(found.low) else f" ({100 * found.low:.1f} to {100 * found.high:.1f} %)"
        return (
            f"Promised coverage {100 * self.coverage:g} %; measured {100 * found.coverage:.1f} %{sure} on "
            f"{found.frames} held-out frames ({found.way}); mean half-width {found.half_width:.2e}."
        )

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON, for the metadata of `save_network`."""
        return {
            "format": FORMAT,
            "coverage": self.coverage,
            "frames": self.frames,
            "kinds": None if self.kinds is None else asdict(self.kinds),
            "calibration": None if self.calibration is None else self.calibration.to_dict(),
            "measured": None if self.measured is None else _plain(asdict(self.measured)),
            "reason": self.reason,
        }

    @classmethod
    def from_dict(cls, facts: Mapping[str, Any]) -> "InpaintingUncertainty":
        """The inverse of `to_dict`. Raises SettingError for another format."""
        if facts.get("format") != FORMAT:
            raise SettingError(f"format of the uncertainty is {facts.get('format')!r}; this version reads {FORMAT}")
        if facts["reason"]:
            return cls(facts["coverage"], facts["frames"], reason=facts["reason"])
        calibration = IntervalCalibration.from_dict(facts["calibration"])
        kinds: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in facts["kinds"].items()}
        measured: dict[str, Any] = {k: math.nan if v is None else v for k, v in facts["measured"].items()}
        parts = PixelKinds(**kinds), calibration, MeasuredCoverage(**measured)
        return cls(facts["coverage"], facts["frames"], *parts)


def _plain(values: dict[str, Any]) -> dict[str, Any]:
    """With None for what is undefined, which JSON has no number for."""
    return {key: None if isinstance(v, float) and math.isnan(v) else v for key, v in values.items()}
