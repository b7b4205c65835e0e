"""Which pixels of a frame were measured: a rule with automatic defaults, made explicit as settings."""

from typing import Annotated, Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from tasks.readers.gaps import check_detector, gap_valid
from tasks.readers.headers import HeaderFacts
from tasks.settings.base import Settings

# Values that detectors write for "no value": EIGER the two highest (gap, dead), 16-bit exports the highest.
_MARKERS = {"uint16": (2**16 - 1,), "uint32": (2**32 - 1, 2**32 - 2), "uint64": (2**64 - 1, 2**64 - 2)}
# SAXS keywords of EDF: the range around Dummy where DDummy is not given.
_DELTA_DUMMY = 0.1


class ValidityRule(Settings):
    """How to tell measured pixels from gaps, dead and saturated ones. A pixel is measured if no line here excludes it.

    Values that are not finite are never measured.
    """

    detector: str = Field(
        "auto",
        description="Whose gaps between modules are left out: a detector name of pyFAI such as 'Pilatus2M'; 'none' "
        "for no gaps; 'auto': the detector named in the header, else the PILATUS or EIGER with frames of this shape.",
    )
    negative_is_invalid: bool | Literal["auto"] = Field(
        "auto",
        description="Whether values below 0 are markers, not measurements. 'auto': yes for integers, no for floats.",
    )
    invalid_values: Literal["auto"] | tuple[int | float, ...] = Field(
        "auto",
        description="Values (counts) that mean 'not measured'. 'auto': 65535 in uint16, the two highest values in "
        "uint32 and uint64, none in other types. A list replaces these; an empty one switches them off.",
    )
    saturation: Literal["header", "ignore"] | Annotated[float, Field(gt=0)] = Field(
        "header",
        description="Values above this (counts) are saturated. 'header': the count cutoff that the header states, if "
        "any; 'ignore': nothing is saturated.",
    )
    dummy: Literal["header", "ignore"] = Field(
        "header",
        description="'header': values within DDummy of the header's Dummy (EDF) were not measured; a Dummy of 0 counts "
        "as not set, since it would exclude every pixel without a photon. 'ignore': both are ignored.",
    )


def check_rule(rule: ValidityRule, shape: tuple[int, int] | None = None) -> None:
    """Refuse a rule that cannot be applied to frames of this shape (y, x), before any frame is read.

    Raises
        SettingsError: unknown detector, or one of another shape.
    """
    check_detector(rule.detector, shape)


def valid_pixels(counts: NDArray[Any], facts: HeaderFacts, rule: ValidityRule) -> NDArray[np.bool_]:
    """Pixels (y, x) that were measured, for counts (y, x) of any integer or float type.

    Raises
        SettingsError: the rule's detector is unknown or has frames of another shape.

    >>> valid_pixels(np.array([[-1, 0, 7]], np.int32), HeaderFacts(count_cutoff=5), ValidityRule()).tolist()
    [[False, True, False]]
    """
    negative_is_real = rule.negative_is_invalid is False or (
        rule.negative_is_invalid == "auto" and counts.dtype.kind == "f"
    )
    markers = _markers(counts, rule)
    cutoff = _cutoff(facts, rule)
    if counts.dtype.kind == "f":
        valid = _valid_floats(counts, negative_is_real, cutoff)
    else:
        highest, markers = _highest(counts.dtype, cutoff, markers)
        valid = _valid_integers(counts, negative_is_real, highest)
    for marker in markers:
        valid &= counts != marker
    _leave_out_dummy(valid, counts, facts, rule)
    gaps = gap_valid(counts.shape, rule.detector, facts.detector)
    if gaps is not None:
        valid &= gaps
    return valid


def _markers(counts: NDArray[Any], rule: ValidityRule) -> tuple[int | float, ...]:
    return _MARKERS.get(counts.dtype.name, ()) if rule.invalid_values == "auto" else rule.invalid_values


def _cutoff(facts: HeaderFacts, rule: ValidityRule) -> float | None:
    if rule.saturation == "header":
        return facts.count_cutoff
    return None if rule.saturation == "ignore" else rule.saturation


def _highest(
    dtype: np.dtype[Any], cutoff: float | None, markers: tuple[int | float, ...]
) -> tuple[int, tuple[int | float, ...]]:
    """The highest measured value, and the markers that it does not exclude already."""
    highest = int(np.iinfo(dtype).max) if cutoff is None else min(int(np.iinfo(dtype).max), int(cutoff))
    for marker in sorted(markers, reverse=True):
        if marker == highest:
            highest -= 1
    return highest, tuple(marker for marker in markers if marker <= highest)


def _valid_integers(counts: NDArray[Any], negative_is_real: bool, highest: int) -> NDArray[np.bool_]:
    if counts.dtype.kind == "i" and not negative_is_real:
        # Read as unsigned, negative values are larger than any positive one: one comparison instead of two.
        counts = counts.view(f"u{counts.dtype.itemsize}")
    return np.asarray(counts <= highest)


def _valid_floats(counts: NDArray[Any], negative_is_real: bool, cutoff: float | None) -> NDArray[np.bool_]:
    valid: NDArray[np.bool_] = np.isfinite(counts)
    if not negative_is_real:
        valid &= counts >= 0
    if cutoff is not None:
        valid &= counts <= cutoff
    return valid


def _leave_out_dummy(valid: NDArray[np.bool_], counts: NDArray[Any], facts: HeaderFacts, rule: ValidityRule) -> None:
    if rule.dummy == "header" and facts.dummy:
        delta = _DELTA_DUMMY if facts.delta_dummy is None else facts.delta_dummy
        valid &= (counts < facts.dummy - delta) | (counts > facts.dummy + delta)
