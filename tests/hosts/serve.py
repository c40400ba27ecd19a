"""`holdfast worker`, with a lease of its own: `python -m tests.hosts.serve STORE {"lease": 2, "capacity": 4}`."""

from __future__ import annotations

import asyncio
import json
import logging
import sys
from typing import Any

from holdfast.client import Client
from holdfast.embedded import Stopping, execute
from holdfast.store import open_store
from holdfast.worker import Worker
from tests.hosts.agents import nap, tick, walk


async def main(url: str, options: dict[str, Any]) -> None:
    """Serve until killed or drained."""
    logging.basicConfig(format="%(asctime)s %(name)s %(message)s")
    async with open_store(url) as store:
        worker = Worker(store, [walk, nap, tick], **options)
        with Stopping(worker, parks=False):
            print("ready", flush=True)
            await execute(Client(store), worker)


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], json.loads(sys.argv[2])))
