"""absurd on PostgreSQL: tasks that do nothing, spawned one by one (it has no other way) and without priorities (it has
none), drained by several workers of one process, which claim many at a time."""

from __future__ import annotations

import argparse
import asyncio
import time
from typing import Any

from absurd_sdk import AsyncAbsurd, AsyncTaskContext

from bench.peers.absurd_steps import CLIENTS, QUEUE, prepare
from bench.workload import answer_queue, leave

results: list[int] = []
drained = asyncio.Event()


async def nothing(params: dict[str, Any], ctx: AsyncTaskContext) -> int:
    results.append(params["number"])
    if len(results) == params["of"]:
        drained.set()
    return int(params["number"])


async def main(runs: int, url: str, clients: int) -> None:
    prepare(url)
    crew = [AsyncAbsurd(url, queue_name=QUEUE) for _ in range(clients)]
    await crew[0].create_queue()
    for client in crew:
        client.register_task("nothing")(nothing)
    began_s, cpu_s = time.perf_counter(), time.process_time()
    for number in range(runs):
        await crew[0].spawn("nothing", {"number": number, "of": runs})
    queued_s = time.perf_counter()
    workers = [
        asyncio.create_task(client.start_worker(worker_id=f"w{n}", concurrency=50, poll_interval=0.01))
        for n, client in enumerate(crew)
    ]
    await drained.wait()
    for client in crew:
        client.stop_worker()
    await asyncio.gather(*workers)
    answer_queue(runs, results, began_s, queued_s, cpu_s)


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--runs", type=int, required=True)
    parser.add_argument("--folder")
    parser.add_argument("--url", required=True)
    parser.add_argument("--clients", type=int, default=CLIENTS)
    options = parser.parse_args()
    asyncio.run(main(options.runs, options.url, options.clients))
    leave()
