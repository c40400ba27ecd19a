"""holdfast: one agent that takes N steps of 1 KB, one after the other or by one `ctx.map`; their bodies answer at once,
or wait first as one that asks somebody does."""

from __future__ import annotations

import argparse
import asyncio
import time
from pathlib import Path
from typing import Any

from bench.workload import answer, leave, result_of_step
from holdfast import Client, Context, Worker, agent, open_store

WAIT_S = 0.002
"""As long as the quickest call takes of anything outside: a file, a cache, a service next door."""

figures: dict[str, float] = {}


async def work(number: int) -> dict[str, Any]:
    """One step: answers 1 KB at once."""
    return result_of_step(number)


async def ask(number: int) -> dict[str, Any]:
    """One step: answers 1 KB after WAIT_S."""
    await asyncio.sleep(WAIT_S)
    return result_of_step(number)


@agent
async def stepper(ctx: Context, steps: int, limit: int, waits: bool) -> int:
    """Take the steps; `limit` 0: in a row."""
    body = ask if waits else work
    began_s, cpu_at_begin_s = time.perf_counter(), time.process_time()
    if limit:
        results = await ctx.map(body, range(steps), limit=limit)
    else:
        results = [await ctx.step(body, number) for number in range(steps)]
    wall_s, cpu_s = time.perf_counter() - began_s, time.process_time() - cpu_at_begin_s
    figures.update(steps=steps, steps_per_s=steps / wall_s, cpu_ms_per_step=cpu_s / steps * 1e3)
    return sum(result["i"] for result in results)


async def main(steps: int, limit: int, waits: bool, folder: Path) -> None:
    """Run it to its end, and answer the figures: from the first step's begin to the last one's durable end."""
    async with open_store(f"sqlite:///{folder / 'holdfast.db'}") as store, Worker(store, agents=[stepper]):
        result = await (await Client(store).start(stepper, steps, limit, waits)).result()
    if result != sum(range(steps)):
        raise RuntimeError(f"{steps} steps answered {result}")
    answer(figures)


def profiled(steps: int, limit: int, waits: bool, folder: Path, file: Path) -> None:
    """The same under cProfile, on the loop's thread only."""
    import cProfile

    profile = cProfile.Profile()
    profile.runcall(asyncio.run, main(steps, limit, waits, folder))
    profile.dump_stats(file)


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--steps", type=int, required=True)
    parser.add_argument("--limit", type=int, default=0, help="items at a time; 0: a row of steps")
    parser.add_argument("--waits", action="store_true", help=f"bodies wait {WAIT_S * 1e3:g} ms")
    parser.add_argument("--folder", type=Path, required=True)
    parser.add_argument("--profile", type=Path, help="write cProfile's statistics here")
    options = parser.parse_args()
    if options.profile is None:
        asyncio.run(main(options.steps, options.limit, options.waits, options.folder))
    else:
        profiled(options.steps, options.limit, options.waits, options.folder, options.profile)
    leave()
