"""Fixtures for tests of stages and flows.

write_frames   writes small, real CBF files whose pixels are known
ingest_all     surveys and ingests a source without a Prefect server, as the flow does
"""

from collections.abc import Callable
from pathlib import Path

import fabio.cbfimage
import numpy as np
import pytest

from tasks.ingest import enter_frames, ingest_batch, prepare_ingest
from tasks.settings.ingest import IngestSettings
from tasks.store import FrameState, ScanRef, ScanStore, open_store
from tasks.survey import survey_source
from tasks.workers import Workers

SHAPE = (48, 64)


def counts_of(number: int, shape: tuple[int, int] = SHAPE) -> np.ndarray:
    """Frame of a scan: Poisson counts with a vertical gap of -1 and a dead pixel of -2."""
    counts = np.random.default_rng(number).poisson(20.0, shape).astype("int32")
    counts[:, 30:33] = -1  # nothing in frames narrower than that
    counts[5, 6] = -2
    return counts


@pytest.fixture
def write_frames() -> Callable[..., list[Path]]:
    def write(folder: Path, numbers, shape=SHAPE, prefix="scan") -> list[Path]:
        folder.mkdir(parents=True, exist_ok=True)
        paths = [folder / f"{prefix}_{number}.cbf" for number in numbers]
        for number, path in zip(numbers, paths, strict=True):
            fabio.cbfimage.CbfImage(data=counts_of(number, shape)).write(str(path))
        return paths

    return write


@pytest.fixture
def ingest_all() -> Callable[..., ScanStore]:
    def ingest(source, store: Path, settings: IngestSettings = IngestSettings(batch_frames=16)) -> ScanStore:
        held = ScanStore(store).frames if store.exists() else None
        found = survey_source(str(source), held, settings.validity)
        scan: ScanRef = prepare_ingest(store, found, settings)
        with open_store(scan).writing():
            enter_frames(scan, found, str(source))
            while open_store(scan).frames.in_state(FrameState.PENDING):
                ingest_batch.fn(scan, settings, Workers(threads=2))
        return ScanStore(store)

    return ingest


@pytest.fixture
def expected() -> Callable[..., np.ndarray]:
    def stack(numbers, shape=SHAPE) -> np.ndarray:
        return np.array([counts_of(number, shape) for number in numbers], "int32").reshape(-1, *shape)

    return stack
