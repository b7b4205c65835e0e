"""A run that starts as a copy of the prepared process does what a fresh Python does, and ends with whoever wants it."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

STARTER = Path(__file__).parents[2] / "deployments" / "start_prepared.py"
PROBE = """
import json, os, signal, sys, time
action, *rest = sys.argv[1:]
if action == "facts":
    print(json.dumps({"name": __name__, "rest": rest, "folder": os.getcwd(), "run": os.environ.get("PREFECT__RUN"),
                      "input": sys.stdin.read(), "prepared": "deployments.prepared" in sys.modules}))
elif action == "exit":
    sys.exit(int(rest[0]))
elif action == "fail":
    raise RuntimeError("on purpose")
elif action == "sleep":
    with open(rest[0], "w") as file:
        file.write(str(os.getpid()))
    time.sleep(60)
"""


@pytest.fixture
def environment(tmp_path: Path, isolated: dict[str, str]) -> dict[str, str]:
    (tmp_path / "probe.py").write_text(PROBE)
    return isolated | {"PYTHONPATH": os.pathsep.join([isolated["PYTHONPATH"], str(tmp_path)])}


@pytest.fixture
def address(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return Path(tmp_path_factory.mktemp("s")) / "prepared"


@pytest.fixture
def prepared(address: Path, environment: dict[str, str]) -> Iterator["subprocess.Popen[bytes]"]:
    code = f"from pathlib import Path; from deployments.prepared import main; main(Path({str(address)!r}), ('tasks',))"
    with subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, env=environment) as process:
        wait_for(address.exists)
        yield process
        process.kill()


def wait_for(happened: Callable[[], object], seconds: float = 20.0) -> None:
    end = time.monotonic() + seconds
    while not happened():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.02)


def start(address: Path, environment: dict[str, str], *command: str, **options: object) -> "subprocess.Popen[str]":
    words = [sys.executable, "-S", str(STARTER), str(address), "probe", *command]
    streams = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    return subprocess.Popen(words, env=environment, text=True, **streams, **options)


def sleeper(address: Path, environment: dict[str, str], file: Path) -> tuple["subprocess.Popen[str]", int]:
    process = start(address, environment, "sleep", str(file))
    wait_for(lambda: file.exists() and file.read_text())
    return process, int(file.read_text())


def alive(pid: int) -> bool:
    try:
        return "Z" not in Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return False


def test_a_copy_runs_a_module_as_python_does(prepared, address, environment, tmp_path) -> None:
    with start(address, environment | {"PREFECT__RUN": "7"}, "facts", "a", "b c", cwd=tmp_path) as process:
        out, err = process.communicate("typed in", timeout=20)
    assert (process.returncode, err) == (0, "")
    facts = f'"rest": ["a", "b c"], "folder": "{tmp_path}", "run": "7", "input": "typed in", "prepared": true'
    assert out == f'{{"name": "__main__", {facts}}}\n'


@pytest.mark.parametrize(("command", "status"), [(("exit", "0"), 0), (("exit", "3"), 3), (("fail",), 1)])
def test_its_exit_status_comes_back(prepared, address, environment, command, status) -> None:
    with start(address, environment, *command) as process:
        _, err = process.communicate(timeout=20)
    assert process.returncode == status
    assert ("RuntimeError: on purpose" in err) == (command == ("fail",))


def test_a_signal_reaches_the_copy(prepared, address, environment, tmp_path) -> None:
    process, pid = sleeper(address, environment, tmp_path / "pid")
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=20)
    assert process.returncode == -signal.SIGTERM
    assert not alive(pid)


@pytest.mark.parametrize("victim", ["starter", "prepared"])
def test_a_copy_does_not_outlive_its_starter_or_the_prepared_process(
    prepared, address, environment, tmp_path, victim
) -> None:
    process, pid = sleeper(address, environment, tmp_path / "pid")
    (process if victim == "starter" else prepared).kill()
    process.communicate(timeout=20)
    wait_for(lambda: not alive(pid))
    assert process.returncode == (-signal.SIGKILL if victim == "starter" else 1)


def test_one_that_is_killed_leaves_the_others_alone(prepared, address, environment, tmp_path) -> None:
    first, first_pid = sleeper(address, environment, tmp_path / "first")
    second, second_pid = sleeper(address, environment, tmp_path / "second")
    os.kill(first_pid, signal.SIGKILL)
    first.communicate(timeout=20)
    assert first.returncode == -signal.SIGKILL
    assert alive(second_pid)
    second.kill()
    second.communicate(timeout=20)


def test_another_environment_starts_python_anew(prepared, address, environment) -> None:
    with start(address, environment | {"OMP_NUM_THREADS": "1"}, "facts") as process:
        out, err = process.communicate("", timeout=20)
    assert '"prepared": false' in out
    assert err == "starting Python anew: the environment differs from the prepared process's in OMP_NUM_THREADS\n"


def test_changed_sources_start_python_anew_and_are_read(address, environment, tmp_path) -> None:
    module = tmp_path / "flows_of_another" / "flows" / "__init__.py"
    module.parent.mkdir(parents=True)
    module.write_text("")
    own = environment | {"PYTHONPATH": os.pathsep.join([str(module.parents[1]), environment["PYTHONPATH"]])}
    code = f"from pathlib import Path; from deployments.prepared import main; main(Path({str(address)!r}), ('flows',))"
    here = tmp_path  # Python looks for modules in the working directory first
    with subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, env=own, cwd=here) as prepared:
        wait_for(address.exists)
        module.write_text("CHANGED = True")
        with start(address, own, "facts") as process:
            out, err = process.communicate("", timeout=20)
        assert err == f"starting Python anew: {module} has changed since the prepared process read it\n"
        assert '"prepared": false' in out

        def is_fresh() -> bool:
            with start(address, own, "facts") as process:
                return '"prepared": true' in process.communicate("", timeout=20)[0]

        wait_for(is_fresh)
        prepared.kill()


def test_without_a_prepared_process_python_starts_anew(address, environment) -> None:
    with start(address, environment, "exit", "5") as process:
        _, err = process.communicate(timeout=20)
    assert process.returncode == 5
    assert err.startswith(f"starting Python anew: no prepared process at {address}")


def test_it_ends_with_its_parent(prepared, address, environment, tmp_path) -> None:
    process, pid = sleeper(address, environment, tmp_path / "pid")
    prepared.stdin.close()
    assert prepared.wait(20) == 0
    wait_for(lambda: not alive(pid))
    process.communicate(timeout=20)
    assert process.returncode == 1
