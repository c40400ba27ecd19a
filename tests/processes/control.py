"""Controllers in processes of their own, for tests.

`python -m tests.processes.control serve STORE`: sweeps and fires until it is killed.
`python -m tests.processes.control crash TEMPLATE FOLDER`: for k = 1, 2, … a process fires the schedules of a copy of
the store TEMPLATE and is killed before the k-th statement of its write connection, until one has fewer; prints their
number.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import sys
from pathlib import Path
from typing import Any

from holdfast.clock import SystemClock
from holdfast.controller import Controller
from holdfast.store import open_store
from holdfast.store.sqlite import SQLiteStore


async def serve(url: str) -> None:
    """A controller."""
    async with open_store(url) as store:
        print("ready", flush=True)
        await Controller(store).run()


async def _fire(path: Path, kill_at: int) -> None:
    store = SQLiteStore(path, clock=SystemClock())
    await store.open()
    count = 0

    def trace(*_: Any) -> bool:
        nonlocal count
        count += 1
        if count == kill_at:
            os.kill(os.getpid(), signal.SIGKILL)
        return True

    store._engine._writer._raw.exec_trace = trace
    await Controller(store).fire()
    if count == kill_at - 1:
        os.kill(os.getpid(), signal.SIGKILL)  # all of it is durable, and nobody heard


def crash(template: Path, folder: Path) -> int:
    """Kill a controller before each statement of a fire; a forked process each, which opens the store itself."""
    point = 0
    while True:
        point += 1
        path = folder / f"killed-{point}.db"
        shutil.copy(template, path)
        child = os.fork()
        if child == 0:
            asyncio.run(_fire(path, point))
            os._exit(0)
        _, status = os.waitpid(child, 0)
        if os.waitstatus_to_exitcode(status) == 0:
            path.unlink()
            return point - 1
        assert os.waitstatus_to_exitcode(status) == -signal.SIGKILL


if __name__ == "__main__":
    if sys.argv[1] == "serve":
        asyncio.run(serve(sys.argv[2]))
    else:
        print(crash(Path(sys.argv[2]), Path(sys.argv[3])))
