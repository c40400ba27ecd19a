"""PostgreSQL's errors as holdfast's: translated once, at the border, with the store named and the way out."""

from __future__ import annotations

from typing import Final

import psycopg
from psycopg import errors

from holdfast.errors import StoreCorrupt, StoreError, StoreFull, StoreRefused, StoreUnavailable, UsageError


class Fenced(Exception):
    """The writer's row says that this transaction was given up, or is gone: nothing of it was done."""


_Kinds = type[psycopg.Error] | tuple[type[psycopg.Error], ...]

_SAYS: Final[tuple[tuple[_Kinds, type[StoreError], str], ...]] = (
    (
        errors.TooManyConnections,
        StoreUnavailable,
        "has no connection left for us; raise max_connections, put a pooler before it, or start fewer workers",
    ),
    (
        (errors.DiskFull, errors.OutOfMemory, errors.InsufficientResources),
        StoreFull,
        "the server has no room; nothing acknowledged is lost; make room, and it goes on",
    ),
    (
        errors.ReadOnlySqlTransaction,
        StoreUnavailable,
        "may only be read: it is a standby, or its administrator said so; name the primary",
    ),
    (
        errors.LockNotAvailable,
        StoreUnavailable,
        "is busy: another process holds its lock for too long; try again",
    ),
    (
        errors.InsufficientPrivilege,
        StoreRefused,
        "the user may not do this; grant it the schema, or name its owner",
    ),
    (
        errors.DataCorrupted,
        StoreCorrupt,
        "is damaged; restore a copy of it",
    ),
    (
        errors.UndefinedTable,
        StoreCorrupt,
        "lacks a table of ours: somebody removed it; restore a copy, or name another schema",
    ),
    (
        errors.IntegrityError,
        StoreError,
        "the database refused a change that breaks its laws; nothing was changed",
    ),
)

_AT_THE_DOOR: Final = (
    ("password", "does not let us in; look at user and password"),
    ("pg_hba.conf", "does not let us in; look at user, password and the server's pg_hba.conf"),
    ("role ", "does not know this user; create it: createuser NAME"),
    (
        "database system",
        "is starting or stopping; what was acknowledged before is kept; wait, or look at its log",
    ),
    ("database ", "does not exist; create it: createdb NAME"),
    (
        "connection slots",
        "has no connection left for us; raise max_connections, put a pooler before it, or start fewer workers",
    ),
    ("too many", "has no connection left for us; raise max_connections, put a pooler before it"),
)
"""What a server says that it does not let in: there are words only, and the first that fit count."""


def translate(error: psycopg.Error, where: str) -> StoreError | UsageError:
    """The error that says the same about the store at `where`."""
    told = " ".join(str(error).split()) or type(error).__name__
    for kind, ours, says in _SAYS:
        if isinstance(error, kind):
            return ours(f"{where}: {says} ({told})")
    if isinstance(error, psycopg.DataError) and "NUL" in told:
        return UsageError(f"{where} cannot keep a null character in a text: leave it out ({told})")
    if isinstance(error, psycopg.OperationalError | psycopg.InterfaceError):
        refusal = told.partition("FATAL:")[2]
        for words, says in _AT_THE_DOOR:
            if words in refusal:
                return StoreUnavailable(f"{where} {says} ({told})")
        return StoreUnavailable(f"{where} cannot be reached; what was acknowledged before is kept ({told})")
    return StoreError(f"{where}: {type(error).__name__}: {told}")
