"""Prefect's command line, for a server on SQLite whose transactions wait for each other instead of failing.

    python -m flows.prefect_server server start --port 4200

Prefect begins transactions on SQLite as DEFERRED. One that has read, and finds that another has written in the
meantime, cannot write any more and fails at once with "database is locked", however long it was ready to wait
(https://www.sqlite.org/isolation.html). With one scan at a time that was 46 calls in three minutes here: clients are
answered 503 and wait for 2, 4, 8 s, and an event that meets it five times starts no trigger. Begun as IMMEDIATE, they
wait; and because SQLite lets those who wait try again at random, they stand in line here, in the order of their coming.
"""

import asyncio
import runpy
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager, suppress
from weakref import WeakKeyDictionary

from prefect.server.database.configurations import AioSqliteConfiguration
from sqlalchemy.ext.asyncio import AsyncSession, AsyncSessionTransaction

PATIENCE_S = 60.0
"""As long as SQLite would wait; then it is left to SQLite, so that nothing can stand in its own way for ever."""

_begun_as_asked = AioSqliteConfiguration.begin_transaction
_lines: "WeakKeyDictionary[asyncio.AbstractEventLoop, asyncio.Lock]" = WeakKeyDictionary()


@asynccontextmanager
async def begun_immediately(
    configuration: AioSqliteConfiguration, session: AsyncSession, with_for_update: bool = True
) -> AsyncGenerator[AsyncSessionTransaction, None]:
    """A transaction that owns the right to write from its beginning, whatever was asked for."""
    del with_for_update
    line, is_first = _lines.setdefault(asyncio.get_running_loop(), asyncio.Lock()), False
    with suppress(TimeoutError):
        async with asyncio.timeout(PATIENCE_S):
            is_first = await line.acquire()
    try:
        async with _begun_as_asked(configuration, session, with_for_update=True) as transaction:
            yield transaction
    finally:
        if is_first:
            line.release()


def main() -> None:
    """Become Prefect's command line."""
    AioSqliteConfiguration.begin_transaction = begun_immediately  # type: ignore[assignment, method-assign]
    runpy.run_module("prefect", run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main()
