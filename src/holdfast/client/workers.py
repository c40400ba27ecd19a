"""Workers as operators see and steer them."""

from __future__ import annotations

from datetime import datetime
from typing import Literal

from msgspec import Struct

from holdfast.client.resources import ResourcesView, shared_view
from holdfast.client.view import at
from holdfast.errors import NotFound, UsageError
from holdfast.model import Served, WorkerRecord
from holdfast.store import shown
from holdfast.store.protocol import Store

Standing = Literal["serving", "draining", "lost"]


class ServedView(Struct, frozen=True, kw_only=True):
    """An agent that a worker executes. `continues`: older versions whose runs it goes on with when no worker has theirs
    any more. `isolation`: where the code of its runs is."""

    agent: str
    version: str
    continues: tuple[str, ...]
    isolation: Literal["task", "process"]


class ServingView(Struct, frozen=True, kw_only=True):
    """A worker. `number` tells it apart from others of its name, for ever. `lost`: it is dead, and its runs are taken
    over by others. `lease_left_s` is how long the store waits for another sign of life; None: of another boot."""

    number: int
    name: str
    host: str
    pid: int
    standing: Standing
    runs: int
    capacity: int
    serves: tuple[ServedView, ...]
    labels: tuple[str, ...]
    lease_left_s: float | None
    since: datetime
    resources: ResourcesView | None


class Workers:
    """The workers of a store: `client.workers`."""

    def __init__(self, store: Store) -> None:
        self._store = store

    async def list(self) -> list[ServingView]:
        """The workers that are alive, or dead and still hold runs, in the order of their beginning."""
        return [_view(one) for one in await self._store.list_workers()]

    async def find(self, named: str) -> ServingView:
        """The worker of this number, or the only one of this name. Raises NotFound, and UsageError when several have
        the name."""
        views = await self.list()
        found = [one for one in views if named == str(one.number)] or [
            one for one in views if one.name == named
        ]
        if not found:
            raise NotFound(f"no worker {named!r} in {shown(self._store.url)}")
        if len(found) > 1:
            which = ", ".join(f"{one.number} (pid {one.pid} on {one.host})" for one in found)
            raise UsageError(f"{len(found)} workers are named {named!r}: say which by its number: {which}")
        return found[0]

    async def drain(self, number: int) -> None:
        """Ask the worker to drain, wherever it is: it claims nothing more, its runs end at their next safe point and go
        on elsewhere, and it ends. It hears of it within a second. Asking twice changes nothing."""
        await self._store.mark_draining(number)


def _view(record: WorkerRecord) -> ServingView:
    left_us = record.lease_left_us
    return ServingView(
        number=record.key,
        name=record.name,
        host=record.host,
        pid=record.pid,
        standing="lost" if not record.alive else "draining" if record.draining else "serving",
        runs=record.runs,
        capacity=record.capacity,
        serves=tuple(
            ServedView(
                agent=one.agent,
                version=one.version,
                continues=one.continues,
                isolation="process"
                if Served(agent=one.agent, version=one.version) in record.apart
                else "task",
            )
            for one in record.serves
        ),
        labels=record.labels,
        lease_left_s=None if left_us is None else left_us / 1e6,
        since=at(record.started_at_us),
        resources=None if record.sample is None else shared_view(record.sample),
    )
