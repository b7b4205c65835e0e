"""Run the same function over many shards with Dask: on this machine's threads, or on a cluster by its address."""

import os
from collections.abc import Callable, Iterable, Sequence
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
) -> None:
    """Call `function` on each item in parallel, and `done` in this process as results arrive.

    With threads at most `n_threads` items are in memory. The first exception ends the run after the items under way.

    >>> found = {}
    >>> run_over(abs, [-1, 2], found.__setitem__, Workers())
    >>> found == {-1: 1, 2: 2}
    True
    """
    if workers.scheduler == "threads":
        calls = [dask.delayed(_call_and_report, pure=False)(function, item, done) for item in items]
        # optimize_graph=False: the calls share nothing, and functions must not be fused into one task.
        dask.compute(*calls, scheduler="threads", num_workers=workers.n_threads, optimize_graph=False)
    else:
        _run_on_cluster(function, items, done, workers)


def _call_and_report(function: Callable[[Item], Result], item: Item, done: Callable[[Item, Result], None]) -> None:
    done(item, function(item))


def _run_on_cluster(
    function: Callable[[Item], Result],
    items: Iterable[Item],
    done: Callable[[Item, Result], None],
    workers: Workers,
) -> None:
    from distributed import Client, as_completed

    with Client(workers.scheduler, set_as_default=False) as client:
        remaining = iter(items)
        running: dict[Any, Item] = {}
        arriving = as_completed(loop=client.loop)

        def submit_next() -> None:
            for item in remaining:
                future = client.submit(function, item, pure=False)
                running[future] = item
                arriving.add(future)
                return

        for _ in range(workers.window):
            submit_next()
        for future in arriving:
            done(running.pop(future), future.result())
            future.release()
            submit_next()
