"""absurd on PostgreSQL: async tasks, each step's outcome durable before the next (its only mode).

Its client speaks through one connection; many agents are given several clients, each with a worker of its own.
"""

from __future__ import annotations

import argparse
import asyncio
from typing import Any

import psycopg
from absurd_sdk import AsyncAbsurd, AsyncTaskContext
from absurdctl import BUNDLED_SCHEMA_SQL

from bench.workload import Tally, answer, leave, pause, pauses_of, result_of_step

CLIENTS = 20
QUEUE = "bench"
tally = Tally(expected=0)
over = asyncio.Event()


async def agent(params: dict[str, Any], ctx: AsyncTaskContext) -> int:
    number, steps = params["number"], params["steps"]
    plan = [0.0] * steps if params["alone"] else pauses_of(number, steps)
    for step, length in enumerate(plan):

        async def work(step: int = step, length: float = length) -> dict[str, Any]:
            await pause(length)
            return result_of_step(step)

        began_s = tally.begin()
        await ctx.step("work", work)
        tally.end(began_s)
    if tally.wall_s:
        over.set()
    return steps


def prepare(url: str) -> None:
    """Install its schema: that of its own command, which wants psql."""
    with psycopg.connect(url, autocommit=True) as database:
        database.execute(BUNDLED_SCHEMA_SQL.encode())


async def main(agents: int, steps: int, url: str) -> None:
    prepare(url)
    tally.expected = agents * steps
    clients = [AsyncAbsurd(url, queue_name=QUEUE) for _ in range(min(agents, CLIENTS))]
    await clients[0].create_queue()
    for client in clients:
        client.register_task("agent")(agent)
    for number in range(agents):
        await clients[0].spawn("agent", {"number": number, "steps": steps, "alone": agents == 1})
    each = -(-agents // len(clients))
    workers = [
        asyncio.create_task(client.start_worker(worker_id=f"w{n}", concurrency=each, poll_interval=0.01))
        for n, client in enumerate(clients)
    ]
    await over.wait()
    for client in clients:
        client.stop_worker()
    await asyncio.gather(*workers)
    answer(tally.figures())


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--agents", type=int, required=True)
    parser.add_argument("--steps", type=int, required=True)
    parser.add_argument("--folder")
    parser.add_argument("--url", required=True)
    options = parser.parse_args()
    asyncio.run(main(options.agents, options.steps, options.url))
    leave()
