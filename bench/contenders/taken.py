"""holdfast, killed in the middle of a run: python -m bench.contenders.taken holdfast FOLDER first|second"""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

from bench.lives import TASKS, Life
from holdfast import Client, Context, Worker, agent, open_store


async def main(life: Life) -> None:
    """Queue the runs in the first life; work in both."""

    @agent
    async def work(ctx: Context, number: int) -> None:
        if life.deadly(number):
            await asyncio.Event().wait()
        life.finish(number)

    async with open_store(f"sqlite:///{life.folder / 'holdfast.db'}") as store:
        if life.first:
            await Client(store).start_many(work, [(number,) for number in range(TASKS)])
        async with Worker(store, [work], capacity=1):
            await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(main(Life(Path(sys.argv[2]), first=sys.argv[3] == "first")))
