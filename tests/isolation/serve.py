"""A worker process for tests: serves the agents beside it. `python -m tests.isolation.serve STORE [until_idle]`."""

from __future__ import annotations

import asyncio
import signal
import sys

from holdfast.store import open_store
from holdfast.worker import Worker
from tests.isolation import agents


async def main(url: str, until_idle: bool) -> None:
    """Serve until idle or drained."""
    async with open_store(url) as store:
        worker = Worker(store, agents.ALL, until_idle=until_idle, lease=2, capacity=20)
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, worker.drain)
        await worker.run()


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], sys.argv[2:] == ["until_idle"]))
