"""PostgreSQL's errors as holdfast's: translated once, at the border, with the store named and the way out."""

from __future__ import annotations

import psycopg
from psycopg import errors

from holdfast.errors import StoreError, StoreFull, StoreRefused, StoreUnavailable, UsageError


class Fenced(Exception):
    """The writer's row says that this transaction was given up, or is gone: nothing of it was done."""


def translate(error: psycopg.Error, where: str) -> StoreError | UsageError:
    """The error that says the same about the store at `where`."""
    told = " ".join(str(error).split()) or type(error).__name__
    if isinstance(error, errors.DiskFull | errors.OutOfMemory | errors.InsufficientResources):
        if isinstance(error, errors.TooManyConnections):
            return StoreUnavailable(
                f"{where} has no connection left for us; raise max_connections, put a pooler before it, or start fewer"
                f" workers ({told})"
            )
        return StoreFull(
            f"{where}: the server has no room; nothing acknowledged is lost; make room, and it goes on ({told})"
        )
    if isinstance(error, errors.ReadOnlySqlTransaction):
        return StoreUnavailable(
            f"{where} may only be read: it is a standby, or its disk is nearly full; name the primary ({told})"
        )
    if isinstance(error, errors.LockNotAvailable):
        return StoreUnavailable(
            f"{where} is busy: another process holds its lock for too long; try again ({told})"
        )
    if isinstance(error, errors.InvalidPassword | errors.InvalidAuthorizationSpecification):
        return StoreUnavailable(f"{where} does not let us in; look at user and password ({told})")
    if isinstance(error, errors.InvalidCatalogName):
        return StoreUnavailable(f"{where} does not exist; create it: createdb NAME ({told})")
    if isinstance(error, errors.InsufficientPrivilege):
        return StoreRefused(
            f"{where}: the user may not do this; grant it the schema, or name its owner ({told})"
        )
    if isinstance(error, errors.UntranslatableCharacter | psycopg.DataError) and "NUL" in told:
        return UsageError(f"{where} cannot keep a null character in a text: leave it out ({told})")
    if isinstance(error, errors.IntegrityError):
        return StoreError(
            f"{where}: the database refused a change that breaks its laws; nothing was changed ({told})"
        )
    if isinstance(error, psycopg.OperationalError | psycopg.InterfaceError):
        return StoreUnavailable(f"{where} cannot be reached; what was acknowledged before is kept ({told})")
    return StoreError(f"{where}: {type(error).__name__}: {told}")
