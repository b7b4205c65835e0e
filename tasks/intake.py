"""Take in the frames of one detector file: read, verify, mark what was measured, or refuse with a reason."""

import time
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import google_crc32c
import numpy as np
import numpy.typing as npt

from tasks.errors import FrameReadError
from tasks.readers import Frame, FrameFile, HeaderFacts, frame_number, header_facts, open_file, valid_pixels
from tasks.settings.ingest import IngestSettings
from tasks.store import FrameRecord, FrameState
from tasks.store.ledger import FrameLedger
from tasks.survey import UNREADABLE

READ_PAUSES_S = (0.1, 0.2, 0.4)
"""Waits before a file is asked for again."""


def read_file(
    records: Sequence[FrameRecord],
    counts: npt.NDArray[Any],
    valid: npt.NDArray[np.bool_],
    settings: IngestSettings,
    ledger: FrameLedger,
) -> list[FrameRecord]:
    """Read the frames of one file into `counts` and `valid` (frame, y, x); return how it went for each.

    What a network file system does not give out at once is asked for again; what it never gives out is refused.
    """
    for pause_s in (*READ_PAUSES_S, None):
        try:
            with open_file(Path(records[0].file)) as file:
                return [
                    _read_frame(file, record, counts[row], valid[row], settings, ledger)
                    for row, record in enumerate(records)
                ]
        except FrameReadError as error:
            return [_refused(record, str(error)) for record in records]
        except OSError as error:
            if pause_s is None or isinstance(error, FileNotFoundError):
                return [_refused(record, f"{UNREADABLE}: {error}") for record in records]
            time.sleep(pause_s)
    raise AssertionError("the last attempt returns")


def _read_frame(
    file: FrameFile,
    record: FrameRecord,
    counts: npt.NDArray[Any],
    valid: npt.NDArray[np.bool_],
    settings: IngestSettings,
    ledger: FrameLedger,
) -> FrameRecord:
    try:
        frame = file.read(record.index)
        if (frame.counts.shape, frame.counts.dtype) != (counts.shape, counts.dtype):
            raise FrameReadError(
                f"{record.file}: is {frame.counts.shape} {frame.counts.dtype} now, "
                f"and was {counts.shape} {counts.dtype} when the scan was surveyed"
            )
    except FrameReadError as error:
        return _refused(record, str(error))
    for earlier in ledger.with_content(file.sha256, record.index):
        if Path(earlier.file).name == Path(record.file).name and not Path(earlier.file).exists():
            return replace(record, state=FrameState.DOUBLE, reason=f"frame {earlier.frame}, moved from {earlier.file}")
    facts = header_facts(frame.header)
    counts[...] = frame.counts
    valid[...] = valid_pixels(frame.counts, facts, settings.validity)
    return replace(
        record,
        state=FrameState.INGESTED,
        sha256=file.sha256,
        crc32c=checksum(counts),
        invalid_pixels=int(valid.size - np.count_nonzero(valid)),
        header=_header_of(frame, file, facts, record),
        size_bytes=file.peek.size_bytes,
        mtime_ns=file.peek.mtime_ns,
    )


def checksum(counts: npt.NDArray[Any]) -> int:
    """CRC-32C of a frame's pixels in their own type and byte order, row by row."""
    return int(google_crc32c.value(np.ascontiguousarray(counts).ravel()))


def _header_of(frame: Frame, file: FrameFile, facts: HeaderFacts, record: FrameRecord) -> dict[str, Any]:
    number = frame_number(Path(record.file)) if file.peek.n_frames == 1 else record.index
    known = {key: value for key, value in asdict(facts).items() if value is not None}
    return {
        "n_frames_in_file": file.peek.n_frames,
        "facts": {**known, "frame_number": -1 if number is None else number},
        "header": dict(frame.header),
    }


def _refused(record: FrameRecord, reason: str) -> FrameRecord:
    return replace(record, state=FrameState.QUARANTINED, reason=reason)
