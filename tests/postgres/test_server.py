"""The server goes away, comes back, ends sessions, says no: what is acknowledged stays, and the next use goes on."""

from __future__ import annotations

import asyncio
import signal
import time
from collections.abc import Iterator

import psycopg
import pytest

from holdfast.errors import StoreError, StoreFull, StoreRefused, StoreUnavailable, UsageError
from holdfast.model import Committed
from holdfast.store import open_store, shown
from holdfast.store.postgres import PostgresStore, engine
from holdfast.store.postgres.errors import translate
from holdfast.store.postgres.target import target
from tests.postgres.server import Databases, plain
from tests.store.shapes import SERVES, change, claimed, new_run, new_worker
from tools.postgres import Server

DURABLE = ("fsync=on", "synchronous_commit=on")


@pytest.fixture
def server() -> Iterator[Server]:
    """One of this test's own, to be stopped and started, which loses nothing."""
    made = Server(settings=DURABLE)
    made.start()
    yield made
    made.remove()


def end_sessions(url: str) -> int:
    """As an administrator would, or an idle time-out."""
    with psycopg.connect(plain(url), autocommit=True) as admin:
        found = admin.execute(
            "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity"
            " WHERE application_name = 'holdfast' AND datname = current_database()"
        ).fetchone()
        assert found is not None
        return int(found[0])


async def test_sessions_that_were_ended_are_replaced_without_a_word(url: str) -> None:
    async with PostgresStore(url) as store:
        (claim,) = await claimed(store, "r")
        await store.commit([change(claim)])
        assert end_sessions(url) >= 3
        (answer,) = await store.commit([change(claim, 1)])
        assert isinstance(answer, Committed)
        assert end_sessions(url) >= 1
        assert (await store.get_run("r")).position == 2
        assert not (await store.create_run(new_run("next"))).existed


async def test_what_a_crash_of_the_server_interrupts_is_said_and_goes_on_afterwards(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engine, "LOOK_UP_S", 0.3)
    async with PostgresStore(server.url) as store:
        (claim,) = await claimed(store, "r")
        await store.commit([change(claim)])
        server.stop(signal.SIGQUIT)
        with pytest.raises(StoreUnavailable, match="nobody knows whether the last write was recorded"):
            await store.commit([change(claim, 1)])
        with pytest.raises(StoreUnavailable, match="cannot be reached"):
            await store.commit([change(claim, 1)])
        with pytest.raises(StoreUnavailable, match="cannot be reached"):
            await store.get_run("r")
        with pytest.raises(StoreUnavailable, match="cannot be reached"):
            await asyncio.to_thread(store.renew_lease, claim.run.worker or 0, 1_000_000, None)
        server.start()
        assert await asyncio.to_thread(store.renew_lease, claim.run.worker or 0, 60_000_000, None)
        (answer,) = await store.commit([change(claim, 1)])
        assert isinstance(answer, Committed)
        assert [entry.position for entry in await store.read_entries("r")] == [1, 2]


@pytest.mark.timeout(120)
async def test_nothing_is_lost_and_nothing_recorded_twice_while_the_server_is_started_again_and_again(
    server: Server,
) -> None:
    async with PostgresStore(server.url) as store:
        (claim,) = await claimed(store, "r")
        position, stops = 0, 0
        over = asyncio.Event()

        async def restart() -> None:
            nonlocal stops
            for how in (signal.SIGINT, signal.SIGQUIT, signal.SIGINT):
                await asyncio.sleep(0.3)
                await asyncio.to_thread(server.stop, how)
                await asyncio.to_thread(server.start)
                stops += 1
            over.set()

        restarts = asyncio.create_task(restart())
        while not over.is_set():
            try:
                (answer,) = await store.commit([change(claim, position, b"%d" % position)])
            except StoreUnavailable:
                await asyncio.sleep(0.02)
                position = (await again(store)).position
                continue
            assert isinstance(answer, Committed), answer
            position = answer.position
        await restarts
        entries = await store.read_entries("r", payloads=True)
        assert stops == 3
        assert position > 10
        assert [entry.payload for entry in entries] == [b"%d" % n for n in range(position)]


