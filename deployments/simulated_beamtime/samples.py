"""Scattering patterns of the sample types: expected counts per pixel and second before anything shadows them.

Each function takes the scene, the settings and the state of the sample, and returns (y, x) float32 >= 0. The formulas
are the textbook ones, the constants are chosen to look like frames of a bending-magnet beamline with an exposure of a
second; none of it is a quantitative structure model.
"""

import logging
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from dlsia_core.errors import SettingError

from .detector import PIXEL_M, Scene, generator, shadow
from .settings import SampleName, SimulationSettings

Pattern = NDArray[np.float32]


@dataclass(frozen=True)
class SampleState:
    """What tells one sample of a type from another.

    progress  in [0, 1), the part of its slow change that it has gone through
    size      factor on its lengths: lattice, particles, layers
    width     factor on the widths of its peaks, or on the spread of its sizes
    turn_rad  by how much it is rotated about the beam
    spots     which set of crystallites it has, if any
    """

    progress: float
    size: float = 1.0
    width: float = 1.0
    turn_rad: float = 0.0
    spots: int = 0


def powder(scene: Scene, settings: SimulationSettings, state: SampleState) -> Pattern:
    """Debye rings of a calibrant that warms: the lattice grows by up to 2 %, rings widen and fade."""
    rings = np.zeros_like(scene.radius_px)
    progress = state.progress
    radii = _ring_radii(settings, (1 + 0.02 * progress) * state.size)
    visible = radii[radii < scene.field_px]
    if visible.size == 0:
        raise SettingError(
            f"no ring of calibrant {settings.calibrant!r} falls on the detector: the first has a radius of "
            f"{radii[0]:.0f} px and the detector ends at {scene.field_px:.0f} px; shorten distance_m or take "
            "another calibrant"
        )
    for order, radius in enumerate(visible):
        width = (2.0 + 1.5 * progress + 0.002 * radius) * state.width
        fade = np.exp(-0.3 * progress * order)
        rings += 700 * fade / (1 + order) ** 1.2 * _peak(scene.radius_px - radius, width)
    return _isotropic(scene, rings + _air(scene, 60.0) + settings.background_per_s)


def saxs_spheres(scene: Scene, settings: SimulationSettings, state: SampleState) -> Pattern:
    """Dilute spheres that grow from 5 to 8 nm, 8 % spread: form factor of Rayleigh (1911), Porod's law beyond."""
    progress = state.progress
    mean = (5.0 + 3.0 * progress) * state.size
    spread = np.linspace(-2, 2, 9)
    radius_nm = mean * (1 + 0.08 * state.width * spread)[:, None]
    weight = np.exp(-(spread**2) / 2)[:, None] * radius_nm**6
    qr = np.maximum(scene.q_per_nm * radius_nm, 1e-3)  # above 0 so that the quotient below exists at the centre
    amplitude = 3 * (np.sin(qr) - qr * np.cos(qr)) / qr**3
    form = (weight * amplitude**2).sum(axis=0) / weight.sum()
    solvent = 1.5 * settings.background_per_s * (1 + 2 * np.exp(-(((scene.q_per_nm - 9) / 4) ** 2)))
    return _isotropic(scene, (3000 + 5000 * progress) * form + _air(scene, 60.0) + solvent)


def semicrystalline(scene: Scene, settings: SimulationSettings, state: SampleState) -> Pattern:
    """Lamellar peak and halo of a polymer, with sharp spots of crystallites that grow."""
    progress = state.progress
    q, crystalline = scene.q_per_nm, 0.15 + 0.85 * progress
    period = (14 - 3 * progress) * state.size
    lamellar = 260 * crystalline / (1 + ((q - 2 * np.pi / period) / (0.09 * state.width)) ** 2)
    halo = 14 * (1.2 - crystalline) * np.exp(-(((q - 4.6) / 1.3) ** 2))
    pattern = _isotropic(scene, lamellar + halo + _air(scene, 220.0) + settings.background_per_s)
    rng = generator(settings, 0, 1, *([state.spots] if state.spots else []))
    for q_ring in (1.9, 2.7, 3.3, 3.8, 4.7, 5.4):
        radius = min(float(np.interp(q_ring / state.size, q, scene.radius_px)), scene.field_px)
        n_spots = int(rng.integers(8, 20))
        angles = rng.uniform(0, 2 * np.pi, n_spots)
        heights = rng.lognormal(np.log(1200), 1.0, n_spots) * crystalline
        for angle, height in zip(angles, heights, strict=True):
            centre = (scene.beam[0] - radius * np.sin(angle), scene.beam[1] + radius * np.cos(angle))
            _add_spot(pattern, centre, float(height), 1.8)
    return pattern


