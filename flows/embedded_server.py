"""A Prefect server for whoever needs one: `make serve`, `make run`, and a flow that is called from plain Python.

The first user starts it as a detached process, later ones join it, and it stops some seconds after the last one left;
Prefect's own ephemeral server would stop at once and lose most records of task runs.
"""

import json
import logging
import os
import secrets
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, Literal, NamedTuple, ParamSpec, TypeVar

from prefect import Flow, get_client
from prefect.client.schemas.objects import FlowRun
from prefect.context import FlowRunContext, TagsContext, TaskRunContext
from prefect.flow_engine import run_flow
from prefect.settings import get_current_settings, temporary_settings
from prefect.utilities.callables import get_call_parameters
from prefect.utilities.names import generate_slug

from flows.server_api import Api
from flows.server_home import (
    RETRIES,
    RETRY_CODE,
    ServerError,
    address_left,
    auth_string,
    free_port,
    home_folder,
    is_announced,
    is_locked,
    locked,
    registered_user,
    server_address,
    wanted_port,
)

P = ParamSpec("P")
R = TypeVar("R")

DEFAULT_GRACE_S = 20.0
LOOK_EVERY_S = 2.0
PORT_TIMEOUT_S = 30.0


@contextmanager
def running_server(grace_s: float = DEFAULT_GRACE_S) -> Iterator[str]:
    """Yield the API address of a Prefect server that stays as long as this context is open.

    The server that the caller's Prefect settings name, if they name one; else the project's own, which is started
    if nobody else has. Raises `ServerError` if the named server does not answer or the own one cannot start.
    """
    with _used_server(grace_s) as server:
        yield server.url


class _Server(NamedTuple):
    url: str
    note: Callable[[str], None] | None
    """Notes a flow run that this process drives; None for a server that is not ours."""


@contextmanager
def _used_server(grace_s: float) -> Iterator[_Server]:
    home = home_folder()
    named = get_current_settings().api.url
    if named and named != server_address(home) and not _is_left_over(named):
        _refuse_unless_usable(named)
        yield _Server(named, None)
        return
    with ExitStack() as stack:
        with locked(home / "start.lock"):
            url = _address_when_ready(home) or _start(home, wanted_port(), grace_s)
            note = stack.enter_context(registered_user(home))
        _refuse_unless_usable(url)
        stack.enter_context(_kept_alive(home, url, grace_s))
        yield _Server(url, note)


@contextmanager
def _kept_alive(home: Path, url: str, grace_s: float) -> Iterator[None]:
    """Start the server anew, on the same port, where its supervisor was killed, which would do so for the server."""
    over = threading.Event()

    def look() -> None:
        while not over.wait(LOOK_EVERY_S):
            try:
                _revive(home, url, grace_s)
            except (OSError, ServerError) as error:
                logging.getLogger(__name__).warning("The Prefect server at %s cannot be started again: %s", url, error)

    thread = threading.Thread(target=look, name="server", daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join(LOOK_EVERY_S)


def _revive(home: Path, url: str, grace_s: float) -> None:
    """Start a supervisor if there is none although nobody stopped it; one process of those that ask does."""
    if is_locked(home / "server.lock") or address_left(home) != url:
        return
    with locked(home / "start.lock"):
        if is_locked(home / "server.lock") or address_left(home) != url:
            return
        port = int(url.removesuffix("/api").rpartition(":")[2])
        deadline = time.monotonic() + PORT_TIMEOUT_S
        while free_port(port) is None:  # the old server ends with its supervisor, in its own time
            if time.monotonic() > deadline:
                raise ServerError(f"port {port} is not free {PORT_TIMEOUT_S:g} s after the server's supervisor died")
            time.sleep(0.1)
        _start(home, port, grace_s)


def _is_left_over(url: str) -> bool:
    """Tell whether the address comes from a `prefect.toml` of ours whose server is gone, and from nowhere else."""
    return "PREFECT_API_URL" not in os.environ and is_announced(url)


def _refuse_unless_usable(url: str) -> None:
    try:
        Api(url).call("/admin/version")
    except OSError as error:
        if getattr(error, "code", None) in (401, 403):
            raise ServerError(
                f"the Prefect server at {url} wants an auth string; set PREFECT_API_AUTH_STRING"
            ) from error
        raise ServerError(
            f"the Prefect server at {url} does not answer ({error}); the address comes from PREFECT_API_URL, "
            "prefect.toml or the Prefect profile: start that server, or remove the setting to use the embedded one"
        ) from error


def _address_when_ready(home: Path) -> str | None:
    """Return the address of the living server; wait for one whose starter died while it was starting."""
    while is_locked(home / "server.lock"):
        if url := server_address(home):
            return url
    return None


def _start(home: Path, port: int, grace_s: float) -> str:
    """Start the supervisor as a detached process and return the address once the server answers."""
    package_root = str(Path(__file__).resolve().parent.parent)
    command = [sys.executable, "-m", "flows.server_supervisor", "--home", str(home)]
    command += ["--port", str(port), "--grace", str(grace_s)]
    paths = [package_root, *filter(None, os.environ.get("PYTHONPATH", "").split(os.pathsep))]
    with (home / "supervisor.log").open("ab") as log:
        supervisor = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=log,
            cwd=home,
            env=os.environ | {"PYTHONPATH": os.pathsep.join(paths)},
            start_new_session=True,
            text=True,
        )
    assert supervisor.stdout
    with supervisor.stdout as answer:
        line = answer.readline()
    # It outlives this process on purpose; without this Python would warn of a process that nobody waited for.
    supervisor.returncode = 0
    if not line:
        raise ServerError(f"the embedded Prefect server ended while starting; see {home / 'supervisor.log'}")
    facts = json.loads(line)
    if "error" in facts:
        raise ServerError(facts["error"])
    return str(facts["url"])


