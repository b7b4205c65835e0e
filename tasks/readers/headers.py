"""Facts that headers of all formats state under many names and spellings."""

import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TypeVar

from tasks.readers.pilatus import pilatus_values

_T = TypeVar("_T")

_NUMBER = re.compile(r"[-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?")
_WITH_UNIT = re.compile(rf"\s*({_NUMBER.pattern})\s*([A-Za-zµμÅ]*)")
_SECONDS = {
    "": 1.0,
    "s": 1.0,
    "sec": 1.0,
    "second": 1.0,
    "seconds": 1.0,
    "ms": 1e-3,
    "us": 1e-6,
    "µs": 1e-6,
    "ns": 1e-9,
}
_METERS = {"m": 1.0, "mm": 1e-3, "um": 1e-6, "µm": 1e-6, "micron": 1e-6, "nm": 1e-9, "a": 1e-10, "å": 1e-10}
_METERS |= {"angstrom": 1e-10, "angstroms": 1e-10, "meter": 1.0, "metre": 1.0}
_MONTHS = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
_ISO = re.compile(r"(\d{4})[-/:](\d\d|[A-Za-z]{3})[-/:](\d\d)[ T](\d\d):(\d\d):(\d\d(?:\.\d+)?)\s*(Z|[-+]\d\d:?\d\d)?")
_CTIME = re.compile(r"[A-Za-z]{3} ([A-Za-z]{3}) +(\d{1,2}) (\d\d):(\d\d):(\d\d(?:\.\d+)?) (\d{4})")

# Last part of the name, in lower case without punctuation, in order of preference.
_EXPOSURE = ("exposuretime", "counttime", "expotime", "acqexpotime", "saxslabdetexposuretime")
_TIME = ("timestamp", "datacollectiondate", "starttime", "saxslabstarttimestamp", "time", "date", "datetime")
_EPOCH = ("timeofday", "epoch", "timeofdayepoch")
_CUTOFF = ("countcutoff", "saturationvalue", "countratecorrectioncountcutoff", "saxslabdetcountcutoff")
_DETECTOR = ("detector", "detectorname", "detectorinfo", "model", "detectordescription")
_WAVELENGTH = ("wavelength", "incidentwavelength")


@dataclass(frozen=True)
class HeaderFacts:
    """Facts of one frame; None where the header does not say (clearly).

    `exposure_time_s` in seconds; `timestamp` ISO 8601, without zone where the file gives none; `count_cutoff` in
    counts: higher values are saturated; `detector` the header's own text; `wavelength_m` in meters; `pixel_size_m`
    (y, x) in meters; `dummy` and `delta_dummy`: values within `delta_dummy` of `dummy` were not measured (EDF).
    """

    exposure_time_s: float | None = None
    timestamp: str | None = None
    count_cutoff: float | None = None
    detector: str | None = None
    wavelength_m: float | None = None
    pixel_size_m: tuple[float, float] | None = None
    dummy: float | None = None
    delta_dummy: float | None = None


def header_facts(header: Mapping[str, str]) -> HeaderFacts:
    """Facts from a header as `Frame.header` gives it.

    >>> facts = header_facts({"Exposure_time": "0.9950000 s", "Pixel_size": "172e-6 m x 172e-6 m"})
    >>> facts.exposure_time_s, facts.pixel_size_m, facts.count_cutoff
    (0.995, (0.000172, 0.000172), None)
    """
    values = _by_short_name(header)
    return HeaderFacts(
        exposure_time_s=_first(values, _EXPOSURE, lambda text: _quantity(text, _SECONDS)),
        timestamp=_first(values, _TIME, _iso) or _first(values, _EPOCH, _from_epoch),
        count_cutoff=_first(values, _CUTOFF, _number),
        detector=_first(values, _DETECTOR, lambda text: text or None),
        wavelength_m=_first(values, _WAVELENGTH, _wavelength)
        # SAXSLAB instruments write ångströms without saying so.
        or _first(values, ("saxslabwavelength",), lambda text: _wavelength(f"{text} A")),
        pixel_size_m=_pixel_size(values),
        dummy=_first(values, ("dummy",), _number),
        delta_dummy=_first(values, ("ddummy",), _number),
    )


