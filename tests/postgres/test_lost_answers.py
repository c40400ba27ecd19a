"""A connection that is lost before it answered: what became of the transaction is looked up, not guessed."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator

import pytest

from holdfast.errors import StoreUnavailable
from holdfast.model import Change, Committed, Note, Succeeded
from holdfast.store.postgres import PostgresStore, engine
from tests.postgres.proxy import Line
from tests.postgres.server import Databases
from tests.store.shapes import change, claimed, entry, new_run

STEP = b"holdfast.record("
ALONE = b"holdfast.record_step("
COMMIT = b"COMMIT\0"


@pytest.fixture
def line(databases: Databases) -> Iterator[Line]:
    url = databases.fresh()
    made = Line(url)
    yield made
    made.close()
    databases.drop(url)


@pytest.fixture
async def store(line: Line) -> AsyncIterator[PostgresStore]:
    async with PostgresStore(line.url) as opened:
        yield opened


@pytest.mark.parametrize("lost", ["answer", "question", "late"])
async def test_steps_whose_answer_is_lost_are_recorded_once_and_answered(
    store: PostgresStore, line: Line, lost: str
) -> None:
    first, second = await claimed(store, "r", "q")
    line.lose(STEP, lost)
    answers = await store.commit([change(first), change(second)])
    line.deliver()
    assert line.cuts == 1
    assert [answer.position for answer in answers if isinstance(answer, Committed)] == [1, 1]
    for run_id, answer in zip(("r", "q"), answers, strict=True):
        (recorded,) = await store.read_entries(run_id)
        run = await store.get_run(run_id)
        assert isinstance(answer, Committed)
        assert (recorded.position, recorded.at_us) == (1, answer.at_us)
        assert (run.position, run.event_no) == (1, answer.event_no)


@pytest.mark.parametrize("soon", [False, True])
@pytest.mark.parametrize("lost", ["answer", "question", "late"])
async def test_a_step_by_itself_whose_answer_is_lost_is_recorded_once_and_answered(
    store: PostgresStore, line: Line, lost: str, soon: bool
) -> None:
    (claim,) = await claimed(store, "r")
    await store.commit([change(claim)])
    line.lose(ALONE, lost)
    if soon:
        told = await begun(store, change(claim, 1))
        answer = told if told is not None else (await store.commit([change(claim, 1)]))[0]
    else:
        (answer,) = await store.commit([change(claim, 1)])
    line.deliver()
    assert line.cuts == 1
    assert isinstance(answer, Committed)
    _, recorded = await store.read_entries("r")
    run = await store.get_run("r")
    assert (recorded.position, recorded.at_us) == (2, answer.at_us)
    assert (run.position, run.event_no) == (2, answer.event_no)
    (third,) = await store.commit([change(claim, 2)])
    assert isinstance(third, Committed)


async def begun(store: PostgresStore, change: Change) -> Committed | Exception | None:
    """What a step is answered that the store has begun."""
    told: asyncio.Future[Committed | Exception | None] = asyncio.get_running_loop().create_future()
    assert store.commit_soon(change, told.set_result)
    return await asyncio.wait_for(told, 20)


async def test_a_step_that_is_begun_when_its_caller_leaves_is_finished(
    store: PostgresStore, line: Line
) -> None:
    (claim,) = await claimed(store, "r")
    await store.commit([change(claim)])
    leaving = asyncio.create_task(store.commit([change(claim, 1)]))
    await asyncio.sleep(0)
    leaving.cancel()
    await store.close()
    await store.open()
    assert [each.position for each in await store.read_entries("r")] == [1, 2]


@pytest.mark.parametrize("lost", ["answer", "question", "late"])
async def test_notes_whose_answer_is_lost_are_recorded_once(
    store: PostgresStore, line: Line, lost: str
) -> None:
    (claim,) = await claimed(store, "r")
    line.lose(STEP, lost)
    note = Change(run=claim.run.key, token=claim.run.token, position=0, notes=(Note("log", b"{}"),))
    (answer,) = await store.commit([note])
    line.deliver()
    assert isinstance(answer, Committed)
    assert [event.type for event in await store.read_events("r", 2, 9)] == ["log"]
    assert (await store.get_run("r")).event_no == answer.event_no == 3


@pytest.mark.parametrize("lost", ["answer", "question", "late"])
async def test_a_run_whose_creation_is_not_answered_is_there_once_and_returned(
    store: PostgresStore, line: Line, lost: str
) -> None:
    line.lose(COMMIT, lost)
    created = await store.create_run(new_run())
    line.deliver()
    assert line.cuts == 1
    assert not created.existed
    assert created.run.key == (await store.get_run("r")).key
    assert [event.type for event in await store.read_events("r", 0, 9)] == ["run.queued"]


@pytest.mark.parametrize("lost", ["answer", "question", "late"])
async def test_a_signal_without_a_name_of_its_own_is_sent_once(
    store: PostgresStore, line: Line, lost: str
) -> None:
    await store.create_run(new_run())
    line.lose(COMMIT, lost)
    await store.add_signal("r", "go", b"1")
    line.deliver()
    run = await store.get_run("r")
    assert [signal.n for signal in (await store.read_inbox(run.key))[1]] == [1]


@pytest.mark.parametrize("lost", ["answer", "question", "late"])
async def test_an_end_whose_answer_is_lost_is_recorded_once(
    store: PostgresStore, line: Line, lost: str
) -> None:
    (claim,) = await claimed(store, "r")
    line.lose(COMMIT, lost)
    end = Change(
        run=claim.run.key,
        token=claim.run.token,
        position=0,
        entries=(entry(),),
        outcome=Succeeded(result=b"2"),
    )
    (answer,) = await store.commit([end])
    line.deliver()
    assert isinstance(answer, Committed)
    assert (await store.get_run("r")).result == b"2"
    assert len(await store.read_entries("r")) == 1


async def test_when_nobody_can_say_that_is_said_and_nothing_is_done_again(
    store: PostgresStore, line: Line, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engine, "LOOK_UP_S", 0.3)
    (claim,) = await claimed(store, "r")
    await store.commit([change(claim)])
    line.lose(ALONE, "answer")
    line.down = True  # and nobody gets through any more
    with pytest.raises(StoreUnavailable, match="nobody knows whether the last write was recorded"):
        await store.commit([change(claim, 1)])
    line.down = False
    assert len(await store.read_entries("r")) == 2
    (again,) = await store.commit([change(claim, 1)])
    assert not isinstance(again, Committed)  # its place is taken: by itself


async def test_a_renewal_whose_answer_is_lost_is_answered(store: PostgresStore, line: Line) -> None:
    from tests.store.shapes import new_worker

    worker = await store.register_worker(new_worker(), 1_000_000)
    line.lose(COMMIT, "answer")
    assert await asyncio.to_thread(store.renew_lease, worker, 60_000_000, None)
    (record,) = await store.list_workers()
    assert record.lease_left_us is not None and record.lease_left_us > 30_000_000
