"""`python -m tests.processes.full_scene FOLDER LEASE`: fills the disk under a worker, waits, and makes room again.

Run with a small disk of its own mounted at FOLDER. Prints JSON about what the run did meanwhile.
"""

from __future__ import annotations

import asyncio
import json
import logging
import sys
from collections.abc import Callable
from pathlib import Path

from holdfast.client import Client
from holdfast.rules.pressure import Thresholds
from holdfast.store import open_store
from holdfast.worker import Worker
from tests.processes import agents

STEPS = 400


def fill(ballast: Path) -> None:
    """Write until nothing fits any more."""
    with ballast.open("ab", buffering=0) as file:
        size = 65536
        while size:
            try:
                file.write(bytes(size))
            except OSError:
                size //= 2


async def until(condition: Callable[[], bool], timeout_s: float = 30.0) -> None:
    """Wait for something in this process."""
    for _ in range(int(timeout_s / 0.02)):
        if condition():
            return
        await asyncio.sleep(0.02)
    raise TimeoutError


async def main(folder: Path, lease_s: float) -> None:
    """Fill, wait, make room, finish."""
    outside = folder.parent
    done = outside / "acked"
    count = lambda: done.read_text().count("\n") if done.exists() else 0
    async with open_store(f"sqlite:///{folder / 'holdfast.db'}") as store:
        handle = await Client(store).start(agents.tally, str(outside), STEPS, 0.005, id="r")
        worker = Worker(store, [agents.tally], lease=lease_s, thresholds=Thresholds(disk_mb=None))
        async with worker:
            await until(lambda: count() > 30)
            while True:  # a WAL has room inside: fill until the steps stand still
                fill(folder / "ballast")
                before = count()
                await asyncio.sleep(0.7)
                if count() == before:
                    break
            stood_at = count()
            await asyncio.sleep(2.0 * lease_s if lease_s < 5 else 1.5)
            run = await store.get_run("r")
            told = {"stood_at": stood_at, "still_at": count(), "state_when_full": run.state}
            (folder / "ballast").unlink()
            total = await asyncio.wait_for(handle.result(), 60)
        run = await store.get_run("r")
        told |= {"total": total, "failures": run.failures, "crashes": run.crashes, "attempts": run.attempts}
    print(json.dumps(told))


if __name__ == "__main__":
    logging.basicConfig(level=logging.WARNING)
    asyncio.run(main(Path(sys.argv[1]), float(sys.argv[2])))
