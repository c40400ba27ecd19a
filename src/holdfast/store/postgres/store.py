"""The PostgreSQL store: one database, any number of processes on any number of hosts."""

from __future__ import annotations

from pathlib import Path

from holdfast.clock import Clock
from holdfast.store.postgres.engine import Engine
from holdfast.store.postgres.target import target
from holdfast.store.transactions.store import TransactionalStore


class PostgresStore(TransactionalStore):
    """Durable memory in a schema of a PostgreSQL database, for any number of hosts."""

    def __init__(self, url: str, *, clock: Clock | None = None) -> None:
        """`clock` is for tests: time is that of the database. Raises UsageError for what is no URL of one."""
        self._target = target(url)
        super().__init__(Engine(self._target, clock))

    @property
    def url(self) -> str:
        """The URL that opens this store again, its password included."""
        return self._target.url

    @property
    def lock_folder(self) -> Path | None:
        """None: the store spans machines, and a lock of one says nothing on another."""
        return None

    @property
    def workspace_folder(self) -> Path | None:
        """None: a run may go on anywhere."""
        return None
