"""What the store says and keeps when the file, the disk or another process gets in the way."""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import apsw
import pytest
from msgspec import structs

from holdfast.clock import SystemClock
from holdfast.errors import PayloadTooLarge, StoreCorrupt, StoreError, StoreFull, StoreGone, StoreUnavailable
from holdfast.model import Committed, Progress, Reason, RunState
from holdfast.store.sqlite import SQLiteStore, errors
from holdfast.store.transactions import payloads
from tests.store.shapes import HOUR_US, SERVES, change, claimed, new_run, new_worker


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[SQLiteStore]:
    async with SQLiteStore(tmp_path / "runs.db", clock=SystemClock()) as opened:
        yield opened


@pytest.fixture
def other(store: SQLiteStore, tmp_path: Path) -> Iterator[apsw.Connection]:
    """Somebody else on the same file."""
    connection = apsw.Connection(str(tmp_path / "runs.db"))
    yield connection
    connection.close()


def _all_errors(kind: type[apsw.Error]) -> Iterator[type[apsw.Error]]:
    yield kind
    for each in kind.__subclasses__():
        yield from _all_errors(each)


@pytest.mark.parametrize("kind", list(_all_errors(apsw.Error)), ids=lambda kind: kind.__name__)
def test_no_error_of_the_library_leaks(kind: type[apsw.Error]) -> None:
    with pytest.raises(StoreError, match=r"/var/runs\.db") as raised, errors.translated(Path("/var/runs.db")):
        raise kind("details")
    assert isinstance(raised.value.__cause__, kind)


async def test_a_full_disk_is_said_and_keeps_what_was_acknowledged(store: SQLiteStore) -> None:
    (claim,) = await claimed(store, "r")
    (first,) = await store.commit([change(claim)])
    assert isinstance(first, Committed)
    pages = store._engine._writer.value("PRAGMA page_count")
    store._engine._writer.run(f"PRAGMA max_page_count = {pages}")
    with pytest.raises(StoreFull, match="make room"):
        await store.commit(
            [change(claim, 1, b"x" * 8000) for _ in range(1)] + [_large(claim, n) for n in range(2, 40)]
        )
    store._engine._writer.run("PRAGMA max_page_count = 1000000")
    assert [each.position for each in await store.read_entries("r")] == [1]
    (again,) = await store.commit([change(claim, 1)])
    assert isinstance(again, Committed)


def _large(claim, position):
    return change(claim, position, os.urandom(8000))


async def test_a_file_deleted_in_use_is_noticed(store: SQLiteStore, tmp_path: Path) -> None:
    worker = await store.register_worker(new_worker(), HOUR_US)
    (tmp_path / "runs.db").unlink()
    with pytest.raises(StoreGone, match="was deleted while in use"):
        store.renew_lease(worker, HOUR_US, None)
    with pytest.raises(StoreGone, match="was deleted while in use"):
        await store.claim(worker, SERVES, 1)


async def test_a_file_replaced_in_use_is_noticed(store: SQLiteStore, tmp_path: Path) -> None:
    worker = await store.register_worker(new_worker(), HOUR_US)
    (tmp_path / "copy").write_bytes((tmp_path / "runs.db").read_bytes())
    (tmp_path / "copy").rename(tmp_path / "runs.db")
    with pytest.raises(StoreGone, match="was replaced by another file"):
        store.renew_lease(worker, HOUR_US, None)
    with pytest.raises(StoreGone, match="was replaced by another file"):
        await store.list_workers()  # a connection to the other file would answer


async def test_a_closed_store_says_so(tmp_path: Path) -> None:
    store = SQLiteStore(tmp_path / "runs.db", clock=SystemClock())
    with pytest.raises(StoreUnavailable, match="not open"):
        await store.get_run("r")
    await store.open()
    await store.open()
    await store.close()
    await store.close()
    for call in (store.get_run("r"), store.create_run(new_run()), store.commit([]), store.wait_for_news(0)):
        with pytest.raises(StoreUnavailable, match="not open"):
            await call


async def test_a_commit_waits_for_another_process_beside_the_event_loop(
    store: SQLiteStore, other: apsw.Connection
) -> None:
    (claim,) = await claimed(store, "r")
    other.execute("BEGIN IMMEDIATE")
    commit = asyncio.create_task(store.commit([change(claim)]))
    await asyncio.sleep(0.05)
    assert not commit.done()  # and the loop was free to say so
    other.execute("COMMIT")
    assert isinstance((await commit)[0], Committed)


async def test_a_write_lock_that_nobody_frees_is_said(store: SQLiteStore, other: apsw.Connection) -> None:
    store._engine._writer.patience(20)
    other.execute("BEGIN IMMEDIATE")
    with pytest.raises(StoreUnavailable, match="another process has held its write lock"):
        await store.create_run(new_run())
    other.execute("COMMIT")
    store._engine._writer.patience(None)
    assert not (await store.create_run(new_run())).existed


async def test_a_cancelled_caller_leaves_its_call_to_end(store: SQLiteStore, other: apsw.Connection) -> None:
    (claim,) = await claimed(store, "r")
    other.execute("BEGIN IMMEDIATE")
    commit = asyncio.create_task(store.commit([change(claim)]))
    await asyncio.sleep(0.02)
    commit.cancel()
    with pytest.raises(asyncio.CancelledError):
        await commit
    other.execute("COMMIT")
    (refused,) = await store.commit([change(claim)])
    assert not isinstance(refused, Committed)  # the position is taken: the cancelled call has recorded it
    assert [each.position for each in await store.read_entries("r")] == [1]


