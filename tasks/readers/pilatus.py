"""Header text of PILATUS and EIGER detectors, as found in CBF files and in TIFF image descriptions."""

import re

_DATE = re.compile(r"\d{4}[-/:](?:\d\d|[A-Za-z]{3})[-/:]\d\d[ T]\d\d:\d\d:\d\d(?:\.\d+)?")
_SENSOR = re.compile(r"(?P<material>.+?) sensor,\s*thickness\s*[:=]?\s*(?P<thickness>.+)")
_ENTRY = re.compile(r"(?P<name>[A-Za-z]\w*)\s*[:=]?\s*(?P<value>.*)")
_PARAMETER = re.compile(r'<param name="(?P<name>[^"]+)">(?P<value>[^<]*)</param>')


def pilatus_values(text: str) -> dict[str, str]:
    """Values of the lines that start with `#`, whatever separates name and value; the date line becomes `timestamp`.

    What follows a NUL is left over from an older, longer text and is dropped.

    >>> pilatus_values("# 2024-10-26T01:38:05.208\\r\\n# Threshold_setting: 4000 eV\\n# N_excluded_pixels = 137\\n")
    {'timestamp': '2024-10-26T01:38:05.208', 'Threshold_setting': '4000 eV', 'N_excluded_pixels': '137'}
    >>> pilatus_values("# Threshold_setting 7500 eV\\n# Silicon sensor, thickness 0.000320 m\\n\\0.3")
    {'Threshold_setting': '7500 eV', 'Sensor_material': 'Silicon', 'Sensor_thickness': '0.000320 m'}
    """
    values: dict[str, str] = {}
    for line in text.partition("\0")[0].splitlines():
        if not line.lstrip().startswith("#"):
            continue
        body = line.strip().lstrip("#").strip()
        if _DATE.match(body):
            values.setdefault("timestamp", body)
        elif sensor := _SENSOR.fullmatch(body):
            values["Sensor_material"], values["Sensor_thickness"] = sensor["material"], sensor["thickness"]
        elif entry := _ENTRY.fullmatch(body):
            values[entry["name"]] = entry["value"]
        elif body:
            values["comment"] = " | ".join(filter(None, (values.get("comment"), body)))
    return values


def saxslab_values(text: str) -> dict[str, str]:
    """Parameters that SAXSLAB and Xenocs instruments keep as XML in the TIFF tag Artist.

    >>> saxslab_values('<?xml version="1.0" ?><SAXSLABparameters><param name="saxsconf_wavelength">1.54</param>')
    {'saxslab.saxsconf_wavelength': '1.54'}
    """
    return {f"saxslab.{match['name']}": match["value"] for match in _PARAMETER.finditer(text)}
