"""A process that has imported the flows, and is copied by `fork` for each run: `python -m deployments.prepared SOCKET`.

A run that starts anew spends 4 to 10 s on importing torch, Prefect and the rest; a copy starts at once. The copy is a
process of its own in every respect: killing it, or running out of memory in it, touches no other run.
`deployments.start_prepared` is the other end. A run is refused, and then starts anew, where a copy would not be the
same as a fresh process: the environment differs in more than Prefect's own variables, or a source file has changed;
in the latter case this process begins again, with the new sources, as soon as no copy is running.
Ends when its standard input closes, that is with the process that started it, and takes its runs with it.
"""

import ctypes
import gc
import importlib
import json
import os
import runpy
import selectors
import signal
import socket
import struct
import sys
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

PRELOADED = ("prefect.main", "prefect.engine", "prefect.flow_engine", "flows.process_scan", "flows.dispatch_scan")
OWN_PACKAGES = ("deployments", "flows", "tasks", "dlsia_core")
PR_SET_PDEATHSIG = 1
# What may differ between the environment that libraries were imported with and that of a run.
RUN_VARIABLES = ("PREFECT_", "DLSIA_FLOWS_")
SHELL_VARIABLES = {"_", "OLDPWD", "PWD", "SHLVL"}


class Copied(Exception):  # noqa: N818 - no error
    """Raised in a copy: request and standard streams of its run."""


@dataclass
class Prepared:
    """Imports `modules` and answers requests; `connections` lead to whoever asked for the copy of that process id."""

    modules: tuple[str, ...]
    connections: dict[int, socket.socket] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.environment = dict(os.environ)
        for module in self.modules:
            importlib.import_module(module)
        self.set_by_imports = {k: v for k, v in os.environ.items() if k not in self.environment}
        self.sources, self.outdated = source_times(), False
        gc.freeze()  # else each copy's garbage collector touches, and so copies, all the memory

    def serve(self, address: Path) -> None:
        """Answer requests until standard input closes. In a copy it raises `Copied`, out of all that is open here."""
        address.unlink(missing_ok=True)
        ended, child_ended = socket.socketpair()
        with ended, child_ended, socket.socket(socket.AF_UNIX) as listener, selectors.DefaultSelector() as selector:
            listener.bind(str(address))
            listener.listen()
            child_ended.setblocking(False)
            signal.set_wakeup_fd(child_ended.fileno())
            signal.signal(signal.SIGCHLD, lambda *_: None)
            selector.register(0, selectors.EVENT_READ, "parent")
            selector.register(ended, selectors.EVENT_READ, "child")
            selector.register(listener, selectors.EVENT_READ, "request")
            while True:
                for key, _ in selector.select():
                    if key.data == "parent" and not os.read(0, 1024):
                        return
                    if key.data == "child":
                        ended.recv(1024)
                        self._reap(selector)
                    elif key.data == "request":
                        self._start(selector, listener)
                    elif key.data in self.connections:
                        self._abandon(selector, key.data)
                if self.outdated and not self.connections:
                    os.execv(sys.executable, sys.orig_argv)

    def _start(self, selector: selectors.BaseSelector, listener: socket.socket) -> None:
        connection, _ = listener.accept()
        connection.settimeout(5.0)
        try:
            request, streams = _receive(connection)
        except (OSError, ValueError):
            connection.close()
            return
        if why_not := self.why_not(request["environment"]):
            _tell(connection, {"refused": why_not})
            connection.close()
        elif pid := os.fork():
            self.connections[pid] = connection
            selector.register(connection, selectors.EVENT_READ, pid)
            _tell(connection, {"pid": pid})
        else:
            for other in (connection, *self.connections.values()):
                other.close()
            request["environment"] = self.set_by_imports | request["environment"]
            raise Copied(request, streams)
        for stream in streams:
            os.close(stream)

    def why_not(self, environment: dict[str, str]) -> str | None:
        """Why a copy would not do what a fresh process does; None if it would."""
        wanted, here = lasting(environment), lasting(self.environment)
        names = {*wanted, *here} - self.set_by_imports.keys()
        if differing := sorted(name for name in names if wanted.get(name) != here.get(name)):
            return f"the environment differs from the prepared process's in {', '.join(differing)}"
        now = source_times()
        if changed := sorted(file for file, time in self.sources.items() if now.get(file) != time):
            self.outdated = True
            return f"{changed[0]} has changed since the prepared process read it"
        return None

    def _reap(self, selector: selectors.BaseSelector) -> None:
        with suppress(ChildProcessError):
            while (ended := os.waitpid(-1, os.WNOHANG))[0]:
                if connection := self.connections.pop(ended[0], None):
                    selector.unregister(connection)
                    _tell(connection, {"status": os.waitstatus_to_exitcode(ended[1])})
                    connection.close()

    def _abandon(self, selector: selectors.BaseSelector, pid: int) -> None:
        """End a copy whose other end is gone: nobody could see or stop it any more."""
        connection = self.connections.pop(pid)
        selector.unregister(connection)
        connection.close()
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


