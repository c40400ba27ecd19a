"""The PostgreSQL store: one database, any number of processes on any number of hosts."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

from holdfast.clock import Clock
from holdfast.store.postgres.engine import Engine
from holdfast.store.postgres.here import lock_folder
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
        """The folder of this host and user; None where none is safe. The locks of other hosts are nowhere here."""
        return lock_folder()

    @property
    def workspace_folder(self) -> Path | None:
        """None: a run may go on anywhere."""
        return None

    def _remove_lock(self, lock: Path) -> None:
        with suppress(OSError):
            lock.unlink(missing_ok=True)
