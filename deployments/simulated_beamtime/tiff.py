"""TIFF as PILATUS detectors write it: the directory at byte 130, the data at byte 4096, the text as description."""

import struct
from datetime import datetime

import numpy as np
from numpy.typing import NDArray

_DIRECTORY_AT, _DATA_AT = 130, 4096  # readers recognise a PILATUS TIFF by the first number
_ASCII, _SHORT, _LONG, _RATIONAL = 2, 3, 4, 5


def encode_tiff(counts: NDArray[np.int32], text: str, model: str, taken_at: datetime) -> bytes:
    """The whole file, little-endian, one strip; `counts` (y, x) int32, `text` and `model` ASCII.

    >>> content = encode_tiff(np.zeros((2, 3), np.int32), "# Tau = 0 s", "PILATUS", datetime(2026, 1, 15))
    >>> content[:6], len(content)
    (b'II*\\x00\\x82\\x00', 4120)
    """
    strings = {
        270: text.encode("ascii") + b"\0",
        272: model.encode("ascii") + b"\0",
        305: b"TVX TIFF v 1.3\0",
        306: f"{taken_at:%Y:%m:%d %H:%M:%S}\0".encode("ascii"),
    }
    resolution = struct.pack("<II", 100_000, 1720)  # pixels of 172 um, per centimetre
    numbers = {
        254: (_LONG, 0),
        256: (_LONG, counts.shape[1]),
        257: (_LONG, counts.shape[0]),
        258: (_SHORT, 32),
        259: (_SHORT, 1),
        262: (_SHORT, 1),
        273: (_LONG, _DATA_AT),
        277: (_SHORT, 1),
        278: (_LONG, counts.shape[0]),
        279: (_LONG, counts.nbytes),
        296: (_SHORT, 3),
        339: (_SHORT, 2),
    }
    blobs = {tag: (_ASCII, len(value), value) for tag, value in strings.items()}
    blobs |= dict.fromkeys((282, 283), (_RATIONAL, 1, resolution))
    entries = [struct.pack("<HHII", tag, kind, 1, value) for tag, (kind, value) in numbers.items()]
    n_entries = len(numbers) + len(blobs)
    stored = bytearray()
    for tag, (kind, count, value) in blobs.items():
        # 2 bytes for the number of entries, 12 each, 4 for "no further directory", then the blobs
        place = _DIRECTORY_AT + 2 + 12 * n_entries + 4 + len(stored)
        entries.append(struct.pack("<HHII", tag, kind, count, place))
        stored += value + bytes(-len(value) % 2)
    ordered = sorted(entries, key=_tag)
    directory = struct.pack("<H", n_entries) + b"".join(ordered) + bytes(4) + stored
    header = (b"II*\0" + struct.pack("<I", _DIRECTORY_AT)).ljust(_DIRECTORY_AT, b"\0") + directory
    if len(header) > _DATA_AT:
        raise ValueError(f"the header takes {len(header)} bytes, {_DATA_AT} are allowed; shorten the text")
    return header.ljust(_DATA_AT, b"\0") + counts.astype("<i4", copy=False).tobytes()


def _tag(entry: bytes) -> int:
    return int.from_bytes(entry[:2], "little")
