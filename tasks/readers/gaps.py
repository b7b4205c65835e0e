"""Where a detector has gaps between its modules, by pyFAI's geometry."""

import difflib
import logging
import re
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tasks.errors import SettingsError

_NAME = re.compile(
    r"(pilatus|eiger)\W*([234]?)\W*(?:[xsra]e?\b)?\W*(?:si\b)?\W*(cdte)?\W*(\d+)\W?([km])(\W?w\b)?", re.I
)


@cache
def gap_valid(
    shape: tuple[int, int], detector: str = "auto", header_detector: str | None = None
) -> NDArray[np.bool_] | None:
    """Pixels (y, x) that are no gap of the detector, read-only; None where no gaps are known.

    `detector` is "auto", "none" or a detector name of pyFAI. "auto" goes by the name in the header; without one that it
    knows, by the shape, if only PILATUS or EIGER detectors have it: then the gaps are those that all of them have.
    A header that names a detector of another shape (a region of interest, binning) gives None.

    Raises
        SettingsError: no such detector, or its frames have another shape.

    >>> valid = gap_valid((1679, 1475), "auto", "PILATUS 2M, S/N 24-0104")
    >>> int((~valid).sum())
    197365
    """
    if detector.lower() == "none":
        return None
    if detector.lower() != "auto":
        return _without_gaps([_named(detector, shape)], shape)
    named = _from_header(header_detector or "")
    if named is not None:
        return _without_gaps([named], shape) if tuple(named.MAX_SHAPE) == shape else None
    same = {kind for kind in _registry().values() if getattr(kind, "MAX_SHAPE", None) == shape}
    if not same or any(not kind.__name__.startswith(("Pilatus", "Eiger")) for kind in same):
        return None
    return _without_gaps(sorted(same, key=lambda kind: str(kind.__name__)), shape)


def check_detector(detector: str, shape: tuple[int, int] | None = None) -> None:
    """Refuse an unknown detector name, or one whose frames are not of this shape (y, x), before any work is done.

    Raises
        SettingsError: lists the closest names.
    """
    if detector.lower() not in ("auto", "none"):
        _named(detector, shape)


@cache
def _registry() -> dict[str, Any]:
    # pyFAI takes a second to import, 0.1 s of it for itself and the rest for modules of SciPy that the latent map needs
    # as well; only those who ask for gaps pay for it. No part of it that knows detectors can be imported alone.
    # It brings silx, which warns that pyOpenCL is missing: nothing here uses that, and Prefect would show the warning.
    logging.getLogger("silx.opencl.common").setLevel(logging.ERROR)
    from pyFAI.detectors import Detector

    return {_plain(name): kind for name, kind in Detector.registry.items()}


def _plain(name: str) -> str:
    return re.sub(r"[^a-z0-9]", "", name.lower())


def _named(detector: str, shape: tuple[int, int] | None) -> Any:
    kinds = _registry()
    kind = kinds.get(_plain(detector))
    if kind is None:
        close = difflib.get_close_matches(_plain(detector), kinds, 5, 0.5)
        hint = ", ".join(dict.fromkeys(kinds[name].__name__ for name in close)) or "none"
        raise SettingsError(
            f"unknown detector {detector!r}; similar names: {hint}. Give a detector name of pyFAI, 'auto' or 'none'."
        )
    own = getattr(kind, "MAX_SHAPE", None)
    if shape is not None and own != shape:
        raise SettingsError(
            f"detector {kind.__name__} has frames of {own} (y, x), the scan has {shape}. "
            "Give the detector that recorded it, 'auto' or 'none'."
        )
    return kind


def _from_header(text: str) -> Any:
    match = _NAME.search(text)
    if match is None:
        return None
    family, generation, cdte, number, unit, wide = (part or "" for part in match.groups())
    # PILATUS3 has the geometry of PILATUS; pyFAI knows them under one name.
    generation = "" if family.lower() == "pilatus" and generation in "23" else generation
    return _registry().get(_plain(family + generation + cdte + number + unit + wide))


def _without_gaps(kinds: list[Any], shape: tuple[int, int]) -> NDArray[np.bool_] | None:
    gap = np.ones(shape, bool)
    for kind in kinds:
        detector_mask = kind().mask
        if detector_mask is None:
            return None
        gap &= np.asarray(detector_mask) != 0  # pyFAI: non-zero = ignore
    if not gap.any():
        return None
    valid = ~gap
    valid.flags.writeable = False
    return valid
