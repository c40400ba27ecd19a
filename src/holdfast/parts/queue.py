"""A queue by itself: plain coroutines by priority, so many at a time, in this process and this memory.

Laws:
1. At most `limit` run at once; one that was cancelled holds its place until it has really ended.
2. The order is that of runs (`rules.schedule`): a smaller priority first, and a level is worth a minute of waiting, so
   that nothing starves.
3. Nothing outlives the queue: when it is closed, everything has ended or was cancelled, and no coroutine is forgotten.
"""

from __future__ import annotations

import asyncio
import heapq
from collections.abc import Coroutine
from functools import partial
from types import TracebackType
from typing import Any, Final, Self, TypeVar

from holdfast.errors import Refused, UsageError
from holdfast.rules.schedule import check_priority, claim_key

R = TypeVar("R")

MOST_WAITING: Final = 100_000
"""Each holds a coroutine in memory; who has more of them wants a store, and runs."""


class _Job:
    """A coroutine, its place in the order, and the future that stands for it outside. `task` when it has begun."""

    __slots__ = ("coroutine", "left", "outcome", "place", "task")

    def __init__(
        self, place: tuple[int, int], coroutine: Coroutine[Any, Any, Any], outcome: asyncio.Future[Any]
    ) -> None:
        self.place = place
        self.coroutine = coroutine
        self.outcome = outcome
        self.task: asyncio.Task[Any] | None = None
        self.left = False  # cancelled before it began

    def __lt__(self, other: _Job) -> bool:
        return self.place < other.place

    def leave(self) -> None:
        """It was cancelled before it began: nobody will await the coroutine."""
        self.left = True
        self.coroutine.close()


class Queue:
    """Runs coroutines by priority, at most `limit` at a time. `async with` waits for all of them at its end.

    Nothing is durable: what waits here is gone with the process. For what must survive, start runs.
    """

    def __init__(self, limit: int) -> None:
        if limit < 1:
            raise UsageError(f"Queue(limit={limit}): at least 1")
        self._limit = limit
        self._heap: list[_Job] = []
        self._gone = 0  # cancelled ones, still in the heap
        self._running: set[asyncio.Task[Any]] = set()
        self._numbers = 0
        self._closed = False
        self._idle = asyncio.Event()
        self._idle.set()

    @property
    def waiting(self) -> int:
        """How many wait for their turn."""
        return len(self._heap) - self._gone

    @property
    def running(self) -> int:
        """How many run."""
        return len(self._running)

    def put(self, coroutine: Coroutine[Any, Any, R], *, priority: int = 0) -> asyncio.Future[R]:
        """Queue a coroutine; awaiting what is returned gives its result or raises its error.

        Cancelling that cancels the coroutine, whether it waits or runs. A smaller `priority` goes first. Needs a
        running event loop. Raises Refused, and closes the coroutine, when the queue is closed or full.
        """
        try:
            check_priority(priority)
            if self._closed:
                raise Refused("the queue is closed: put what is to run before its `async with` ends")
            if self.waiting >= MOST_WAITING:
                raise Refused(
                    f"{MOST_WAITING} coroutines wait in the queue already: await some of them first"
                )
            loop = asyncio.get_running_loop()
        except BaseException:
            coroutine.close()  # or Python would warn that nobody awaited it
            raise
        outcome: asyncio.Future[R] = loop.create_future()
        self._numbers += 1
        place = (claim_key(round(loop.time() * 1e6), priority), self._numbers)
        job = _Job(place, coroutine, outcome)
        heapq.heappush(self._heap, job)
        self._idle.clear()
        outcome.add_done_callback(partial(self._settled, job))
        loop.call_soon(self._start)  # so that what is put in one breath is started in its order
        return outcome

    async def join(self) -> None:
        """Wait until nothing waits and nothing runs."""
        await self._idle.wait()

    async def close(self, *, cancel: bool = False) -> None:
        """Take nothing more, and wait for everything; with `cancel`, cancel it first. Idempotent."""
        self._closed = True
        if cancel:
            for one in list(self._heap):
                one.outcome.cancel()
            for task in self._running:
                task.cancel()
        await self.join()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            await self.close(cancel=error is not None)
        except asyncio.CancelledError:
            await self.close(cancel=True)
            raise

    def _start(self) -> None:
        while self._heap and len(self._running) < self._limit:
            job = heapq.heappop(self._heap)
            if job.left:
                self._gone -= 1
            elif job.outcome.done():  # cancelled a moment ago
                job.leave()
            else:
                job.task = asyncio.get_running_loop().create_task(job.coroutine)
                self._running.add(job.task)
                job.task.add_done_callback(partial(self._ended, job))
        if not self._heap and not self._running:
            self._idle.set()

    def _ended(self, job: _Job, task: asyncio.Task[Any]) -> None:
        """The coroutine is over: its outcome goes to whoever awaits it, its place to the next."""
        self._running.discard(task)
        error = None if task.cancelled() else task.exception()
        if job.outcome.done():
            pass  # whoever cancelled it does not wait for how it ended
        elif task.cancelled():
            job.outcome.cancel()
        elif error is not None:
            job.outcome.set_exception(error)
        else:
            job.outcome.set_result(task.result())
        self._start()

    def _settled(self, job: _Job, outcome: asyncio.Future[Any]) -> None:
        """Somebody cancelled the outcome, or it was set by us."""
        if not outcome.cancelled() or job.left:
            return
        if job.task is not None:
            job.task.cancel()
            return
        job.leave()
        self._gone += 1
        if self._gone * 2 > len(self._heap):  # so that memory holds no more dead ones than live
            self._heap = [one for one in self._heap if not one.left]
            heapq.heapify(self._heap)
            self._gone = 0
        self._start()
