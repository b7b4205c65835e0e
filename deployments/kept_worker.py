"""Keeps a worker running: one that dies is replaced, and the runs that it had in hand are settled."""

import contextvars
import subprocess
import threading
import time
from collections.abc import Callable

LIVED_LONG_S = 60.0
LONGEST_WAIT_S = 30.0


class KeptWorker:
    """A worker process that is started again whenever it ends, until it is stopped.

    settle: called before each new start, with nobody at work.
    """

    def __init__(
        self,
        start: Callable[[], "subprocess.Popen[bytes]"],
        settle: Callable[[], None],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._start, self._settle, self._clock = start, settle, clock
        self._stopped = threading.Event()
        self.process = start()
        # Prefect's settings, as the address of its server, live in the context, which a thread would not have.
        keep = contextvars.copy_context().run
        self._keeper = threading.Thread(target=keep, args=(self._keep,), name="kept-worker", daemon=True)
        self._keeper.start()

    def stop(self, how: Callable[["subprocess.Popen[bytes]"], None]) -> None:
        """Start no other worker, and end the present one."""
        self._stopped.set()
        self._keeper.join()
        how(self.process)

    def _keep(self) -> None:
        began, wait_s = self._clock(), 1.0
        while not self._stopped.wait(0.2):
            status = self.process.poll()
            if status is None:
                continue
            wait_s = 1.0 if self._clock() - began > LIVED_LONG_S else min(2 * wait_s, LONGEST_WAIT_S)
            print(f"the worker ended (status {status}); another one starts in {wait_s:g} s", flush=True)
            if self._stopped.wait(wait_s):
                return
            began = self._clock()
            try:
                self._settle()
                self.process = self._start()
            except Exception as error:  # the server may be away for a moment: nobody else would try again
                print(f"no other worker could be started yet ({type(error).__name__}: {error})", flush=True)
