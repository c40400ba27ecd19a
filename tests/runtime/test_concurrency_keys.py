"""Concurrency keys as agents and clients use them: never over the limit, in order, waiting at no slot."""

from __future__ import annotations

import asyncio
from collections import Counter

import pytest

from holdfast import Client, Concurrency, Context, RunState, Schedule, Worker, agent
from holdfast.errors import UsageError
from holdfast.model import NewWorker, Reason, Served
from tests.faults import Engine

live: Counter[str] = Counter()
most: Counter[str] = Counter()
order: list[int] = []


async def body(key: str, number: int) -> int:
    live[key] += 1
    most[key] = max(most[key], live[key])
    order.append(number)
    try:
        await asyncio.sleep(0.002)
    finally:
        live[key] -= 1
    return number


@agent(name="per_repo", concurrency=Concurrency(lambda repo, number: repo))
async def per_repo(ctx: Context, repo: str, number: int) -> int:
    await ctx.step(body, repo, number)
    return number


@agent
async def free(ctx: Context, repo: str, number: int) -> int:
    return await ctx.step(body, repo, number)


@pytest.fixture(autouse=True)
def _fresh() -> None:
    live.clear()
    most.clear()
    order.clear()


async def test_one_run_per_key_at_once_in_order_on_any_number_of_workers(engine: Engine) -> None:
    for number in range(12):
        await engine.client.start(per_repo, f"repo-{number % 2}", number, id=f"r{number}")
    async with Worker(engine.store, [per_repo]), Worker(engine.store, [per_repo], name="other"):
        async with asyncio.timeout(20):
            for number in range(12):
                assert await (await engine.client.get(f"r{number}")).result() == number
    assert most == {"repo-0": 1, "repo-1": 1}
    for which in range(2):
        mine = [number for number in order if number % 2 == which]
        assert mine == sorted(mine)


async def test_a_run_in_line_holds_no_slot(engine: Engine) -> None:
    for number in range(6):
        await engine.client.start(per_repo, "one", number, id=f"r{number}")
    await engine.client.start(per_repo, "two", 99, id="other")
    claims = await engine.store.claim(await _registered(engine), _served(), 2)
    assert [claim.run.id for claim in claims] == ["r0", "other"]


async def test_start_gives_a_key_of_its_own_and_replaces_the_agents(engine: Engine) -> None:
    await engine.client.start(per_repo, "one", 1, id="a", concurrency=Concurrency("customer-7", limit=2))
    await engine.client.start(per_repo, "one", 2, id="b", concurrency=Concurrency("customer-7", limit=2))
    await engine.client.start(per_repo, "one", 3, id="c", concurrency=Concurrency("customer-7", limit=2))
    claims = await engine.store.claim(await _registered(engine), _served(), 9)
    assert [claim.run.id for claim in claims] == ["a", "b"]
    waiting = await engine.store.get_run("c")
    assert (waiting.state, waiting.reason) == (RunState.QUEUED, Reason.LIMIT)


async def test_children_and_the_runs_of_a_schedule_stand_in_the_same_line(engine: Engine) -> None:
    @agent
    async def parent(ctx: Context) -> int:
        children = [await ctx.start(per_repo, "one", number) for number in range(3)]
        return sum([await child.result() for child in children])

    schedules = engine.client.schedules
    await schedules.add(Schedule("nightly", per_repo, ["one", 7], every="1d"))
    await schedules.run_now("nightly")
    await engine.client.start(parent, id="p")
    await engine.work(per_repo, parent)
    assert await (await engine.client.get("p")).result() == 3
    assert sorted(order) == [0, 1, 2, 7]
    assert most == {"one": 1}
    await schedules.add(Schedule("nightly", free, ["one", 8], every="1d"))  # an agent without a key
    fire = await schedules.run_now("nightly")
    assert fire.run is not None
    await engine.work(free)
    assert (await engine.store.get_run(fire.run)).state is RunState.SUCCEEDED


async def test_a_worker_until_idle_stays_for_those_in_line(engine: Engine) -> None:
    for number in range(3):
        await engine.client.start(per_repo, "one", number, id=f"r{number}")
    await engine.work(per_repo)
    assert order == [0, 1, 2]


@pytest.mark.parametrize("after", [False, True])
@pytest.mark.parametrize("at", range(1, 7))
async def test_a_kill_at_every_commit_leaves_nobody_in_line_for_ever(
    engine: Engine, at: int, after: bool
) -> None:
    for number in range(3):
        await engine.client.start(per_repo, "one", number, id=f"r{number}")
    await engine.work(per_repo, crash_at=at, after=after)
    await engine.work(per_repo)
    runs = [await engine.store.get_run(f"r{number}") for number in range(3)]
    assert [run.state for run in runs] == [RunState.SUCCEEDED] * 3
    assert most == {"one": 1}
    assert len(order) <= 3 + (not after)


def test_what_is_no_concurrency_is_refused_with_the_way_out() -> None:
    with pytest.raises(UsageError, match=r"did you mean concurrency=Concurrency\("):

        @agent(concurrency="customer-7")  # type: ignore[call-overload]
        async def wrong(ctx: Context) -> None: ...


async def test_a_key_that_cannot_be_made_starts_nothing(engine: Engine) -> None:
    @agent(name="bad", concurrency=Concurrency(lambda order: order["customer"]))
    async def bad(ctx: Context, order: dict[str, str]) -> None: ...

    with pytest.raises(UsageError, match="raised KeyError"):
        await Client(engine.store).start(bad, {}, id="r")
    assert await engine.client.runs() == []


async def _registered(engine: Engine) -> int:
    new = NewWorker(name="w", host="here", pid=1, capacity=9, serves=tuple(_served()))
    return await engine.store.register_worker(new, 30_000_000)


def _served() -> list[Served]:
    return [Served(agent="per_repo", version="0")]