def lasting(environment: Any) -> dict[str, str]:
    """The variables that a library may have read when it was imported.

    >>> lasting({"OMP_NUM_THREADS": "2", "PREFECT__FLOW_RUN_ID": "1", "PWD": "/"})
    {'OMP_NUM_THREADS': '2'}
    """
    return {k: v for k, v in environment.items() if k not in SHELL_VARIABLES and not k.startswith(RUN_VARIABLES)}


def source_times() -> dict[str, int]:
    """Time of last change, in nanoseconds, of each imported file of this project; -1 where it is gone."""
    files = [
        str(module.__file__)
        for name, module in list(sys.modules.items())
        if name.partition(".")[0] in OWN_PACKAGES and getattr(module, "__file__", None)
    ]
    return {file: os.stat(file).st_mtime_ns if os.path.exists(file) else -1 for file in files}  # noqa: PTH110, PTH116


def _receive(connection: socket.socket) -> tuple[dict[str, Any], list[int]]:
    head, streams, _, _ = socket.recv_fds(connection, 4, 3)
    if len(head) != 4 or len(streams) != 3:
        raise ValueError("not a request")
    left, body = struct.unpack("!I", head)[0], b""
    while len(body) < left:
        part = connection.recv(left - len(body))
        if not part:
            raise ValueError("the request ends early")
        body += part
    return json.loads(body), list(streams)


def _tell(connection: socket.socket, answer: dict[str, object]) -> None:
    with suppress(OSError):
        connection.sendall(json.dumps(answer).encode() + b"\n")


def become(request: dict[str, Any], streams: list[int]) -> None:
    """Turn this copy into what `python -m` with the request's command would be."""
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    signal.set_wakeup_fd(-1)
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    for number, stream in enumerate(streams):
        os.dup2(stream, number)
        os.close(stream)
    os.chdir(request["folder"])
    os.environ.clear()
    os.environ.update(request["environment"])
    if "prefect.main" in sys.modules:
        _renew_prefect()
    sys.argv = list(request["command"])
    # A fresh copy of the module's code runs as __main__, although the module may have been imported as well.
    sys.modules.pop(sys.argv[0], None)
    runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)


def _renew_prefect() -> None:
    """Let Prefect read the run's own variables, as it would have while it was imported."""
    from prefect.context import refresh_global_settings_context
    from prefect.logging.configuration import setup_logging

    refresh_global_settings_context()
    setup_logging(incremental=False)


def main(address: Path, modules: tuple[str, ...] = PRELOADED) -> None:
    """Serve, or, in a copy, run what was asked for and end as Python does."""
    try:
        Prepared(modules).serve(address)
    except Copied as copied:
        request, streams = copied.args
    else:
        return
    become(request, streams)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
