"""A worker process for tests: serves the agents beside it, with a short lease, and dies where it is told to.

`python -m tests.processes.serve STORE {"lease": 2, "kill_at": 7, "after": true, "until_idle": true, …}`
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from collections.abc import Callable, Coroutine, Sequence
from typing import Any

from holdfast.model import Change
from holdfast.store import open_store
from holdfast.store.protocol import Store
from holdfast.worker import Worker
from tests.processes import agents


class _Deadly:
    """The store, in a process that kills itself at its n-th commit, before or after it is durable. The transactions of
    an upload are commits, too, and may take their time; what only tells of progress counts as none."""

    def __init__(self, store: Store, kill_at: int, after: bool, chunk_s: float) -> None:
        self._store = store
        self._chunk_s = chunk_s
        self._kill_at = kill_at
        self._after = after
        self._commits = 0

    def commit_now(self, changes: Sequence[Change]) -> Any:
        """Commit on the spot, but for the commit that is to be died at."""
        if self._commits + 1 == self._kill_at:
            return None
        answers = self._store.commit_now(changes)
        self._commits += answers is not None and _counts(changes)
        return answers

    def commit_soon(self, change: Change, answered: Callable[..., None]) -> bool:
        """Everything else comes through `commit`."""
        return False

    async def commit(self, changes: Sequence[Change]) -> Any:
        """Commit, or die."""
        return await self._deadly(self._store.commit(changes), counts=_counts(changes))

    async def begin_content(self) -> Any:
        """Begin an upload, or die."""
        return await self._deadly(self._store.begin_content())

    async def add_chunk(self, upload: int, n: int, chunk: bytes) -> None:
        """Go on with an upload, or die."""
        await asyncio.sleep(self._chunk_s)
        await self._deadly(self._store.add_chunk(upload, n, chunk))

    async def seal_content(self, upload: int, content_id: str, size_bytes: int) -> Any:
        """End an upload, or die."""
        return await self._deadly(self._store.seal_content(upload, content_id, size_bytes))

    async def _deadly(self, transaction: Coroutine[Any, Any, Any], *, counts: bool = True) -> Any:
        self._commits += counts
        here = counts and self._commits == self._kill_at  # others may commit before this one is through
        if here and not self._after:
            os.kill(os.getpid(), signal.SIGKILL)
        answer = await transaction
        if here:
            os.kill(os.getpid(), signal.SIGKILL)
        return answer

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)


def _counts(changes: Sequence[Change]) -> bool:
    return any(
        change.entries or change.checkpoint is not None or change.outcome is not None for change in changes
    )


async def main(url: str, options: dict[str, Any]) -> None:
    """Serve until idle, killed or drained."""
    kill_at, after = options.pop("kill_at", 0), options.pop("after", False)
    chunk_s = options.pop("chunk_s", 0.0)
    served = [
        agents.tally,
        agents.fleet,
        agents.crasher,
        agents.blocker,
        agents.stubborn,
        agents.hanging,
        agents.payer,
        agents.reader,
    ]
    served += [agents.paced, agents.narrow, agents.errand, agents.household, agents.keeper]
    async with open_store(url) as store:
        deadly: Any = _Deadly(store, kill_at, after, chunk_s)
        worker = Worker(deadly, served, **options)
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, worker.drain)
        print("ready", flush=True)
        await worker.run()


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], json.loads(sys.argv[2])))
