"""The device that a stage computes on, and the right to use it."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from prefect.concurrency.sync import concurrency

from tasks.errors import SettingsError

_cpu = threading.Lock()


def check_device(wanted: str) -> None:
    """Raise `SettingsError` for a device that this machine does not have."""
    if wanted == "cuda" and not torch.cuda.is_available():
        raise SettingsError("device 'cuda' was asked for and this machine has none; give 'cpu' or 'auto'")


@contextmanager
def device_slot(wanted: str) -> Iterator[torch.device]:
    """Yield the device for 'auto', 'cpu' or 'cuda'; hold the server's one `gpu` slot while a GPU is in use."""
    check_device(wanted)
    if wanted == "cpu" or not torch.cuda.is_available():
        # One network at a time: torch uses all cores for it, and two would need twice the memory.
        with _cpu:
            yield torch.device("cpu")
        return
    # A short lease, so that the slot of a killed run is free again within a minute.
    with concurrency("gpu", occupy=1, lease_duration=60, strict=True):
        yield torch.device("cuda")
