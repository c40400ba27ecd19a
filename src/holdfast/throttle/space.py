"""What a run's folder holds, and what is left on its disk: measured when it is due, never more often than is cheap."""

from __future__ import annotations

import os
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Final

SCAN_EVERY_S: Final = 5.0
"""At least so long between two looks through a folder that has no limit."""

SCAN_SHARE: Final = 200
"""And so many times as long as the last one took: half a percent of a core, however large the folder."""

FEARED_SHARE: Final = 20
"""As long as the folder may be over its limit by now: five percent."""

SLICE_S: Final = 0.02
"""So much of a look at a time: a folder of a million files takes 3 s, and other runs wait to be looked at."""

MOST_FILES: Final = 1_000_000
"""Where a look ends: a folder with more is over any limit that is meant for it, or has one that is meant for more."""

_TOGETHER: Final = 200  # files between two looks at the clock: half a millisecond


class Space:
    """The size of one folder. `size` is quick unless a look is due, which takes 3 ms for each thousand files, SLICE_S
    of them in one call: call it from a thread that may wait."""

    def __init__(
        self,
        folder: Path,
        clock: Callable[[], float] = time.monotonic,
        free: Callable[[Path], int | None] | None = None,
    ) -> None:
        self._folder = folder
        self._clock = clock
        self._free = free or free_bytes
        self._bytes: int | None = None
        self._looking: Iterator[int | None] | None = None
        self._so_far: int | None = None
        self._spent_s = 0.0  # of the look under way
        self._due_s = 0.0
        self._soonest_s = 0.0
        self._began_with: tuple[int, int | None] = (
            0,
            None,
        )  # what was written, and what was free, when it began

    def size(self, written_bytes: int, limit_bytes: int | None = None) -> int | None:
        """Bytes in the folder (allocated, each file once), as they were at the last look that is over; None when it is
        not there.

        A limited one is looked through at each call, while that is cheap. `written_bytes` is what the run has written
        so far. When that, or what is gone of the disk, could have taken the
        folder over its limit since the last look began, the next one is due at once.
        """
        now_s = self._clock()
        if self._looking is None and (
            now_s >= self._due_s or self._feared(written_bytes, limit_bytes, now_s)
        ):
            self._looking, self._spent_s = _counted(self._folder), 0.0
            self._began_with = written_bytes, self.free()
        if self._looking is not None:
            self._look_on(self._looking, limited=limit_bytes is not None)
        return self._bytes

    def _feared(self, written_bytes: int, limit_bytes: int | None, now_s: float) -> bool:
        if limit_bytes is None or now_s < self._soonest_s:
            return False
        written, left = self._began_with
        free = self.free()
        gone = 0 if left is None or free is None else left - free
        grown = max(written_bytes - written, gone)
        return grown > 0 and (self._bytes or 0) + grown > limit_bytes

    def _look_on(self, looking: Iterator[int | None], *, limited: bool) -> None:
        began_s = self._clock()
        for so_far in looking:
            self._so_far, now_s = so_far, self._clock()
            if now_s - began_s >= SLICE_S:
                self._spent_s += now_s - began_s
                return
        now_s = self._clock()
        self._spent_s += now_s - began_s
        self._bytes, self._looking = self._so_far, None
        self._due_s = now_s + max(0.0 if limited else SCAN_EVERY_S, SCAN_SHARE * self._spent_s)
        self._soonest_s = now_s + FEARED_SHARE * self._spent_s

    def free(self) -> int | None:
        """Bytes that are left for us on the disk of the folder."""
        return self._free(self._folder)


def free_bytes(folder: Path) -> int | None:
    """Bytes that are left for us on the disk of the folder; None when there is no such folder."""
    try:
        disk = os.statvfs(folder)
    except OSError:
        return None
    return disk.f_bavail * disk.f_frsize


def folder_bytes(folder: Path, most_files: int = MOST_FILES) -> int | None:
    """Bytes allocated by what is in the folder and below it, on its own disk, links not followed and each file once."""
    return deque(_counted(folder, most_files), maxlen=1)[0]


def _counted(folder: Path, most_files: int = MOST_FILES) -> Iterator[int | None]:
    """What was counted so far, again and again; the last is all of it, and None, alone, that there is no folder."""
    try:
        device = folder.stat().st_dev
    except OSError:
        yield None
        return
    total, files = 0, 0
    linked: set[int] = set()
    todo = [str(folder)]
    while todo and files < most_files:
        with suppress(OSError), os.scandir(todo.pop()) as entries:  # removed meanwhile, or nobody may read it
            for entry in entries:
                try:
                    found = entry.stat(follow_symlinks=False)
                except OSError:
                    continue  # removed meanwhile
                files += 1
                if files % _TOGETHER == 0:
                    yield total
                if found.st_dev != device or found.st_ino in linked:
                    continue
                if entry.is_dir(follow_symlinks=False):
                    todo.append(entry.path)
                elif found.st_nlink > 1:
                    linked.add(found.st_ino)
                total += found.st_blocks * 512
    yield total
