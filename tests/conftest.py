"""Fixtures for all tests.

real_frames   folder of published detector frames; tests that need it are skipped where it is absent
one_thread    torch computes on one thread: networks of a few weights lose time with more
"""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

settings.register_profile("default", deadline=None, max_examples=50, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("ci", parent=settings.get_profile("default"), derandomize=True)
settings.load_profile("ci" if os.environ.get("CI") else "default")

REPOSITORY = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="session")
def real_frames() -> Path:
    folder = Path(os.environ.get("REAL_FRAMES", REPOSITORY.parent / "shared" / "data"))
    if not folder.is_dir():
        pytest.skip(f"no real frames in {folder}; set REAL_FRAMES to a folder that holds them")
    return folder


@pytest.fixture
def one_thread() -> Iterator[None]:
    import torch  # takes seconds, and most tests do without

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)
