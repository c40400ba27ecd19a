"""An agent whose effects and acknowledgements are marked outside, with the host that had them."""

from __future__ import annotations

import asyncio
import contextlib
import os
import time
from dataclasses import dataclass

import holdfast
from holdfast import Context, WaitTimedOut
from tests.processes.agents import write

HOST = os.environ.get("HOLDFAST_TEST_HOST", "?")


@dataclass
class Walked:
    steps: int = 0


async def pace(folder: str, run: str, attempt: int, n: int, pause_s: float) -> str:
    """The effect of step n, and who had it."""
    write(folder, "executed", f"{run} {n} {attempt} {HOST}")
    await asyncio.sleep(pause_s)
    return HOST


@holdfast.agent
async def walk(ctx: Context, folder: str, steps: int, pause_s: float) -> int:
    """`steps` steps, each acknowledged in a file; a checkpoint every twenty."""
    state = ctx.restore(Walked)
    while state.steps < steps:
        n = state.steps
        await ctx.step(pace, folder, ctx.run_id, ctx.attempt, n, pause_s, key=str(n), check=False)
        write(folder, "acked", f"{ctx.run_id} {n}")
        state.steps += 1
        await ctx.checkpoint(state, force=state.steps % 20 == 0)
    return state.steps


async def look(folder: str, run: str, n: int) -> str:
    """When it was, by the only clock that all processes of a machine share."""
    write(folder, "looked", f"{run} {n} {HOST} {time.monotonic()}")
    return HOST


@holdfast.agent
async def nap(ctx: Context, folder: str, times: int, for_s: float) -> int:
    """Sleep, and wait for what never comes, so many times."""
    for n in range(times):
        await ctx.step(look, folder, ctx.run_id, n)
        if n % 2:
            with contextlib.suppress(WaitTimedOut):
                await ctx.wait_for("nothing", timeout=for_s)
        else:
            await ctx.sleep(for_s)
    await ctx.step(look, folder, ctx.run_id, times)
    return times


@holdfast.agent
async def tick(ctx: Context, folder: str) -> None:
    """What a schedule starts."""
    await ctx.step(look, folder, ctx.run_id, 0)
