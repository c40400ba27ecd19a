"""holdfast: no-op runs at four priorities are queued, each durable, and one worker drains them."""

from __future__ import annotations

import argparse
import asyncio
import time
from pathlib import Path

from bench.workload import answer_queue, leave
from holdfast import Client, Context, Worker, agent, open_store
from holdfast.model import RunFilter, RunState

PRIORITIES = 4
CAPACITY = 200
LEFT = RunFilter(states=frozenset({RunState.QUEUED, RunState.RUNNING, RunState.WAITING}), limit=1)
LOOK_S = 0.02


@agent
async def nothing(ctx: Context, number: int) -> int:
    """The least that a run can be."""
    return number


async def main(runs: int, folder: Path, url: str | None, one_by_one: bool, by_itself: bool) -> None:
    """Queue them, drain them, answer the figures."""
    async with open_store(url or f"sqlite:///{folder / 'holdfast.db'}") as store:
        client = Client(store)
        began_s, cpu_s = time.perf_counter(), time.process_time()
        handles = []
        for priority in range(PRIORITIES):
            numbers = range(priority, runs, PRIORITIES)
            if one_by_one:
                handles += [await client.start(nothing, number, priority=priority) for number in numbers]
            else:
                inputs = [(number,) for number in numbers]
                handles += await client.start_many(nothing, inputs, priority=priority)
        queued_s = time.perf_counter()
        drained_s = None
        async with Worker(store, [nothing], capacity=CAPACITY):
            if by_itself:
                while await store.list_runs(LEFT):
                    await store.wait_for_news(LOOK_S)
                drained_s = time.perf_counter()
            results = [await handle.result() for handle in handles]
    answer_queue(runs, results, began_s, queued_s, cpu_s, drained_s)


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--runs", type=int, required=True)
    parser.add_argument("--folder", type=Path, required=True)
    parser.add_argument("--url", help="a store; else one in the folder")
    parser.add_argument("--one-by-one", action="store_true", help="a transaction for each start")
    parser.add_argument(
        "--by-itself",
        action="store_true",
        help="the clock stops when all runs have ended; results are read afterwards",
    )
    options = parser.parse_args()
    asyncio.run(main(options.runs, options.folder, options.url, options.one_by_one, options.by_itself))
    leave()
