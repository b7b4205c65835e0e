"""One simulated frame, with what it would have shown without noise, gaps and dead pixels."""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from .detector import COUNT_CUTOFF, DEAD_MARK, GAP_MARK, HOT_VALUE, build_scene, generator
from .samples import PATTERNS
from .settings import SampleName, SimulationSettings


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


def progress_of(settings: SimulationSettings, index: int) -> float:
    """How far the samples have changed at frame `index` (from 0): 1 - exp(-index / drift_frames)."""
    return 1.0 - math.exp(-index / settings.drift_frames)


def expected_counts(settings: SimulationSettings, index: int) -> NDArray[np.float32]:
    """Mean counts (y, x) float32 of frame `index` (from 0), everywhere, gaps and dead pixels included."""
    scene = build_scene(settings)
    jitter = 1 + settings.beam_jitter * generator(settings, 1, index).standard_normal()
    rate = PATTERNS[sample_of(settings, index)](scene, settings, progress_of(settings, index))
    rate *= scene.transmission
    rate *= np.float32(max(jitter, 0.0) * settings.brightness * settings.exposure_s)
    rate += np.float32(settings.dark_per_s * settings.exposure_s)
    return rate


def simulate_frame(settings: SimulationSettings, index: int) -> SimulatedFrame:
    """Frame `index` (from 0): a pure function of both arguments, whatever was simulated before.

    The noise is drawn from the exact Poisson distribution at every rate.

    >>> frame = simulate_frame(SimulationSettings(detector="Pilatus300k", samples=("fibre",)), 3)
    >>> frame.counts.shape, frame.sample, int((frame.counts == -1).sum())
    ((619, 487), 'fibre', 16558)
    """
    if index < 0:
        raise IndexError(f"frame index is {index}; it counts from 0")
    scene, expected = build_scene(settings), expected_counts(settings, index)
    rng = generator(settings, 2, index)
    gapless = np.minimum(rng.poisson(expected), COUNT_CUTOFF).astype(np.int32)
    counts = gapless.copy()
    counts[scene.gaps] = GAP_MARK
    counts.ravel()[scene.dead] = DEAD_MARK
    counts.ravel()[scene.hot] = HOT_VALUE - rng.integers(0, 200_000, scene.hot.size)
    return SimulatedFrame(counts, gapless, expected, sample_of(settings, index), progress_of(settings, index))
