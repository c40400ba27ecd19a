"""What the processes of one host can know of each other: a folder of this user, in which workers hold their locks.

Laws:
1. A lock is asked only of the kernel that frees it, and only at the very file that the worker holds. The folder's name
   says which boot, and which folder of it: a worker that registered another one is elsewhere, whatever it is called.
2. No path from the database is opened: of what a worker registered only the name of its file is used, in our folder.
3. Nobody else can write there: it is ours, and closed to others. Where that cannot be had, leases decide alone.
"""

from __future__ import annotations

import functools
import logging
import os
import re
import stat
import tempfile
import time
from contextlib import suppress
from pathlib import Path
from typing import Final

from holdfast.clock import SystemClock
from holdfast.store.transactions.workers import lock_is_free

log = logging.getLogger(__name__)

FORGOTTEN_S: Final = 86_400.0
"""A file that is free for so long tells nobody anything: leases end within a minute or two."""
_LOCK: Final = re.compile(r"worker-[0-9a-f]{1,64}\.lock")


@functools.cache
def lock_folder() -> Path | None:
    """The folder for locks of this user, host and boot, which need not be there yet; None where no safe one can be had.
    Found once by a process, and said once."""
    try:
        home = _home()
        found = _owned(home)
    except OSError as error:
        log.warning("no folder for locks: %s; that a worker died is noticed when its lease ends", error)
        return None
    folder = home / f"{SystemClock().boot_id()}-{found.st_dev:x}-{found.st_ino:x}"
    _tidy(home, folder)
    return folder


def lock_at(registered: str) -> Path | None:
    """Where the lock is that a worker registered; None when it is elsewhere."""
    folder, lock = lock_folder(), Path(registered)
    if folder is None or lock.parent.name != folder.name or not _LOCK.fullmatch(lock.name):
        return None
    return folder / lock.name


def _home() -> Path:
    """In $XDG_RUNTIME_DIR, where one is; else in the folder for temporary files, by user."""
    given = os.environ.get("XDG_RUNTIME_DIR", "")
    if os.path.isabs(given):
        with suppress(OSError):
            _make_private(Path(given, "holdfast"))
            return Path(given, "holdfast")
    home = Path(tempfile.gettempdir(), f"holdfast-{os.geteuid()}")
    _make_private(home)
    return home


def _make_private(home: Path) -> None:
    with suppress(FileExistsError):
        home.mkdir(0o700)
    _owned(home)


def _owned(home: Path) -> os.stat_result:
    """What the folder is, when nobody else can write there. Raises OSError."""
    found = home.lstat()
    if not stat.S_ISDIR(found.st_mode):
        raise NotADirectoryError(f"{home} is no folder: remove it")
    if found.st_uid != os.geteuid() or found.st_mode & 0o077:
        raise PermissionError(f"{home} is not ours alone (mode 0700): remove it, or set TMPDIR")
    return found


def _tidy(home: Path, ours: Path) -> None:
    """Remove what workers left that died while nobody here was to notice. Costs a death that is told late, at worst."""
    with suppress(OSError):
        for folder in home.iterdir():
            for lock in folder.iterdir():
                old = time.time() - lock.stat().st_mtime > FORGOTTEN_S  # noqa: TID251 - the clock of the disk
                if old and _LOCK.fullmatch(lock.name) and lock_is_free(lock):
                    lock.unlink(missing_ok=True)
            if folder != ours:  # somebody may just have made it, for a lock
                with suppress(OSError):
                    folder.rmdir()  # an empty one
