"""procrastinate on PostgreSQL: jobs that do nothing at four priorities, deferred in batches, drained by one worker."""

from __future__ import annotations

import argparse
import asyncio
import time

from procrastinate import App, PsycopgConnector

from bench.workload import answer_queue, leave

PRIORITIES = 4
CONCURRENCY = 100
BATCH = 1_000
results: list[int] = []


async def main(runs: int, url: str) -> None:
    app = App(connector=PsycopgConnector(conninfo=url, min_size=4, max_size=20))

    @app.task(name="nothing")
    async def nothing(number: int) -> None:
        results.append(number)

    async with app.open_async():
        await app.schema_manager.apply_schema_async()
        began_s, cpu_s = time.perf_counter(), time.process_time()
        for priority in range(PRIORITIES):
            numbers = range(priority, runs, PRIORITIES)
            deferrer = nothing.configure(priority=PRIORITIES - priority)  # its greater one is the first
            for first in range(0, len(numbers), BATCH):
                some = numbers[first : first + BATCH]
                await deferrer.batch_defer_async(*({"number": number} for number in some))
        queued_s = time.perf_counter()
        await app.run_worker_async(concurrency=CONCURRENCY, wait=False, install_signal_handlers=False)
    answer_queue(runs, results, began_s, queued_s, cpu_s)


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--runs", type=int, required=True)
    parser.add_argument("--folder")
    parser.add_argument("--url", required=True)
    options = parser.parse_args()
    asyncio.run(main(options.runs, options.url))
    leave()
