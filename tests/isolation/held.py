"""Agents to be watched, held back and killed."""

from __future__ import annotations

import asyncio
import os
import time
from dataclasses import dataclass
from pathlib import Path

from holdfast import Context, Thresholds, agent


@dataclass
class Place:
    at: int = 0


def spin(seconds: float) -> float:
    """Use the CPU for so long; how much of it there was."""
    began_s, used_s = time.monotonic(), time.process_time()
    while time.monotonic() - began_s < seconds:
        pass
    return (time.process_time() - used_s) / (time.monotonic() - began_s)


async def rest(seconds: float) -> None:
    await asyncio.sleep(seconds)


@agent(isolation="process")
async def spins(ctx: Context, seconds: float) -> float:
    return await ctx.step(spin, seconds)


@agent(isolation="process")
async def rests(ctx: Context, seconds: float) -> None:
    await ctx.step(rest, seconds)


@agent(isolation="process")
async def climbs(ctx: Context, folder: str) -> int:
    """Three places; at the second one the first attempt stays, whatever it is told."""
    s = ctx.restore(Place)
    (Path(folder) / f"attempt-{os.getpid()}").touch()
    while s.at < 3:
        if s.at == 2 and not (Path(folder) / "go").exists():
            await ctx.step(rest, 3600.0)
        await ctx.step(rest, 0.01)
        s.at += 1
        await ctx.checkpoint(s, name=f"place {s.at}")
    return s.at


@agent(isolation="process", thresholds=Thresholds(memory_mb=(1, 1)))
async def heavy(ctx: Context) -> None:
    """Over its threshold from the start, and at no safe point for an hour."""
    await ctx.step(rest, 3600.0)


async def look(what: str) -> str:
    return "nothing"


@agent(isolation="process")
async def circles(ctx: Context) -> None:
    """In one branch the same again and again, in the other one step for an hour."""

    async def round_and_round() -> None:
        async with ctx.branch("circles"):
            for _ in range(7):
                await ctx.step(look, "kelp", tool=True)

    async def long() -> None:
        async with ctx.branch("long"):
            await ctx.step(rest, 3600.0)

    async with asyncio.TaskGroup() as group:
        group.create_task(round_and_round())
        group.create_task(long())


@agent
async def counts(ctx: Context, folder: str) -> int:
    """Beside others, in its worker."""
    steps = 0
    while not (Path(folder) / "go").exists():
        await ctx.step(rest, 0.01)
        steps += 1
    return steps


async def sit(seconds: float) -> None:
    time.sleep(seconds)  # the mistake that is to be seen


@agent(isolation="process")
async def sits(ctx: Context, seconds: float) -> None:
    """Holds its event loop, and then does not."""
    await ctx.step(sit, seconds)
    await ctx.step(rest, 5.0)


ALL = [circles, heavy, spins, rests, climbs, counts, sits]
