"""The SQLite store: one file, no server."""

from __future__ import annotations

import os
from pathlib import Path

from holdfast.clock import Clock
from holdfast.store.sqlite.engine import Engine
from holdfast.store.transactions import workers
from holdfast.store.transactions.store import TransactionalStore


class SQLiteStore(TransactionalStore):
    """Durable memory in one SQLite file, for any number of processes of one machine."""

    _engine: Engine

    def __init__(self, path: str | Path, *, clock: Clock, inline: bool = False) -> None:
        """`inline` does everything on the calling thread: for the simulator, whose threads would not be repeatable."""
        self._path = Path(os.path.abspath(path))
        self._clock = clock
        super().__init__(Engine(self._path, clock=clock, inline=inline))

    @property
    def url(self) -> str:
        """The URL that opens this store again."""
        return f"sqlite:///{self._path}"

    @property
    def lock_folder(self) -> Path | None:
        """Beside the file: the locks of the workers on this machine, in whatever container they run."""
        return self._path.with_name(f"{self._path.name}-workers")

    @property
    def workspace_folder(self) -> Path | None:
        """Beside the file, and called after it: two stores in one folder know nothing of each other's runs."""
        return self._path.with_name(f"{self._path.name}-workspaces")

    async def now(self) -> int:
        self._engine.check_open()
        return self._clock.wall_us()

    def _remove_lock(self, lock: Path) -> None:
        workers.remove_lock(self._path, lock)
