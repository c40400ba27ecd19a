"""Books turns under shared rates, and reserves of budgets: what is asked while one transaction runs is booked by the
next, all at once."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Final, Generic, TypeVar

Asked = TypeVar("Asked")
Got = TypeVar("Got")

MAX_BATCH: Final = 256
"""Turns in one transaction: it takes well under 10 ms, and the others wait for no longer."""


class Booking(Generic[Asked, Got]):
    """Asks the store for something that all runs of a worker ask for, many at once."""

    def __init__(self, book: Callable[[Sequence[Asked]], Awaitable[Sequence[Got]]]) -> None:
        self._book_all = book
        self._asked: list[tuple[Asked, asyncio.Future[Got]]] = []
        self._work: asyncio.Task[None] | None = None

    async def take(self, new: Asked) -> Got:
        """The answer for one call. Raises StoreError: then nobody knows whether it was booked; asking again is safe."""
        answer: asyncio.Future[Got] = asyncio.get_running_loop().create_future()
        self._asked.append((new, answer))
        if self._work is None:
            self._work = asyncio.create_task(self._book(), name="booking")
        return await answer

    async def _book(self) -> None:
        try:
            while self._asked:
                batch, self._asked = self._asked[:MAX_BATCH], self._asked[MAX_BATCH:]
                await self._book_together(batch)
        finally:
            self._work = None

    async def _book_together(self, batch: list[tuple[Asked, asyncio.Future[Got]]]) -> None:
        try:
            got = await self._book_all([new for new, _ in batch])
        except BaseException as error:
            for _, answer in batch:
                if not answer.done():
                    answer.set_exception(error if isinstance(error, Exception) else asyncio.CancelledError())
                    answer.exception()  # read here, so that nobody being there any more is no warning
            if not isinstance(error, Exception):
                raise
            return
        for (_, answer), each in zip(batch, got, strict=True):
            if not answer.done():
                answer.set_result(each)
