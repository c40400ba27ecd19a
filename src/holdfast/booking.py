"""Books turns under shared rates: what is asked while one transaction runs is booked by the next, all at once."""

from __future__ import annotations

import asyncio
from typing import Final

from holdfast.model import NewTurn, Turn
from holdfast.store.protocol import Store

MAX_BATCH: Final = 256
"""Turns in one transaction: it takes well under 10 ms, and the others wait for no longer."""


class Booking:
    """Takes the turns of all runs of a worker."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._asked: list[tuple[NewTurn, asyncio.Future[Turn]]] = []
        self._work: asyncio.Task[None] | None = None

    async def take(self, new: NewTurn) -> Turn:
        """The turn of one call. Raises StoreError: then nobody knows whether it was booked; asking again is safe."""
        answer: asyncio.Future[Turn] = asyncio.get_running_loop().create_future()
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

    async def _book_together(self, batch: list[tuple[NewTurn, asyncio.Future[Turn]]]) -> None:
        try:
            turns = await self._store.take_turns([new for new, _ in batch])
        except BaseException as error:
            for _, answer in batch:
                if not answer.done():
                    answer.set_exception(error if isinstance(error, Exception) else asyncio.CancelledError())
                    answer.exception()  # read here, so that nobody being there any more is no warning
            if not isinstance(error, Exception):
                raise
            return
        for (_, answer), turn in zip(batch, turns, strict=True):
            if not answer.done():
                answer.set_result(turn)
