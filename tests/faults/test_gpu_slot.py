"""The one GPU slot is free again when its holder was killed, even if the server was killed before it."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from flows.server_api import Api

pytestmark = [pytest.mark.server, pytest.mark.timeout(900)]

HOLD = """
import sys
from prefect.settings import temporary_settings
from flows.embedded_server import running_server
from tasks.devices import gpu_slot
with running_server() as url, temporary_settings({"api.url": url}):
    print("asks", flush=True)
    with gpu_slot():
        print("holds", flush=True)
        sys.stdin.read()
"""


def test_the_slot_of_a_killed_holder_is_free_again(
    tmp_path: Path, within: Callable[..., None], tally: Any, lives: Callable[[int], bool]
) -> None:
    environment = {key: value for key, value in os.environ.items() if not key.startswith(("PREFECT_", "DLSIA_FLOWS_"))}
    environment |= {"DLSIA_FLOWS_HOME": str(tmp_path / "home"), "DLSIA_FLOWS_PORT": "0"}
    environment["PYTHONPATH"] = str(Path(__file__).parents[2])

    def start() -> "subprocess.Popen[str]":
        command = [sys.executable, "-W", "ignore", "-c", HOLD]
        return subprocess.Popen(
            command, env=environment, cwd=tmp_path, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )

    def says(process: "subprocess.Popen[str]") -> str:
        assert process.stdout
        return process.stdout.readline().strip()

    with start() as first:
        assert [says(first), says(first)] == ["asks", "holds"]
        server = json.loads((tmp_path / "home" / "server.json").read_text())
        os.kill(server["pid"], signal.SIGKILL)
        within(120, lambda: not lives(server["pid"]) and Api(server["url"]).is_healthy(), "the server is back")
        with start() as second:
            assert says(second) == "asks"
            held = Api(server["url"]).call("/v2/concurrency_limits/gpu")
            assert held["active_slots"] == 1, "the slot is still held, and nobody else gets it"
            first.kill()
            assert says(second) == "holds", "a lease of 60 s ends with its holder"
            tally.add("kill -9 holder of the GPU", stuck=0, identical=1)
            second.kill()
