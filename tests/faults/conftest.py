"""Faults on purpose: what is killed, damaged, full or twice, and what became of the frames.

FAULTS=SEED:TRIALS chooses the seed and how many kills there are (default 0:108). The table at the end names both; it is
written to `run/faults.txt`, too.

chain         number of a scan that is killed several times
chance        a generator of random numbers for this test, from the seed and the test's name
trials        how many runs are to be killed in all
tally         takes what came of each trial, for the table
flow_runs     and other fixtures of `tests/pipeline`
small_disk    makes a small file system of its own; the test is skipped where that is not allowed
lives         whether a process is there and not a zombie
within        waits for something that has to come
"""

import importlib.util
import os
import random
import subprocess
import time
import zlib
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

SEED, TRIALS = (int(part) for part in (os.environ.get("FAULTS") or "0:108").split(":"))
FLOW_SHARE, KILLS_PER_CHAIN = 0.8, 6
"""What part of the kills hits the process of a flow, and how often one scan is hit."""
PARTS = 2
"""Classes of tests that share the chains of kills, so that two processes may."""
LONGEST = ("test_kill_flow", "test_kill_services")
COLUMNS = ("trials", "lost", "doubled", "stuck", "identical", "quarantined", "untold")
TABLE = Path(__file__).resolve().parents[2] / "run" / "faults.txt"

_spec = importlib.util.spec_from_file_location("pipeline_fixtures", Path(__file__).parents[1] / "pipeline/conftest.py")
assert _spec
assert _spec.loader
_pipeline = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(_pipeline)
flow_runs, small, tree, write_scan = (getattr(_pipeline, name) for name in ("flow_runs", "small", "tree", "write_scan"))


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "chain" in metafunc.fixturenames:
        share = round(TRIALS * FLOW_SHARE)
        assert metafunc.cls
        metafunc.parametrize("chain", range(-(-share // KILLS_PER_CHAIN))[metafunc.cls.part :: PARTS])


def pytest_itemcollected(item: pytest.Item) -> None:
    item.add_marker(pytest.mark.faults)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with what takes longest."""
    items.sort(key=lambda item: LONGEST.index(item.path.stem) if item.path.stem in LONGEST else len(LONGEST))


@dataclass
class Tally:
    """How many trials of each kind of fault ended how."""

    rows: dict[str, Counter[str]] = field(default_factory=dict)

    def add(self, kind: str, **found: int) -> None:
        """Count one trial, or as many as `trials` says."""
        assert found.keys() <= set(COLUMNS)
        self.rows.setdefault(kind, Counter()).update({"trials": 1} | found)

    def table(self) -> str:
        width = max(map(len, [*self.rows, "fault"]))
        lines = [f"faults, seed {SEED}, {TRIALS} kills (FAULTS={SEED}:{TRIALS})"]
        lines.append(f"{'fault':<{width}}" + "".join(f"{name:>13}" for name in COLUMNS))
        total = sum(self.rows.values(), Counter())
        for kind, found in [*self.rows.items(), ("all", total)]:
            lines.append(f"{kind:<{width}}" + "".join(f"{found[name]:>13}" for name in COLUMNS))
        lines += [
            "identical: frames and results are those of the undisturbed run, to the bit",
            "untold: wrong values that the format cannot tell, because it has no checksum of them",
        ]
        return "\n".join(lines)


_tally = Tally()


def pytest_sessionfinish(session: pytest.Session) -> None:
    """A process that runs a part of the tests hands its part of the table to the one that started it."""
    if output := getattr(session.config, "workeroutput", None):
        output["faults"] = {kind: dict(row) for kind, row in _tally.rows.items()}


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any) -> None:
    for kind, row in getattr(node, "workeroutput", {}).get("faults", {}).items():
        _tally.rows.setdefault(kind, Counter()).update(row)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    if _tally.rows:
        TABLE.parent.mkdir(exist_ok=True)
        TABLE.write_text(_tally.table() + "\n")
        terminalreporter.section("faults")
        terminalreporter.write_line(_tally.table())


@pytest.fixture(scope="session")
def tally() -> Tally:
    return _tally


@pytest.fixture(scope="session")
def trials() -> int:
    return TRIALS


@pytest.fixture
def chance(request: pytest.FixtureRequest) -> random.Random:
    return random.Random(SEED * 2**32 + zlib.crc32(request.node.name.encode()))


@pytest.fixture(scope="session")
def lives() -> Callable[[int], bool]:
    def is_there(process: int) -> bool:
        try:
            return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
        except (FileNotFoundError, ProcessLookupError):
            return False

    return is_there


@pytest.fixture(scope="session")
def within() -> Callable[..., None]:
    def wait(seconds: float, condition: Callable[[], object], what: str) -> None:
        deadline = time.monotonic() + seconds
        while not condition():
            assert time.monotonic() < deadline, f"not within {seconds} s: {what}"
            time.sleep(0.1)

    return wait


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Callable[..., Path]]:
    mounted: list[Path] = []

    def mount(size_kib: int) -> Path:
        folder = tmp_path / f"disk{len(mounted)}"
        folder.mkdir()
        command = ["mount", "-t", "tmpfs", "-o", f"size={size_kib}k", "tmpfs", str(folder)]
        done = subprocess.run(command, capture_output=True, text=True)
        if done.returncode:
            pytest.skip(
                f"a small file system cannot be mounted: {done.stderr.strip()}; it takes root and CAP_SYS_ADMIN"
            )
        mounted.append(folder)
        return folder

    yield mount
    for folder in mounted:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)
