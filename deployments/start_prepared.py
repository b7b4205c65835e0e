"""Run a module in a child of the prepared process (`deployments.prepared`), which has imported everything before.

    python -S deployments/start_prepared.py SOCKET MODULE [ARGUMENTS]

does what `python -m MODULE ARGUMENTS` does, with the same environment, working directory, input, output, exit status
and signals, but starts in a few hundredths of a second instead of the several seconds that importing torch and
Prefect takes. Where the prepared process is gone or does not fit, it says so and starts Python anew.

Standard library only, and little of it: each import here is waiting time of every run.
"""

import json
import os
import signal
import socket
import struct
import sys
from contextlib import suppress

FORWARDED = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2)


def main(arguments: list[str]) -> None:
    """Exit with the status of the module."""
    address, *command = arguments
    with socket.socket(socket.AF_UNIX) as connection:
        try:
            connection.connect(address)
            answer = _ask(connection, command)
        except OSError as error:
            answer = {"refused": f"no prepared process at {address} ({error})"}
        if "pid" in answer:
            sys.exit(_wait(connection, int(str(answer["pid"]))))
    print(f"starting Python anew: {answer['refused']}", file=sys.stderr, flush=True)
    os.execv(sys.executable, [sys.executable, "-m", *command])


def _ask(connection: socket.socket, command: list[str]) -> dict[str, object]:
    request = json.dumps({"command": command, "folder": os.getcwd(), "environment": dict(os.environ)}).encode()  # noqa: PTH109
    # The three standard streams travel with the length of the request.
    socket.send_fds(connection, [struct.pack("!I", len(request))], [0, 1, 2])
    connection.sendall(request)
    return _answer(connection)


def _answer(connection: socket.socket) -> dict[str, object]:
    """Read one line; an empty one means that the prepared process is gone."""
    line = b""
    while not line.endswith(b"\n"):
        part = connection.recv(4096)
        if not part:
            return {"refused": "the prepared process ended"}
        line += part
    answer: dict[str, object] = json.loads(line)
    return answer


def _wait(connection: socket.socket, pid: int) -> int:
    """Hand on signals to the child until it ends; end by the same signal if it was ended by one."""
    for number in FORWARDED:
        signal.signal(number, lambda number, _frame: _send(pid, number))
    status = _answer(connection).get("status")
    if not isinstance(status, int):
        print("the prepared process ended, and the run with it", file=sys.stderr, flush=True)
        return 1
    if status < 0:
        with suppress(OSError):  # SIGKILL cannot be caught, nor set back
            signal.signal(-status, signal.SIG_DFL)
        os.kill(os.getpid(), -status)
    return status


def _send(pid: int, number: int) -> None:
    with suppress(ProcessLookupError):  # it has just ended; its status is on the way
        os.kill(pid, number)


if __name__ == "__main__":
    main(sys.argv[1:])
