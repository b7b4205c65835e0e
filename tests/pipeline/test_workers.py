"""Items on threads: how many are under way, in whose context, and what an exception ends."""

import contextvars
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from tasks.workers import Workers, run_over

WHO = contextvars.ContextVar("who", default="nobody")


class Count:
    """How many are inside, and the most there ever were."""

    def __init__(self) -> None:
        self.lock, self.now, self.most = threading.Lock(), 0, 0

    def slowly(self, item: int) -> int:
        with self.lock:
            self.now += 1
            self.most = max(self.most, self.now)
        time.sleep(0.01)
        with self.lock:
            self.now -= 1
        return 2 * item


def test_runs_at_the_same_time_share_their_threads():
    count, found = Count(), [{}, {}, {}]
    with ThreadPoolExecutor(3) as callers:
        runs = [
            callers.submit(run_over, count.slowly, range(12), results.__setitem__, Workers(threads=2))
            for results in found
        ]
        for run in runs:
            run.result()
    assert found == [{item: 2 * item for item in range(12)}] * 3
    assert count.most == 2


def test_each_run_has_the_context_of_its_caller():
    seen: dict[str, set[str]] = {"one": set(), "other": set()}

    def call(name: str) -> None:
        WHO.set(name)
        run_over(lambda _: WHO.get(), range(8), lambda _, who: seen[name].add(who), Workers(threads=2))

    with ThreadPoolExecutor(2) as callers:
        list(callers.map(lambda name: contextvars.copy_context().run(call, name), seen))
    assert seen == {"one": {"one"}, "other": {"other"}}


class FailsBeside(Count):
    """The first call fails as soon as another one is under way, which takes its time."""

    def __init__(self) -> None:
        super().__init__()
        self.calls, self.beside = 0, threading.Event()

    def __call__(self, item: int) -> int:
        with self.lock:
            self.calls += 1
            is_first = self.calls == 1
        if is_first:
            assert self.beside.wait(60)
            raise OSError("no space left")
        self.beside.set()
        time.sleep(0.2)
        return self.slowly(item)


def test_after_an_exception_nothing_is_under_way_and_nothing_begins():
    fails, done = FailsBeside(), []
    with pytest.raises(OSError, match="no space left"):
        run_over(fails, range(20), lambda item, _: done.append(item), Workers(threads=2))
    ended = list(done)
    assert fails.now == 0
    assert 1 <= len(ended) < 19
    time.sleep(0.5)
    assert (fails.now, done) == (0, ended)


def test_an_item_that_would_wait_for_its_own_threads_is_refused():
    nested = Workers(threads=1)
    with pytest.raises(RuntimeError, match="an item cannot run over others"):
        run_over(lambda item: run_over(abs, [item], lambda *_: None, nested), [1], lambda *_: None, nested)
    found: dict[int, int] = {}
    run_over(abs, [-1], found.__setitem__, nested)
    assert found == {-1: 1}
