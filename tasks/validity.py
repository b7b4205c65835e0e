"""Validity: another rule than the one a store was made with gives `valid` (frame, y, x) beside the first one."""

from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from tasks.errors import StoreError
from tasks.ingest import own_settings, valid_ref
from tasks.readers import HeaderFacts, ValidityRule, check_rule, valid_pixels
from tasks.settings.ingest import IngestSettings
from tasks.stage import RunPlan, StageRun, place, run_shards, stage_task
from tasks.store import ArrayRef, ArraySpec, FrameRange, ScanRef, ScanStore, open_store
from tasks.workers import Workers

VERSION = 1


def other_rule(scan: ScanRef, settings: IngestSettings) -> dict[str, Any]:
    """The rule of validity as a run's settings hold it, where it is not the store's own; else nothing."""
    if settings == own_settings(scan, settings):
        return {}
    return {"validity": settings.validity.model_dump(mode="json")}


def refuse_other_rule(path: Path, settings: IngestSettings) -> None:
    """Raise `StoreError` where a store, if there is one, was made with another rule of validity."""
    if not (path / "zarr.json").exists():
        return
    scan = ScanRef(str(path))
    if other_rule(scan, settings):
        held = own_settings(scan, settings).validity.model_dump(mode="json")
        raise StoreError(
            f"{path} was made with ingest.validity = {held}; for another rule give another output folder, or as source "
            "a store that process_scan has filled under that rule"
        )


def place_valid(plan: RunPlan, counts: ArrayRef, settings: IngestSettings) -> ArrayRef:
    """The array that holds the rule's answer: what ingest writes, or one beside it, which `validity_batch` fills."""
    if not other_rule(plan.scan, settings):
        return valid_ref(plan.scan, settings)
    shape = tuple(open_store(plan.scan).attributes["frame_shape"])
    check_rule(settings.validity, shape)
    attributes = {"long_name": "True where measured"}
    spec = ArraySpec("valid", shape, ("y", "x"), "bool", False, "lz4", attributes)
    stage = {"stage": "validity", "version": VERSION, "settings": settings.validity.model_dump(mode="json")}
    [valid] = place(plan, [spec], stage, [counts])
    return valid


@stage_task("validity")
def validity_batch(
    frames: FrameRange, counts: ArrayRef, valid: ArrayRef, rule: ValidityRule, workers: Workers
) -> StageRun:
    """Apply a rule to the stored counts and to what the ledger holds of their headers; no file is read again."""
    return run_shards([valid], frames, _Validate(counts.path, rule), workers)


@dataclass(frozen=True)
class _Validate:
    counts: str
    rule: ValidityRule

    def __call__(self, store: ScanStore, start: int, stop: int) -> list[npt.NDArray[Any]]:
        counts = store.read(self.counts, start, stop)
        records = store.frames.ingested[start:stop]
        valid = np.empty(counts.shape, bool)
        for row, (frame, record) in enumerate(zip(counts, records, strict=True)):
            valid[row] = valid_pixels(frame, _facts(record.header.get("facts", {})), self.rule)
        return [valid]


def _facts(known: dict[str, Any]) -> HeaderFacts:
    names = {one.name for one in fields(HeaderFacts)}
    return HeaderFacts(**{name: value for name, value in known.items() if name in names})
