"""A worker in its process: what the store, and through it everybody, sees of it."""

from __future__ import annotations

import asyncio
import time
from contextlib import suppress
from typing import Any

import apsw
import pytest

from holdfast import Context, Worker, agent
from holdfast.attempt import Attempt
from holdfast.errors import UsageError
from holdfast.idleness import nothing_due, tree_is_over
from holdfast.model import Ask, Reason, RunState
from holdfast.process.supervisor import ProcessAttempt
from holdfast.store.protocol import Store
from tests.faults import Engine


async def test_a_worker_that_drains_is_shown_as_draining_while_its_runs_end(engine: Engine) -> None:
    going = asyncio.Event()

    async def wait_for_it() -> None:
        going.set()
        await asyncio.sleep(0.5)

    @agent
    async def patient(ctx: Context) -> None:
        await ctx.step(wait_for_it)

    handle = await engine.client.start(patient)
    worker = Worker(engine.store, [patient])
    serving = asyncio.create_task(worker.run())
    await going.wait()
    assert [each.draining for each in await engine.store.list_workers()] == [False]
    worker.drain()
    shown: list[bool] = []
    while not serving.done():
        shown += [each.draining for each in await engine.store.list_workers()]
        await asyncio.sleep(0.02)
    await serving
    assert True in shown
    assert shown == sorted(shown)  # once it drains it goes on draining
    assert (await handle.status()).steps == 1


async def test_runs_go_to_workers_with_the_labels_that_they_ask_for_and_others_do_not_stay_for_them(
    engine: Engine,
) -> None:
    @agent(needs=("gpu",))
    async def trained(ctx: Context) -> str:
        return "trained"

    @agent
    async def either(ctx: Context) -> str:
        return "done"

    agents = [trained, either]
    plain, there = await engine.client.start(either), await engine.client.start(trained)
    elsewhere = await engine.client.start(either, needs=["eu", "gpu"])
    async with asyncio.timeout(10):
        await Worker(engine.store, agents, until_idle=True).run()
    assert await plain.result() == "done"
    assert [(await each.status()).state for each in (there, elsewhere)] == ["queued", "queued"]
    async with asyncio.timeout(10):
        await Worker(engine.store, agents, until_idle=True, labels=["gpu"]).run()
    assert await there.result() == "trained"
    assert (await elsewhere.status()).state == "queued"
    async with asyncio.timeout(10):
        await Worker(engine.store, agents, until_idle=True, labels={"gpu", "ssd", "eu"}).run()
    assert await elsewhere.result() == "done"


async def test_a_child_asks_for_what_its_agent_asks_for(engine: Engine) -> None:
    @agent(needs=("gpu",))
    async def trained(ctx: Context) -> str:
        return "trained"

    @agent
    async def parent(ctx: Context) -> str:
        return await ctx.call(trained)

    handle = await engine.client.start(parent)
    async with asyncio.timeout(20), Worker(engine.store, [parent, trained]):
        while not (children := (await handle.status()).children):  # noqa: ASYNC110 - as an observer sees it
            await asyncio.sleep(0.01)
        async with Worker(engine.store, [trained], labels=["gpu"]):
            assert await handle.result() == "trained"
    assert children[0].agent == "trained"


def test_labels_that_cannot_be_are_refused_where_they_are_given() -> None:
    with pytest.raises(UsageError, match="agent 'scout': 'no blank' is no label"):
        agent(name="scout", needs=["no blank"])(trained_nowhere)
    with pytest.raises(UsageError, match="a worker: labels are a collection"):
        Worker(None, [], labels="gpu")  # type: ignore[arg-type]


async def trained_nowhere(ctx: Context) -> None: ...


@pytest.mark.parametrize("busy", [True, False])
async def test_a_worker_is_drained_from_anywhere_and_its_runs_go_on_elsewhere(
    engine: Engine, busy: bool
) -> None:
    going = asyncio.Event()

    async def wait_for_it() -> None:
        going.set()
        await asyncio.sleep(0.3)

    @agent
    async def patient(ctx: Context) -> str:
        await ctx.step(wait_for_it)
        await ctx.step(wait_for_it)
        return "done"

    first, second = Worker(engine.store, [patient], name="twin"), Worker(engine.store, [patient], name="twin")
    serving = asyncio.create_task(first.run())
    handle = await engine.client.start(patient) if busy else None
    if busy:
        await going.wait()
    while not (listed := await engine.client.workers.list()):  # noqa: ASYNC110 - it registers when it is ready
        await asyncio.sleep(0.01)
    await engine.client.workers.drain(listed[0].number)
    async with asyncio.timeout(10), second:
        await serving
        if handle is not None:
            assert await handle.result() == "done"
            run = await handle.status()
            assert (run.attempts, run.failures, run.steps) == (2, 0, 2)
    assert await engine.client.workers.list() == []


@pytest.mark.parametrize("limited", ["slow", "*"])
async def test_a_worker_that_ends_by_itself_does_not_stay_for_a_queue_that_lets_nothing_begin(
    engine: Engine, limited: str
) -> None:
    @agent(queue="slow")
    async def slow(ctx: Context) -> None: ...

    handle = await engine.client.start(slow)
    await engine.client.start(slow, delay="1s")
    await engine.store.limit_queue(limited, 0)
    async with asyncio.timeout(10):
        await engine.work(slow)
    assert (await handle.status()).state is RunState.QUEUED
    await engine.store.limit_queue(limited, 1)
    await engine.work(slow)
    assert (await handle.status()).state is RunState.SUCCEEDED


