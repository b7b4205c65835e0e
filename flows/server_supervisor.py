"""The process that keeps the embedded server running as long as somebody uses it, and no longer.

It restarts a server that died, marks the flow runs of users that died as Crashed, and stops the server when nobody
has used it for the grace time. Prefect is not imported here, so that it costs 15 MB and starts at once.

    python -m flows.server_supervisor --home FOLDER --port PORT --grace SECONDS
"""

import argparse
import fcntl
import json
import os
import signal
import subprocess
import sys
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from flows.server_api import Api
from flows.server_home import (
    HOST,
    ServerError,
    address_left,
    is_locked,
    locked,
    server_environment,
    withdraw,
    write_json,
)
from flows.server_janitor import Janitor

POLL_S = 0.5
START_TIMEOUT_S = 300.0
STOP_TIMEOUT_S = 10.0
DRAIN_LIMIT_S = 600.0
MAX_RESTARTS = 5
LOG_LIMIT_BYTES = 10_000_000
# Share of one core above which the server is still writing down events; idle it takes 0.01 to 0.05.
BUSY_SHARE = 0.3


@dataclass
class Countdown:
    """Decides when nobody needs the server any more; times in seconds of one steadily growing clock.

    >>> countdown = Countdown(grace_s=20, since=0)
    >>> countdown.is_over(now=15, used=False, busy=False), countdown.is_over(now=21, used=False, busy=False)
    (False, True)
    """

    grace_s: float
    since: float
    last_used: float = 0.0

    def __post_init__(self) -> None:
        self.last_used = self.since

    def is_over(self, *, now: float, used: bool, busy: bool) -> bool:
        """Tell whether the grace time has passed since the last use; a server that still writes is waited for."""
        if used:
            self.since = self.last_used = now
        elif busy and now - self.last_used < DRAIN_LIMIT_S:
            self.since = now
        return now - self.since >= self.grace_s


class Supervisor:
    """Owner of one server process."""

    def __init__(self, home: Path, port: int, grace_s: float) -> None:
        self.home = home
        self.port = port
        self.api = Api(f"http://{HOST}:{port}/api")
        self.janitor = Janitor(self.api)
        self.countdown = Countdown(grace_s, since=time.monotonic())
        self.server: subprocess.Popen[bytes] | None = None
        self._users_changed = 0.0
        self._cpu: tuple[float, float] = (time.monotonic(), 0.0)

    def start(self) -> None:
        """Start the server and wait until it answers; raises `ServerError` with the end of its log."""
        log = self.home / "server.log"
        if log.exists() and log.stat().st_size > LOG_LIMIT_BYTES:
            log.replace(log.with_suffix(".log.old"))
        command = ["flows.prefect_server", "server", "start", "--host", HOST, "--port", str(self.port)]
        with log.open("ab") as sink:
            self.server = subprocess.Popen(
                [sys.executable, "-m", "flows.lifeline", *command],
                stdin=subprocess.PIPE,
                stdout=sink,
                stderr=subprocess.STDOUT,
                cwd=self.home,
                env=server_environment(self.home, self.port),
            )
        deadline = time.monotonic() + START_TIMEOUT_S
        while not self.api.is_healthy():
            if self.server.poll() is not None or time.monotonic() > deadline:
                tail = "\n".join(log.read_text(errors="replace").splitlines()[-15:])
                raise ServerError(f"the Prefect server did not start on port {self.port}; end of {log}:\n{tail}")
            time.sleep(0.1)
        self._cpu = (time.monotonic(), cpu_seconds(self.server))
        facts = {"url": self.api.url, "pid": self.server.pid, "supervisor": os.getpid()}
        write_json(self.home / "server.json", facts)

    def watch(self) -> None:
        """Return when nobody has used the server for the grace time."""
        restarts = 0
        while True:
            time.sleep(POLL_S)
            if self.server is not None and self.server.poll() is not None:
                restarts += 1
                if restarts > MAX_RESTARTS:
                    raise ServerError(f"the Prefect server died {restarts} times; see {self.home / 'server.log'}")
                self.start()
            used = self._reap()
            self.janitor.look()
            if self.countdown.is_over(now=time.monotonic(), used=used, busy=self._is_busy()):
                return

    def run(self) -> None:
        """Watch, then stop the server, unless somebody joined in the meantime."""
        while True:
            self.watch()
            with locked(self.home / "start.lock"):  # who wants to join now waits, and then starts a new server
                if not any(is_locked(path) for path in (self.home / "users").iterdir()):
                    self.stop()
                    return

    def _reap(self) -> bool:
        """Deal with users that died; tell whether there are living ones, or were since the last look."""
        folder = self.home / "users"
        alive = False
        for path in folder.iterdir():
            if is_locked(path):
                alive = True
                continue
            with locked(self.home / "start.lock"):  # a user makes and locks its file under this lock
                if path.exists() and not is_locked(path):
                    self._bury(path)
        changed = folder.stat().st_mtime_ns
        used = alive or changed != self._users_changed
        self._users_changed = changed
        return used

    def _bury(self, path: Path) -> None:
        pid = path.name.partition("-")[0]
        message = f"The process that drove this run (pid {pid}) died. Start it again: finished shards are kept."
        try:
            for line in path.read_text().splitlines():
                kind, _, value = line.partition(" ")
                for flow_run_id in [value] if kind == "id" else self.api.runs_named(value):
                    self.api.mark_crashed(flow_run_id, message)
        except OSError:
            return  # the server does not answer: the file stays, and this is tried again
        path.unlink()

    def _is_busy(self) -> bool:
        now, cpu_s = time.monotonic(), cpu_seconds(self.server)
        share = (cpu_s - self._cpu[1]) / max(now - self._cpu[0], 1e-3)
        self._cpu = (now, cpu_s)
        return share > BUSY_SHARE

    def stop(self) -> None:
        """Stop the server and remove what points to it; a second call does nothing."""
        (self.home / "server.json").unlink(missing_ok=True)
        withdraw(self.home)
        if self.server is None:
            return
        self.server.terminate()
        try:
            self.server.wait(STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            self.server.kill()
            self.server.wait()


def cpu_seconds(process: "subprocess.Popen[bytes] | None") -> float:
    """Return the processor time that the process has used; 0.0 where the system does not tell (it has no /proc)."""
    if process is None:
        return 0.0
    try:
        fields = Path(f"/proc/{process.pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return 0.0
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")  # utime, stime: see proc(5)


def _leave(*_: Any) -> None:
    raise SystemExit(0)


def main() -> None:
    """Start the server, say on standard output that it is ready or why not, and watch it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--home", type=Path, required=True)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--grace", type=float, default=20.0)
    options = parser.parse_args()
    signal.signal(signal.SIGTERM, _leave)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    supervisor = Supervisor(options.home, options.port, options.grace)
    with (options.home / "server.lock").open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if address_left(options.home) != supervisor.api.url:
            # Left by a supervisor that was killed. If its address is ours, it stays: users who see it bring us back.
            (options.home / "server.json").unlink(missing_ok=True)
        try:
            supervisor.start()
            _tell_starter({"url": supervisor.api.url})
            supervisor.run()
        except ServerError as error:
            _tell_starter({"error": str(error)})
            raise SystemExit(1) from error
        finally:
            supervisor.stop()


def _tell_starter(facts: dict[str, str]) -> None:
    """Write one line to the process that waits for the server; it may be gone, and is told only once."""
    with suppress(OSError, ValueError):
        sys.stdout.write(json.dumps(facts) + "\n")
        sys.stdout.close()


if __name__ == "__main__":
    main()
