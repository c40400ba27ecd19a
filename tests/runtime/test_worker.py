"""A worker in its process: what the store, and through it everybody, sees of it."""

from __future__ import annotations

import asyncio
from pathlib import Path

import apsw

from holdfast import Client, Context, Worker, agent, open_store

going = asyncio.Event()


async def wait_for_it() -> None:
    going.set()
    await asyncio.sleep(0.5)


@agent
async def patient(ctx: Context) -> None:
    await ctx.step(wait_for_it)


async def test_a_worker_that_drains_is_shown_as_draining_while_its_runs_end(tmp_path: Path) -> None:
    async with open_store(tmp_path / "runs.db") as store:
        handle = await Client(store).start(patient)
        worker = Worker(store, [patient])
        serving = asyncio.create_task(worker.run())
        await going.wait()
        assert [each.draining for each in await store.list_workers()] == [False]
        worker.drain()
        shown: list[bool] = []
        while not serving.done():
            shown += [each.draining for each in await store.list_workers()]
            await asyncio.sleep(0.02)
        await serving
        assert True in shown
        assert shown == sorted(shown)  # once it drains it goes on draining
        assert (await handle.status()).steps == 1


async def test_a_worker_that_cannot_say_that_it_drains_still_hears_a_cancel(tmp_path: Path) -> None:
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

    async with open_store(tmp_path / "runs.db") as store:
        handle = await Client(store).start(busy)
        worker = Worker(store, [busy])
        serving = asyncio.create_task(worker.run())
        await begun.wait()
        other = apsw.Connection(str(tmp_path / "runs.db"))
        other.execute(
            "CREATE TRIGGER refuses BEFORE UPDATE OF draining ON workers BEGIN SELECT RAISE(ABORT, 'no'); END"
        )
        other.close()
        worker.drain()
        await handle.cancel()
        async with asyncio.timeout(15):
            await ended.wait()
            await serving
