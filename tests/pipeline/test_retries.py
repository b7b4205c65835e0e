"""Stages are tried again where time heals, and only there."""

import pytest
from prefect.client.schemas.objects import State, StateType

from dlsia_core.errors import ArrayError
from dlsia_core.training import TrainingDivergedError, TrainingTimeoutError
from tasks.errors import FrameReadError, SettingsError, StoreError
from tasks.stage import heals_with_time


@pytest.mark.parametrize("error", [OSError("disk"), ConnectionResetError(), TimeoutError("network"), MemoryError()])
def test_failures_of_disk_network_and_memory_heal(error):
    assert heals_with_time(None, None, State(type=StateType.FAILED, data=error))


@pytest.mark.parametrize(
    "error",
    [
        FrameReadError("an OSError too"),
        SettingsError(""),
        StoreError(""),
        ArrayError(""),
        TrainingTimeoutError("an OSError too: its time would be given once more"),
        TrainingDivergedError(""),
        KeyError("a bug"),
    ],
)
def test_bad_input_used_up_time_and_bugs_do_not(error):
    assert not heals_with_time(None, None, State(type=StateType.FAILED, data=error))