async def test_a_worker_that_cannot_say_that_it_drains_still_hears_a_cancel(engine: Engine) -> None:
    begun, ended = asyncio.Event(), asyncio.Event()

    async def go_on() -> None:
        begun.set()
        try:
            await asyncio.sleep(60)
        finally:
            ended.set()

    @agent
    async def busy(ctx: Context) -> None:
        await ctx.step(go_on)

    handle = await engine.client.start(busy)
    worker = Worker(engine.store, [busy])
    serving = asyncio.create_task(worker.run())
    await begun.wait()
    other = apsw.Connection(engine.url.removeprefix("sqlite:///"))
    other.execute(
        "CREATE TRIGGER refuses BEFORE UPDATE OF draining ON workers BEGIN SELECT RAISE(ABORT, 'no'); END"
    )
    other.close()
    worker.drain()
    await handle.cancel()
    async with asyncio.timeout(15):
        await ended.wait()
        await serving


@agent
async def asks(ctx: Context, expires: float) -> str:
    return (await ctx.approval("Go?", ["yes", "no"], expires=expires, default="no")).choice


@agent
async def listens(ctx: Context, timeout: float) -> str:
    return await ctx.wait_for("go", str, timeout=timeout)


@agent
async def delegates(ctx: Context, expires: float) -> str:
    return await ctx.call(asks, expires)


@agent
async def sleeps(ctx: Context, duration: float) -> str:
    await ctx.sleep(duration)
    return "awake"


@pytest.mark.parametrize("alone", [False, True])
@pytest.mark.parametrize("waiting", [asks, listens, delegates])
async def test_a_worker_that_ends_by_itself_does_not_stay_for_somebody_who_has_days_to_answer(
    engine: Engine, waiting: Any, alone: bool
) -> None:
    await engine.client.start(waiting, 86_400, id="r")
    async with asyncio.timeout(20):
        served = [asks, listens, delegates]
        await Worker(engine.store, served, until_idle=not alone, only="r" if alone else None).run()
    assert (await engine.store.get_run("r")).state is RunState.WAITING


@pytest.mark.parametrize("alone", [False, True])
async def test_a_worker_that_ends_by_itself_stays_for_a_time_that_is_up_soon(
    engine: Engine, alone: bool
) -> None:
    handle = await engine.client.start(asks, 1.5, id="r")
    async with asyncio.timeout(20):
        await Worker(engine.store, [asks], until_idle=not alone, only="r" if alone else None).run()
    assert await handle.result() == "no"


async def test_a_worker_that_ends_by_itself_stays_for_a_sleep_however_long(engine: Engine) -> None:
    await engine.client.start(sleeps, 86_400, id="r")
    async with Worker(engine.store, [sleeps]), asyncio.timeout(20):
        while (await engine.store.get_run("r")).reason is not Reason.SLEEP:
            await engine.store.wait_for_news(1)
    assert not await nothing_due(engine.store, [("sleeps", "0")])
    assert not await tree_is_over(engine.store, "r")


@agent
async def reluctant(ctx: Context, seconds: float) -> None:
    """Goes on for so long, whoever tells it to end."""
    ends_at = time.monotonic() + seconds
    while time.monotonic() < ends_at:
        with suppress(asyncio.CancelledError):
            await asyncio.sleep(0.05)


async def test_a_drain_past_its_time_releases_a_run_whose_code_ends_late(engine: Engine) -> None:
    await engine.client.start(reluctant, 3, id="r")
    async with Worker(engine.store, [reluctant], drain_timeout=0.1):
        while (await engine.store.get_run("r")).state is not RunState.RUNNING:
            await engine.store.wait_for_news(1)
    run = await engine.store.get_run("r")
    assert (run.state, run.reason) == (RunState.QUEUED, Reason.DRAINED)


class SlowToSay:
    """A store that takes its time to say what is asked of the runs."""

    def __init__(self, store: Store, asking: asyncio.Event) -> None:
        self._store = store
        self._asking = asking

    async def asks(self, worker: int) -> list[Ask]:
        found = await self._store.asks(worker)
        self._asking.set()
        await asyncio.sleep(0.3)
        return found

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)


async def test_an_attempt_that_goes_wrong_while_the_store_is_asked_is_given_back_all_the_same(
    engine: Engine, port: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    asking = asyncio.Event()
    kind: Any = Attempt if port == "here" else ProcessAttempt
    execute, wrong = kind.execute, [True]

    async def goes_wrong(attempt: Any) -> None:
        if wrong:
            wrong.clear()
            await asking.wait()
            raise RuntimeError("a bug of ours")
        await execute(attempt)

    monkeypatch.setattr(kind, "execute", goes_wrong)
    handle = await engine.client.start(sleeps, 0.01, id="r")
    slow: Any = SlowToSay(engine.store, asking)
    async with asyncio.timeout(20), Worker(slow, [sleeps]):
        assert await handle.result() == "awake"


@pytest.mark.parametrize("name", ["red\x1b[31m", "two\nlines", "x" * 201])
async def test_a_workers_name_cannot_write_on_the_terminal_of_whoever_looks(
    engine: Engine, name: str
) -> None:
    @agent
    async def idle(ctx: Context) -> None: ...

    with pytest.raises(UsageError, match=r"at most 200 characters, no control characters"):
        Worker(engine.store, [idle], name=name)
