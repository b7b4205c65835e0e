"""Run the same function over many shards with Dask: on this machine's threads, or on a cluster by its address."""

import contextvars
import hashlib
import itertools
import os
import socket
import threading
import time
import uuid
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, Literal, TypeVar

import dask
from pydantic import Field

from tasks.settings import Settings

Item = TypeVar("Item")
Result = TypeVar("Result")


class Workers(Settings):
    """Where the shards of a stage are computed."""

    scheduler: Literal["threads"] | str = Field(
        default="threads",
        description="'threads' for this machine, or the address of a Dask scheduler, as in 'tcp://host:8786'.",
    )
    threads: int = Field(default=0, ge=0, description="Threads on this machine; 0: one per core.")
    window: int = Field(
        default=8, ge=1, description="Shards under way at once on a cluster; bounds the memory of the scheduler."
    )

    @property
    def n_threads(self) -> int:
        """Threads that will be used."""
        return self.threads or len(os.sched_getaffinity(0))


def run_over(
    function: Callable[[Item], Result],
    items: Sequence[Item],
    done: Callable[[Item, Result], None],
    workers: Workers,
    written: str = "",
) -> None:
    """Call `function` on each item in parallel, and `done` in this process as results arrive.

    With threads at most `n_threads` items are in memory, also where several calls share them at the same time. The
    first exception ends the run after the items under way.
    written: Store that the function writes to. Nothing begins there before workers of a cluster have ended what a
    process that was killed has left them: they would write the shards of its plan over those of this one.

    >>> found = {}
    >>> run_over(abs, [-1, 2], found.__setitem__, Workers())
    >>> found == {-1: 1, 2: 2}
    True
    """
    if workers.scheduler == "threads":
        _run_on_threads(function, items, done, workers.n_threads)
    else:
        _run_on_cluster(function, items, done, workers, written)


class _Pool(ThreadPoolExecutor):
    """Threads that know the context, as of a Prefect run, of whoever hands them work."""

    def submit(self, fn: Callable[..., Result], /, *args: Any, **kwargs: Any) -> Future[Result]:
        return super().submit(contextvars.copy_context().run, fn, *args, **kwargs)


_pools: dict[int, _Pool] = {}
# A forked process has the pools, and none of their threads.
os.register_at_fork(after_in_child=_pools.clear)


def _shared_pool(n_threads: int) -> _Pool:
    """One for all stages and scans of the process, which would crowd its cores and memory with a pool each."""
    return _pools.setdefault(n_threads, _Pool(n_threads, thread_name_prefix="shards"))


_in_item = contextvars.ContextVar("in_item", default=False)


class _Calls:
    """The calls of one run: none begins once it is over, and it is over when all that have begun have ended."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._under_way, self._over = 0, False

    def call(self, function: Callable[[Item], Result], item: Item, done: Callable[[Item, Result], None]) -> None:
        with self._changed:
            if self._over:
                return
            self._under_way += 1
        try:
            _in_item.set(True)
            done(item, function(item))
        finally:
            with self._changed:
                self._under_way -= 1
                self._changed.notify_all()

    def end(self) -> None:
        with self._changed:
            self._over = True
            self._changed.wait_for(lambda: self._under_way == 0)


def _run_on_threads(
    function: Callable[[Item], Result], items: Sequence[Item], done: Callable[[Item, Result], None], n_threads: int
) -> None:
    if _in_item.get():
        raise RuntimeError("an item cannot run over others: it would wait for threads that it holds itself")
    calls = _Calls()
    delayed = [dask.delayed(calls.call, pure=False)(function, item, done) for item in items]
    try:
        # optimize_graph=False: the calls share nothing, and functions must not be fused into one task.
        dask.compute(*delayed, scheduler="threads", pool=_shared_pool(n_threads), optimize_graph=False)
    finally:
        calls.end()  # Dask leaves what is under way to itself after an exception, and a retry must not meet it


def _run_on_cluster(
    function: Callable[[Item], Result],
    items: Iterable[Item],
    done: Callable[[Item, Result], None],
    workers: Workers,
    written: str,
) -> None:
    from distributed import Client, as_completed

    store, call = _store_prefix(written), f"{_store_prefix(written)}{_own_name()}-{uuid.uuid4().hex}"
    with Client(workers.scheduler, set_as_default=False) as client:
        if written:
            _wait_while(client, lambda key: key.startswith(store) and not key.startswith(f"{store}{_own_name()}-"))
        remaining = iter(items)
        running: dict[Any, Item] = {}
        arriving = as_completed(loop=client.loop)
        numbers = itertools.count()

        def submit_next() -> None:
            for item in remaining:
                future = client.submit(function, item, key=f"{call}-{next(numbers)}", pure=False)
                running[future] = item
                arriving.add(future)
                return

        for _ in range(workers.window):
            submit_next()
        try:
            for future in arriving:
                done(running.pop(future), future.result())
                future.release()
                submit_next()
        finally:
            # After an exception some are under way, and a retry must not meet them. A worker ends what it has begun.
            client.cancel(list(running))
            if running and written:
                _wait_while(client, lambda key: key.startswith(call))


def _store_prefix(written: str) -> str:
    return f"{hashlib.sha256(written.encode()).hexdigest()[:16]}-"


def _own_name() -> str:
    return f"{socket.gethostname()}:{os.getpid()}"


def _wait_while(client: Any, is_meant: Callable[[str], bool]) -> None:
    """Wait until no worker is at work on such a key; workers that die meanwhile are at work on nothing."""
    while any(is_meant(key) for keys in client.run(_keys_at_work, on_error="ignore").values() for key in keys):
        time.sleep(0.1)


def _keys_at_work(dask_worker: Any) -> list[str]:
    """Runs on a worker: what its threads are busy with, also if the scheduler has forgotten it."""
    return [str(task.key) for task in (*dask_worker.state.executing, *dask_worker.state.long_running)]
