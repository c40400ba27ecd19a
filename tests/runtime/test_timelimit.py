"""A time limit, also in a task that was cancelled before, where `asyncio.timeout` of the first Pythons 3.11 is none."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest

from holdfast import Context, Worker, agent
from holdfast.timelimit import TimeLimit
from tests.faults import Engine


async def be_cancelled_before() -> None:
    """The task that awaits this was cancelled, and went on."""
    task = asyncio.current_task()
    assert task is not None
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asyncio.sleep(0)


def after(length_s: float) -> Callable[[], float]:
    ends_at = asyncio.get_running_loop().time() + length_s
    return lambda: ends_at


@pytest.mark.parametrize("cancelled_before", [False, True])
@pytest.mark.parametrize("length_s", [-1, 0.01])
async def test_what_takes_too_long_ends_with_a_timeout_that_leaves_no_trace_on_the_task(
    cancelled_before: bool, length_s: float
) -> None:
    if cancelled_before:
        await be_cancelled_before()
    task = asyncio.current_task()
    assert task is not None
    limit = TimeLimit(after(length_s))
    with pytest.raises(TimeoutError), limit:
        await asyncio.sleep(60)
    assert limit.over
    assert task.cancelling() == cancelled_before


async def test_what_ends_in_time_or_never_waits_is_not_disturbed() -> None:
    with TimeLimit(after(-1)) as limit:
        pass
    await asyncio.sleep(0.01)
    assert not limit.over


async def test_a_time_that_is_put_off_meanwhile_is_asked_for_again() -> None:
    loop = asyncio.get_running_loop()
    began = loop.time()
    ends = [began + 0.01, began + 0.03]
    with pytest.raises(TimeoutError), TimeLimit(lambda: ends.pop(0) if len(ends) > 1 else ends[0]):
        await asyncio.sleep(60)
    assert loop.time() >= began + 0.03


async def test_a_cancellation_from_elsewhere_stays_one_also_when_the_time_is_over_then() -> None:
    async def limited() -> None:
        with TimeLimit(after(0.01)):
            await asyncio.sleep(60)

    task = asyncio.create_task(limited())
    await asyncio.sleep(0)
    asyncio.get_running_loop().call_later(0.01, task.cancel)
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_an_error_of_the_code_s_own_comes_through() -> None:
    with pytest.raises(ZeroDivisionError), TimeLimit(after(0.01)):
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            raise ZeroDivisionError from None


async def test_a_worker_whose_task_was_cancelled_before_serves_as_any_other(engine: Engine) -> None:
    @agent
    async def patient(ctx: Context) -> str:
        await ctx.sleep(1.2)
        return "rested"

    async def serve() -> None:
        await be_cancelled_before()
        await Worker(engine.store, [patient], until_idle=True).run()

    handle = await engine.client.start(patient)
    await asyncio.create_task(serve())
    assert await handle.result() == "rested"
