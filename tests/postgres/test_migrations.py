"""The schema: made once by any number of starters, each migration whole or not at all."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator

import psycopg
import pytest

from holdfast.errors import StoreCorrupt, StoreRefused
from holdfast.rules import states
from holdfast.store import migrate
from holdfast.store.postgres import PostgresStore, schema
from holdfast.store.postgres.connection import Connection
from holdfast.store.postgres.target import target
from tests.postgres.server import Databases, plain
from tests.store.shapes import change, claimed, new_run

OPENER = """
import asyncio, sys
from holdfast.store import open_store
from tests.store.shapes import new_run
async def main():
    async with open_store(sys.argv[1]) as store:
        await store.create_run(new_run(sys.argv[2]))
asyncio.run(main())
"""


@pytest.fixture
def url(databases: Databases) -> Iterator[str]:
    made = databases.empty()
    yield made
    databases.drop(made)


def ask(url: str, text: str) -> list[tuple[object, ...]]:
    with psycopg.connect(plain(url), autocommit=True) as connection:
        found = connection.execute(text.encode())
        return found.fetchall() if found.description else []


def migration(version: int, name: str, sql: str) -> migrate.Migration:
    return migrate.Migration(version, name, sql, f"hash of {name}")


@pytest.mark.timeout(180)
async def test_six_processes_open_an_empty_database_at_once(url: str) -> None:
    started = [
        subprocess.Popen([sys.executable, "-c", OPENER, url, f"r{n}"], stderr=subprocess.PIPE)
        for n in range(6)
    ]
    assert [(each.communicate()[1].decode(), each.returncode) for each in started] == [("", 0)] * 6
    async with PostgresStore(url) as store:
        for n in range(6):
            await store.get_run(f"r{n}")
    assert ask(url, "SELECT version FROM holdfast.holdfast_schema ORDER BY version") == [
        (each.version,) for each in schema.known()
    ]


def test_a_migration_that_is_killed_half_way_leaves_nothing_and_the_next_starter_does_it(url: str) -> None:
    connection = Connection(target(url), None)
    wanted = [
        migration(1, "first", "CREATE TABLE holdfast.first (n bigint)"),
        migration(
            2,
            "second",
            "CREATE TABLE holdfast.half (n bigint); SELECT pg_terminate_backend(pg_backend_pid())",
        ),
    ]
    with pytest.raises(psycopg.OperationalError):
        _apply(connection, wanted)
    tables = "SELECT relname FROM pg_class WHERE relnamespace = 'holdfast'::regnamespace AND relkind = 'r' ORDER BY 1"
    assert ask(url, tables) == [("first",), ("holdfast_schema",)]
    wanted[1] = migration(2, "second", "CREATE TABLE holdfast.whole (n bigint)")
    _apply(connection, wanted)
    connection.close()
    assert ask(url, tables) == [("first",), ("holdfast_schema",), ("whole",)]


def _apply(connection: Connection, wanted: list[migrate.Migration]) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(schema, "known", lambda: wanted)
        schema.apply(connection, wanted)


async def test_a_store_of_a_newer_holdfast_is_refused(url: str) -> None:
    async with PostgresStore(url):
        pass
    ask(url, "INSERT INTO holdfast.holdfast_schema (version, name, sha256) VALUES (9999, 'later', 'x')")
    with pytest.raises(StoreRefused, match="newer holdfast"):
        await PostgresStore(url).open()


async def test_a_store_made_by_other_migrations_is_refused(url: str) -> None:
    async with PostgresStore(url):
        pass
    ask(url, "UPDATE holdfast.holdfast_schema SET sha256 = 'x'")
    with pytest.raises(StoreCorrupt, match="migration 0001_store"):
        await PostgresStore(url).open()


async def test_a_schema_of_another_program_is_refused_and_left_as_it_is(url: str) -> None:
    ask(url, "CREATE SCHEMA holdfast")
    ask(url, "CREATE TABLE holdfast.theirs (n bigint)")
    with pytest.raises(StoreRefused, match=r"belongs to another program; name another: \?schema=NAME"):
        await PostgresStore(url).open()
    assert ask(url, "SELECT count(*) FROM pg_class WHERE relnamespace = 'holdfast'::regnamespace") == [(1,)]
    async with PostgresStore(f"{url}&schema=ours") as store:
        await store.create_run(new_run())


async def test_opening_again_writes_nothing(url: str) -> None:
    async with PostgresStore(url):
        pass
    ask(
        url,
        "ALTER DATABASE " + plain(url).rpartition("/")[2] + " SET default_transaction_read_only = on",
    )
    async with PostgresStore(url):
        pass


async def test_the_state_table_of_the_database_is_that_of_the_rules(url: str) -> None:
    async with PostgresStore(url):
        pass
    moves = {(str(before), str(after)) for (before, _), targets in states.TABLE.items() for after in targets}
    rows = set(ask(url, "SELECT from_state, to_state FROM holdfast.run_moves"))
    assert rows == {(before, after) for before, after in moves if before != after}


@pytest.mark.parametrize(
    ("attack", "says"),
    [
        ("UPDATE holdfast.runs SET state = 'succeeded', finished_at_us = 1 WHERE id = 'q'", "no such move"),
        ("UPDATE holdfast.runs SET token = 0 WHERE id = 'r'", "a token never falls"),
        ("UPDATE holdfast.live SET position = 0", "never fall"),
        ("UPDATE holdfast.live SET token = 7", "the token is that of the run"),
        ("DELETE FROM holdfast.live", "keeps its live counters"),
        ("UPDATE holdfast.events SET payload = 'x'", "events are immutable"),
        ("DELETE FROM holdfast.events", "the events of an unfinished run stay"),
        (
            "INSERT INTO holdfast.runs (id, agent, version, queue, priority, state, claimable, created_at_us,"
            " input_hash) VALUES ('x', 'a', '0', 'd', 0, 'waiting', true, 0, '')",
            "a run begins as queued",
        ),
    ],
)
async def test_the_database_refuses_what_breaks_a_law(url: str, attack: str, says: str) -> None:
    async with PostgresStore(url) as store:
        (claim,) = await claimed(store, "r")
        await store.commit([change(claim)])
        await store.create_run(new_run("q"))
        with pytest.raises(psycopg.IntegrityError, match=says):
            ask(url, attack)