class ServedFlow(Flow[P, R]):
    """A Prefect flow that finds or starts its server when it is called from plain Python.

    Called inside another run, or run by a worker, it behaves as any flow does.
    """

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Run the flow and return its result, or its state with `return_state=True`; paths may be `pathlib` ones."""
        args, kwargs = tuple(map(_as_text, args)), {name: _as_text(value) for name, value in kwargs.items()}
        if FlowRunContext.get() or TaskRunContext.get():
            return super().__call__(*args, **kwargs)
        with _used_server(DEFAULT_GRACE_S) as server:
            if server.note is None:
                with temporary_settings(client_settings(server.url)):
                    return super().__call__(*args, **kwargs)
            with temporary_settings(_own_server_settings(server.url)):
                how: Literal["state", "result"] = "state" if kwargs.pop("return_state", False) else "result"
                parameters = get_call_parameters(self.fn, args, kwargs)
                flow_run = self._noted_run(parameters, server.note)
                return run_flow(self, flow_run=flow_run, parameters=parameters, return_type=how)

    def _noted_run(self, parameters: dict[str, Any], note: Callable[[str], None]) -> FlowRun:
        """Make a run that the supervisor can find at whatever moment this process is killed.

        The name is noted before the run is made, the identifier as soon as it is known: the flow may rename the run.
        """
        name = f"{generate_slug(2)}-{secrets.token_hex(3)}"
        note(f"name {name}")
        with get_client(sync_client=True) as client:
            serialized = self.serialize_parameters(parameters)
            tags = TagsContext.get().current_tags
            flow_run = client.create_flow_run(self, name=name, parameters=serialized, tags=tags)
        note(f"id {flow_run.id}")
        return flow_run


def _as_text(value: Any) -> Any:
    """Paths, also inside a list, as the text that a parameter of a deployment holds; all else as it is."""
    if isinstance(value, list):
        return [_as_text(one) for one in value]
    return os.fspath(value) if isinstance(value, os.PathLike) else value


def client_settings(url: str) -> dict[str, Any]:
    """Prefect's settings for calls to this server from this process; what the caller's environment says wins."""
    settings: dict[str, Any] = {"api.url": url}
    if auth := auth_string():
        settings["api.auth_string"] = auth
    if "PREFECT_CLIENT_RETRY_EXTRA_CODES" not in os.environ:
        settings["client.retry_extra_codes"] = {RETRY_CODE}
    if "PREFECT_CLIENT_MAX_RETRIES" not in os.environ:
        settings["client.max_retries"] = RETRIES
    return settings


def _own_server_settings(url: str) -> dict[str, Any]:
    folder = home_folder() / "prefect"
    return {
        **client_settings(url),
        "home": folder,
        "results.local_storage_path": folder / "storage",
        "results.default_serializer": "json",
        # Each heartbeat thread is joined at the end of its flow, which takes up to a second. The supervisor sees
        # at once that this process died, and marks its run as Crashed, so that no heartbeat is needed.
        "flows.heartbeat_frequency": None,
    }


def served_flow(**options: Any) -> Callable[[Callable[P, R]], Flow[P, R]]:
    """Decorate as `prefect.flow(**options)` does; the flow also runs where no server was started.

    The function must not be a coroutine.

    >>> @served_flow(name="double")
    ... def double(number: int) -> int:
    ...     return 2 * number
    >>> double.name, list(double.parameters.properties)
    ('double', ['number'])
    """

    def decorate(function: Callable[P, R]) -> Flow[P, R]:
        flow = ServedFlow(function, **options)
        if flow.isasync or flow.isgenerator:
            raise TypeError(f"flow {flow.name!r} is a coroutine or a generator; write it as a plain function")
        return flow

    return decorate
