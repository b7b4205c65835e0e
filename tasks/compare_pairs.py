"""Which frame of a second scan is the second exposure of which frame of the first."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from tasks.errors import SettingsError
from tasks.readers.names import stem
from tasks.store.ledger import FrameRecord


@dataclass(frozen=True)
class Pairing:
    """Rows of the first scan to rows of the second, and by what they were found: name, number or order."""

    rule: str
    second_of: Mapping[int, int]


def pair_frames(first: Sequence[FrameRecord], second: Sequence[FrameRecord]) -> Pairing:
    """Pair the ingested frames of two scans: by file name where names recur, else by frame number, else in order.

    Names and numbers count where they are unique in both scans and at least one occurs in both; what then has no
    counterpart stays alone. Raises `SettingsError` where only the order is left and the scans are of unequal length.
    """
    for rule, key in (("name", _name), ("number", _number)):
        ours, theirs = ([key(record) for record in records] for records in (first, second))
        if _unique(ours) and _unique(theirs) and set(ours) & set(theirs):
            row_of = {name: row for row, name in enumerate(theirs)}
            return Pairing(rule, {row: row_of[name] for row, name in enumerate(ours) if name in row_of})
    if len(first) != len(second):
        raise SettingsError(
            f"the source has {len(first)} frames and second_exposure {len(second)}, and neither file names nor frame "
            "numbers say which belong together; give folders whose files are named or numbered alike"
        )
    return Pairing("order", {row: row for row in range(len(first))})


def _name(record: FrameRecord) -> object:
    return stem(Path(record.file)), record.index


def _number(record: FrameRecord) -> object:
    number = record.header.get("facts", {}).get("frame_number", -1)
    return None if number < 0 else number


def _unique(keys: Sequence[object]) -> bool:
    return None not in keys and len(set(keys)) == len(keys)
