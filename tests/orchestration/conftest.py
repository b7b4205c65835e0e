"""Fixtures for servers and workers: each test session has its own home folders and ports.

isolated     environment of a process that knows neither the developer's server nor this session's
standins     folder with a module of small flows under the names of the real ones, and a prefect.yaml for them
"""

import os
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

STANDIN_FLOWS = '''
import time
from pathlib import Path

from prefect import task

from flows.embedded_server import served_flow


@task
def number(value: int) -> int:
    return value


@served_flow(name="add-up")
def add_up(n: int = 3) -> int:
    """Add up.

    Args:
        n: How many numbers.
    """
    return sum(future.result() for future in number.map(range(n)))


@served_flow(name="joined")
def joined(folder: str, others: list[str]) -> str:
    return ",".join([folder, *others])


@served_flow(name="nested")
def nested() -> int:
    return add_up(2) + add_up(3)


@served_flow(name="sleeping")
def sleeping(seconds: float) -> None:
    time.sleep(seconds)


@served_flow(name="process-scan")
def process_scan(source: str, store: str, sleep_s: float = 0.0) -> str:
    time.sleep(sleep_s)
    Path(store).mkdir(parents=True, exist_ok=True)
    with (Path(store) / "runs").open("a") as file:
        file.write(f"{time.time()} {source}\\n")
    return store


@served_flow(name="follow-scan")
def follow_scan(source: str, store: str, process: bool, follow: dict) -> None:
    Path(store).mkdir(parents=True, exist_ok=True)
    with (Path(store) / "followed").open("a") as file:
        file.write(f"{time.time()} {source}\\n")
    time.sleep(2)
'''


@pytest.fixture(scope="session")
def standins(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("standins")
    (folder / "standin_flows.py").write_text(STANDIN_FLOWS)
    real = Path(__file__).parents[2] / "deployments" / "prefect.yaml"
    head, ingest, rest = real.read_text().partition("  - name: ingest-scan")
    assert ingest, "the deployment of ingest-scan has another name now"
    _, follow, rest = rest.partition("  - name: follow-scan")
    text = head + follow + rest
    for flow in ("process_scan", "follow_scan"):
        text = text.replace(f"flows.{flow}.{flow}", f"standin_flows.{flow}")
    (folder / "prefect.yaml").write_text(text)
    return folder


@pytest.fixture(scope="session")
def isolated(standins: Path) -> dict[str, str]:
    kept = {key: value for key, value in os.environ.items() if not key.startswith(("PREFECT_", "DLSIA_FLOWS_"))}
    root = str(Path(__file__).parents[2])
    return kept | {"DLSIA_FLOWS_PORT": "0", "PYTHONPATH": os.pathsep.join([root, str(standins)]), "DO_NOT_TRACK": "1"}


@pytest.fixture(scope="session")
def python() -> list[str]:
    return [sys.executable, "-W", "ignore"]


@pytest.fixture(scope="session")
def until() -> Callable[..., None]:
    def wait(condition: Callable[[], object], seconds: float, what: str) -> None:
        deadline = time.monotonic() + seconds
        while not condition():
            assert time.monotonic() < deadline, f"not within {seconds} s: {what}"
            time.sleep(0.1)

    return wait
