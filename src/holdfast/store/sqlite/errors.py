"""SQLite's errors as holdfast's: translated once, at the border, with the file named and the way out."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

import apsw

from holdfast.errors import StoreCorrupt, StoreError, StoreFull, StoreUnavailable

_UNAVAILABLE = {
    apsw.BusyError: "is busy: another process has held its write lock for too long; try again, or end that process",
    apsw.LockedError: "is locked; try again",
    apsw.CantOpenError: "cannot be opened; look whether the file and its folder exist and may be written",
    apsw.ReadOnlyError: "is read-only, or was moved or deleted in use; look at the file and its permissions",
    apsw.PermissionsError: "may not be read or written by this user; look at its permissions",
    apsw.IOError: "has an I/O error: the disk or its file system fails; what was acknowledged before is kept",
    apsw.ProtocolError: "has a locking problem; try again",
    apsw.ConnectionClosedError: "is closed; open it again",
    apsw.InterruptError: "was interrupted; try again",
    apsw.NoMemError: "ran out of memory; try again when there is more",
}


@contextmanager
def translated(path: Path) -> Generator[None, None, None]:
    """Turn whatever SQLite raises inside into a StoreError."""
    try:
        yield
    except apsw.Error as error:
        raise translate(error, path) from error


def translate(error: apsw.Error, path: Path) -> StoreError:
    """The StoreError that says the same about the store at `path`."""
    if isinstance(error, apsw.FullError):
        return StoreFull(
            f"{path}: the disk is full; nothing acknowledged is lost; make room, and it goes on by itself ({error})"
        )
    if isinstance(error, apsw.NotADBError):
        return StoreCorrupt(f"{path} is no SQLite database; name another file for the store ({error})")
    if isinstance(error, apsw.CorruptError):
        return StoreCorrupt(f"{path} is damaged; restore a copy of it, or start with a new file ({error})")
    for kind, says in _UNAVAILABLE.items():
        if isinstance(error, kind):
            return StoreUnavailable(f"{path} {says} ({error})")
    if isinstance(error, apsw.ConstraintError):
        return StoreError(
            f"{path}: the database refused a change that breaks its laws; nothing was changed ({error})"
        )
    return StoreError(f"{path}: {type(error).__name__}: {error}")
