"""One simulated frame, with what it would have shown without noise, gaps and dead pixels."""

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from dlsia_core.errors import SettingError

from .detector import (
    COUNT_CUTOFF,
    DEAD_MARK,
    GAP_MARK,
    HOT_VALUE,
    Scene,
    beam_center,
    build_scene,
    detector_shape,
    generator,
)
from .samples import PATTERNS, SampleState
from .settings import SampleName, SimulationSettings

Exposure = Literal[1, 2]


@dataclass(frozen=True, eq=False)
class SimulatedFrame:
    """A frame and its truth.

    counts    (y, x) int32, as the detector reads out: -1 in gaps, -2 dead, hot pixels above the count cutoff
    gapless   (y, x) int32, the same exposure on a detector without gaps and without defects
    expected  (y, x) float32, mean counts of every pixel in this exposure, under gaps and defects too
    sample    which sample type the frame shows
    progress  in [0, 1), how far the sample has changed since frame 0
    """

    counts: NDArray[np.int32]
    gapless: NDArray[np.int32]
    expected: NDArray[np.float32]
    sample: SampleName
    progress: float


def sample_of(settings: SimulationSettings, index: int) -> SampleName:
    """Sample type that frame `index` (from 0) shows.

    >>> [sample_of(SimulationSettings(samples=("powder", "fibre")), i) for i in range(3)]
    ['powder', 'fibre', 'powder']
    """
    return settings.samples[index // settings.frames_per_sample % len(settings.samples)]


def state_of(settings: SimulationSettings, index: int) -> SampleState:
    """The sample of frame `index` (from 0): drifting, or one of a library."""
    if settings.variety == "drift":
        return SampleState(1.0 - math.exp(-index / settings.drift_frames))
    rng = generator(settings, 6, index)
    progress, turn = rng.uniform(0, 1), rng.uniform(0, 2 * math.pi)
    size, width = np.exp(rng.normal(0, (0.15, 0.25)))
    return SampleState(progress, float(size), float(width), turn, index + 1)


def progress_of(settings: SimulationSettings, index: int) -> float:
    """How far the sample has changed at frame `index` (from 0): 1 - exp(-index / drift_frames), or drawn (library)."""
    return state_of(settings, index).progress


def setup_of(settings: SimulationSettings, index: int) -> SimulationSettings:
    """The settings with the setup of frame `index` (from 0): the same for all frames, or drawn for each (library).

    >>> library = SimulationSettings(variety="library")
    >>> 0.6 < setup_of(library, 3).distance_m / library.distance_m < 1.6
    True
    """
    if settings.variety == "drift":
        return settings
    (height, width), (y, x) = detector_shape(settings.detector), beam_center(settings)
    rng = generator(settings, 7, index)
    spread = np.array([0.15, 0.6, 0.4])
    distance, brightness, background = np.exp(spread * np.clip(rng.standard_normal(3), -3, 3))
    return settings.model_copy(
        update={
            "distance_m": settings.distance_m * float(distance),
            "brightness": settings.brightness * float(brightness),
            "background_per_s": settings.background_per_s * float(background),
            "beam_y_px": y + height * rng.uniform(-0.1, 0.1),
            "beam_x_px": x + width * rng.uniform(-0.1, 0.1),
        }
    )


def scene_of(settings: SimulationSettings, index: int, exposure: Exposure = 1) -> Scene:
    """What the detector looks at in frame `index` (from 0), in the first exposure or the second."""
    return build_scene(setup_of(settings, index), settings.second_exposure_shift_px if exposure == 2 else 0)


def expected_counts(settings: SimulationSettings, index: int, exposure: Exposure = 1) -> NDArray[np.float32]:
    """Mean counts (y, x) float32 of frame `index` (from 0), everywhere, gaps and dead pixels included."""
    setup, scene = setup_of(settings, index), scene_of(settings, index, exposure)
    jitter = 1 + settings.beam_jitter * generator(settings, 1, index).standard_normal()
    rate = PATTERNS[sample_of(settings, index)](scene, setup, state_of(settings, index))
    rate *= scene.transmission
    rate *= np.float32(max(jitter, 0.0) * setup.brightness * settings.exposure_s)
    rate += np.float32(settings.dark_per_s * settings.exposure_s)
    return rate


def simulate_frame(settings: SimulationSettings, index: int, exposure: Exposure = 1) -> SimulatedFrame:
    """Frame `index` (from 0): a pure function of its arguments, whatever was simulated before.

    exposure  2: the same sample, beam and exposure time, seen by the moved detector, with noise of its own; its
              `gapless` and `expected` are those of the moved detector, too

    The noise is drawn from the exact Poisson distribution at every rate. Raises SettingError for a second exposure
    where the settings have none.

    >>> frame = simulate_frame(SimulationSettings(detector="Pilatus300k", samples=("fibre",)), 3)
    >>> frame.counts.shape, frame.sample, int((frame.counts == -1).sum())
    ((619, 487), 'fibre', 16558)
    """
    if index < 0:
        raise IndexError(f"frame index is {index}; it counts from 0")
    if exposure == 2 and not settings.second_exposure_shift_px:
        raise SettingError("no second exposure: second_exposure_shift_px is 0; give the rows that the detector moves")
    scene, expected = scene_of(settings, index, exposure), expected_counts(settings, index, exposure)
    rng = generator(settings, 2 if exposure == 1 else 5, index)
    gapless = np.minimum(rng.poisson(expected), COUNT_CUTOFF).astype(np.int32)
    counts = gapless.copy()
    counts[scene.gaps] = GAP_MARK
    counts.ravel()[scene.dead] = DEAD_MARK
    counts.ravel()[scene.hot] = HOT_VALUE - rng.integers(0, 200_000, scene.hot.size)
    return SimulatedFrame(counts, gapless, expected, sample_of(settings, index), progress_of(settings, index))
