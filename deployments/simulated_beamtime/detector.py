"""The simulated detector: modules, gaps, dead and hot pixels, and where every pixel looks."""

import hashlib
from dataclasses import dataclass
from functools import cached_property, lru_cache

import numpy as np
from numpy.typing import NDArray

from .settings import DetectorName, SimulationSettings

MODULE_SHAPE = (195, 487)
GAP_SHAPE = (17, 7)
PIXEL_M = 172e-6
COUNT_CUTOFF = 1_048_575  # a 20-bit counter, full
HOT_VALUE = 4_194_300  # what the real detectors write for pixels that never stop counting
GAP_MARK, DEAD_MARK = -1, -2
RADIUS_STEP_PX = 0.1
ANGLE_STEPS = 7200
_MODULES: dict[DetectorName, tuple[int, int]] = {"Pilatus2M": (8, 3), "Pilatus1M": (5, 2), "Pilatus300k": (3, 1)}


@dataclass(frozen=True, eq=False)
class Scene:
    """What stays the same during a scan: which way each pixel looks and what stands before it.

    `radius_bin` and `angle_bin` (y, x) uint16 point into the 1-D tables `radius_px`, `q_per_nm` and `angle_rad`, so
    that a sample's pattern is a few table look-ups. `transmission` (y, x) float32 holds beamstop, flight tube, flat
    field and solid angle. `gaps` (y, x) is True between the modules; `dead` and `hot` are flat pixel numbers.
    `beam` is the beam centre (y, x) in pixels. `field_px` is the largest radius on the detector before it was moved:
    what lies beyond plays no part in the second exposure either, so that both show the same.
    """

    shape: tuple[int, int]
    beam: tuple[float, float]
    field_px: float
    offset_px: tuple[NDArray[np.float32], NDArray[np.float32]]
    radius_bin: NDArray[np.uint16]
    radius_px: NDArray[np.float64]
    q_per_nm: NDArray[np.float64]
    angle_rad: NDArray[np.float64]
    transmission: NDArray[np.float32]
    gaps: NDArray[np.bool_]
    dead: NDArray[np.intp]
    hot: NDArray[np.intp]

    @cached_property
    def angle_bin(self) -> NDArray[np.uint16]:
        """Into `angle_rad`, (y, x) uint16; made when a sample asks for it."""
        dy, dx = self.offset_px
        turns = np.arctan2(-dy, dx) / (2 * np.pi)  # counted from +x towards the top of the image
        return (np.rint(turns * ANGLE_STEPS).astype(np.int32) % ANGLE_STEPS).astype(np.uint16)


def generator(settings: SimulationSettings, *purpose: int) -> np.random.Generator:
    """Random numbers of one purpose: a function of the seed, the scan's name and the purpose alone."""
    scan = int.from_bytes(hashlib.sha256(settings.scan.encode()).digest()[:8], "little")
    return np.random.Generator(np.random.SFC64(np.random.SeedSequence([settings.seed, scan, *purpose])))


def detector_shape(detector: DetectorName) -> tuple[int, int]:
    """Shape (y, x) of a detector: n modules of 195 x 487 pixels and n - 1 gaps of 17 x 7.

    >>> detector_shape("Pilatus2M")  # 8 * 195 + 7 * 17, 3 * 487 + 2 * 7
    (1679, 1475)
    """
    rows, columns = _MODULES[detector]
    return (
        rows * MODULE_SHAPE[0] + (rows - 1) * GAP_SHAPE[0],
        columns * MODULE_SHAPE[1] + (columns - 1) * GAP_SHAPE[1],
    )


def gap_pixels(detector: DetectorName) -> NDArray[np.bool_]:
    """Which pixels (y, x) lie between the modules: True there.

    >>> int(gap_pixels("Pilatus2M").sum())
    197365
    """
    y, x = (np.arange(n) for n in detector_shape(detector))
    between_rows = y % (MODULE_SHAPE[0] + GAP_SHAPE[0]) >= MODULE_SHAPE[0]
    between_columns = x % (MODULE_SHAPE[1] + GAP_SHAPE[1]) >= MODULE_SHAPE[1]
    return between_rows[:, None] | between_columns[None, :]


def beam_center(settings: SimulationSettings) -> tuple[float, float]:
    """Beam centre (y, x) in pixels, with the defaults filled in.

    >>> beam_center(SimulationSettings(detector="Pilatus300k", beam_y_px=400.0))
    (400.0, 251.779)
    """
    height, width = detector_shape(settings.detector)
    return (
        0.70 * height if settings.beam_y_px is None else settings.beam_y_px,
        0.517 * width if settings.beam_x_px is None else settings.beam_x_px,
    )


