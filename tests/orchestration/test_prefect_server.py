"""Transactions on SQLite that read and then write, two at once, as a server's are all the time."""

import asyncio
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from prefect.server.database.configurations import AioSqliteConfiguration
from sqlalchemy.exc import OperationalError

from flows.prefect_server import begun_immediately


async def race(database: Path, begin: Any) -> list[int]:
    """One reads; another one writes; the first one writes, too. Returns the rows in the end."""
    configuration = AioSqliteConfiguration(f"sqlite+aiosqlite:///{database}")
    engine = await configuration.engine()
    has_read = asyncio.Event()

    async def reads_and_writes() -> None:
        async with await configuration.session(engine) as session, begin(configuration, session):
            await session.execute(sa.text("SELECT * FROM numbers"))
            has_read.set()
            await asyncio.sleep(0.3)
            await session.execute(sa.text("INSERT INTO numbers VALUES (1)"))

    async def writes() -> None:
        await has_read.wait()
        async with await configuration.session(engine) as session, begin(configuration, session):
            await session.execute(sa.text("INSERT INTO numbers VALUES (2)"))

    async with engine.begin() as connection:
        await connection.execute(sa.text("CREATE TABLE numbers (number INTEGER)"))
    try:
        await asyncio.gather(reads_and_writes(), writes())
        async with engine.connect() as connection:
            return sorted((await connection.execute(sa.text("SELECT number FROM numbers"))).scalars())
    finally:
        await engine.dispose()


def test_both_write_where_transactions_begin_at_once(tmp_path: Path) -> None:
    assert asyncio.run(race(tmp_path / "a.db", begun_immediately)) == [1, 2]


def test_one_would_fail_as_prefect_begins_them(tmp_path: Path) -> None:
    """Once this fails, Prefect has mended it, and `flows.prefect_server` can go."""
    with pytest.raises(OperationalError, match="database is locked"):
        asyncio.run(race(tmp_path / "a.db", AioSqliteConfiguration.begin_transaction))
