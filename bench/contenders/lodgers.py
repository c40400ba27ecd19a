"""The agents of `isolation`, in a file that imports nothing else, as agents' files do."""

from __future__ import annotations

import time

from holdfast import Context, agent


async def moment() -> float:
    """When a step's body was entered: seconds since the epoch, as the store's stamps are."""
    return time.time()


@agent
async def inside(ctx: Context) -> float:
    """One step, in the worker's process."""
    return await ctx.step(moment)


@agent(isolation="process")
async def apart(ctx: Context) -> float:
    """One step, in a process of its own."""
    return await ctx.step(moment)