async def test_a_call_cancelled_before_it_began_is_made_all_the_same(
    store: SQLiteStore, other: apsw.Connection
) -> None:
    (claim,) = await claimed(store, "r")
    other.execute("BEGIN IMMEDIATE")
    before = asyncio.create_task(store.create_run(new_run("before")))  # keeps the writing thread waiting
    await asyncio.sleep(0.02)
    commit = asyncio.create_task(store.commit([change(claim)]))
    await asyncio.sleep(0.02)
    commit.cancel()
    with pytest.raises(asyncio.CancelledError):
        await commit
    other.execute("COMMIT")
    await before
    await store.create_run(new_run("after"))  # the thread works in order
    assert [each.position for each in await store.read_entries("r")] == [1]


async def test_a_commit_never_overtakes_one_that_waits(store: SQLiteStore, other: apsw.Connection) -> None:
    (claim,) = await claimed(store, "r")
    other.execute("BEGIN IMMEDIATE")
    first = asyncio.create_task(store.commit([change(claim)]))
    await asyncio.sleep(0.02)
    other.execute("COMMIT")
    second = asyncio.create_task(store.commit([change(claim, 1)]))
    assert all(isinstance(each, Committed) for each in [*await first, *await second])


async def test_an_inline_store_starts_no_thread(tmp_path: Path) -> None:
    before = set(threading.enumerate())
    async with SQLiteStore(tmp_path / "runs.db", clock=SystemClock(), inline=True) as store:
        (claim,) = await claimed(store, "r")
        await store.commit([change(claim)])
        await store.wait_for_news(0.001)
        await store.sweep(10)
        assert set(threading.enumerate()) == before


async def test_a_closed_store_leaves_no_thread_and_no_wal(tmp_path: Path) -> None:
    before = set(threading.enumerate())
    async with SQLiteStore(tmp_path / "runs.db", clock=SystemClock()) as store:
        await claimed(store, "r")
    ours = [each for each in set(threading.enumerate()) - before if each.name.startswith("holdfast")]
    assert ours == []
    assert not (tmp_path / "runs.db-wal").exists()


# --- large payloads -----------------------------------------------------------------------------------------


async def test_a_large_payload_is_compressed_and_comes_back(
    store: SQLiteStore, other: apsw.Connection
) -> None:
    (claim,) = await claimed(store, "r")
    payload = b'"' + b"long " * 100_000 + b'"'
    await store.commit([change(claim, 0, payload)])
    (entry,) = await store.read_entries("r", payloads=True)
    assert entry.payload == payload
    ((encoding, stored),) = other.execute("SELECT encoding, length(body) FROM blobs").fetchall()
    assert encoding == "zstd" and stored < len(payload) / 100


async def test_a_payload_over_the_limit_names_the_step_and_the_limit(store: SQLiteStore) -> None:
    (claim,) = await claimed(store, "r")
    with pytest.raises(PayloadTooLarge, match=r"'work' is 64\.0 MiB; the limit is 64 MiB"):
        await store.commit([change(claim, 0, bytes(payloads.LIMIT_BYTES + 1))])
    assert await store.read_entries("r") == []


async def test_a_damaged_payload_is_refused_and_its_run_held_while_others_are_claimed(
    store: SQLiteStore, other: apsw.Connection
) -> None:
    bad, good = await claimed(store, "bad", "good")
    await store.commit([change(bad, 0, os.urandom(20_000)), change(good)])
    other.execute("UPDATE blobs SET body = zeroblob(length(body))")
    with pytest.raises(StoreCorrupt, match="run bad: entry 1, 'work'"):
        await store.read_entries("bad", payloads=True)
    assert bad.run.worker is not None
    await store.retire_worker(bad.run.worker)
    worker = await store.register_worker(new_worker(), HOUR_US)
    assert [each.run.id for each in await store.claim(worker, SERVES, 10)] == ["good"]
    held = await store.get_run("bad")
    assert (held.state, held.reason) == (RunState.WAITING, Reason.CHECKPOINT_LOST)
    assert held.failure is not None and "checksum" in held.failure.message


async def test_a_change_that_the_database_refuses_leaves_its_batch_untouched(
    store: SQLiteStore, other: apsw.Connection
) -> None:
    first, second = await claimed(store, "first", "second")
    taken = structs.replace(change(first).entries[0], signal=7)  # there is no such signal
    answers = await store.commit([structs.replace(change(first), entries=(taken,)), change(second)])
    assert [isinstance(each, Committed) for each in answers] == [False, True]
    assert await store.read_entries("first") == []
    assert len(await store.read_entries("second")) == 1
    ((n, events),) = other.execute(
        "SELECT event_no, (SELECT max(n) FROM events WHERE run = run_rows.key) FROM run_rows WHERE id = 'first'"
    ).fetchall()
    assert n == events  # no number was spent on what was refused


async def test_a_refused_change_leaves_the_earlier_ones_of_its_run(store: SQLiteStore) -> None:
    (claim,) = await claimed(store, "r")
    progress = Progress(current=1, total=2)
    told = structs.replace(change(claim), progress=progress)
    lacks = structs.replace(change(claim, 1).entries[0], signal=7)  # there is no such signal
    refused = structs.replace(change(claim, 1), entries=(lacks,), progress=Progress(current=2, total=2))
    answers = await store.commit([told, refused, change(claim, 1)])
    assert [isinstance(each, Committed) for each in answers] == [True, False, True]
    assert [each.position for each in await store.read_entries("r")] == [1, 2]
    events = await store.read_events("r", 0, 100)
    assert [each.n for each in events] == list(range(1, len(events) + 1))
    recorded = await store.get_progress(claim.run.key)
    assert recorded is not None and recorded.current == 1
