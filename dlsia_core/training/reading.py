"""Reading ahead: the next batches are made by a thread while the network computes."""

from collections import deque
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")


def read_ahead(read: Callable[[Item], Result], items: Iterable[Item], depth: int) -> Generator[Result]:
    """Yield `read(item)` for each item, in order; at most `depth` results wait; 0 = read when asked, without a thread.

    One thread reads, one item after the other, so that `read` is never called twice at once. Its errors are raised at
    the item's turn. Memory: `depth` + 1 results.

    >>> list(read_ahead(abs, [-3, 1, -2], depth=2))
    [3, 1, 2]
    """
    if depth == 0:
        yield from map(read, items)
        return
    with ThreadPoolExecutor(max_workers=1, thread_name_prefix="read-ahead") as thread:
        waiting: deque[Future[Result]] = deque()
        try:
            for item in items:
                waiting.append(thread.submit(read, item))
                if len(waiting) > depth:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            for future in waiting:
                future.cancel()
