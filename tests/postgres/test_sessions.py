"""What a connection of ours promises, whatever the database has as default, and whenever it is lost."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import psycopg
import pytest

from holdfast.store.postgres import PostgresStore
from holdfast.store.postgres.connection import Connection
from holdfast.store.postgres.target import target
from tests.postgres.server import plain
from tests.store.shapes import claimed


@pytest.fixture
def connection(url: str) -> Iterator[Connection]:
    made = Connection(target(url), None)
    yield made
    made.close()


@pytest.mark.parametrize("looks", [1, 2, 3])
def test_a_look_up_that_was_lost_itself_does_not_change_what_is_found(
    connection: Connection, looks: int
) -> None:
    with connection.transaction([]):
        pass
    connection.rollback()  # nothing of it was recorded
    for _ in range(looks - 1):
        connection.value("hot.look_up", (connection.writer,))  # its answer was lost
    assert not connection.came_through()
    with connection.transaction([]):
        pass
    connection.commit()
    connection.written -= 1  # as if the answer had not come
    for _ in range(looks - 1):
        connection.value("hot.look_up", (connection.writer,))
    assert connection.came_through()
    with connection.transaction([]):
        pass
    connection.commit()


def test_transactions_read_what_is_committed_whatever_the_database_has_as_default(url: str) -> None:
    with psycopg.connect(plain(url), autocommit=True) as admin:
        name = admin.info.dbname
        admin.execute(f"ALTER DATABASE {name} SET default_transaction_isolation = 'serializable'".encode())
        admin.execute(f"ALTER DATABASE {name} SET default_transaction_read_only = on".encode())
    connection = Connection(target(url), None)
    try:
        connection.script("SET default_transaction_read_only = off")  # for the row of the writer
        with connection.transaction([]):
            assert connection.ask("SHOW transaction_isolation") == [("read committed",)]
            assert connection.ask("SHOW transaction_read_only") == [("off",)]
        connection.commit()
    finally:
        connection.close()


def test_a_transaction_does_not_go_on_on_another_connection(connection: Connection) -> None:
    with pytest.raises(psycopg.OperationalError, match="lost inside a transaction"):  # noqa: SIM117
        with connection.transaction([]):
            assert connection._raw is not None
            connection._raw.close()
            connection.rows("claim.limits")
    with connection.transaction([]):
        assert connection._raw is not None
        connection._raw.close()
    with pytest.raises(psycopg.OperationalError, match="before the transaction was committed"):
        connection.commit()
    with connection.transaction([]):
        assert connection._raw is not None
        connection._raw.execute(b"ROLLBACK")
        connection._raw.execute(b"BEGIN")
        with pytest.raises(psycopg.Error):
            connection._raw.execute(b"SELECT 1/0")
    with pytest.raises(psycopg.errors.InFailedSqlTransaction):
        connection.commit()


async def test_who_only_looks_at_a_run_waits_for_nobody_who_writes_to_it(url: str) -> None:
    async with PostgresStore(url) as store:
        (claim,) = await claimed(store, "r")
        with psycopg.connect(plain(url)) as holding:
            holding.execute("SELECT 1 FROM holdfast.live WHERE run = %s FOR UPDATE", [claim.run.key])
            async with asyncio.timeout(5):
                assert (await store.get_run("r")).worker == claim.run.worker
