"""Where the beam meets the detector, as far as settings or a frame's header say."""

import re
from typing import Literal

from tasks.store import FrameRecord

_PAIR = re.compile(r"\(\s*(-?[\d.]+)\s*,\s*(-?[\d.]+)\s*\)")


def beam_of(record: FrameRecord, setting: Literal["header"] | tuple[float, float] | None) -> tuple[float, float] | None:
    """The beam's center (y, x) in detector pixels, None where it is not known.

    PILATUS and EIGER headers give Beam_xy as (x, y); both 0 is what stands there when nobody has set it.
    """
    if setting != "header":
        return setting
    found = _PAIR.search(str(record.header.get("header", {}).get("Beam_xy", "")))
    if found is None:
        return None
    x, y = float(found[1]), float(found[2])
    return (y, x) if (x, y) != (0.0, 0.0) else None
