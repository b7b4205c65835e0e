"""Filling gaps without a network: what a trained model has to be better than.

biharmonic          the baseline of Chavez et al. 2022 (section 3.2), solved by scikit-image
linear              linear interpolation along rows and columns
harmonic            the solution of Laplace's equation; less noisy than either, because it averages along the gap's edge
azimuthal           mean or median of the measured pixels at the same distance from the beam
azimuthal_harmonic  the same, plus what is left over, filled harmonically

>>> import numpy as np
>>> fill = fill_gaps(np.array([[1.0, np.nan, np.nan, 4.0]], dtype=np.float32), "harmonic")
>>> fill.values.tolist(), fill.filled.tolist()
([[1.0, 2.0, 3.0, 4.0]], [[False, True, True, False]])
"""

from dlsia_core.classical.azimuthal import azimuthal, azimuthal_harmonic
from dlsia_core.classical.geometry import BeamGeometry
from dlsia_core.classical.methods import CLASSICAL_METHODS, ClassicalFill, ClassicalMethod, fill_gaps, linear
from dlsia_core.classical.smooth import biharmonic, harmonic

__all__ = [
    "CLASSICAL_METHODS",
    "BeamGeometry",
    "ClassicalFill",
    "ClassicalMethod",
    "azimuthal",
    "azimuthal_harmonic",
    "biharmonic",
    "fill_gaps",
    "harmonic",
    "linear",
]
