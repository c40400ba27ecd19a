"""Schedules that are due in one second: `plan` adds them, `serve` is a controller until it is killed.

python -m bench.contenders.schedules plan FOLDER COUNT DUE_S | serve FOLDER

DUE_S is the second since the epoch in which all of them are due.
"""

from __future__ import annotations

import asyncio
import sys
import time

from holdfast import Client, Context, Controller, Schedule, agent, open_store


@agent
async def chime(ctx: Context) -> None:
    """Never executed: firing is what counts."""


async def plan(folder: str, count: int, due_s: int) -> None:
    """Add the schedules."""
    at = time.gmtime(due_s)
    cron = f"{at.tm_sec} {at.tm_min} {at.tm_hour} {at.tm_mday} {at.tm_mon} *"
    async with open_store(f"sqlite:///{folder}/holdfast.db") as store:
        schedules = Client(store).schedules
        for n in range(count):
            await schedules.add(Schedule(f"schedule-{n}", chime, cron=cron))
    print('"planned"')


async def serve(folder: str) -> None:
    """A controller."""
    async with open_store(f"sqlite:///{folder}/holdfast.db") as store:
        print('"ready"', flush=True)
        await Controller(store).run()


if __name__ == "__main__":
    if sys.argv[1] == "plan":
        asyncio.run(plan(sys.argv[2], int(sys.argv[3]), int(sys.argv[4])))
    else:
        asyncio.run(serve(sys.argv[2]))
