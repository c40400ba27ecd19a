"""Connections to the file, each with the settings that durability and speed ask for.

Laws of this file:
1. Only apsw opens the store, with the SQLite that it carries: two SQLite copies in one process drop each other's
   locks, and copies before 3.51.3 can corrupt a WAL file that several connections write.
2. `synchronous=FULL`: a commit that returned is on the disk.
3. Every write is `BEGIN IMMEDIATE`: one that reads first and upgrades later fails at once, whatever the timeout.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Generator, Iterable, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import apsw

from holdfast.clock import Clock, SystemClock
from holdfast.errors import StoreRefused
from holdfast.store.sql import statements
from holdfast.store.transactions.connection import Broken, Read, Row, Values

_STATEMENTS: Final = statements("holdfast.store.sqlite")
_text: Final = dict(_STATEMENTS).get

OLDEST_SQLITE: Final = (3, 51, 3)
PAGE_BYTES: Final = 4096
"""Measured: a step rewrites a page of `live`, one of `events` and one of its index; with 8 KiB pages a commit of one
step takes 1.4 × as long, one of 64 no less."""
BUSY_MS: Final = 10_000  # far beyond the longest transaction of ours; then something is wrong, and is said
CACHE_KIB: Final = 65_536  # used when touched: 500 runs resuming read each other's pages again and again
JOURNAL_LIMIT_BYTES: Final = 64 * 1024 * 1024


def check_library(version: str) -> None:
    """Raise StoreRefused when this SQLite is older than the first one without the WAL-reset bug."""
    if tuple(int(part) for part in version.split(".")[:3]) < OLDEST_SQLITE:
        wanted = ".".join(str(part) for part in OLDEST_SQLITE)
        raise StoreRefused(
            f"apsw carries SQLite {version}, which can corrupt a file that several connections write; "
            f"install an apsw that carries SQLite {wanted} or later: pip install --upgrade apsw"
        )


class Connection:
    """One connection to the file, used by one thread at a time. Statements are named, or given as they are."""

    def __init__(
        self, path: Path, *, clock: Clock | None = None, busy_ms: int = BUSY_MS, reads_only: bool = False
    ) -> None:
        check_library(apsw.sqlite_lib_version())
        self.path = path
        self.where = str(path)
        self.clock: Clock = clock or SystemClock()
        self._busy_ms = busy_ms
        # Never SQLITE_OPEN_CREATE: our own code creates the file, so a file deleted in use is noticed, not made anew.
        # Any: the types of apsw name `Buffer`, which Python has from 3.12 on.
        self._raw: Any = apsw.Connection(str(path), flags=apsw.SQLITE_OPEN_READWRITE, statementcachesize=200)
        # Plans must not depend on bound values: with partial indexes in play, SQLite would otherwise compile a
        # statement anew for each new value. A commit and a claim take half as long this way (measured).
        self._raw.config(apsw.SQLITE_DBCONFIG_ENABLE_QPSG, 1)
        self._patience_ms = busy_ms
        self._raw.set_busy_timeout(busy_ms)  # with blocking locks where the build has them: no polling
        self._execute: Callable[..., Any] = self._raw.execute
        for pragma in _settings():
            self.run(pragma)
        if reads_only:
            self.run("PRAGMA query_only = ON")

    def lock_at(self, registered: str) -> Path | None:
        """Where the lock is that a worker registered: all of them have this file, and so its folder."""
        return Path(registered)

    def rows(self, name: str, values: Values = ()) -> list[Row]:
        """Every row of one statement."""
        found: list[Row] = self._execute(_text(name, name), values).fetchall()
        return found

    def row(self, name: str, values: Values = ()) -> Row | None:
        """The first row of one statement, or None."""
        found: Row | None = self._execute(_text(name, name), values).fetchone()
        return found

    def value(self, name: str, values: Values = ()) -> Any:  # noqa: ANN401 - a cell is of any of SQLite's types
        """The first value of the first row, or None."""
        found = self._execute(_text(name, name), values).fetchone()
        return None if found is None else found[0]

    def run(self, name: str, values: Values = ()) -> None:
        """Run one statement, or a script, to its end."""
        for _ in self._execute(_text(name, name), values):
            pass

    def many(self, name: str, rows: Iterable[Values]) -> None:
        """Run one statement for each of `rows`."""
        self._raw.executemany(_text(name, name), rows)

    def returned(self, name: str, rows: Iterable[Values]) -> list[Row]:
        """Run one statement for each of `rows`; what all of them return."""
        found: list[Row] = self._raw.executemany(_text(name, name), rows).fetchall()
        return found

    def ahead(self, *reads: Read) -> None:
        """Nothing: a read is no journey."""

    def changed(self) -> int:
        """How many rows the newest statement changed."""
        count: int = self._raw.changes()
        return count

    def matching(self, name: str, conditions: Sequence[str], values: Values) -> list[Row]:
        """Every row of a statement that says `{where}`, under all of the named conditions."""
        where = " AND ".join(_STATEMENTS[each] for each in conditions)
        return self.rows(_STATEMENTS[name].replace("{where}", f"WHERE {where}" if where else ""), values)

    def patience(self, busy_ms: int | None) -> None:
        """How long to wait for the write lock from now on; None is what the connection was opened with."""
        wanted = self._busy_ms if busy_ms is None else busy_ms
        if wanted != self._patience_ms:
            self._patience_ms = wanted
            self._raw.set_busy_timeout(wanted)

    def begin(self) -> None:
        """Take the write lock."""
        self._execute("BEGIN IMMEDIATE")

    def commit(self) -> None:
        """Make it durable."""
        self._execute("COMMIT")

    def rollback(self) -> None:
        """Undo the transaction, if there is one."""
        if self._raw.in_transaction:
            self._execute("ROLLBACK")

    @contextmanager
    def transaction(self) -> Generator[None, None, None]:
        """All of it, or nothing."""
        self.begin()
        try:
            yield
            self.commit()
        except BaseException:
            self.rollback()
            raise

    @contextmanager
    def moment(self) -> Generator[None, None, None]:
        """Reads inside see one moment of the store. Never for writes."""
        self._execute("BEGIN DEFERRED")
        try:
            yield
        finally:
            self.rollback()

    @contextmanager
    def savepoint(self) -> Generator[None, None, None]:
        """All of it, or nothing, inside a transaction. Raises Broken for what the schema refuses."""
        self._execute("SAVEPOINT part")
        try:
            yield
        except BaseException as error:
            if self._raw.in_transaction:  # a full disk ends it by itself
                self._execute("ROLLBACK TO part")
                self._execute("RELEASE part")
            if isinstance(error, apsw.ConstraintError):
                raise Broken(str(error)) from error
            raise
        self._execute("RELEASE part")

    def close(self) -> None:
        """Close it. Idempotent."""
        self._raw.close()


def _settings() -> list[str]:
    wanted = [
        "PRAGMA synchronous = FULL",
        "PRAGMA foreign_keys = ON",
        "PRAGMA recursive_triggers = OFF",
        "PRAGMA trusted_schema = OFF",
        "PRAGMA mmap_size = 0",  # a mapped file turns an I/O error into a signal that ends the process
        f"PRAGMA cache_size = -{CACHE_KIB}",
        f"PRAGMA journal_size_limit = {JOURNAL_LIMIT_BYTES}",
    ]
    if sys.platform == "darwin":
        # There fsync leaves the data in the drive's cache.
        wanted += ["PRAGMA fullfsync = ON", "PRAGMA checkpoint_fullfsync = ON"]
    return wanted
