"""A peer, killed in the middle of a task: python -m bench.peers.taken celery|dbos|huey FOLDER first|second

Each is set up as its queue contender sets it up, with one task at a time.
"""

from __future__ import annotations

import sys
import threading
import time
from pathlib import Path

from bench.lives import TASKS, Life

FOREVER_S = 3600.0


def celery(life: Life) -> None:
    from bench.peers.celery_queue import QUEUES, consume, open_app

    app = open_app(life.folder)

    @app.task
    def work(number: int) -> None:
        do(life, number)

    if life.first:
        for number in range(TASKS):
            work.apply_async((number,), queue=QUEUES[0])
    consume(app)


def dbos(life: Life) -> None:
    from dbos import DBOS

    from bench.peers.dbos_queue import launch

    @DBOS.workflow()
    def work(number: int) -> None:
        do(life, number)

    launch(life.folder)
    DBOS.register_queue("bench", worker_concurrency=1, polling_interval_sec=0.01)
    if life.first:
        for number in range(TASKS):
            DBOS.enqueue_workflow("bench", work, number)
    threading.Event().wait()


def huey(life: Life) -> None:
    from bench.peers.huey_queue import consume, open_huey

    queue = open_huey(life.folder)

    @queue.task()
    def work(number: int) -> None:
        do(life, number)

    if life.first:
        for number in range(TASKS):
            work(number)
    consume(queue)
    threading.Event().wait()


def do(life: Life, number: int) -> None:
    if life.deadly(number):
        time.sleep(FOREVER_S)
    life.finish(number)


if __name__ == "__main__":
    peers = {"celery": celery, "dbos": dbos, "huey": huey}
    peers[sys.argv[1]](Life(Path(sys.argv[2]), first=sys.argv[3] == "first"))