def _by_short_name(header: Mapping[str, str]) -> dict[str, str]:
    """Values by the last part of their name, and by the last two, without case and punctuation; the first one stays."""
    values: dict[str, str] = {}
    for name, value in header.items():
        *_, parent, last = ["", *name.split("/")]
        values.setdefault(_plain(last), value)
        values.setdefault(_plain(parent + last), value)
        if value.startswith("# ") and name != "ImageDescription":
            # ALS writes a line of the PILATUS text as the title; image descriptions were parsed by their reader.
            for inner, found in pilatus_values(value).items():
                values.setdefault(_plain(inner), found)
    return values


def _plain(name: str) -> str:
    return "".join(filter(str.isalnum, name)).lower()


def _first(values: Mapping[str, str], names: tuple[str, ...], parse: Callable[[str], _T | None]) -> _T | None:
    """What the first of these entries that can be understood says."""
    parsed = (parse(values[name].strip()) for name in names if name in values)
    return next((value for value in parsed if value is not None), None)


def _number(text: str) -> float | None:
    match = _NUMBER.match(text)
    value = float(match[0]) if match else math.nan
    return value if math.isfinite(value) else None


def _quantity(text: str, units: Mapping[str, float]) -> float | None:
    match = _WITH_UNIT.match(text)
    scale = units.get(match[2].lower()) if match else None
    # Rounded so that 172 um and 172e-6 m are the same number.
    return None if match is None or scale is None else float(f"{float(match[1]) * scale:.15g}")


def _wavelength(text: str) -> float | None:
    value = _quantity(text, _METERS | {"": 1.0})
    # Without a unit it is in meters (SAXS keywords of EDF) only if that makes an X-ray or neutron.
    return value if value is not None and 0 < value < 1e-7 else None


def _pixel_size(values: Mapping[str, str]) -> tuple[float, float] | None:
    sizes = [_quantity(text, _METERS) for text in values.get("pixelsize", "").split(" x ")]
    if len(sizes) == 2:
        x, y = sizes
    else:
        meters = _METERS | {"": 1.0}
        y = _first(values, ("psize2", "ypixelsize"), lambda text: _quantity(text, meters))
        x = _first(values, ("psize1", "xpixelsize"), lambda text: _quantity(text, meters))
    return (y, x) if y and x else None


def _iso(text: str) -> str | None:
    """ISO 8601 from the date formats of detectors; month names in English whatever the machine's language.

    >>> _iso("Fri Jul 19 00:42:22 2013"), _iso("2011/Mar/15 04:11:32.5"), _iso("2018:03:27 13:21:03"), _iso("12.5")
    ('2013-07-19T00:42:22', '2011-03-15T04:11:32.5', '2018-03-27T13:21:03', None)
    """
    if match := _ISO.match(text):
        year, month, day, hour, minute, second, zone = match.groups()
    elif match := _CTIME.match(text):
        month, day, hour, minute, second, year = match.groups()
        zone = None
    else:
        return None
    name = month.lower()
    number = int(name) if name.isdigit() else _MONTHS.index(name) + 1 if name in _MONTHS else 0
    iso = f"{year}-{number:02}-{int(day):02}T{hour}:{minute}:{second}{zone or ''}"
    try:
        datetime.fromisoformat(iso)
    except ValueError:
        return None
    return iso


def _from_epoch(text: str) -> str | None:
    seconds = _number(text)
    # Seconds since 1970; smaller numbers count from the start of a scan.
    plausible = seconds is not None and 3e8 < seconds < 1e10
    return datetime.fromtimestamp(seconds, UTC).isoformat() if plausible and seconds else None
