"""How often the database is asked: what runs all day is one journey, whatever the network in between costs."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from msgspec import structs

from holdfast import Client, Context, Worker, agent
from holdfast.model import Change, Committed, NewCheckpoint, Release, RunState, Succeeded
from holdfast.store.postgres import PostgresStore
from tests.postgres.proxy import Counter
from tests.postgres.server import Databases
from tests.store.shapes import SERVES, change, claimed, entry, new_run, new_worker

STEPS = 40
BEHIND = structs.replace(entry(), identity=entry().identity._replace(segment=1))
KEPT = NewCheckpoint(segment=1, name=None, state=b"{}", keep=2)


@agent
async def many(ctx: Context) -> int:
    for n in range(STEPS):
        await ctx.step(same, n)
    return STEPS


async def same(n: int) -> int:
    return n


@pytest.fixture
def counter(databases: Databases) -> Iterator[Counter]:
    url = databases.fresh()
    made = Counter(url)
    yield made
    made.close()
    databases.drop(url)


async def test_a_step_is_one_journey(counter: Counter, monkeypatch: pytest.MonkeyPatch) -> None:
    async with PostgresStore(counter.url) as store:
        monkeypatch.setattr(
            store._engine, "_tell", lambda: None
        )  # notices go by themselves, 20 times a second
        claims = await claimed(store, "r", "q")
        for position in range(2):  # the connections are there, the plans are made
            await store.commit([change(claims[0], position)])
            await store.commit([change(claim, position + (claim is claims[0])) for claim in claims[1:]])
        before = counter.journeys
        for position in range(2, 12):
            (answer,) = await store.commit([change(claims[0], position)])
            assert isinstance(answer, Committed), answer
        assert counter.journeys - before == 10


async def test_steps_of_many_runs_together_are_one_journey(
    counter: Counter, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with PostgresStore(counter.url) as store:
        monkeypatch.setattr(store._engine, "_tell", lambda: None)
        claims = await claimed(store, *(f"r{n}" for n in range(20)))
        await store.commit([change(claim) for claim in claims])
        before = counter.journeys
        answers = await store.commit([change(claim, 1) for claim in claims])
        assert all(isinstance(answer, Committed) for answer in answers)
        assert counter.journeys - before == 1


async def test_steps_of_an_agent_go_by_the_quickest_way(counter: Counter) -> None:
    counter.saying = {b"holdfast.record_step(": 0, b"holdfast.record(": 0}
    async with PostgresStore(counter.url) as store:
        await Client(store).start(many, id="r")
        await Worker(store, [many], until_idle=True).run()
        assert (await store.get_run("r")).steps == STEPS
    alone, together = counter.saying.values()
    assert alone + together == STEPS
    assert alone >= STEPS - 1  # the first one finds no connection, and opens it


async def test_a_claim_of_many_runs_takes_as_many_journeys_as_a_claim_of_two(counter: Counter) -> None:
    async with PostgresStore(counter.url) as store:
        worker = await store.register_worker(new_worker(), 60_000_000)
        for n in range(70):
            await store.create_run(new_run(f"r{n}"))
        await store.claim(worker, SERVES, 1)  # the connections are there
        taken: dict[int, int] = {}
        for many in (2, 60):
            before = counter.journeys
            assert len(await store.claim(worker, SERVES, many)) == many
            taken[many] = counter.journeys - before
        assert taken[60] <= taken[2] + 1  # and a notice


async def test_a_claim_of_runs_that_got_on_takes_no_journey_for_each(counter: Counter) -> None:
    async with PostgresStore(counter.url) as store:
        for n in range(40):
            await store.create_run(new_run(f"r{n}"))
        first = await store.register_worker(new_worker(), 60_000_000)
        for claim in await store.claim(first, SERVES, 40):
            saved = structs.replace(change(claim), checkpoint=KEPT)
            behind = structs.replace(change(claim, 1), entries=(BEHIND,))
            away = Change(run=claim.run.key, token=claim.run.token, position=2, outcome=Release())
            answers = await store.commit([saved, behind, away])
            assert all(isinstance(answer, Committed) for answer in answers), answers
        second = await store.register_worker(new_worker(), 60_000_000)
        before = counter.journeys
        claims = await store.claim(second, SERVES, 40)
        assert counter.journeys - before < 40
        assert [len(claim.journal.entries) for claim in claims] == [1] * 40
        assert [claim.journal.checkpoint and claim.journal.checkpoint.n for claim in claims] == [1] * 40


async def test_many_starts_together_take_as_many_journeys_as_two(counter: Counter) -> None:
    async with PostgresStore(counter.url) as store:
        await store.create_run(new_run("first"))  # the connections are there
        taken: dict[int, int] = {}
        for number in (2, 60):
            before = counter.journeys
            await store.create_runs([new_run(f"{number} {n}") for n in range(number)])
            taken[number] = counter.journeys - before
        assert taken[60] <= taken[2] + 1  # and a notice


async def test_many_ends_together_take_as_many_journeys_as_two(counter: Counter) -> None:
    async with PostgresStore(counter.url) as store:
        claims = await claimed(store, *(f"r{n}" for n in range(64)))
        ends = [structs.replace(change(claim), outcome=Succeeded(result=b"1")) for claim in claims]
        await store.commit(ends[:2])
        taken: dict[int, int] = {}
        for some in (ends[2:4], ends[4:]):
            before = counter.journeys
            answers = await store.commit(some)
            assert all(isinstance(answer, Committed) for answer in answers)
            taken[len(some)] = counter.journeys - before
        assert taken[60] <= taken[2] + 1  # and a notice
        assert {(await store.get_run(f"r{n}")).state for n in range(64)} == {RunState.SUCCEEDED}


async def test_taking_over_the_runs_of_a_dead_worker_takes_no_journey_for_each(counter: Counter) -> None:
    async with PostgresStore(counter.url) as store:
        for n in range(40):
            await store.create_run(new_run(f"r{n}"))
        first = await store.register_worker(new_worker(), 60_000_000)
        claims = await store.claim(first, SERVES, 40)
        await store.commit([change(claim) for claim in claims])
        await store.retire_worker(first, counted=True)
        second = await store.register_worker(new_worker(), 60_000_000)
        before = counter.journeys
        again = await store.claim(second, SERVES, 40)
        assert counter.journeys - before < 40
        assert [len(claim.journal.entries) for claim in again] == [1] * 40


async def test_what_only_writes_is_no_journey_of_its_own(counter: Counter) -> None:
    async with PostgresStore(counter.url) as store:
        claims = await claimed(store, "r", "q")
        taken: list[int] = []
        for claim in claims:
            end = structs.replace(change(claim), outcome=Succeeded(result=b"1"))
            before = counter.journeys
            (answer,) = await store.commit([end])
            assert isinstance(answer, Committed), answer
            taken.append(counter.journeys - before)
        assert taken[1] <= 8  # of more than a dozen statements; the first one opened a connection