def fibre(scene: Scene, settings: SimulationSettings, state: SampleState) -> Pattern:
    """A drawn fibre, its axis 25 degrees off the vertical: arcs on meridian and equator that sharpen, and a streak."""
    progress = state.progress
    q, axis = scene.q_per_nm * state.size, np.pi / 2 + np.radians(25.0) + state.turn_rad
    alignment = 5 + 20 * progress
    meridian = np.exp(alignment * (np.cos(2 * (scene.angle_rad - axis)) - 1))
    equator = np.exp(alignment * (np.cos(2 * (scene.angle_rad - axis - np.pi / 2)) - 1))
    streak = np.exp(60 * (np.cos(2 * (scene.angle_rad - axis - np.pi / 2)) - 1))
    order = np.array([[1], [2], [3], [5]])
    layers = (320 / order**1.4 * np.exp(-(((q - 0.95 * order) / (0.07 * state.width)) ** 2))).sum(axis=0)
    lateral = 180 * np.exp(-(((q - 3.1) / (0.16 * state.width)) ** 2))
    lateral += 70 * np.exp(-(((q - 5.4) / 0.2) ** 2))
    pattern = _isotropic(scene, _air(scene, 100.0) + settings.background_per_s + 0.1 * lateral)
    pattern += _isotropic(scene, layers) * _azimuthal(scene, meridian)
    pattern += _isotropic(scene, lateral) * _azimuthal(scene, equator)
    pattern += _isotropic(scene, 500 / (1 + (q / 0.25) ** 2)) * _azimuthal(scene, streak)
    return pattern


def gisaxs_film(scene: Scene, settings: SimulationSettings, state: SampleState) -> Pattern:
    """Islands that grow on silicon at 0.6 degrees of incidence: Yoneda wing, side rods, fringes, specular beam.

    Exit angles are weighted with the Fresnel transmission of the surface (Sinha et al. 1988,
    doi:10.1103/PhysRevB.38.2297), which makes the Yoneda wing at the critical angle.
    """
    progress = state.progress
    wavenumber = 2 * np.pi / (settings.wavelength_m * 1e9)
    incidence = np.radians(0.6)
    dy, dx = scene.beam[0] - np.arange(scene.shape[0]), np.arange(scene.shape[1]) - scene.beam[1]
    exit_angle = np.arctan(dy * PIXEL_M / settings.distance_m) - incidence
    qy = wavenumber * np.sin(np.arctan(dx * PIXEL_M / settings.distance_m))
    qz = wavenumber * (np.sin(np.maximum(exit_angle, 0)) + np.sin(incidence))
    pixel_angle = PIXEL_M / settings.distance_m
    above = 1 / (1 + np.exp(-np.clip(exit_angle / pixel_angle, -50, 50)))
    wing = above * _fresnel(exit_angle, settings) * ((1 + (qz / 1.1) ** 2) ** -2 + 0.003)
    fringes = 1 + 0.5 * np.exp(-qz / 2) * np.cos(qz * ((8 + 5 * progress) * state.size))
    q_rod = 2 * np.pi / ((7 + 4 * progress) * state.size)
    rods = 150 / (1 + (qy / 0.25) ** 2) + 6
    for order, height in ((1, 70 + 130 * progress), (2, 12)):
        rods += height * sum(np.exp(-(((qy - s * order * q_rod) / (0.2 * state.width * q_rod)) ** 2)) for s in (-1, 1))
    line = 1 / (1 + (np.abs(dx) / 3.0) ** 2.2)
    specular = np.exp(-(((exit_angle - incidence) / (6 * pixel_angle)) ** 2))
    columns = [rods, line, np.exp(-((dx / 4.0) ** 2)), line]
    below = 6 * np.exp(-np.abs(dy) / 90)
    rows = [wing * fringes, 2.5e4 * wing * fringes, 3e4 * specular, below * (1 - above)]
    pattern = np.stack(rows, axis=1).astype(np.float32) @ np.stack(columns).astype(np.float32)
    # The substrate takes three quarters of what leaves it downwards.
    air = _isotropic(scene, _air(scene, 60.0) + 0.5 * settings.background_per_s)
    pattern += air * (0.25 + 0.75 * above).astype(np.float32)[:, None]
    _stop_specular(pattern, scene, 2 * incidence, settings)
    return pattern


def _fresnel(exit_angle: NDArray[np.float64], settings: SimulationSettings) -> NDArray[np.float64]:
    # Critical angle of silicon: 0.18 degrees at 0.124 nm, proportional to the wavelength.
    critical = np.radians(0.18) * settings.wavelength_m / 1.24e-10
    angle = np.maximum(exit_angle, 0)
    inside = np.sqrt(angle**2 - critical**2 + 2e-7j)
    return np.asarray(np.abs(2 * angle / (angle + inside)) ** 2)


