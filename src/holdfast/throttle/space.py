"""What a run's folder holds, and what is left on its disk: measured when it is due, never more often than is cheap."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

SCAN_EVERY_S: Final = 5.0
"""At least so long between two looks through the folder."""

SCAN_SHARE: Final = 200
"""And so many times as long as the last one took: half a percent of a core, however large the folder."""

MOST_FILES: Final = 1_000_000
"""Where a look ends: a folder with more is over any limit that is meant for it, or has one that is meant for more."""


class Space:
    """The size of one folder. `size` is quick unless a look is due, which takes 3 ms for each thousand files: call it
    from a thread that may wait."""

    def __init__(self, folder: Path, clock: Callable[[], float] = time.monotonic) -> None:
        self._folder = folder
        self._clock = clock
        self._next_s = 0.0
        self._bytes: int | None = None
        self._written = 0

    def size(self, written_bytes: int, limit_bytes: int | None = None) -> int | None:
        """Bytes in the folder (allocated, each file once), as they were at the last look; None when it is not there.

        `written_bytes` is what the run has written so far: when that could have taken it over its limit since the last
        look, the next one is due at once.
        """
        grown = max(0, written_bytes - self._written)
        feared = limit_bytes is not None and (self._bytes or 0) + grown > limit_bytes and grown > 0
        if feared or self._clock() >= self._next_s:
            began_s = self._clock()
            self._bytes = folder_bytes(self._folder)
            self._written = written_bytes
            took_s = self._clock() - began_s
            self._next_s = self._clock() + max(SCAN_EVERY_S, SCAN_SHARE * took_s)
        return self._bytes

    def free(self) -> int | None:
        """Bytes that are left for us on the disk of the folder."""
        return free_bytes(self._folder)


def free_bytes(folder: Path) -> int | None:
    """Bytes that are left for us on the disk of the folder; None when there is no such folder."""
    try:
        disk = os.statvfs(folder)
    except OSError:
        return None
    return disk.f_bavail * disk.f_frsize


def folder_bytes(folder: Path, most_files: int = MOST_FILES) -> int | None:
    """Bytes allocated by what is in the folder and below it, on its own disk, links not followed and each file once."""
    try:
        device = folder.stat().st_dev
    except OSError:
        return None
    total, files = 0, 0
    linked: set[int] = set()
    todo = [str(folder)]
    while todo and files < most_files:
        try:
            entries = os.scandir(todo.pop())
        except OSError:
            continue
        with entries:
            for entry in entries:
                try:
                    found = entry.stat(follow_symlinks=False)
                except OSError:
                    continue  # removed meanwhile
                files += 1
                if found.st_dev != device or found.st_ino in linked:
                    continue
                if entry.is_dir(follow_symlinks=False):
                    todo.append(entry.path)
                elif found.st_nlink > 1:
                    linked.add(found.st_ino)
                total += found.st_blocks * 512
    return total
