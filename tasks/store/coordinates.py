"""Coordinates of the frame axis, made from the ledger, so that xarray shows names, numbers and times."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from tasks.store.ledger import FrameRecord

Coordinate = tuple[npt.NDArray[Any], dict[str, Any]]


def frame_coordinates(ingested: Sequence[FrameRecord], start: int) -> dict[str, Coordinate]:
    """Name to (values along frame from `start` on, attributes); row i belongs to row i of `counts`."""
    records = ingested[start:]
    facts = [record.header.get("facts", {}) for record in records]

    def texts(values: list[str]) -> npt.NDArray[Any]:
        return np.array(values, dtype=np.dtypes.StringDType())

    def numbers(key: str) -> npt.NDArray[Any]:
        return np.array([fact.get(key, np.nan) for fact in facts], dtype="float64")

    return {
        "frame": (
            np.arange(start, start + len(records)),
            {"long_name": "row in counts, in the order of ingest"},
        ),
        "frame_name": (texts([_name(record) for record in records]), {}),
        "frame_number": (
            np.array([fact.get("frame_number", -1) for fact in facts], dtype="int64"),
            {"long_name": "last number in the file's name; position in a file of several frames; -1: none"},
        ),
        "source_file": (texts([record.file for record in records]), {}),
        "source_index": (
            np.array([record.index for record in records], dtype="int64"),
            {"long_name": "position in the file"},
        ),
        "source_sha256": (texts([record.sha256 for record in records]), {}),
        "invalid_pixels": (np.array([record.invalid_pixels for record in records], dtype="int64"), {}),
        "exposure_time": (numbers("exposure_time_s"), {"units": "s"}),
        "timestamp": (
            texts([str(fact.get("timestamp") or "") for fact in facts]),
            {"long_name": "as recorded"},
        ),
        "header": (
            texts([json.dumps(record.header.get("header", {}), sort_keys=True) for record in records]),
            {"long_name": "everything the file's header says, as JSON"},
        ),
    }


def _name(record: FrameRecord) -> str:
    name = Path(record.file).name
    return f"{name}[{record.index}]" if record.header.get("n_frames_in_file", 1) > 1 else name
