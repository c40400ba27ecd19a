"""Faults for tests: a store that dies at a chosen commit, and an engine to run agents on real stores."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any

from holdfast.client import Client
from holdfast.controller import Controller
from holdfast.model import Change, Committed, Entry, EntryKind, Event, RefusedChange
from holdfast.store import open_store
from holdfast.store.protocol import Store
from holdfast.testing import blank
from holdfast.worker import Worker


class Crash(BaseException):
    """The process is gone: nothing after this is recorded."""


class CrashingStore:
    """A real store whose process dies at the n-th commit, before or after it becomes durable."""

    def __init__(self, store: Store, crash_at: int | None = None, *, after: bool = False) -> None:
        self._store = store
        self._crash_at = crash_at
        self._after = after
        self.commits = 0
        self.dead = False

    async def commit(self, changes: Sequence[Change]) -> list[Committed | RefusedChange]:
        """Commit, or die."""
        self._alive()
        self.commits += 1
        if self.commits == self._crash_at and not self._after:
            self._die()
        answers = await self._store.commit(changes)
        if self.commits == self._crash_at:
            self._die()
        return answers

    def commit_now(self, changes: Sequence[Change]) -> list[Committed | RefusedChange] | None:
        """Commit on the spot, but for the commit that is to be died at."""
        self._alive()
        if self.commits + 1 == self._crash_at:
            return None
        answers = self._store.commit_now(changes)
        self.commits += answers is not None
        return answers

    def commit_soon(self, change: Change, answered: Callable[..., None]) -> bool:
        """Everything else comes through `commit`."""
        return False

    def __getattr__(self, name: str) -> Any:
        value = getattr(self._store, name)
        if not callable(value):
            return value

        def call(*args: Any, **kwargs: Any) -> Any:
            self._alive()
            return value(*args, **kwargs)

        return call

    def _alive(self) -> None:
        if self.dead:
            raise Crash

    def _die(self) -> None:
        self.dead = True
        raise Crash


class Interrupted:
    """A real store in whose operations something else happens, before or after the n-th of them."""

    def __init__(
        self, store: Store, deed: Callable[[], Awaitable[None]], name: str, at: int, after: bool
    ) -> None:
        self._store = store
        self._deed = deed
        self._name, self._at, self._after = name, at, after
        self._count = 0

    def commit_now(self, changes: Sequence[Change]) -> None:
        """Nothing is committed on the spot."""

    def __getattr__(self, name: str) -> Any:
        value = getattr(self._store, name)
        if name != self._name:
            return value

        async def call(*args: Any, **kwargs: Any) -> Any:
            self._count += 1
            mine = self._count == self._at
            if mine and not self._after:
                await self._deed()
            answer = await value(*args, **kwargs)
            if mine and self._after:
                await self._deed()
            return answer

        return call


class SlowStore:
    """A real store that takes a while over each group of Changes with an entry of this kind."""

    def __init__(self, store: Store, kind: EntryKind, delay_s: float) -> None:
        self._store = store
        self._kind = kind
        self._delay_s = delay_s

    def commit_now(self, changes: Sequence[Change]) -> None:
        """Never on the spot."""
        return

    async def commit(self, changes: Sequence[Change]) -> list[Committed | RefusedChange]:
        """Commit, in time."""
        if any(entry.kind is self._kind for change in changes for entry in change.entries):
            await asyncio.sleep(self._delay_s)
        return await self._store.commit(changes)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)


class Engine:
    """One SQLite store in a folder, and workers over it that end when nothing is left to do."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.url = f"sqlite:///{blank.lay(folder / 'holdfast.db')}"
        self.store: Store = open_store(self.url)
        self.client = Client(self.store)

    async def work(
        self,
        *agents: Any,
        crash_at: int | None = None,
        after: bool = False,
        through: Callable[[Store], Any] | None = None,
        **options: Any,
    ) -> bool:
        """Serve until idle on a handle of its own, `through` another store or one that crashes at a commit; False when
        the worker crashed on the way."""
        async with open_store(self.url) as store:
            crashing = CrashingStore(store, crash_at, after=after) if through is None else through(store)
            try:
                await Worker(crashing, agents, until_idle=True, **options).run()  # type: ignore[arg-type]
            except BaseExceptionGroup as error:
                if not error.subgroup(Crash):
                    raise
                return False
            except Crash:
                return False
            self.commits = getattr(crashing, "commits", 0)
            return True

    async def finish(self, agent: Any, *args: Any, id: str = "r") -> Any:
        """Start a run, work until idle, and return its result."""
        handle = await self.client.start(agent, *args, id=id)
        await self.work(agent)
        return await handle.result()

    async def sweep(self) -> None:
        """One round of a controller."""
        await Controller(self.store).round()

    async def entries(self, id: str = "r") -> list[Entry]:
        """The recorded entries of a run."""
        return await self.store.read_entries(id, payloads=True)

    async def events(self, id: str = "r") -> list[Event]:
        """The whole feed of a run."""
        return await self.store.read_events(id, 0, 100_000)


Body = Callable[..., Awaitable[object]]
