"""DBOS, on SQLite or (`--url`) PostgreSQL: no-op workflows of a queue with priorities, polled a hundred times a second.

On SQLite its default journal mode is `delete`; the file is set to WAL beforehand, which makes it up to twice as quick.
"""

from __future__ import annotations

import argparse
import asyncio
import sqlite3
import time
from pathlib import Path

from dbos import DBOS, DBOSConfig, SetEnqueueOptions

from bench.workload import answer_queue, leave

PRIORITIES = 4
CONCURRENCY = 100


@DBOS.workflow()
async def nothing(number: int) -> int:
    return number


def launch(folder: Path, url: str | None = None) -> None:
    if url is None:
        file = folder / "dbos.sqlite"
        database = sqlite3.connect(file)
        database.execute("pragma journal_mode=wal")
        database.close()
        url = f"sqlite:///{file}"
    config: DBOSConfig = {"name": "bench", "system_database_url": url, "log_level": "ERROR"}
    DBOS(config=config)
    DBOS.launch()


async def main(runs: int, folder: Path, url: str | None) -> None:
    launch(folder, url)
    began_s, cpu_s = time.perf_counter(), time.process_time()
    await DBOS.register_queue_async("bench", worker_concurrency=CONCURRENCY, polling_interval_sec=0.01)
    handles = []
    for number in range(runs):
        with SetEnqueueOptions(priority=1 + number % PRIORITIES):
            handles.append(await DBOS.enqueue_workflow_async("bench", nothing, number))
    queued_s = time.perf_counter()
    results = [await handle.get_result() for handle in handles]
    answer_queue(runs, results, began_s, queued_s, cpu_s)


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--runs", type=int, required=True)
    parser.add_argument("--folder", type=Path, required=True)
    parser.add_argument("--url")
    options = parser.parse_args()
    asyncio.run(main(options.runs, options.folder, options.url))
    leave()
