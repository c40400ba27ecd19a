"""holdfast: one worker in this process, N agents, each step of 1 KB durable before the agent's next."""

from __future__ import annotations

import argparse
import asyncio
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.workload import Tally, answer, bytes_on_disk, leave, pause, pauses_of, result_of_step
from holdfast import Client, Context, Every, Worker, agent, open_store

CHECKPOINT_EACH = 100
tally = Tally(expected=0)


@dataclass
class Done:
    """The state of the benchmark's agents."""

    steps: int = 0


async def work(number: int, length: float) -> dict[str, Any]:
    """One step: gives way to others as planned, answers 1 KB."""
    await pause(length)
    return result_of_step(number)


@agent(checkpoint=Every(None, steps=CHECKPOINT_EACH))
async def stepper(ctx: Context, number: int, steps: int, alone: bool) -> int:
    """Take the steps, and call `checkpoint` after each hundred."""
    done = ctx.restore(Done)
    plan = [0.0] * steps if alone else pauses_of(number, steps)
    while done.steps < steps:
        began_s = tally.begin()
        await ctx.step(work, done.steps, plan[done.steps])
        tally.end(began_s)
        done.steps += 1
        if done.steps % CHECKPOINT_EACH == 0:
            await ctx.checkpoint(done)
    return done.steps


async def main(
    agents: int, steps: int, folder: Path, *, together: bool = False, store_url: str | None = None
) -> None:
    """Start them, run them to their ends, answer the figures. `together`: all results are awaited at once."""
    tally.expected = agents * steps
    async with open_store(store_url or f"sqlite:///{folder / 'holdfast.db'}") as store:
        client = Client(store)
        began_s = time.perf_counter()
        alone = agents == 1
        handles = [await client.start(stepper, n, steps, alone, id=f"agent-{n}") for n in range(agents)]
        started_s = time.perf_counter() - began_s
        async with Worker(store, agents=[stepper], capacity=agents):
            if together:
                results = await asyncio.gather(*(handle.result() for handle in handles))
            else:
                results = [await handle.result() for handle in handles]
            whole_s = time.perf_counter() - began_s
    if results != [steps] * agents:
        raise RuntimeError("an agent ended with fewer steps than asked for")
    size = bytes_on_disk(folder)
    answer(
        {**tally.figures(), "whole_s": whole_s, "start_s": started_s, "bytes_per_step": size / tally.expected}
    )


def profiled(agents: int, steps: int, folder: Path, file: Path) -> None:
    """The same under cProfile, on the loop's thread only."""
    import cProfile

    profile = cProfile.Profile()
    profile.runcall(asyncio.run, main(agents, steps, folder))
    profile.dump_stats(file)


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--agents", type=int, required=True)
    parser.add_argument("--steps", type=int, required=True)
    parser.add_argument("--folder", type=Path, required=True)
    parser.add_argument("--store", help="the URL of a store elsewhere")
    parser.add_argument("--together", action="store_true", help="await all results at once")
    parser.add_argument("--profile", type=Path, help="write cProfile's statistics here")
    options = parser.parse_args()
    if options.profile is None:
        asyncio.run(
            main(
                options.agents,
                options.steps,
                options.folder,
                together=options.together,
                store_url=options.store,
            )
        )
    else:
        profiled(options.agents, options.steps, options.folder, options.profile)
    leave()
