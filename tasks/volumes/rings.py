"""Slices of a volume with their ring artifacts taken out, about an axis that is given or found in them."""

from dataclasses import replace
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dlsia_core.errors import ArrayError, SettingError
from dlsia_core.rings import RingFilter, find_axis
from tasks.errors import SettingsError, SourceError
from tasks.logs import logger_of
from tasks.settings.segmentation import RingSettings
from tasks.volumes.volume import Volume

AXIS_SLICES = 16
"""Evenly over a volume, in which the axis is looked for: rings stay for tens of slices, and are added up over them."""
USUAL_WIDTH = 31
KEPT_BYTES = 2**28
"""Filtered slices that are kept for whoever reads them again."""


def ring_filter(volume: Volume, asked: RingSettings, trained: int | None = None) -> RingFilter | None:
    """What takes the rings out of a volume; None: they stay. trained: width with which the model's images lost theirs.

    Where it is only the model that asks for it, a volume in which no rings stand out is left as it is. Raises
    `SourceError` for one where they are to be taken out, and `SettingsError` for numbers that cannot be used.
    """
    if asked.remove is False or (asked.remove is None and asked.center is None and trained is None):
        return None
    center = asked.center
    if center is None:
        numbers = np.unique(np.linspace(0, volume.shape[0] - 1, AXIS_SLICES).round().astype(int)).tolist()
        try:
            center = find_axis(volume.read_slice(number) for number in numbers)
        except ArrayError as error:
            if asked.remove is None:
                logger_of(__name__).warning("rings of %s are left as they are: %s", volume.source, error)
                return None
            raise SourceError(
                f"{volume.source}: {error} (rings.center: its row and column; rings.remove: off)"
            ) from error
        logger_of(__name__).info("rings of %s: their axis is at row %.1f, column %.1f", volume.source, *center)
    try:
        found = RingFilter(center, asked.width or trained or USUAL_WIDTH)
        found.require_inside(volume.shape[1:])
    except SettingError as error:
        raise SettingsError(f"rings of {volume.source} cannot be taken out: {error}") from error
    return found


def without_rings(volume: Volume, rings: RingFilter) -> Volume:
    """The same volume, float32, each slice less its rings."""
    slice_bytes = 4 * volume.shape[1] * volume.shape[2]

    @lru_cache(maxsize=max(1, KEPT_BYTES // slice_bytes))
    def read_slice(number: int) -> NDArray[Any]:
        filtered = rings.without_rings(volume.read_slice(number))
        filtered.flags.writeable = False  # the next reader gets the same array
        return filtered

    return replace(volume, dtype=np.dtype(np.float32), read_slice=read_slice)
