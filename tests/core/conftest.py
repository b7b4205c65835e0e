"""Fixtures for the tests of dlsia_core.

one_thread   torch computes on one thread
"""

from collections.abc import Iterator

import pytest
import torch


@pytest.fixture(scope="module")
def one_thread() -> Iterator[None]:
    """For small networks: threads that wait for each other on busy cores make them thirty times slower."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)