def _stop_specular(pattern: Pattern, scene: Scene, angle: float, settings: SimulationSettings) -> None:
    """A second beamstop on the specular beam, as grazing-incidence beamlines have it; changes `pattern`."""
    y = scene.beam[0] - np.tan(angle) * settings.distance_m / PIXEL_M
    radius = 0.7 * settings.beamstop_radius_px
    window = _window((y, scene.beam[1]), int(np.ceil(radius)) + 1, scene.shape)
    dy, dx = (np.arange(s.start, s.stop) - c for s, c in zip(window, (y, scene.beam[1]), strict=True))
    pattern[window] *= shadow(np.hypot(dy[:, None], dx[None, :]).astype(np.float32), radius, 1e-3)


@lru_cache(maxsize=8)
def _two_theta(calibrant: str, wavelength_m: float) -> NDArray[np.float64]:
    # It brings silx, which warns that pyOpenCL is missing; nothing here uses that.
    logging.getLogger("silx.opencl.common").setLevel(logging.ERROR)
    from pyFAI.calibrant import get_calibrant, names  # here: importing it takes over a second

    if calibrant not in names():
        raise SettingError(f"unknown calibrant {calibrant!r}; pyFAI knows {', '.join(sorted(names()))}")
    rings = np.asarray(get_calibrant(calibrant, wavelength_m).get_2th(), dtype=np.float64)
    return rings[rings < np.pi / 2]  # beyond 90 degrees a ring never meets a detector ahead of the sample


def _ring_radii(settings: SimulationSettings, expansion: float) -> NDArray[np.float64]:
    """Radii in pixels of the calibrant's rings, its lattice spacings multiplied by `expansion`."""
    two_theta = _two_theta(settings.calibrant, settings.wavelength_m)
    expanded = 2 * np.arcsin(np.sin(two_theta / 2) / expansion)
    return np.asarray(np.tan(expanded) * settings.distance_m / PIXEL_M)


def _peak(offset: NDArray[np.float64], half_width: float) -> NDArray[np.float64]:
    """Pseudo-Voigt of height 1, half Gaussian and half Lorentzian."""
    scaled = (offset / half_width) ** 2
    return np.asarray(0.5 * np.exp(-np.log(2) * scaled) + 0.5 / (1 + scaled))


def _air(scene: Scene, height: float) -> NDArray[np.float64]:
    """Parasitic scattering around the beam: a power law of exponent -3 that levels off at the beamstop."""
    return np.asarray(height / (1 + (scene.q_per_nm / 0.3) ** 3))


def _isotropic(scene: Scene, profile: NDArray[np.float64]) -> Pattern:
    return np.take(profile.astype(np.float32), scene.radius_bin)


def _azimuthal(scene: Scene, profile: NDArray[np.float64]) -> Pattern:
    return np.take(profile.astype(np.float32), scene.angle_bin)


def _window(centre: tuple[float, float], reach: int, shape: tuple[int, int]) -> tuple[slice, slice]:
    """The pixels (y, x) within `reach` of a centre, cut at the edges of the frame; empty where it lies outside."""
    (y, height), (x, width) = zip(centre, shape, strict=True)
    rows = slice(*(int(np.clip(edge, 0, height)) for edge in (round(y) - reach, round(y) + reach + 1)))
    return rows, slice(*(int(np.clip(edge, 0, width)) for edge in (round(x) - reach, round(x) + reach + 1)))


def _add_spot(pattern: Pattern, centre: tuple[float, float], height: float, sigma_px: float) -> None:
    """Add a Gaussian spot, cut where it has fallen to a millionth; spots beyond the edge are left out."""
    reach = int(np.ceil(5.3 * sigma_px))
    window = _window(centre, reach, (pattern.shape[0], pattern.shape[1]))
    dy, dx = (np.arange(s.start, s.stop) - c for s, c in zip(window, centre, strict=True))
    spot = np.exp(-(dy**2) / (2 * sigma_px**2))[:, None] * np.exp(-(dx**2) / (2 * sigma_px**2))[None, :]
    pattern[window] += (height * spot).astype(np.float32)


PATTERNS: dict[SampleName, Callable[[Scene, SimulationSettings, SampleState], Pattern]] = {
    "powder": powder,
    "saxs_spheres": saxs_spheres,
    "gisaxs_film": gisaxs_film,
    "semicrystalline": semicrystalline,
    "fibre": fibre,
}
