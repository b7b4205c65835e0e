"""The server that is there while somebody needs it: real servers, real processes, kill -9."""

import json
import os
import signal
import subprocess
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from flows.embedded_server import ServedFlow, running_server, served_flow
from flows.server_api import Api
from flows.server_home import MARK, ServerError

pytestmark = pytest.mark.server

GRACE_S = 2.0
USE = f"""
import sys
from flows.embedded_server import running_server
with running_server(grace_s={GRACE_S}) as url:
    print(url, flush=True)
    {{body}}
"""


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("server") / "home"


@pytest.fixture(scope="module")
def start(home: Path, isolated: dict[str, str], python: list[str]) -> Iterator[Callable[..., "subprocess.Popen[str]"]]:
    started: list[subprocess.Popen[str]] = []

    def start_process(body: str, **environment: str) -> "subprocess.Popen[str]":
        process = subprocess.Popen(
            [*python, "-c", USE.format(body=body)],
            env=isolated | {"DLSIA_FLOWS_HOME": str(home)} | environment,
            cwd=home.parent,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        started.append(process)
        return process

    yield start_process
    for process in started:
        with process:
            process.kill()


@pytest.fixture(scope="module")
def url(start: Callable[..., "subprocess.Popen[str]"]) -> str:
    """Address of a server; two processes asked for it at the same moment, and both still use it."""
    users = [start("sys.stdin.read()") for _ in range(2)]
    addresses = {user.stdout.readline().strip() for user in users if user.stdout}
    assert len(addresses) == 1
    return addresses.pop()


def facts_of(home: Path) -> dict[str, Any]:
    return dict(json.loads((home / "server.json").read_text()))


def supervisors_of(home: Path) -> list[int]:
    """Pids of every supervisor and server process that has this home folder on its command line or as its directory."""
    found = []
    for folder in Path("/proc").iterdir():
        if not folder.name.isdecimal():
            continue
        try:
            words = (folder / "cmdline").read_bytes().decode().split("\0")
            directory = (folder / "cwd").readlink()
        except OSError:
            continue
        if ("flows.server_supervisor" in words or "flows.lifeline" in words) and directory == home:
            found.append(int(folder.name))
    return found


def runs(url: str, name: str) -> list[dict[str, Any]]:
    return list(Api(url).call("/flow_runs/filter", {"flows": {"name": {"any_": [name]}}, "sort": "START_TIME_DESC"}))


def test_two_processes_at_once_get_one_server(url: str, home: Path) -> None:
    assert facts_of(home)["url"] == url
    assert sorted(supervisors_of(home)) == sorted([facts_of(home)["pid"], facts_of(home)["supervisor"]])
    assert len(list((home / "users").iterdir())) == 2


def test_a_flow_called_in_plain_python_is_recorded_with_every_task_run(
    url: str, start: Callable[..., "subprocess.Popen[str]"], until: Callable[..., None]
) -> None:
    user = start("from standin_flows import add_up, nested; print(add_up(60), nested())")
    output, _ = user.communicate(timeout=60)
    assert output.split() == [url, str(sum(range(60))), str(1 + 3)]
    (top, *_) = [run for run in runs(url, "add-up") if run["parent_task_run_id"] is None]
    assert top["state_type"] == "COMPLETED"
    counted = {"task_runs": {"flow_run_id": {"any_": [top["id"]]}, "state": {"type": {"any_": ["COMPLETED"]}}}}
    until(lambda: Api(url).call("/task_runs/count", counted) == 60, 15, "all 60 task runs are recorded as completed")


def test_paths_are_taken_where_a_deployment_has_text(url: str, start: Callable[..., "subprocess.Popen[str]"]) -> None:
    user = start(
        "from pathlib import Path; from standin_flows import joined; "
        "print(joined(Path('/a'), others=[Path('/b'), '/c']), joined('/d', []))"
    )
    output, _ = user.communicate(timeout=60)
    assert output.split() == [url, "/a,/b,/c", "/d"]


def test_kill_9_of_a_process_marks_its_run_crashed_though_others_use_the_server(
    url: str, home: Path, start: Callable[..., "subprocess.Popen[str]"], until: Callable[..., None]
) -> None:
    user = start("from standin_flows import sleeping; sleeping(60.0)")
    until(lambda: runs(url, "sleeping"), 30, "the run is made")  # Pending: it must not stay so for ever
    user.send_signal(signal.SIGKILL)
    user.wait()
    until(lambda: runs(url, "sleeping")[0]["state_type"] == "CRASHED", 10, "the run is marked as crashed")
    assert f"(pid {user.pid}) died. Start it again" in runs(url, "sleeping")[0]["state"]["message"]
    assert len(list((home / "users").iterdir())) == 2


def test_kill_9_before_a_run_has_told_its_identifier(
    url: str, start: Callable[..., "subprocess.Popen[str]"], until: Callable[..., None]
) -> None:
    body = (
        "from prefect import get_client; from prefect.settings import temporary_settings\n"
        "    from flows.embedded_server import _used_server; from standin_flows import sleeping\n"
        "    with (_used_server(2) as used, temporary_settings({'api.url': used.url}),"
        "            get_client(sync_client=True) as c):\n"
        "        used.note('name early-death'); c.create_flow_run(sleeping, name='early-death'); sys.stdin.read()"
    )
    user = start(body)
    until(lambda: Api(url).runs_named("early-death"), 30, "the run is made")
    user.kill()
    (early,) = Api(url).runs_named("early-death")
    until(lambda: Api(url).call(f"/flow_runs/{early}")["state_type"] == "CRASHED", 10, "the run is marked as crashed")


def test_a_server_that_was_killed_is_started_again_at_its_address(
    url: str, home: Path, until: Callable[..., None]
) -> None:
    pid = facts_of(home)["pid"]
    os.kill(pid, signal.SIGKILL)
    until(lambda: facts_of(home)["pid"] != pid and Api(url).is_healthy(), 40, "another server answers at the address")


def test_a_supervisor_that_was_killed_is_started_again_by_who_uses_the_server(
    url: str, home: Path, until: Callable[..., None]
) -> None:
    """The server goes with it; both users see that, and one of them starts both again at the address."""
    before = facts_of(home)
    os.kill(before["supervisor"], signal.SIGKILL)
    until(lambda: facts_of(home)["supervisor"] != before["supervisor"], 60, "another supervisor")
    until(Api(url).is_healthy, 40, "another server answers at the address")
    assert facts_of(home)["url"] == url
    until(lambda: len(supervisors_of(home)) == 2, 10, "the old server is gone, and one pair is left")


def test_pages_of_the_ui_ask_the_server_that_they_come_from(url: str) -> None:
    """They asked whatever was on port 4200."""
    with urllib.request.urlopen(url.removesuffix("/api") + "/ui-settings") as answer:
        assert json.load(answer)["api_url"] == url


def test_a_web_page_from_elsewhere_can_change_nothing(url: str) -> None:
    """It may not POST without a CSRF token, and cannot read one, because no other origin is allowed to."""
    request = urllib.request.Request(f"{url}/flow_runs/filter", data=b"{}", headers={"Origin": "http://evil.example"})
    with pytest.raises(urllib.error.HTTPError, match="403"):
        urllib.request.urlopen(request)
    token = urllib.request.Request(f"{url}/csrf-token?client=evil", headers={"Origin": "http://evil.example"})
    with urllib.request.urlopen(token) as answer:
        assert "Access-Control-Allow-Origin" not in answer.headers


def test_a_left_over_pointer_file_does_no_harm(
    url: str, home: Path, start: Callable[..., "subprocess.Popen[str]"]
) -> None:
    left_over = home.parent / "prefect.toml"
    left_over.write_text(f'{MARK}\n[api]\nurl = "http://127.0.0.1:1/api"\n')
    try:
        output, _ = start("from standin_flows import add_up; print(add_up(2))").communicate(timeout=60)
    finally:
        left_over.unlink()
    assert output.split() == [url, "1"]


def test_a_named_server_that_does_not_answer_is_an_error_and_not_replaced(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from prefect.settings import temporary_settings

    monkeypatch.setenv("DLSIA_FLOWS_HOME", str(tmp_path / "home"))
    with (
        temporary_settings({"api.url": "http://127.0.0.1:1/api"}),
        pytest.raises(ServerError, match=r"http://127.0.0.1:1/api does not answer .* the address comes from"),
        running_server(),
    ):
        pass


def test_a_named_server_is_used(url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from prefect.settings import temporary_settings

    monkeypatch.setenv("DLSIA_FLOWS_HOME", str(tmp_path / "home"))
    with temporary_settings({"api.url": url}), running_server() as used:
        assert used == url
    assert not (tmp_path / "home" / "server.json").exists()


def test_the_server_stops_after_its_last_user_was_killed_and_leaves_nothing_behind(
    home: Path, url: str, start: Callable[..., "subprocess.Popen[str]"], until: Callable[..., None]
) -> None:
    last = start("sys.stdin.read()")
    assert last.stdout
    last.stdout.readline()
    for file in (home / "users").iterdir():
        os.kill(int(file.name.partition("-")[0]), signal.SIGKILL)
    assert Api(url).is_healthy()
    until(lambda: not supervisors_of(home), GRACE_S + 15, "no process of the server is left")
    assert not (home / "server.json").exists()
    assert list((home / "users").iterdir()) == []


def test_a_served_flow_is_a_prefect_flow_with_its_form() -> None:
    @served_flow(name="triple", flow_run_name="triple {number}", retries=1)
    def triple(number: int = 2) -> int:
        """Triple.

        Args:
            number: What is tripled.
        """
        return 3 * number

    assert isinstance(triple, ServedFlow)
    assert (triple.name, triple.retries, triple.fn(5)) == ("triple", 1, 15)
    assert triple.parameters.properties["number"] == {
        "default": 2, "description": "What is tripled.", "position": 0, "title": "number", "type": "integer"
    }  # fmt: skip


def test_a_coroutine_is_refused() -> None:
    async def wait() -> None: ...

    with pytest.raises(TypeError, match="flow 'wait' is a coroutine or a generator"):
        served_flow(name="wait")(wait)
