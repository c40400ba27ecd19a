"""What no worker can do for itself: deadlines, missing code, schedules, retention. Any number may run."""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Awaitable, Callable
from typing import Final

from holdfast import workspace
from holdfast.duration import Duration, micros
from holdfast.errors import StoreError, UsageError
from holdfast.store.protocol import Store

log = logging.getLogger(__name__)

SWEEP_S: Final = 1.0
"""A deadline is noticed within this."""
FIRE_S: Final = 0.25
"""The longest time without a look at the schedules; one that is due sooner is met at its time."""
FIRE_BATCH: Final = 100
"""Fires a transaction: each starts a run, and the write lock is needed by others."""
BATCH: Final = 500
"""Rows a sweep changes at most, so that it never holds the write lock for long."""
RETENTION: Final = "30d"
"""How long a run is kept after its end."""
_PRUNE_EVERY: Final = 600  # sweeps
CHUNKS: Final = 16
"""Chunks of orphaned artifacts that one transaction deletes: some milliseconds."""


class Controller:
    """Sweeps the store. Stateless: every sweep is one transaction of pure rules, so any number may run at once."""

    def __init__(
        self,
        store: Store,
        *,
        retention: Duration | None = RETENTION,
        chance: Callable[[], float] = random.random,  # noqa: TID251 - jitter: the default of what is an argument
    ) -> None:
        self._store = store
        self._retention_us = None if retention is None else micros(retention)
        self._chance = chance
        self._sweeps = 0
        self._orphans = False  # whether there may be more of them

    async def run(self) -> None:
        """Sweep and fire until cancelled. A store that does not answer is tried again."""
        async with asyncio.TaskGroup() as group:
            group.create_task(_repeat(self.round), name="sweep")
            group.create_task(_repeat(self.fire), name="fire")

    async def round(self) -> float:
        """One sweep; returns how long to rest before the next, with jitter so that many controllers spread."""
        try:
            changed = await self._store.sweep(BATCH)
            if self._retention_us is not None and self._sweeps % _PRUNE_EVERY == 0:
                await self._store.prune(await self._store.now() - self._retention_us, BATCH)
            if self._sweeps % _PRUNE_EVERY == 0:
                await self._sweep_workspaces()
            if self._orphans or self._sweeps % _PRUNE_EVERY == 0:
                self._orphans = await self._store.sweep_artifacts(CHUNKS) >= CHUNKS
            self._sweeps += 1
        except StoreError as error:
            log.warning("the controller could not sweep: %s", error)
            return 5 * SWEEP_S * (0.5 + self._chance())
        return 0.0 if changed >= BATCH or self._orphans else SWEEP_S * (0.5 + self._chance())

    async def _sweep_workspaces(self) -> None:
        try:
            await workspace.sweep(self._store)
        except UsageError as error:  # a person put a link there; the rest is swept all the same
            log.warning("workspaces are not swept: %s", error)

    async def fire(self) -> float:
        """Meet the schedules that are due; returns how long to rest before the next look."""
        try:
            fired = await self._store.fire_schedules(FIRE_BATCH)
        except StoreError as error:
            log.warning("the controller could not fire schedules: %s", error)
            return 5 * FIRE_S * (0.5 + self._chance())
        next_s = FIRE_S if fired.next_in_us is None else fired.next_in_us / 1_000_000
        return min(FIRE_S, max(0.0, next_s))


async def _repeat(look: Callable[[], Awaitable[float]]) -> None:
    while True:  # noqa: ASYNC110 - no event tells that a time has come
        await asyncio.sleep(await look())
