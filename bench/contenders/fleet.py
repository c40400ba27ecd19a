"""Several worker processes on one store: runs of some steps, queued when all of them wait, until the last has ended.

python -m bench.contenders.fleet --workers N --runs R --steps S --url URL
"""

from __future__ import annotations

import argparse
import asyncio
import sys
import time
from typing import Any

import psutil

from bench.workload import answer, leave, result_of_step
from holdfast import Client, Context, Worker, agent, open_store

CAPACITY = 100


async def work(number: int) -> dict[str, Any]:
    """One step: answers 1 KB at once."""
    return result_of_step(number)


@agent
async def walker(ctx: Context, steps: int) -> int:
    """Take the steps."""
    for number in range(steps):
        await ctx.step(work, number)
    return steps


async def serve(url: str) -> None:
    """A worker's process: says that it waits."""
    async with open_store(url) as store, Worker(store, [walker], capacity=CAPACITY):
        print("ready", flush=True)
        await asyncio.Event().wait()


async def main(workers: int, runs: int, steps: int, url: str) -> None:
    """Start the processes, queue the runs, await all, answer the figures."""
    command = (sys.executable, "-m", "bench.contenders.fleet", "--serve", "--url", url)
    async with open_store(url) as store:
        crew = [
            await asyncio.create_subprocess_exec(*command, stdout=asyncio.subprocess.PIPE)
            for _ in range(workers)
        ]
        for process in crew:
            assert process.stdout is not None
            await process.stdout.readline()
        begin_s, cpu_s = time.time(), spent_s(crew)
        handles = await Client(store).start_many(walker, [(steps,)] * runs)
        results = [await handle.result() for handle in handles]
        end_s, cpu_s = time.time(), spent_s(crew) - cpu_s
        for process in crew:
            process.kill()
    if results != [steps] * runs:
        raise RuntimeError("a run ended with fewer steps than asked for")
    total = runs * steps
    answer(
        {
            "steps": total,
            "window_s": (begin_s, end_s),
            "steps_per_s": total / (end_s - begin_s),
            "cpu_ms_per_step": cpu_s / total * 1e3,
        }
    )


def spent_s(crew: list[asyncio.subprocess.Process]) -> float:
    """CPU of the workers' processes so far."""
    times = [psutil.Process(process.pid).cpu_times() for process in crew]
    return sum(one.user + one.system for one in times)


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--runs", type=int, default=1)
    parser.add_argument("--steps", type=int, default=1)
    parser.add_argument("--folder")
    parser.add_argument("--url", required=True)
    parser.add_argument("--serve", action="store_true", help="be a worker's process")
    options = parser.parse_args()
    if options.serve:
        asyncio.run(serve(options.url))
    else:
        asyncio.run(main(options.workers, options.runs, options.steps, options.url))
    leave()
