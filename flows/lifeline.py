"""Run a module as `python -m` would, and end it when the process that started it is gone, however it ended.

The parent keeps the other end of this process's standard input; the operating system closes it when the parent dies.

    python -m flows.lifeline prefect server start --port 4200
"""

import os
import runpy
import signal
import sys
import threading
import time

PATIENCE_S = 5.0


def end_with_parent() -> None:
    """Wait until standard input closes, then end this process, first politely, at last with its whole group.

    A worker would wait for its flow runs, which nobody could see or stop any more; they resume when run again.
    """
    while os.read(0, 1):  # not sys.stdin, whose lock a daemon thread must not hold when Python ends
        pass
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(PATIENCE_S)
    os.killpg(0, signal.SIGKILL)


def main() -> None:
    """Watch the parent and become the module named on the command line."""
    # A shell that starts a program in the background leaves SIGINT ignored; Prefect's worker needs it.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    threading.Thread(target=end_with_parent, daemon=True, name="lifeline").start()
    sys.argv = sys.argv[1:]
    runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main()
