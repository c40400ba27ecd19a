"""Runs that wait for a signal, unloaded; some are woken, at random, from this process or another.

python -m bench.contenders.sleepers --runs N --wakes N --folder F [--apart]
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import random
import sys
import threading
import time
from pathlib import Path

import apsw
import psutil

from bench.workload import answer, leave
from holdfast import Client, Context, RunState, Worker, agent, open_store

CAPACITY = 200
LATE_S = (0.02, 0.06)


@agent
async def sleeper(ctx: Context, number: int) -> int:
    """Wait to be woken; answer when that was."""
    await ctx.wait_for("go")
    return time.time_ns() // 1000


async def until_asleep(client: Client) -> None:
    """Wait until every run is unloaded, and what it left behind is gone."""
    states = {RunState.QUEUED, RunState.RUNNING}
    while await client.runs(states=states, limit=1):  # noqa: ASYNC110 - asked of the store, as a person would
        await asyncio.sleep(0.1)
    gc.collect()


async def wake(client: Client, runs: int, wakes: int) -> list[float]:
    """Signal some of them; how many milliseconds after the answer each went on."""
    late_ms: list[float] = []
    for number in random.Random(runs).sample(range(runs), wakes):
        await asyncio.sleep(random.uniform(*LATE_S))
        handle = client.handle(sleeper, f"s{number}")
        await handle.signal("go")
        told_us = time.time_ns() // 1000
        late_ms.append((await handle.result() - told_us) / 1e3)
    return sorted(late_ms)


async def main(runs: int, wakes: int, folder: Path, apart: bool) -> None:
    """Put them to sleep, weigh what is left in memory, wake some, answer the figures."""
    url = f"sqlite:///{folder / 'holdfast.db'}"
    async with open_store(url) as store, Worker(store, [sleeper], capacity=CAPACITY):
        client = Client(store)
        for warm in range(20):  # so that what is loaded once is not counted as theirs
            await client.handle(sleeper, (await client.start(sleeper, warm, id=f"warm{warm}")).id).signal(
                "go"
            )
        await until_asleep(client)
        began_s = time.perf_counter()
        half = runs // 2
        await client.start_many(sleeper, [(n,) for n in range(half)], id=lambda number: f"s{number}")
        await until_asleep(client)
        # What so many leave behind once (the allocator's rooms, above all) is not a cost of each that sleeps.
        before_bytes, before_cached = psutil.Process().memory_info().rss, apsw.memory_used()
        more = range(half, runs)
        await client.start_many(sleeper, [(n,) for n in more], id=lambda number: f"s{more[number]}")
        await until_asleep(client)
        asleep_s = time.perf_counter() - began_s
        cached_bytes = apsw.memory_used() - before_cached
        left_bytes = psutil.Process().memory_info().rss - before_bytes - cached_bytes
        if apart:
            command = (sys.executable, "-m", "bench.contenders.sleepers", "--wake", url)
            other = await asyncio.create_subprocess_exec(
                *command, "--runs", str(runs), "--wakes", str(wakes), stdout=asyncio.subprocess.PIPE
            )
            told, _ = await other.communicate()
            late_ms = [float(word) for word in told.split()]
        else:
            late_ms = await wake(client, runs, wakes)
        answer(
            {
                "asleep_per_s": runs / asleep_s,
                "bytes_a_run": max(0, left_bytes) / len(more),
                "cached_mib": cached_bytes / 2**20,
                "threads": threading.active_count(),
                "wake_p50_ms": late_ms[len(late_ms) // 2],
                "wake_p99_ms": late_ms[int(len(late_ms) * 0.99)],
            }
        )
        leave()


async def wake_from_here(url: str, runs: int, wakes: int) -> None:
    """The other process: signal, and print how late each was."""
    async with open_store(url) as store:
        print(*await wake(Client(store), runs, wakes), flush=True)


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--runs", type=int, required=True)
    parser.add_argument("--wakes", type=int, required=True)
    parser.add_argument("--folder", type=Path)
    parser.add_argument("--apart", action="store_true", help="signal from another process")
    parser.add_argument("--wake", metavar="URL", help="be that process")
    options = parser.parse_args()
    if options.wake:
        asyncio.run(wake_from_here(options.wake, options.runs, options.wakes))
    else:
        asyncio.run(main(options.runs, options.wakes, options.folder, options.apart))
