"""Steps take no lock but their run's row, and decisions no row but under theirs: nothing is lost between the two."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from itertools import pairwise

import pytest

from holdfast.model import (
    Change,
    Committed,
    Decision,
    NewChild,
    Note,
    ParentPolicy,
    RefusedChange,
    RunFilter,
    RunState,
)
from holdfast.rules import transitions
from holdfast.store.postgres import PostgresStore
from tests.store.shapes import HOUR_US, SERVES, change, claimed, entry, new_run, new_worker


@pytest.fixture
async def stores(url: str) -> AsyncIterator[list[PostgresStore]]:
    opened = [PostgresStore(url) for _ in range(3)]
    for store in opened:
        await store.open()
    yield opened
    for store in opened:
        await store.close()


async def test_decisions_and_steps_at_once_leave_a_feed_without_gaps(stores: list[PostgresStore]) -> None:
    work, one, other = stores
    (claim,) = await claimed(work, "r")
    told = 0

    async def steps() -> int:
        position = 0
        for _ in range(60):
            (answer,) = await work.commit([change(claim, position)])
            assert isinstance(answer, Committed), answer
            position = answer.position
        return position

    async def signals(store: PostgresStore) -> None:
        nonlocal told
        for _ in range(20):
            await store.add_signal("r", "go", b"1")
            await store.update_run("r", lambda run, _: Decision(run=run, notes=(Note("told", b"{}"),)))
            told += 1

    position, _, _ = await asyncio.gather(steps(), signals(one), signals(other))
    run = await work.get_run("r")
    events = await work.read_events("r", 0, 1_000)
    assert (run.position, run.inbox_no, told) == (position, 40, 40)
    assert [event.n for event in events] == list(range(1, run.event_no + 1))
    assert len(events) == 2 + 60 + 40  # the last are those that were told


async def test_a_cancel_comes_between_two_steps_and_nothing_after_it(stores: list[PostgresStore]) -> None:
    work, one, _ = stores
    claims = await claimed(work, *(f"r{n}" for n in range(8)))

    async def steps(claim) -> int:  # type: ignore[no-untyped-def]
        position = 0
        while True:
            (answer,) = await work.commit([change(claim, position)])
            if isinstance(answer, RefusedChange):
                assert answer.state is RunState.CANCELLED
                return position
            position = answer.position

    async def cancel(n: int) -> None:
        await asyncio.sleep(0.02 * n)
        await one.update_run(f"r{n}", transitions.cancel)

    found = await asyncio.gather(*(steps(claim) for claim in claims), *(cancel(n) for n in range(8)))
    for n in range(8):
        run = await one.get_run(f"r{n}")
        events = await one.read_events(f"r{n}", 0, 10_000)
        assert run.position == found[n]
        assert [event.n for event in events] == list(range(1, run.event_no + 1))
        assert events[-1].type == "run.cancelled"


async def test_many_workers_claim_each_run_once(stores: list[PostgresStore]) -> None:
    await stores[0].create_runs([new_run(f"r{n}") for n in range(60)])
    keys = [await store.register_worker(new_worker(), HOUR_US) for store in stores]

    async def take(store: PostgresStore, worker: int) -> list[str]:
        taken: list[str] = []
        while claims := await store.claim(worker, SERVES, 4):
            taken += [claim.run.id for claim in claims]
        return taken

    found = await asyncio.gather(
        *(take(store, key) for store, key in zip(stores, keys, strict=True) for _ in range(2))
    )
    everything = [run_id for taken in found for run_id in taken]
    assert sorted(everything) == sorted(f"r{n}" for n in range(60))


async def test_a_limit_holds_however_many_claim_at_once(stores: list[PostgresStore]) -> None:
    await stores[0].create_runs([new_run(f"r{n}") for n in range(30)])
    await stores[0].limit_queue("default", 7)
    keys = [await store.register_worker(new_worker(), HOUR_US) for store in stores]
    await asyncio.gather(
        *(store.claim(key, SERVES, 5) for store, key in zip(stores, keys, strict=True) for _ in range(3))
    )
    running = await stores[0].list_runs(RunFilter(states=frozenset({RunState.RUNNING}), limit=100))
    assert len(running) == 7


async def test_an_end_that_reaches_running_children_meets_their_steps(stores: list[PostgresStore]) -> None:
    """Both lock rows of several runs: in one order, or the database gives one up, which is done again."""
    work, one, _ = stores
    (parent,) = await claimed(work, "parent")
    names = [f"c{n}" for n in range(20)]
    born = Change(
        run=parent.run.key,
        token=parent.run.token,
        position=0,
        entries=(entry(),),
        beside=tuple(NewChild(new=new_run(name), on_parent_end=ParentPolicy.CANCEL) for name in names),
    )
    (answer,) = await work.commit([born])
    assert isinstance(answer, Committed)
    worker = await work.register_worker(new_worker(), HOUR_US)
    claims = await work.claim(worker, SERVES, 100)
    assert len(claims) == 20

    async def steps() -> None:
        position = 0
        while True:
            batch = [change(claim, position) for claim in reversed(claims)]
            answers = await work.commit(batch)
            if any(isinstance(each, RefusedChange) for each in answers):
                return
            position += 1

    async def end() -> None:
        await asyncio.sleep(0.1)
        await one.update_run("parent", transitions.cancel)

    await asyncio.gather(steps(), end())
    states = {(await one.get_run(name)).state for name in names}
    assert states == {RunState.CANCELLED}


async def test_a_turn_of_a_rate_is_given_once(stores: list[PostgresStore]) -> None:
    from holdfast.model import NewTurn, Terms

    claims = await claimed(stores[0], *(f"r{n}" for n in range(12)))
    terms = Terms(units=1, period_us=1_000_000, burst=1)
    asked = [
        NewTurn(run=claim.run.key, token=claim.run.token, call="c", rate="api", terms=terms, cost=1)
        for claim in claims
    ]
    turns = await asyncio.gather(*(stores[n % 3].take_turns([new]) for n, new in enumerate(asked)))
    waits = sorted(turn.wait_us for (turn,) in turns)
    for earlier, later in pairwise(waits):
        assert later - earlier > 400_000  # one in a second, less what passed between the questions
