"""Calls that the code cancels, before or after they began: however often a run is resumed, it goes on the same way."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from typing import Any

import pytest

from holdfast import Context, RetryPolicy, TransientError, agent
from holdfast.model import RunState
from tests.faults import Engine

QUICK = RetryPolicy(attempts=3, base=0.001)
NEVER, SOON, LATE = 0, 3, 60
"""Turns of the loop that a call gets before it is cancelled: none, so that it never begins; some; enough for its
beginning to be recorded."""

plan: list[int] = []
"""The turns of the call in each attempt."""


async def never(number: int = 0) -> None:
    await asyncio.sleep(3600)


async def act(word: str) -> str:
    return word.upper()


@agent
async def forever(ctx: Context) -> None:
    await ctx.wait_for("never")


CALLS: dict[str, Callable[[Context], Coroutine[Any, Any, object]]] = {
    "step": lambda ctx: ctx.step(never),
    "call": lambda ctx: ctx.call(forever),
    "named call": lambda ctx: ctx.call(forever, id=f"{ctx.run_id}-child"),
    "approval": lambda ctx: ctx.approval("Now?"),
    "wait with a time": lambda ctx: ctx.wait_for("go", timeout=3600),
    "map": lambda ctx: ctx.map(never, [1, 2]),
    "map of calls": lambda ctx: ctx.map(forever_with, [1, 2]),
    "race": lambda ctx: ctx.race(
        {"a": lambda: ctx.step(never), "b": lambda: ctx.wait_for("go", str, timeout=9)}
    ),
}


@dataclass
class Nothing:
    pass


@agent
async def forever_with(ctx: Context, number: int) -> None:
    await ctx.wait_for("never")


@agent(retry=QUICK)
async def gives_up(ctx: Context, what: str) -> str:
    """Cancels a call, goes on, and is resumed as often as planned."""

    async def beside() -> None:
        async with ctx.branch("beside"):
            await ctx.step(never)  # so that nothing is unloaded meanwhile

    async def giving_up() -> str:
        async with ctx.branch("giving up"):
            call = asyncio.create_task(CALLS[what](ctx))
            try:
                for _ in range(plan[min(ctx.attempt, len(plan)) - 1]):
                    await asyncio.sleep(0)
            finally:
                call.cancel()
                await asyncio.gather(call, return_exceptions=True)
            assert call.cancelled()
            return await ctx.step(act, "on")

    working = asyncio.create_task(beside())
    try:
        await asyncio.sleep(0)
        word = await giving_up()
    finally:
        working.cancel()
        await asyncio.gather(working, return_exceptions=True)
    if ctx.attempt < len(plan):
        raise TransientError("again")
    return word


async def check_nothing_left(engine: Engine, id: str) -> None:
    """The child, if one was begun, was cancelled by the code, and the question withdrawn by it."""
    for kin in await engine.store.list_children([id], 1000):
        assert kin.run.state is RunState.CANCELLED
        ends = [event.payload for event in await engine.events(kin.run.id) if event.type == "run.cancelled"]
        assert not any(b'"parent"' in end for end in ends)
    for question in await (await engine.client.get(id)).approvals():
        assert question.status.value == "withdrawn"
    asked = [event.type for event in await engine.events(id) if event.type.startswith("approval.")]
    assert asked in ([], ["approval.asked", "approval.withdrawn"])


@pytest.mark.parametrize(
    ("live", "replayed"),
    [(NEVER, SOON), (NEVER, LATE), (SOON, NEVER), (SOON, LATE), (LATE, NEVER), (LATE, SOON)],
)
@pytest.mark.parametrize("what", list(CALLS))
async def test_a_call_that_is_cancelled_replays_whether_or_not_it_begins(
    engine: Engine, what: str, live: int, replayed: int
) -> None:
    plan[:] = [live, replayed, live]
    handle = await engine.client.start(gives_up, what, id="r")
    async with asyncio.timeout(20):
        await engine.work(gives_up, forever, forever_with)
    run = await engine.store.get_run("r")
    assert run.mismatch is None
    assert await handle.result() == "ON"
    await check_nothing_left(engine, "r")


@pytest.mark.parametrize("after", [False, True])
@pytest.mark.parametrize("replayed", [NEVER, LATE])
@pytest.mark.parametrize("what", ["named call", "approval", "wait with a time", "map of calls", "race"])
async def test_a_call_that_is_cancelled_replays_whatever_a_kill_left_of_it(
    engine: Engine, what: str, replayed: int, after: bool
) -> None:
    plan[:] = [LATE, replayed, LATE]
    killed, at = True, 0
    while killed:
        at += 1
        handle = await engine.client.start(gives_up, what, id=f"r{at}")
        async with asyncio.timeout(20):
            killed = not await engine.work(gives_up, forever, forever_with, crash_at=at, after=after)
            await engine.work(gives_up, forever, forever_with)
        assert (await engine.store.get_run(handle.id)).mismatch is None
        assert await handle.result() == "ON"
        await check_nothing_left(engine, handle.id)
    assert at > 4


async def test_a_branch_may_end_with_a_call_that_was_cancelled_before_it_began(engine: Engine) -> None:
    @agent(retry=QUICK)
    async def leaves(ctx: Context) -> str:
        state = ctx.restore(Nothing)
        async with ctx.branch("leaving"):
            call = asyncio.create_task(ctx.step(never))
            call.cancel()
            await asyncio.gather(call, return_exceptions=True)
        await ctx.checkpoint(state)  # not saved: a replay comes by the branch again
        return await ctx.step(act, "on")

    for at in (1, 2):
        handle = await engine.client.start(leaves, id=f"r{at}")
        assert not await engine.work(leaves, crash_at=at)
        await engine.work(leaves)
        assert (await engine.store.get_run(handle.id)).mismatch is None
        assert await handle.result() == "ON"
