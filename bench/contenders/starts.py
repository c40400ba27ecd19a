"""An idle worker in one process, a client in another: how soon a run begins after it was queued.

python -m bench.contenders.starts --starts N --folder F
"""

from __future__ import annotations

import argparse
import asyncio
import random
import sys
from pathlib import Path

from bench.workload import answer, leave
from holdfast import Client, Context, Worker, agent, open_store

LATE_S = (0.05, 0.25)


@agent
async def nothing(ctx: Context, number: int) -> int:
    """The least that a run can be."""
    return number


async def serve(url: str) -> None:
    """The worker's process."""
    async with open_store(url) as store:
        await Worker(store, [nothing]).run()


async def main(starts: int, url: str) -> None:
    """Queue one now and then; the store stamps when it was created, and when it was claimed."""
    async with open_store(url) as store:
        client = Client(store)
        command = (sys.executable, "-m", "bench.contenders.starts", "--starts", "0", "--serve", url)
        worker = await asyncio.create_subprocess_exec(*command)
        late_ms = []
        for number in range(-5, starts):  # the first ones wait for the process
            handle = await client.start(nothing, number)
            await handle.result()
            view = await handle.status()
            assert view.started_at is not None
            if number >= 0:
                late_ms.append((view.started_at - view.created_at).total_seconds() * 1e3)
            await asyncio.sleep(random.uniform(*LATE_S))
        worker.kill()
    late_ms.sort()
    answer({"p50_ms": late_ms[starts // 2], "p99_ms": late_ms[int(starts * 0.99)]})


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--starts", type=int, required=True)
    parser.add_argument("--folder", type=Path)
    parser.add_argument("--url", help="a store; else one in the folder")
    parser.add_argument("--serve", metavar="URL", help="be the worker's process")
    options = parser.parse_args()
    here = options.url or f"sqlite:///{options.folder}/holdfast.db"
    asyncio.run(serve(options.serve) if options.serve else main(options.starts, here))
    leave()
