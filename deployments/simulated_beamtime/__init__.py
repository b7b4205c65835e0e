"""A simulated beamtime for machines without data: PILATUS scans as real CBF, EDF and TIFF files, with their truth.

The readers share no code with it, so a frame that comes back unchanged is evidence for both.

>>> frame = simulate_frame(SimulationSettings(detector="Pilatus300k"), 0)
>>> frame.counts.shape, frame.sample
((619, 487), 'powder')
"""

from .frames import SimulatedFrame, simulate_frame
from .settings import DETECTORS, FILE_FORMATS, SAMPLES, VARIETIES, SimulationSettings
from .writers import damaged_frames, second_folder_of, write_scan

__all__ = [
    "DETECTORS",
    "FILE_FORMATS",
    "SAMPLES",
    "VARIETIES",
    "SimulatedFrame",
    "SimulationSettings",
    "damaged_frames",
    "second_folder_of",
    "simulate_frame",
    "write_scan",
]
