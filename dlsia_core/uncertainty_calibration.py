"""Calibrate the error of inpainted pixels on whole frames that no weight was learned from.

Errors are measured where the truth is known: in artificial gaps like the true ones (`imitated_gaps`), in units of the
frame's roughness around the gap, and their quantile is taken for each kind of pixel: distance from the nearest measured
pixel x intensity of the prediction. On simulated PILATUS 2M frames that unit made intervals no narrower than plain
residuals in the same groups (2 to 3 % wider), but the coverage of single frames scatters half as much (standard
deviation 1.3 against 2.5 %), and sample types other than the calibrated ones were covered by 90 % instead of 94 %.

What is promised: a pixel drawn at random from the gaps of a random new frame is covered with the promised probability,
if calibration frames and new ones are exchangeable, as random frames of one scan or of one archive are. Pixels of a
frame are not taken to be independent. The conformal threshold for such data (`hierarchical_threshold`) keeps that
promise however unlike the frames are, and pays with a coverage up to 2 / (K + 1) above it for K frames: with nine of
them nearly 100 % instead of 90 %. So `calibrate_intervals` is asked for a lower level: the one at which each frame is
covered as promised, on average over frames, by thresholds from the others (leave one out; a recalibration of levels as
in Kuleshov, Fenner & Ermon 2018, arXiv:1807.00263). For finite K that is no guarantee, but hardly biased, since one
single number is fitted; the coverage is measured on other frames and travels with the calibration. Where frames differ
so much that no level will do, and where there are too few of them, there is no calibrated error.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from dlsia_core.conformal import Band, IntervalCalibration, calibrate_intervals, fewest_units, measure_intervals
from dlsia_core.conformal.left_out import left_out_level, units_of_kind
from dlsia_core.errors import ArrayError, SettingError
from dlsia_core.gap_surroundings import GapSurroundings
from dlsia_core.imitated_gaps import imitated_gaps
from dlsia_core.inpainting_uncertainty import InpaintingUncertainty, MeasuredCoverage, PixelKinds

FloatArray = NDArray[np.float64]
Fill = Callable[[NDArray[np.float32]], NDArray[np.float32]]
"""From a frame (row, column) with NaN to predictions for all pixels, stitched over the whole frame."""


@dataclass(frozen=True)
class UncertaintySettings:
    """Settings of `calibrate_uncertainty`.

    coverage: promised, in (0, 1). distance_bins, intensity_bins: kinds of pixels, at quantiles of the judged ones.
    window: side, in pixels, of the square in which roughness is taken. pixels_per_frame: judged in each, at random.
    fewest_frames: with fewer frames there is no calibrated error. Of 80 random choices of six simulated frames, filled
    by a network, 77 covered 88 to 92 % of the pixels of the others; of three frames, 67. third_set: from so many frames
    on, a third of them measures the coverage; with fewer, each is measured by the others. seed: of gaps, pixels and the
    third set.
    """

    coverage: float = 0.9
    distance_bins: int = 3
    intensity_bins: int = 4
    window: int = 11
    pixels_per_frame: int = 4000
    fewest_frames: int = 6
    third_set: int = 27
    seed: int = 0

    def __post_init__(self) -> None:
        checks = (
            ("coverage", 0 < self.coverage < 1, "between 0 and 1, e.g. 0.9"),
            ("distance_bins", self.distance_bins >= 1, "at least 1"),
            ("intensity_bins", self.intensity_bins >= 1, "at least 1"),
            ("window", self.window >= 3 and self.window % 2 == 1, "odd and at least 3"),
            ("pixels_per_frame", self.pixels_per_frame >= 10, "at least 10"),
            ("fewest_frames", self.fewest_frames >= 3, "at least 3"),
            ("third_set", self.third_set >= 6, "at least 6"),
            ("seed", self.seed >= 0, "at least 0"),
        )
        for name, allowed, wanted in checks:
            if not allowed:
                raise SettingError(f"{name} is {getattr(self, name)!r}; it must be {wanted}")


@dataclass(frozen=True)
class _Pixels:
    """Judged pixels of all frames, each array (pixel,) float64 but `frame`, which is int64."""

    residual: FloatArray
    roughness: FloatArray
    distance: FloatArray
    intensity: FloatArray
    frame: NDArray[np.int64]

    @classmethod
    def joined(cls, parts: Sequence["_Pixels"]) -> "_Pixels":
        none = cls(np.empty(0), np.empty(0), np.empty(0), np.empty(0), np.empty(0, np.int64))
        return cls(
            *(np.concatenate(column) for column in zip(*(vars(p).values() for p in [none, *parts]), strict=True))
        )

    def of(self, frames: NDArray[np.int64]) -> "_Pixels":
        here = np.isin(self.frame, frames)
        return _Pixels(*(values[here] for values in vars(self).values()))


def calibrate_uncertainty(
    frames: Iterable[NDArray[np.float32]], fill: Fill, settings: UncertaintySettings = UncertaintySettings()
) -> InpaintingUncertainty:
    """Calibrate on frames (row, column) with NaN that are read one by one, and measure the coverage.

    frames: none that a weight was learned from; those that chose the best epoch may be among them. Frames without gaps,
    without measured pixels, or of which nothing can be hidden are left out.
    fill: predictions for all pixels of a frame, in which some measured pixels have become NaN.
    Raises ArrayError for predictions that are not finite or have another shape.

    >>> rng = np.random.default_rng(0)
    >>> frames = rng.normal(size=(6, 64, 48)).astype(np.float32)
    >>> frames[:, :, 20:23] = np.nan
    >>> uncertainty = calibrate_uncertainty(frames, lambda frame: np.zeros_like(frame))  # noise, mean known
    >>> half = uncertainty.half_width(np.nan_to_num(frames[0]), np.isnan(frames[0]).astype(np.uint8))
    >>> float(half[:, 19].max()), bool(1.4 < np.median(half[:, 21]) < 1.9)  # 90 % of the noise is within 1.64
    (0.0, True)
    """
    pixels = _judge(frames, fill, settings)
    numbers = np.unique(pixels.frame)
    if len(numbers) < settings.fewest_frames:
        return InpaintingUncertainty(
            settings.coverage,
            len(numbers),
            reason=f"{len(numbers)} held-out frames with gaps are too few, {settings.fewest_frames} are needed",
        )
    used = numbers
    if len(numbers) >= settings.third_set:
        drawn = np.random.default_rng((settings.seed, len(numbers))).permutation(numbers)
        used, others = np.sort(drawn[len(numbers) // 3 :]), np.sort(drawn[: len(numbers) // 3])
    found = _calibrate(pixels.of(used), settings)
    if found is None:
        return InpaintingUncertainty(
            settings.coverage,
            len(used),
            reason=f"the {len(used)} held-out frames differ so much that errors of some tell nothing of the others",
        )
    if len(used) < len(numbers):
        measured = _measured(pixels.of(others), _half_widths(pixels.of(others), *found), settings, "other frames")
    else:
        measured = _cross_measured(pixels, settings)
    return InpaintingUncertainty(settings.coverage, len(used), *found, measured)


def _judge(frames: Iterable[NDArray[np.float32]], fill: Fill, settings: UncertaintySettings) -> _Pixels:
    """Hide, fill and compare, frame by frame."""
    parts: list[_Pixels] = []
    for number, frame in enumerate(frames):
        valid = np.isfinite(frame)
        rng = np.random.default_rng((settings.seed, number))
        if not valid.any() or valid.all():
            continue
        hidden = imitated_gaps(valid, rng)
        judged, shown = hidden & valid, valid & ~hidden
        if not judged.any() or not shown.any():
            continue
        filled = fill(np.where(hidden, np.float32(np.nan), frame))
        if filled.shape != frame.shape or not np.isfinite(filled[judged]).all():
            raise ArrayError(f"fill gave {filled.shape} for a frame of {frame.shape}; wanted the same, finite in gaps")
        places = np.flatnonzero(judged)
        if len(places) > settings.pixels_per_frame:
            places = np.sort(rng.choice(places, settings.pixels_per_frame, replace=False))
        around = GapSurroundings.of(shown, settings.window)
        truth, guess = (values.ravel()[places].astype(np.float64) for values in (frame, filled))
        roughness, distance = (values.ravel()[places] for values in (around.roughness(frame), around.distance))
        parts.append(_Pixels(np.abs(truth - guess), roughness, distance, guess, np.full(len(places), number, np.int64)))
    return _Pixels.joined(parts)


def _calibrate(pixels: _Pixels, settings: UncertaintySettings) -> tuple[PixelKinds, IntervalCalibration] | None:
    """Kinds of pixels and their thresholds, or None where the frames are too unlike each other."""
    n_frames = len(np.unique(pixels.frame))
    kinds = PixelKinds(
        _edges(pixels.distance, settings.distance_bins),
        _edges(pixels.intensity, settings.intensity_bins),
        settings.window,
        # A tenth of the mean; a frame without any roughness has no unit to measure in, and any will do.
        float(0.1 * pixels.roughness.mean()) or 1e-6,
        _reach(pixels, min(n_frames, settings.fewest_frames)),
    )
    scale = kinds.scale(pixels.roughness)
    group = kinds.groups(pixels.distance, pixels.intensity)
    level = left_out_level(pixels.residual / scale, pixels.frame, group, settings.coverage)
    if level is None:
        return None
    asked = level * n_frames / (n_frames + 1)  # of which the threshold takes (K + 1) / K
    band = Band.around(np.zeros(len(scale)), scale)
    # Kinds of pixels that occur in too few frames have the threshold of all pixels.
    pooled = calibrate_intervals(band, pixels.residual, asked, units=pixels.frame).pooled
    often = units_of_kind(group, pixels.frame) >= fewest_units(asked)
    if not often.any():
        return kinds, IntervalCalibration(asked, True, (), (), pooled)
    grouped = calibrate_intervals(band, pixels.residual, asked, valid=often, units=pixels.frame, group=group)
    return kinds, replace(grouped, pooled=pooled)


def _half_widths(pixels: _Pixels, kinds: PixelKinds, calibration: IntervalCalibration) -> FloatArray:
    band = Band.around(np.zeros(len(pixels.residual)), kinds.scale(pixels.roughness))
    half = calibration.interval(band, kinds.groups(pixels.distance, pixels.intensity))[1]
    return np.where(pixels.distance <= kinds.reach, half, np.nan)


def _cross_measured(pixels: _Pixels, settings: UncertaintySettings) -> MeasuredCoverage:
    """Each frame by a calibration on the others."""
    half = np.full(len(pixels.residual), np.nan)
    numbers = np.unique(pixels.frame)
    for number in numbers:
        found = _calibrate(pixels.of(numbers[numbers != number]), settings)
        if found is not None:
            here = pixels.frame == number
            half[here] = _half_widths(pixels.of(np.array([number])), *found)
    return _measured(pixels, half, settings, "each frame by the others")


def _measured(pixels: _Pixels, half: FloatArray, settings: UncertaintySettings, way: str) -> MeasuredCoverage:
    known = np.isfinite(half)
    found = measure_intervals(-half, half, pixels.residual, valid=known, units=pixels.frame, seed=settings.seed)
    share = found.unit_coverage
    return MeasuredCoverage(share.estimate, share.low, share.high, found.mean_width / 2, found.units, found.pixels, way)


def _edges(values: FloatArray, bins: int) -> tuple[float, ...]:
    """Inner edges between `bins` bins of about as many pixels each, each half way between two values that occur."""
    distinct = np.unique(values)
    edges = set()
    for quantile in np.quantile(values, np.arange(1, bins) / bins, method="inverted_cdf"):
        place = int(np.searchsorted(distinct, quantile))
        if place + 1 < len(distinct):
            edges.add(float((distinct[place] + distinct[place + 1]) / 2))
    return tuple(sorted(edges))


def _reach(pixels: _Pixels, fewest: int) -> float:
    """Largest distance that at least so many frames have."""
    farthest = [pixels.distance[pixels.frame == number].max() for number in np.unique(pixels.frame)]
    return float(np.sort(farthest)[-fewest])
