"""Text files that ALS beamline 7.3.3 writes beside its EDF frames."""

import re
from pathlib import Path

from tasks.readers.names import stem

_ENTRY = re.compile(r"(?P<name>[^=:]+?)\s*[=:]\s*(?P<value>.*)")
_LONGEST = 2**20


def parse_sidecar(text: str) -> dict[str, str]:
    """Entries under `sidecar.`: `key=value` (older files) or `name: value` (newer); bare numbers are counted from 1.

    >>> parse_sidecar("1455563.000\\nX=-80.998\\nScan_positions=\\nM1 Pitch: 131.75\\n")
    {'sidecar.1': '1455563.000', 'sidecar.X': '-80.998', 'sidecar.Scan_positions': '', 'sidecar.M1 Pitch': '131.75'}
    """
    values: dict[str, str] = {}
    n_bare = 0
    for line in filter(None, map(str.strip, text.splitlines())):
        if entry := _ENTRY.fullmatch(line):
            values[f"sidecar.{entry['name']}"] = entry["value"]
        else:
            n_bare += 1
            values[f"sidecar.{n_bare}"] = line
    return values


def sidecar_values(path: Path) -> dict[str, str]:
    """The entries of `name.txt` beside `name.edf` (or `name.edf.gz`); empty where there is no such file."""
    beside = path.with_name(stem(path) + ".txt")
    if not beside.is_file():
        return {}
    with beside.open("rb") as file:
        return parse_sidecar(file.read(_LONGEST).decode("latin-1"))
