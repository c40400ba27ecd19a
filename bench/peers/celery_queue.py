"""celery on SQLite, broker and results in one file, fsync on, late acknowledgements. This broker has no priorities:
each is a queue, and the worker takes from the four in turn. A message that a worker has taken is not delivered again
when the process dies: this broker's acknowledgements are kept in the worker's memory, so it promises less than the
others here."""

from __future__ import annotations

import argparse
import sqlite3
import threading
import time
from pathlib import Path

from celery import Celery
from kombu.transport.sqlalchemy import Transport
from sqlalchemy import Engine, event

from bench.workload import answer_queue, leave

QUEUES = [f"priority-{priority}" for priority in range(4)]
POLLED_S = 0.01


@event.listens_for(Engine, "connect")
def durable(connection: sqlite3.Connection, _record: object) -> None:
    connection.execute("pragma journal_mode=wal")
    connection.execute("pragma synchronous=full")


def open_app(folder: Path) -> Celery:
    """As durable as celery gets without a server; of the options that change only its speed, the quickest."""
    Transport.polling_interval = (
        POLLED_S  # as an option it would be handed on to SQLAlchemy, which refuses it
    )
    file = folder / "celery.db"
    app = Celery("bench", broker=f"sqla+sqlite:///{file}", backend=f"db+sqlite:///{file}")
    app.conf.update(
        task_acks_late=True,
        task_reject_on_worker_lost=True,
        worker_prefetch_multiplier=1,
        worker_enable_remote_control=False,
    )
    app.set_default()
    return app


def consume(app: Celery) -> None:
    """A worker in this thread. A pool of threads is slower, and so is a file for the results alone."""
    app.backend.session_manager._after_fork()  # keeps its connection, as in a worker's child process: twice as quick
    worker = app.WorkController(
        pool="solo", queues=QUEUES, without_heartbeat=True, without_mingle=True, without_gossip=True
    )
    worker.start()


def main(runs: int, folder: Path) -> None:
    app = open_app(folder)
    over = threading.Event()
    done: list[int] = []

    @app.task
    def nothing(number: int) -> int:
        done.append(number)
        if len(done) == runs:
            over.set()
        return number

    began_s, cpu_s = time.perf_counter(), time.process_time()
    with app.producer_pool.acquire(block=True) as producer:
        for number in range(runs):
            nothing.apply_async((number,), queue=QUEUES[number % len(QUEUES)], producer=producer)
    queued_s = time.perf_counter()
    threading.Thread(target=consume, args=(app,), daemon=True).start()
    over.wait()
    answer_queue(runs, done, began_s, queued_s, cpu_s)


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--runs", type=int, required=True)
    parser.add_argument("--folder", type=Path, required=True)
    options = parser.parse_args()
    main(options.runs, options.folder)
    leave()
