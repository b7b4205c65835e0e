"""Simulated fibre-reinforced concrete as X-ray tomography sees it: TIFF stacks, sparse labels, and the truth apart.

>>> settings = FibreSettings(shape=(64, 64, 64), fibres=5, length=30.0, radius=2.0)
>>> slab = image_slab(build_scene(settings), 0, 4)
>>> slab.volume.shape, str(slab.volume.dtype), int(slab.ids.max()) <= 5
((4, 64, 64), 'uint16', True)
"""

from .imaging import Slab, image_slab
from .scene import Scene, build_scene
from .settings import FibreSettings
from .writers import BACKGROUND, FIBRE, UNLABELLED, Written, write_volume

__all__ = [
    "BACKGROUND",
    "FIBRE",
    "UNLABELLED",
    "FibreSettings",
    "Scene",
    "Slab",
    "Written",
    "build_scene",
    "image_slab",
    "write_volume",
]