async def again(store: PostgresStore):  # type: ignore[no-untyped-def]
    """The run, when the server is there again."""
    last = time.monotonic() + 60
    while True:
        try:
            return await store.get_run("r")
        except StoreUnavailable:
            assert time.monotonic() < last
            await asyncio.sleep(0.05)


async def test_a_process_that_is_stopped_in_a_transaction_lets_go_of_its_locks(
    url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    from holdfast.store.postgres import connection

    monkeypatch.setattr(
        connection,
        "_LIMITS",
        connection._LIMITS.replace("session_timeout = '10s'", "session_timeout = '300ms'"),
    )
    async with PostgresStore(url) as stopped, PostgresStore(url) as other:

        def sleep(_: object) -> None:
            time.sleep(1.5)

        await other.create_run(new_run())
        began = time.monotonic()
        asleep = asyncio.create_task(stopped._engine.write(sleep))
        await asyncio.sleep(0.1)
        await other.create_run(new_run("next"))
        assert time.monotonic() - began < 1.4
        with pytest.raises(StoreError):
            await asleep


async def test_a_wait_for_a_lock_that_was_too_long_costs_that_call_and_no_other(
    url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nor does a transaction that is given up where it begins leave its connection inside of it."""
    from holdfast.store.postgres import connection

    short = connection._LIMITS.replace("lock_timeout = '10s'", "lock_timeout = '100ms'")
    monkeypatch.setattr(connection, "_LIMITS", short)
    monkeypatch.setattr(connection, "_MOMENT", connection._MOMENT + "; SELECT 1/0")
    async with PostgresStore(url) as store:
        with psycopg.connect(plain(url)) as holding:
            holding.execute("SELECT pg_advisory_lock(%s)", [target(url).lock("runs")])
            for _ in range(2 * engine.CONTROLLERS):
                with pytest.raises(StoreError, match="holds its lock for too long"):
                    await store.create_run(new_run())
        for n in range(2 * engine.CONTROLLERS):
            await store.create_run(new_run(f"r{n}"))
        for _ in range(2 * engine.READERS):
            with pytest.raises(StoreError, match="division by zero"):
                await store.read_events("r0", 0, 1)
        monkeypatch.undo()
        for n in range(2 * engine.READERS):
            assert await store.read_events(f"r{n}", 0, 1)


async def test_notices_of_another_process_end_a_wait(url: str) -> None:
    async with PostgresStore(url) as store, PostgresStore(url) as other:
        await store.wait_for_news(0.01)  # listens from now on
        await asyncio.sleep(0.5)
        await store.wait_for_news(0)
        began = time.monotonic()
        waiting = asyncio.create_task(store.wait_for_news(20))
        await asyncio.sleep(0.05)
        await other.create_run(new_run())
        await asyncio.wait_for(waiting, 10)
        assert time.monotonic() - began < 1.4  # without a notice it would look after 1.5 to 2 seconds


async def test_notices_are_gathered_and_never_in_the_transaction_of_a_step(url: str) -> None:
    async with PostgresStore(url) as store:
        (claim,) = await claimed(store, "r")
        with psycopg.connect(plain(url), autocommit=True) as listening:
            listening.execute("LISTEN holdfast_holdfast")
            for position in range(40):
                await store.commit([change(claim, position)])
            await asyncio.sleep(0.3)
            heard = await asyncio.to_thread(lambda: list(listening.notifies(timeout=0.2)))
    assert 1 <= len(heard) < 40


async def test_the_first_notice_after_a_pause_goes_out_at_once_and_those_behind_it_are_gathered(
    url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("holdfast.store.postgres.news.AT_MOST_EVERY_S", 3600.0)
    async with PostgresStore(url) as store:
        with psycopg.connect(plain(url), autocommit=True) as listening:
            listening.execute("LISTEN holdfast_holdfast")
            for n in range(5):
                await store.create_run(new_run(f"r{n}"))
            first = await asyncio.to_thread(lambda: list(listening.notifies(timeout=20, stop_after=1)))
            more = await asyncio.to_thread(lambda: list(listening.notifies(timeout=0.2)))
    assert (len(first), len(more)) == (1, 0)


async def test_a_lost_listener_loses_hints_and_nothing_else(url: str) -> None:
    async with PostgresStore(url) as store, PostgresStore(url) as other:
        worker = await store.register_worker(new_worker(), 60_000_000)
        await store.wait_for_news(0.01)
        await asyncio.sleep(0.3)
        end_sessions(url)
        await other.create_run(new_run())
        async with asyncio.timeout(10):
            while not await store.claim(worker, SERVES, 1):
                await store.wait_for_news(1.0)


async def test_leases_and_times_are_of_the_database_whatever_a_host_says(
    url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    import holdfast.clock

    monkeypatch.setattr(holdfast.clock.time, "time_ns", lambda: 1_000_000_000)
    async with PostgresStore(url) as store:
        with psycopg.connect(plain(url)) as asked:
            (now_s,) = asked.execute("SELECT extract(epoch FROM clock_timestamp())::float8").fetchone() or (
                0,
            )
        assert abs(await store.now() - now_s * 1e6) < 5_000_000
        created = await store.create_run(new_run())
        assert abs(created.run.created_at_us - now_s * 1e6) < 20_000_000


# --- what is refused, and how it is said ----------------------------------------------------------------------


async def test_a_server_that_loses_what_it_acknowledged_is_refused(databases: Databases) -> None:
    url = plain(databases.fresh())  # that server has fsync = off
    with pytest.raises(StoreRefused, match="fsync = off: it would lose at a power cut"):
        await PostgresStore(url).open()
    databases.drop(url)


async def test_a_database_that_is_not_there_is_named_with_the_way_out(url: str) -> None:
    away = url.replace("/hf_", "/nowhere_")
    with pytest.raises(StoreUnavailable, match=r"nowhere_.* does not exist; create it: createdb NAME"):
        await open_store(away).open()


async def test_a_server_that_is_not_there_is_unavailable() -> None:
    with pytest.raises(StoreUnavailable, match=r"127\.0\.0\.1:1/db cannot be reached"):
        await open_store("postgresql://me:secret@127.0.0.1:1/db").open()


@pytest.mark.parametrize(
    "words", ["is shutting down", "is starting up", "is in recovery mode", "is not yet accepting connections"]
)
def test_a_server_that_is_started_or_stopped_is_not_taken_for_one_without_our_database(words: str) -> None:
    told = str(
        translate(psycopg.OperationalError(f"connection failed: FATAL:  the database system {words}"), "db")
    )
    assert told.startswith("db is starting or stopping; what was acknowledged before is kept")
    assert "createdb" not in told


def test_a_password_is_never_shown() -> None:
    assert "secret" not in target("postgresql://me:secret@host/db").where
    assert shown("postgresql://me:secret@host:5/db?schema=x") == "postgresql://me:***@host:5/db?schema=x"
    assert shown("sqlite:////var/lib/a.db") == "sqlite:////var/lib/a.db"


@pytest.mark.parametrize(
    ("url", "says"),
    [
        ("postgresql://me@host:port/db", "is not one"),
        ("postgresql://me@host/db?schema=Robert'); DROP", "no name of a schema"),
        ("postgresql://me@host/db?durability=some", "is none of"),
    ],
)
def test_a_url_that_means_no_database_is_refused(url: str, says: str) -> None:
    with pytest.raises(UsageError, match=says):
        open_store(url)


async def test_a_null_character_is_refused_with_the_way_out(url: str) -> None:
    async with PostgresStore(url) as store:
        with pytest.raises(UsageError, match="cannot keep a null character"):
            await store.create_run(new_run("a\0b"))


def test_a_full_disk_is_said() -> None:
    told = translate(psycopg.errors.DiskFull("No space left on device"), "here")
    assert isinstance(told, StoreFull)
    assert "make room" in str(told)


async def test_stores_of_two_schemas_in_one_database_know_nothing_of_each_other(url: str) -> None:
    async with PostgresStore(url) as one, PostgresStore(f"{url}&schema=second") as second:
        await one.create_run(new_run())
        await second.create_run(new_run("other"))
        assert [run.id for run in await one.list_runs(everything())] == ["r"]
        assert [run.id for run in await second.list_runs(everything())] == ["other"]


def everything():  # type: ignore[no-untyped-def]
    from holdfast.model import RunFilter

    return RunFilter(limit=10)
