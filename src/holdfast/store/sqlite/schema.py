"""Creates the file, turns on WAL and applies the migrations: safe from many processes at once."""

from __future__ import annotations

import time
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Final

import apsw

from holdfast.clock import Clock
from holdfast.errors import StoreCorrupt, StoreRefused, StoreUnavailable
from holdfast.store import migrate
from holdfast.store.sqlite import filesystem
from holdfast.store.sqlite.connection import BUSY_MS, PAGE_BYTES, Connection

APPLICATION_ID: Final = 0x484F4C44  # "HOLD": what `file` and we know the store by
_PAUSE_S: Final = 0.01
_VERSIONS = """
CREATE TABLE IF NOT EXISTS holdfast_schema (
    version INTEGER PRIMARY KEY, name TEXT NOT NULL, sha256 TEXT NOT NULL, applied_at_us INTEGER NOT NULL
) STRICT
"""


@cache
def known() -> tuple[migrate.Migration, ...]:
    """The migrations of this version of holdfast."""
    return tuple(migrate.migrations("holdfast.store.sqlite.migrations"))


def prepare(path: Path, clock: Clock) -> Connection:
    """Make `path` a store with the newest schema, and return the connection that did. Idempotent; the others wait while
    one does it.

    Raises StoreUnavailable, StoreRefused or StoreCorrupt, and whatever apsw raises.
    """
    filesystem.check_place(path)
    filesystem.create_private(path)
    connection = Connection(path, clock=clock)
    try:
        _check_owner(connection)
        if _versions(connection) != {each.version: each.sha256 for each in known()}:
            _write_ahead(connection)
            apply(connection, known(), clock.wall_us())
        _write_ahead(connection)
    except BaseException:
        connection.close()
        raise
    return connection


def standing(path: Path) -> migrate.Standing:
    """How far the store at `path` is; nothing is changed. Raises as `prepare` does."""
    applied: dict[int, str] = {}
    if path.exists():
        connection = Connection(path, reads_only=True)
        try:
            _check_owner(connection)
            applied = _versions(connection)
        finally:
            connection.close()
    return migrate.Standing(max(applied, default=0), len(known()))


def apply(connection: Connection, wanted: Sequence[migrate.Migration], now_us: int) -> None:
    """Apply what is missing, each migration with its version row in a transaction of its own."""
    for _ in wanted:
        with connection.transaction():
            _check_owner(connection)  # looked at again: another process may have been first
            left = migrate.pending(wanted, _versions(connection), str(connection.path))
            if not left:
                return
            first = left[0]
            connection.run(f"PRAGMA application_id = {APPLICATION_ID}")
            connection.run(_VERSIONS)
            connection.run(first.sql)
            connection.run(
                "INSERT INTO holdfast_schema VALUES (?, ?, ?, ?)",
                (first.version, first.name, first.sha256, now_us),
            )


def _versions(connection: Connection) -> dict[int, str]:
    if connection.row("SELECT 1 FROM sqlite_schema WHERE name = 'holdfast_schema'") is None:
        return {}
    applied: dict[int, str] = dict(connection.rows("SELECT version, sha256 FROM holdfast_schema"))
    migrate.pending(known(), applied, str(connection.path))
    return applied


def _check_owner(connection: Connection) -> None:
    # The tables first: whoever makes them has set the id by then, in the same transaction.
    filled = connection.row("SELECT 1 FROM sqlite_schema") is not None
    owner = connection.value("PRAGMA application_id")
    if owner == APPLICATION_ID:
        return
    if owner != 0 or filled:
        raise StoreRefused(
            f"{connection.path} is a SQLite database of another program; name another file for the store"
        )


def _write_ahead(connection: Connection) -> None:
    """Turn on WAL, which SQLite refuses instead of waiting while another process looks at the file."""
    last = time.monotonic() + BUSY_MS / 1000
    while connection.value("PRAGMA journal_mode") != "wal":
        try:
            connection.run(f"PRAGMA page_size = {PAGE_BYTES}")
            connection.run("PRAGMA journal_mode = WAL")
        except apsw.BusyError as error:
            if time.monotonic() > last:
                raise StoreUnavailable(
                    f"{connection.path} is busy: another process keeps it from being opened"
                ) from error
            time.sleep(_PAUSE_S)


def verify(connection: Connection) -> None:
    """Raise StoreCorrupt when SQLite finds the file damaged. Reads all of it."""
    found = connection.rows("PRAGMA quick_check(10)")
    if found != [("ok",)]:
        raise StoreCorrupt(f"{connection.path} is damaged: {'; '.join(str(row[0]) for row in found)}")
