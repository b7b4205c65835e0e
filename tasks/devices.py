"""The device that a stage computes on, and the right to use it."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import torch
from prefect import get_client
from prefect.client.schemas.actions import GlobalConcurrencyLimitCreate
from prefect.concurrency.sync import concurrency
from prefect.exceptions import ObjectAlreadyExists, ObjectNotFound

from tasks.errors import SettingsError

GPU_LIMIT = "gpu"
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
    with gpu_slot():
        yield torch.device("cuda")


@contextmanager
def gpu_slot() -> Iterator[None]:
    """Hold the server's one `gpu` slot; a server that has none yet, as that of a plain Python call, gets it."""
    with get_client(sync_client=True) as client:
        try:
            client.read_global_concurrency_limit_by_name(GPU_LIMIT)
        except ObjectNotFound:
            with suppress(ObjectAlreadyExists):
                client.create_global_concurrency_limit(GlobalConcurrencyLimitCreate(name=GPU_LIMIT, limit=1))
    # A short lease, so that the slot of a killed run is free again within a minute.
    with concurrency(GPU_LIMIT, occupy=1, lease_duration=60, strict=True):
        yield
