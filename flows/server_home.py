"""Home folder of the embedded server: where it is, who uses the server, what it is told. Standard library only.

start.lock      held by whoever starts, joins or stops the server, so that two at once get one server
server.lock     held by the supervisor as long as it lives; the operating system frees it, however it dies
server.json     address of the running server
announced       paths of the `prefect.toml` files that lead Prefect's command line to the server
users/          one file per user, locked by its process; its lines name the flow runs that this process drives
prefect/        PREFECT_HOME: data base, results
"""

import fcntl
import json
import os
import secrets
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from tasks.errors import PipelineError

HOST = "127.0.0.1"
DEFAULT_PORT = 4200
# A server whose database is away answers 500, which Prefect's clients would not ask again; seven more times: 4 minutes.
RETRY_CODE, RETRIES = 500, 7
SERVER_SECRETS = ("PREFECT_SERVER_DATABASE_", "PREFECT_API_DATABASE_", "PREFECT_SERVER_API_AUTH_STRING")
MARK = "# Written by `make serve`, removed when the server stops."


class ServerError(PipelineError, RuntimeError):
    """The Prefect server cannot be started, reached or used."""


def project_folder() -> Path | None:
    """Return the source checkout that this package runs from; None when it is installed elsewhere."""
    folder = Path(__file__).resolve().parent.parent
    return folder if (folder / "pyproject.toml").is_file() else None


def home_folder() -> Path:
    """Return the home folder, made with mode 0700 if absent.

    `DLSIA_FLOWS_HOME`, else `.home` in the source checkout, else `~/.local/state/dlsia-flows`.
    Raises `ServerError` if it cannot be made, or if other users may enter it: it holds the data base.
    """
    project = project_folder()
    default = project / ".home" if project else Path.home() / ".local" / "state" / "dlsia-flows"
    home = Path(os.environ.get("DLSIA_FLOWS_HOME") or default).expanduser().resolve()
    try:
        home.mkdir(mode=0o700, parents=True, exist_ok=True)
        (home / "users").mkdir(mode=0o700, exist_ok=True)
        (home / "prefect").mkdir(mode=0o700, exist_ok=True)
    except OSError as error:
        raise ServerError(
            f"cannot make the home folder {home}: {error}; set DLSIA_FLOWS_HOME to a folder on a local disk"
        ) from error
    if home.stat().st_mode & 0o077:
        raise ServerError(f"other users may enter the home folder {home}; run: chmod 700 {home}")
    return home


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold an exclusive lock on the file; wait for whoever holds it."""
    with path.open("a") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def is_locked(path: Path) -> bool:
    """Tell whether a living process holds the lock."""
    try:
        with path.open("r+") as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except FileNotFoundError:
        return False
    except BlockingIOError:
        return True
    return False


@contextmanager
def registered_user(home: Path) -> Iterator[Callable[[str], None]]:
    """Count as a user of the server; yields a function that adds a line about a flow run of this process.

    Enter it while `start.lock` is held. A file that is left behind unlocked belongs to a dead process.
    """
    path = home / "users" / f"{os.getpid()}-{secrets.token_hex(4)}"
    with path.open("x") as file:
        fcntl.flock(file, fcntl.LOCK_EX)

        def note(line: str) -> None:
            file.write(f"{line}\n")
            file.flush()

        try:
            yield note
        finally:
            path.unlink(missing_ok=True)


def server_address(home: Path) -> str | None:
    """Return the API address of the living server of this home folder, or None."""
    return address_left(home) if is_locked(home / "server.lock") else None


def address_left(home: Path) -> str | None:
    """Return the API address of the server that was not stopped yet; it may have been killed."""
    with suppress(FileNotFoundError):
        return str(json.loads((home / "server.json").read_text())["url"])
    return None


def announce(home: Path, url: str, folder: Path) -> bool:
    """Write `prefect.toml` into the folder, so that Prefect's command line finds the server when it runs there.

    Returns False, and writes nothing, if the folder has a `prefect.toml` that somebody else wrote.
    """
    toml = folder / "prefect.toml"
    if toml.exists() and not toml.read_text().startswith(MARK):
        return False
    with (home / "announced").open("a") as file:
        file.write(f"{toml}\n")
    toml.write_text(f'{MARK}\n[api]\nurl = "{url}"\n\n[results]\ndefault_serializer = "json"\n')
    return True


def withdraw(home: Path) -> None:
    """Remove what `announce` wrote."""
    with suppress(FileNotFoundError):
        for line in (home / "announced").read_text().splitlines():
            toml = Path(line)
            if toml.exists() and toml.read_text().startswith(MARK):
                toml.unlink()
        (home / "announced").unlink()


def is_announced(url: str) -> bool:
    """Tell whether a `prefect.toml` of ours in the working directory names this address."""
    with suppress(OSError):
        text = Path("prefect.toml").read_text()
        return text.startswith(MARK) and f'url = "{url}"' in text
    return False


def wanted_port() -> int:
    """Return the port from `DLSIA_FLOWS_PORT` (0: any free one), else 4200 if it is free, else any free one.

    Raises `ServerError` if the port that was asked for is taken.
    """
    asked = os.environ.get("DLSIA_FLOWS_PORT", "")
    if asked and not (asked.isdecimal() and int(asked) < 65536):
        raise ServerError(f"DLSIA_FLOWS_PORT is {asked!r}; allowed: 0 (any free port) to 65535")
    port = free_port(int(asked or DEFAULT_PORT))
    if port is None and asked:
        raise ServerError(
            f"port {asked} on {HOST} is taken by another program; "
            "stop that program, or set DLSIA_FLOWS_PORT to another port (0: any free one)"
        )
    return port or free_port(0) or 0


def free_port(port: int) -> int | None:
    """The port (0: any) if a program may listen on it now, else None."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        with suppress(OSError):
            probe.bind((HOST, port))
            return int(probe.getsockname()[1])
    return None


