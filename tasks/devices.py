"""The device that a stage computes on, and the right to use it."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from prefect.concurrency.sync import concurrency

from tasks.errors import SettingsError


@contextmanager
def device_slot(wanted: str) -> Iterator[torch.device]:
    """Yield the device for 'auto', 'cpu' or 'cuda'; hold the server's one `gpu` slot while a GPU is in use."""
    available = torch.cuda.is_available()
    if wanted == "cuda" and not available:
        raise SettingsError("device 'cuda' was asked for and this machine has none; give 'cpu' or 'auto'")
    if wanted == "cpu" or not available:
        yield torch.device("cpu")
        return
    # A short lease, so that the slot of a killed run is free again within a minute.
    with concurrency("gpu", occupy=1, lease_duration=60, strict=True):
        yield torch.device("cuda")
