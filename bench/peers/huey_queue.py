"""huey on SQLite, fsync on, results kept. A task that its consumer has taken is gone when the process dies: it
promises less than the others here."""

from __future__ import annotations

import argparse
import threading
import time
from pathlib import Path

from huey import SqliteHuey

from bench.workload import answer_queue, leave

PRIORITIES = 4
WORKERS = 1  # more are slower: they wait for each other


def open_huey(folder: Path) -> SqliteHuey:
    return SqliteHuey("bench", filename=str(folder / "huey.db"), fsync=True, journal_mode="wal", results=True)


def consume(huey: SqliteHuey) -> None:
    consumer = huey.create_consumer(
        workers=WORKERS, worker_type="thread", initial_delay=0.001, max_delay=0.01, periodic=False
    )
    consumer.start()


def main(runs: int, folder: Path) -> None:
    huey = open_huey(folder)
    over = threading.Event()
    done: list[int] = []

    @huey.task()
    def nothing(number: int) -> int:
        done.append(number)
        if len(done) == runs:
            over.set()
        return number

    began_s, cpu_s = time.perf_counter(), time.process_time()
    for number in range(runs):
        nothing(number, priority=number % PRIORITIES)
    queued_s = time.perf_counter()
    consume(huey)
    over.wait()
    answer_queue(runs, done, began_s, queued_s, cpu_s)


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--runs", type=int, required=True)
    parser.add_argument("--folder", type=Path, required=True)
    options = parser.parse_args()
    main(options.runs, options.folder)
    leave()
