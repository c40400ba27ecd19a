"""Stores what a worker sees of its runs: the samples of all of them in one transaction."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable, Sequence
from typing import Final

from holdfast.errors import RunNotFound, StoreCorrupt
from holdfast.model import TreeSample
from holdfast.process.sightings import Sightings
from holdfast.rules import sampling
from holdfast.store.protocol import Store

log = logging.getLogger(__name__)

HISTORIES: Final = 8
"""In one round: a history is a millisecond of the write lock, and of 100 runs one is due each third of a second."""


class Sampling:
    """`run` for as long as the worker serves. `seen` gives the sightings of the attempts that are in hand."""

    def __init__(self, store: Store, seen: Callable[[], Iterable[Sightings | None]]) -> None:
        self._store = store
        self._seen = seen
        self._failing = False

    async def run(self) -> None:
        """Store what is worth it, again and again. Figures are worth less than the runs: no error ends it."""
        while True:
            await asyncio.sleep(sampling.STORE_US / 1e6)
            try:
                await self.store()
                self._failing = False
            except Exception as error:  # noqa: BLE001 - as it says
                if not self._failing:  # once: the worker says itself that its store is away
                    log.warning("what runs use could not be stored: %s", error)
                self._failing = True

    async def store(self) -> None:
        """One round: one transaction, or none when there is nothing new."""
        seen = [one for one in self._seen() if one is not None]
        for one in seen:
            if not one.known:
                one.continues(await self._past(one.run.id), await self._store.now())
        waiting = [(due_us, n) for n, one in enumerate(seen) if (due_us := one.history_due_us) is not None]
        due = {n for _, n in sorted(waiting)[:HISTORIES]}
        wanted = [
            (one, new) for n, one in enumerate(seen) if (new := one.worth_storing(n in due)) is not None
        ]
        if not wanted:
            return
        saved = await self._store.save_samples([new for _, new in wanted])
        for (one, new), done in zip(wanted, saved, strict=True):
            if done:
                one.stored(new)

    async def _past(self, run_id: str) -> Sequence[TreeSample]:
        """What is stored of the attempts before. What cannot be read is given up: the others are not to wait for it."""
        try:
            return await self._store.read_history(run_id)
        except (StoreCorrupt, RunNotFound) as error:
            log.warning("what run %s used before is not known any more: %s", run_id, error)
            return ()