def client_environment(home: Path, url: str) -> dict[str, str]:
    """Return the environment for a process that talks to the server: a worker, Prefect's command line.

    It holds nothing that only the server must know, because runs inherit it: the way to the database, above all.
    """
    caller = _plain_environment(home)
    own = {"PREFECT_CLIENT_RETRY_EXTRA_CODES": str(RETRY_CODE), "PREFECT_CLIENT_MAX_RETRIES": str(RETRIES)}
    if auth := auth_string():
        own["PREFECT_API_AUTH_STRING"] = auth
    return {
        **own,
        **{key: value for key, value in caller.items() if not key.startswith(SERVER_SECRETS)},
        "PREFECT_API_URL": url,
        "PREFECT_WORKER_QUERY_SECONDS": "0.5",
        "PREFECT_FLOWS_HEARTBEAT_FREQUENCY": "30",
    }


def auth_string() -> str | None:
    """Return `user:password` for the server, under either of Prefect's names for it; None where there is none."""
    return os.environ.get("PREFECT_API_AUTH_STRING") or os.environ.get("PREFECT_SERVER_API_AUTH_STRING")


def server_environment(home: Path, port: int) -> dict[str, str]:
    """Return the environment of the server; settings that the caller's environment makes win over these."""
    caller = _plain_environment(home)
    own = {
        "PREFECT_SERVER_API_CORS_ALLOWED_ORIGINS": f"http://{HOST}:{port},http://localhost:{port}",
        # Else the pages look for their server on port 4200.
        "PREFECT_SERVER_UI_API_URL": f"http://{HOST}:{port}/api",
        "PREFECT_SERVER_API_CSRF_PROTECTION_ENABLED": "true",
        "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
        "PREFECT_SERVER_UI_SHOW_PROMOTIONAL_CONTENT": "false",
        "PREFECT_SERVER_DEPLOYMENTS_CONCURRENCY_SLOT_WAIT_SECONDS": "3",
        "PREFECT_SERVER_LOGGING_LEVEL": "WARNING",
        # States of task runs, of which each has three, together instead of in a transaction each: half the server's
        # work for short scans, and fewer who wait for SQLite. Pages show them up to a second later.
        "PREFECT_SERVER_SERVICES_TASK_RUN_RECORDER_BATCH_SIZE": "100",
        "PREFECT_SERVER_SERVICES_TASK_RUN_RECORDER_FLUSH_INTERVAL": "1",
        # In memory a killed server would forget who holds a slot, and the slot would stay taken for ever.
        "PREFECT_SERVER_CONCURRENCY_LEASE_STORAGE": "prefect.server.concurrency.lease_storage.filesystem",
    }
    if auth := auth_string():
        own["PREFECT_SERVER_API_AUTH_STRING"] = auth
    return {**own, **caller}


def _plain_environment(home: Path) -> dict[str, str]:
    """Return the caller's environment without its own Prefect server and profile, and with nothing phoning home."""
    dropped = ("PREFECT_API_URL", "PREFECT_PROFILE", "PREFECT_PROFILES_PATH", "PREFECT_SERVER_API_HOST")
    environment = {key: value for key, value in os.environ.items() if key not in dropped}
    package_root = str(Path(__file__).resolve().parent.parent)
    paths = [package_root, *filter(None, environment.get("PYTHONPATH", "").split(os.pathsep))]
    direct = ",".join(filter(None, [environment.get("NO_PROXY") or environment.get("no_proxy"), HOST]))
    return environment | {
        "PREFECT_HOME": str(home / "prefect"),
        "PREFECT_RESULTS_DEFAULT_SERIALIZER": "json",
        "DO_NOT_TRACK": "1",
        "PYTHONPATH": os.pathsep.join(dict.fromkeys(paths)),
        "NO_PROXY": direct,
        "no_proxy": direct,
    }


def write_json(path: Path, facts: dict[str, Any]) -> None:
    """Write the file whole or not at all."""
    part = path.with_name(f".{path.name}.{os.getpid()}.partial")
    part.write_text(json.dumps(facts, indent=1))
    part.replace(path)
