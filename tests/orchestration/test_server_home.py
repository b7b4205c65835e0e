"""Home folder, locks, ports, the pointer file for Prefect's command line, and when a server is no longer needed."""

import os
import signal
import socket
import stat
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flows.server_home import (
    MARK,
    ServerError,
    announce,
    client_environment,
    home_folder,
    is_announced,
    is_locked,
    locked,
    project_folder,
    registered_user,
    server_address,
    server_environment,
    wanted_port,
    withdraw,
    write_json,
)
from flows.server_supervisor import DRAIN_LIMIT_S, Countdown


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("DLSIA_FLOWS_HOME", str(tmp_path / "home"))
    return home_folder()


def test_the_home_folder_is_closed_to_other_users(home: Path) -> None:
    for folder in (home, home / "users", home / "prefect"):
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700


def test_a_home_folder_that_others_may_enter_is_refused(home: Path) -> None:
    home.chmod(0o755)
    with pytest.raises(ServerError, match=r"other users may enter the home folder .*; run: chmod 700"):
        home_folder()


def test_in_a_checkout_the_home_folder_is_in_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("DLSIA_FLOWS_HOME", raising=False)
    root = Path(__file__).parents[2]
    assert project_folder() == root
    assert home_folder() == root / ".home"


def test_a_lock_is_free_again_after_kill_9_of_its_holder(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    code = (
        "import sys, time; from pathlib import Path; from flows.server_home import locked\n"
        "with locked(Path(sys.argv[1])): print('held', flush=True); time.sleep(60)"
    )
    holder = subprocess.Popen([sys.executable, "-c", code, str(path)], stdout=subprocess.PIPE, text=True)
    assert holder.stdout
    with holder, holder.stdout:
        assert holder.stdout.readline() == "held\n"
        assert is_locked(path)
        holder.send_signal(signal.SIGKILL)
    assert not is_locked(path)


def test_a_user_leaves_no_file_and_its_runs_can_be_read_meanwhile(home: Path) -> None:
    with registered_user(home) as note:
        (file,) = (home / "users").iterdir()
        note("run-1")
        note("run-2")
        assert is_locked(file)
        assert file.read_text().split() == ["run-1", "run-2"]
        assert file.name.startswith(f"{os.getpid()}-")
    assert list((home / "users").iterdir()) == []


def test_asking_for_a_lock_makes_no_file(tmp_path: Path) -> None:
    assert not is_locked(tmp_path / "absent")
    assert list(tmp_path.iterdir()) == []


def test_an_address_without_a_living_supervisor_is_not_believed(home: Path) -> None:
    write_json(home / "server.json", {"url": "http://127.0.0.1:1/api"})
    assert server_address(home) is None
    with locked(home / "server.lock"):
        assert server_address(home) == "http://127.0.0.1:1/api"


def test_a_port_that_was_asked_for_and_is_taken_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        monkeypatch.setenv("DLSIA_FLOWS_PORT", str(port))
        with pytest.raises(ServerError, match=rf"port {port} on 127.0.0.1 is taken by another program; stop that"):
            wanted_port()
    monkeypatch.setenv("DLSIA_FLOWS_PORT", "0")
    assert 1024 <= wanted_port() < 65536


@pytest.mark.parametrize("asked", ["http", "-1", "65536"])
def test_a_port_that_is_none_is_refused(asked: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DLSIA_FLOWS_PORT", asked)
    with pytest.raises(ServerError, match=rf"DLSIA_FLOWS_PORT is '{asked}'; allowed: 0 .* to 65535"):
        wanted_port()


def test_the_pointer_file_is_written_and_removed_but_never_somebody_elses(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = "http://127.0.0.1:4321/api"
    monkeypatch.chdir(tmp_path)
    assert announce(home, url, tmp_path)
    assert is_announced(url)
    assert not is_announced("http://127.0.0.1:1/api")
    withdraw(home)
    assert not (tmp_path / "prefect.toml").exists()
    (tmp_path / "prefect.toml").write_text("[api]\n")
    assert not announce(home, url, tmp_path)
    withdraw(home)
    assert (tmp_path / "prefect.toml").read_text() == "[api]\n"
    (tmp_path / "prefect.toml").write_text(f"{MARK}\nleft over")
    assert announce(home, url, tmp_path)


def test_the_server_is_closed_to_other_web_pages_and_phones_nobody(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PREFECT_API_URL", "http://elsewhere/api")
    monkeypatch.setenv("PREFECT_API_AUTH_STRING", "user:word")
    environment = server_environment(home, 4321)
    origins = "http://127.0.0.1:4321,http://localhost:4321"
    assert environment["PREFECT_SERVER_API_CORS_ALLOWED_ORIGINS"] == origins
    assert environment["PREFECT_SERVER_API_CSRF_PROTECTION_ENABLED"] == "true"
    assert environment["PREFECT_SERVER_ANALYTICS_ENABLED"] == "false"
    assert environment["DO_NOT_TRACK"] == "1"
    assert environment["PREFECT_SERVER_API_AUTH_STRING"] == "user:word"
    assert "PREFECT_API_URL" not in environment


def test_a_proxy_is_not_asked_for_the_own_server(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("no_proxy", raising=False)
    monkeypatch.setenv("NO_PROXY", "example.org")
    environment = client_environment(home, "http://127.0.0.1:4321/api")
    assert environment["NO_PROXY"] == environment["no_proxy"] == "example.org,127.0.0.1"


@given(st.lists(st.tuples(st.floats(0.1, 5), st.booleans(), st.booleans()), max_size=40))
def test_a_server_is_never_stopped_while_it_is_used_or_within_the_grace_time(
    steps: list[tuple[float, bool, bool]],
) -> None:
    countdown = Countdown(grace_s=10, since=0)
    now = last_wanted = 0.0
    for seconds, used, busy in steps:
        now += seconds
        if used or busy:
            last_wanted = now
        assert countdown.is_over(now=now, used=used, busy=busy) == (now - last_wanted >= 10)


def test_a_server_that_is_busy_for_ever_is_stopped_all_the_same() -> None:
    countdown = Countdown(grace_s=10, since=0)
    assert not countdown.is_over(now=DRAIN_LIMIT_S - 1, used=False, busy=True)
    assert countdown.is_over(now=DRAIN_LIMIT_S + 10, used=False, busy=True)
