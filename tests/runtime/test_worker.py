"""A worker in its process: what the store, and through it everybody, sees of it."""

from __future__ import annotations

import asyncio

import apsw

from holdfast import Context, Worker, agent
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
