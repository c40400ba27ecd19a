"""Agents that swallow, block, lie and leave things open: the attempt's own record decides, and workers go on."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from holdfast import Context, RunCancelled, RunFailed, agent, open_store
from holdfast.client import Client
from holdfast.clock import SystemClock
from holdfast.model import Reason, RunState
from holdfast.worker import Worker
from tests.faults import Engine


async def echo(word: str) -> str:
    return word


async def _until(engine: Engine, state: RunState, run_id: str = "r") -> None:
    async with asyncio.timeout(15):
        while (await engine.store.get_run(run_id)).state is not state:  # noqa: ASYNC110 - another loop's doing
            await asyncio.sleep(0.02)


@asynccontextmanager
async def _serving(engine: Engine, *agents: Any, **options: Any) -> AsyncIterator[Worker]:
    async with open_store(engine.url) as store, Worker(store, agents, **options) as worker:
        yield worker


@pytest.mark.parametrize("how", ["gather", "except", "group", "return"])
async def test_swallowing_a_park_does_not_end_the_run(engine: Engine, how: str) -> None:
    @agent
    async def swallows(ctx: Context) -> str:
        if how == "gather":
            await asyncio.gather(ctx.sleep(3600), return_exceptions=True)
        elif how == "except":
            try:
                await ctx.sleep(3600)
            except BaseException:
                pass
        elif how == "group":
            async with asyncio.TaskGroup() as group:
                group.create_task(ctx.sleep(3600))
        else:
            try:
                await ctx.sleep(3600)
            finally:
                return "swallowed"  # noqa: B012
        return "went on"

    await engine.client.start(swallows, id="r")
    async with _serving(engine, swallows):
        await _until(engine, RunState.WAITING)
    run = await engine.store.get_run("r")
    assert (run.reason, run.result, run.failures) == (Reason.SLEEP, None, 0)


async def test_a_closed_context_records_nothing_in_a_finally(engine: Engine) -> None:
    @agent
    async def tidy(ctx: Context) -> None:
        try:
            await ctx.sleep(3600)
        finally:
            await ctx.step(echo, "too late")

    await engine.client.start(tidy, id="r")
    async with _serving(engine, tidy):
        await _until(engine, RunState.WAITING)
    assert [entry.identity.name for entry in await engine.entries()] == ["sleep"]


async def test_cancel_reaches_a_step_in_flight_and_nothing_is_recorded_after_it(engine: Engine) -> None:
    stopped = asyncio.Event()

    async def forever() -> None:
        try:
            await asyncio.sleep(3600)
        finally:
            stopped.set()

    @agent
    async def one(ctx: Context) -> None:
        await ctx.step(forever)

    handle = await engine.client.start(one, id="r")
    async with _serving(engine, one) as worker:
        await _until(engine, RunState.RUNNING)
        await handle.cancel()
        async with asyncio.timeout(5):
            await stopped.wait()
        with pytest.raises(RunCancelled):
            await handle.result()
        async with asyncio.timeout(5):
            while worker.active:  # noqa: ASYNC110
                await asyncio.sleep(0.01)
    assert await engine.entries() == []


async def test_pause_ends_at_a_safe_point_and_resume_goes_on(engine: Engine) -> None:
    executed = []

    async def tick(n: int) -> int:
        executed.append(n)
        await asyncio.sleep(0.03)
        return n

    @agent
    async def one(ctx: Context) -> int:
        for n in range(40):
            await ctx.step(tick, n)
        return len(executed)

    handle = await engine.client.start(one, id="r")
    async with _serving(engine, one):
        await _until(engine, RunState.RUNNING)
        await asyncio.sleep(0.1)
        await handle.pause()
        await _until(engine, RunState.WAITING)
        assert (await engine.store.get_run("r")).reason == Reason.PAUSED
        done = len(executed)
        await asyncio.sleep(0.2)
        assert len(executed) == done
        await handle.resume()
        assert await handle.result() == 40
    assert executed == list(range(40))


async def test_a_result_of_100_mb_is_refused_by_name_and_the_worker_goes_on(engine: Engine) -> None:
    async def huge() -> str:
        return "x" * 100_000_000

    @agent
    async def one(ctx: Context) -> str:
        return await ctx.step(huge)

    @agent
    async def two(ctx: Context) -> str:
        return await ctx.step(echo, "fine")

    handle = await engine.client.start(one, id="r")
    other = await engine.client.start(two, id="other")
    await engine.work(one, two)
    with pytest.raises(RunFailed, match=r"huge.*MiB"):
        await handle.result()
    assert await other.result() == "fine"


async def test_a_return_with_a_call_open_is_a_clear_error(engine: Engine) -> None:
    @agent
    async def one(ctx: Context) -> str:
        ctx.step(echo, "never awaited")
        return "done"

    with pytest.raises(RunFailed, match="await"):
        await engine.finish(one)


async def test_progress_and_logs_from_a_thread_are_safe(engine: Engine) -> None:
    @agent
    async def one(ctx: Context) -> bool:
        def busy() -> bool:
            for n in range(2000):
                ctx.progress(n + 1, 2000)
            return threading.current_thread() is not threading.main_thread()

        return await ctx.step(busy)

    assert await engine.finish(one) is True
    recorded = [event for event in await engine.events() if event.type == "progress"]
    assert 1 <= len(recorded) <= 20
    progress = await engine.store.get_progress(1)
    assert progress is not None
    assert progress.current == 2000


async def test_a_deadline_ends_a_run_by_the_controllers_sweep(engine: Engine) -> None:
    @agent(deadline=0.3)
    async def slow(ctx: Context) -> None:
        await ctx.sleep(3600)

    handle = await engine.client.start(slow, id="r")
    async with _serving(engine, slow):
        await _until(engine, RunState.WAITING)
        await asyncio.sleep(0.3)
        await engine.sweep()
        with pytest.raises(RunFailed, match="deadline"):
            await handle.result()


async def test_two_workers_of_one_name_are_two_generations(engine: Engine) -> None:
    @agent
    async def one(ctx: Context, n: int) -> int:
        await asyncio.sleep(0.05)
        return await ctx.step(_double, n)

    handles = [await engine.client.start(one, n, id=f"r{n}") for n in range(20)]
    async with _serving(engine, one, name="twin", capacity=3), _serving(engine, one, name="twin", capacity=3):
        assert [await handle.result() for handle in handles] == [2 * n for n in range(20)]
    for n in range(20):
        assert len(await engine.entries(f"r{n}")) == 1
        assert (await engine.store.get_run(f"r{n}")).attempts == 1


async def _double(n: int) -> int:
    return 2 * n


class _Clock(SystemClock):
    """The machine's clock, until somebody sets it."""

    offset_us = 0

    def wall_us(self) -> int:
        return super().wall_us() + self.offset_us


