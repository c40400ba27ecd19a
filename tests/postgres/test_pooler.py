"""Behind a pooler of transactions: nothing of ours stays in a session."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import psycopg
import pytest

from holdfast.model import Change, Committed, Note
from holdfast.store.postgres import PostgresStore
from holdfast.testing.conformance.commits import CommitPromises
from holdfast.testing.conformance.place import MovableClock, Place
from tests.conformance.test_postgres import PostgresPlace
from tests.postgres.proxy import Pooler
from tests.postgres.server import Databases, plain
from tests.store.shapes import SERVES, change, claimed, new_run, new_worker


@pytest.fixture
def pooler(databases: Databases) -> Iterator[Pooler]:
    url = databases.fresh()
    made = Pooler(url)
    yield made
    made.close()
    databases.drop(url)


class TestCommitsThroughAPooler(CommitPromises):
    """The promises of the road that is used most, each transaction on another server connection."""

    @pytest.fixture
    def place(self, pooler: Pooler, databases: Databases) -> Place:
        return PostgresPlace(databases, MovableClock(), pooler.url)


async def test_workers_share_two_server_connections_and_every_transaction_changes_them(
    databases: Databases,
) -> None:
    url = databases.fresh()
    pooler = Pooler(url, size=2)
    try:
        async with PostgresStore(pooler.url) as one, PostgresStore(pooler.url) as other:
            claims = await claimed(one, *(f"r{n}" for n in range(4)))
            for position in range(5):
                stores = (one, other, one, other)
                answers = await asyncio.gather(
                    *(
                        store.commit([change(claim, position)])
                        for store, claim in zip(stores, claims, strict=True)
                    )
                )
                assert all(isinstance(answer, Committed) for (answer,) in answers)
            for n in range(4):
                assert (await other.get_run(f"r{n}")).position == 5
        assert pooler.swaps > 40
    finally:
        pooler.close()
        databases.drop(url)


async def test_nothing_stays_in_a_session(pooler: Pooler) -> None:
    async with PostgresStore(pooler.url) as store:
        claim, *_ = await claimed(store, "r", "s", "t")
        told = Change(run=claim.run.key, token=claim.run.token, position=0, notes=(Note("log", b"{}"),))
        for position in range(12):  # the driver would prepare a statement by now
            await store.commit([change(claim, position)])
            await store.commit([told])
        await store.create_run(new_run("next"))
        async with asyncio.timeout(20):
            await store.wait_for_news(0.01)
    with psycopg.connect(plain(pooler.url), autocommit=True, prepare_threshold=None) as session:
        for _ in range(3):  # each of the pooler's connections
            assert session.execute("SELECT name FROM pg_prepared_statements").fetchall() == []
            assert session.execute("SHOW lock_timeout").fetchall() == [("0",)]
            assert session.execute("SHOW search_path").fetchall() == [('"$user", public',)]
    held = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory'"
    with psycopg.connect(plain(pooler.url), autocommit=True) as session:
        assert session.execute(held).fetchall() == [(0,)]


async def test_who_hears_no_notices_looks_by_itself(pooler: Pooler) -> None:
    async with PostgresStore(pooler.url) as store, PostgresStore(pooler.url) as other:
        worker = await store.register_worker(new_worker(), 60_000_000)
        waiting = asyncio.create_task(store.wait_for_news(1.0))
        await other.create_run(new_run())
        await asyncio.wait_for(waiting, 10)
        assert len(await store.claim(worker, SERVES, 1)) == 1