@lru_cache(maxsize=4)
def build_scene(settings: SimulationSettings, moved_px: int = 0) -> Scene:
    """Everything about a scan that no frame changes; costs about a tenth of a second, kept for the last four.

    moved_px  rows by which the scattering lies lower than the settings' beam centre says
    """
    shape, beam = detector_shape(settings.detector), beam_center(settings)
    # Whole numbers are subtracted first: the second exposure's pixels get the first one's offsets to the bit.
    dy = (np.arange(-moved_px, shape[0] - moved_px, dtype=np.float32) - np.float32(beam[0]))[:, None]
    dx = (np.arange(shape[1], dtype=np.float32) - np.float32(beam[1]))[None, :]
    radius = np.hypot(dy, dx)
    radius_bin = np.rint(radius / RADIUS_STEP_PX).astype(np.uint16)
    field = _field_bin(shape, beam)
    radius_px = np.arange(max(int(radius_bin.max()), field) + 1, dtype=np.float64) * RADIUS_STEP_PX
    two_theta = np.arctan(radius_px * PIXEL_M / settings.distance_m)
    dead, hot = _defects(settings.detector, settings.detector_seed, settings.dead_fraction, settings.hot_pixels)
    return Scene(
        shape=shape,
        beam=(beam[0] + moved_px, beam[1]),
        field_px=float(radius_px[field]),
        offset_px=(dy, dx),
        radius_bin=radius_bin,
        radius_px=radius_px,
        q_per_nm=4 * np.pi / (settings.wavelength_m * 1e9) * np.sin(two_theta / 2),
        angle_rad=np.arange(ANGLE_STEPS, dtype=np.float64) * (2 * np.pi / ANGLE_STEPS),
        transmission=_transmission(settings, radius, dy, dx),
        gaps=gap_pixels(settings.detector),
        dead=dead,
        hot=hot,
    )


def _field_bin(shape: tuple[int, int], beam: tuple[float, float]) -> int:
    """Radius of the corner farthest from the beam, in steps of the tables."""
    (top, bottom), (left, right) = (
        (abs(np.float32(0) - np.float32(c)), np.float32(n - 1) - np.float32(c))
        for c, n in zip(beam, shape, strict=True)
    )
    return int(np.rint(np.hypot(max(top, bottom), max(left, right)) / RADIUS_STEP_PX).astype(np.uint16))


def shadow(distance_px: NDArray[np.float32], radius_px: float, leak: float) -> NDArray[np.float32]:
    """Transmission past an opaque disc: `leak` inside `radius_px`, 1 outside, one pixel of slope between."""
    return np.asarray(np.clip(distance_px - np.float32(radius_px - 0.5), np.float32(leak), np.float32(1)))


def _transmission(
    settings: SimulationSettings,
    radius: NDArray[np.float32],
    dy: NDArray[np.float32],
    dx: NDArray[np.float32],
) -> NDArray[np.float32]:
    # The solid angle of a flat pixel falls as cos^3 of the scattering angle.
    tangent = radius * np.float32(PIXEL_M / settings.distance_m)
    result: NDArray[np.float32] = (1 + tangent**2) ** np.float32(-1.5)
    if settings.tube_radius_m is not None:
        edge = np.float32(settings.tube_radius_m / PIXEL_M)
        result *= np.clip((edge - radius) / 3 + 0.5, np.float32(0), np.float32(1))
    if settings.beamstop_radius_px > 0:
        result *= shadow(radius, settings.beamstop_radius_px, 1e-3)
        # The arm leaves the beamstop downwards, 20 degrees off the vertical, as wide as half the stop.
        along = dy * np.float32(np.cos(0.35)) + dx * np.float32(np.sin(0.35))
        across = np.abs(dx * np.float32(np.cos(0.35)) - dy * np.float32(np.sin(0.35)))
        arm = shadow(across, settings.beamstop_radius_px / 4, 0.02)
        result *= np.where(along > 0, arm, np.float32(1))
    if settings.flat_field_spread > 0:
        result *= _flat_field(settings)
    return result.astype(np.float32)


def _flat_field(settings: SimulationSettings) -> NDArray[np.float32]:
    """Sensitivity of each module, with a slope of the same order across it."""
    rng = np.random.default_rng([settings.detector_seed, 1])
    flat = np.ones(detector_shape(settings.detector), dtype=np.float32)
    rows, columns = _MODULES[settings.detector]
    slope = np.linspace(-0.5, 0.5, MODULE_SHAPE[1], dtype=np.float32)
    for row in range(rows):
        for column in range(columns):
            top = row * (MODULE_SHAPE[0] + GAP_SHAPE[0])
            left = column * (MODULE_SHAPE[1] + GAP_SHAPE[1])
            level, tilt = rng.normal(0.0, settings.flat_field_spread, 2).astype(np.float32)
            flat[top : top + MODULE_SHAPE[0], left : left + MODULE_SHAPE[1]] += level + tilt * slope
    return np.maximum(flat, np.float32(0.05))


@lru_cache(maxsize=4)
def _defects(
    detector: DetectorName, seed: int, dead_fraction: float, hot_pixels: int
) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Flat numbers of dead pixels (half of them in small clumps, as in real modules) and of hot pixels."""
    rng, gaps = np.random.default_rng([seed, 0]), gap_pixels(detector)
    sensitive = np.flatnonzero(~gaps)
    order = rng.permutation(sensitive)
    n_dead = round(dead_fraction * sensitive.size)
    singles, clumped = order[: n_dead - n_dead // 2], []
    height, width = gaps.shape
    for centre in singles[: max(1, n_dead // 16)]:
        y, x = np.rint(np.array(divmod(int(centre), width)) + rng.normal(0, 1.5, (24, 2))).astype(int).T
        inside = (y >= 0) & (y < height) & (x >= 0) & (x < width)
        clumped.append(y[inside] * width + x[inside])
    # First come, first dead; the rest of the random order (never more than n_dead) fills up what fell into gaps.
    candidates = np.concatenate([singles, *clumped, order[singles.size : singles.size + n_dead]])
    candidates = candidates[~gaps.ravel()[candidates]]
    _, first = np.unique(candidates, return_index=True)
    dead = np.sort(candidates[np.sort(first)][:n_dead])
    enough = order[: n_dead + hot_pixels]
    alive = enough[~np.isin(enough, dead)]
    return dead, np.sort(alive[:hot_pixels])