@pytest.mark.parametrize("port", ["here", "socket"], indirect=True)
async def test_a_clock_set_back_an_hour_costs_no_lease_and_repeats_nothing(tmp_path: Path) -> None:
    clock = _Clock()
    executed = []

    async def tick(n: int) -> int:
        executed.append(n)
        if n == 5:
            clock.offset_us = -3_600_000_000
        await asyncio.sleep(0.1)
        return n

    @agent
    async def one(ctx: Context) -> int:
        for n in range(25):
            await ctx.step(tick, n)
        return len(executed)

    async with open_store(f"sqlite:///{tmp_path / 'h.db'}", clock=clock) as store:
        handle = await Client(store).start(one, id="r")
        async with (
            Worker(store, [one], lease=1, clock=clock),
            open_store(f"sqlite:///{tmp_path / 'h.db'}", clock=clock) as other,
            Worker(other, [one], lease=1, clock=clock),
        ):
            assert await handle.result() == 25
        assert executed == list(range(25))
        assert (await store.get_run("r")).attempts == 1
        events = await store.read_events("r", 0, 1000)
        assert [event.n for event in events] == list(range(1, len(events) + 1))


async def test_watch_misses_nothing_across_restarts_of_everything(engine: Engine) -> None:
    @agent
    async def one(ctx: Context) -> int:
        for n in range(30):
            await ctx.step(_double, n)
        return 1

    await engine.client.start(one, id="r")
    seen = []
    for crash_at in (8, 16, None):
        await engine.work(one, crash_at=crash_at)
        async with open_store(engine.url) as store:
            handle = await Client(store).get("r")
            after = seen[-1] if seen else 0
            for event in await store.read_events("r", after, 7):
                seen.append(event.n)
            if crash_at is None:
                async for event in handle.watch(after=seen[-1]):
                    seen.append(event.n)
    assert seen == [event.n for event in await engine.events()]


async def test_a_blocked_loop_is_said_in_the_feed(engine: Engine) -> None:
    @agent
    async def blocks(ctx: Context) -> str:
        await ctx.step(echo, "x")
        time.sleep(8)
        await ctx.step(echo, "y")
        await asyncio.sleep(1)
        return "done"

    assert await engine.finish(blocks) == "done"
    warnings = [event.payload.decode() for event in await engine.events() if event.type == "warning"]
    assert any("run r" in warning for warning in warnings), warnings
