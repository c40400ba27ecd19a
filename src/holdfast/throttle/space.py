"""What a run's folder holds, and what is left on its disk: measured when it is due, never more often than is cheap."""

from __future__ import annotations

import os
import stat
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Final, NamedTuple

SCAN_EVERY_S: Final = 5.0
"""At least so long between two looks through a folder that has no limit."""

SCAN_SHARE: Final = 200
"""And so many times as long as the last one took: half a percent of a core, however large the folder."""

FEARED_SHARE: Final = 20
"""As long as the folder may be over its limit by now: five percent."""

SLICE_S: Final = 0.02
"""So much of a look at a time: a folder of a million files takes 3 s, and other runs wait to be looked at."""

MOST_SLICE_S: Final = 0.1
"""What took longer was no work of ours: it waited for its disk, and does not put off the next look."""

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
        self.at_least = False
        """Whether there is more than the last look counted."""
        self._bytes: int | None = None
        self._looking: Iterator[Count | None] | None = None
        self._so_far: Count | None = None
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
            self._looking, self._spent_s = counted(self._folder, MOST_FILES), 0.0
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

    def _look_on(self, looking: Iterator[Count | None], *, limited: bool) -> None:
        began_s = self._clock()
        for so_far in looking:
            self._so_far, now_s = so_far, self._clock()
            if now_s - began_s >= SLICE_S:
                self._spent_s += min(now_s - began_s, MOST_SLICE_S)
                return
        now_s = self._clock()
        self._spent_s += min(now_s - began_s, MOST_SLICE_S)
        self._looking, count = None, self._so_far
        if count is None:  # not there yet, or its disk is away: to look again costs nothing
            self._bytes, self.at_least = None, False
            return
        self._bytes, self.at_least = count
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


def folder_bytes(folder: Path) -> int | None:
    """Bytes allocated by what is in the folder and below it, on its own disk, links not followed and each file once."""
    count = folder_count(folder)
    return None if count is None else count.bytes


def folder_count(folder: Path) -> Count | None:
    """The same, and whether there is more than was counted."""
    *_, count = counted(folder)
    return count


class Count(NamedTuple):
    """Bytes in a folder. `at_least`: there is more than was counted."""

    bytes: int
    at_least: bool = False


class _Tally:
    """What was counted so far on one disk."""

    def __init__(self, device: int, most_files: int) -> None:
        self.full = self.at_least = False
        self._device = device
        self._most_files = most_files
        self._files = self._bytes = 0
        self._linked: set[int] = set()

    @property
    def count(self) -> Count:
        return Count(self._bytes, self.full or self.at_least)

    def look_into(self, folder: int) -> Iterator[list[str]]:
        """Count what is in one folder, with the folders in it that were found so far, again and again."""
        found: list[str] = []
        with suppress(OSError), os.scandir(folder) as entries:  # nobody may read it
            for entry in entries:
                if self._files >= self._most_files:
                    self.full = True
                    break
                self._files += 1
                with suppress(OSError):  # removed meanwhile
                    if self._add(entry.stat(follow_symlinks=False)):
                        found.append(entry.name)
                if self._files % _TOGETHER == 0:
                    yield found
        yield found

    def _add(self, one: os.stat_result) -> bool:
        """Count it; whether it is a folder to be looked into."""
        if one.st_dev != self._device or one.st_ino in self._linked:
            return False
        self._bytes += one.st_blocks * 512
        if stat.S_ISDIR(one.st_mode):
            return True
        if one.st_nlink > 1:
            self._linked.add(one.st_ino)
        return False


class _Walk:
    """Stands in a folder below the one it began in. No path is too long for it, and two files are open: it goes in by
    names and out by `..`. Where that leads elsewhere, for a folder was moved meanwhile, it comes again from the top."""

    def __init__(self, top: int) -> None:
        self._top = top
        self.here = os.dup(top)
        self._path: list[tuple[str, tuple[int, int]]] = []

    @property
    def depth(self) -> int:
        return len(self._path)

    def enter(self, name: str) -> bool:
        """Go into a folder in this one, if that can be done."""
        inner = _opened(name, self.here)
        if inner is None:
            return False
        self._path.append((name, _which(inner)))
        self._stand(inner)
        return True

    def leave(self) -> None:
        """Go back: to the folder around this one, or the deepest around it that still is where it was."""
        self._path.pop()
        outer = _opened("..", self.here)
        if outer is not None and _which(outer) == (self._path[-1][1] if self._path else _which(self._top)):
            self._stand(outer)
            return
        if outer is not None:
            os.close(outer)
        self._stand(os.dup(self._top))
        path, self._path = self._path, []
        for name, which in path:
            if not self.enter(name):
                return
            if self._path[-1][1] != which:
                self.leave()
                return

    def _stand(self, folder: int) -> None:
        os.close(self.here)
        self.here = folder

    def close(self) -> None:
        os.close(self.here)
        os.close(self._top)


def counted(folder: Path, most_files: int = MOST_FILES) -> Iterator[Count | None]:
    """What was counted so far, again and again; the last is all of it, and None, alone, that there is no folder."""
    top = _opened(str(folder), None)
    if top is None:
        yield None
        return
    walk, tally = _Walk(top), _Tally(os.fstat(top).st_dev, most_files)
    below: list[list[str]] = []  # of each folder around, and of this one: what is to be looked into yet
    try:
        found: list[str] = []
        for found in tally.look_into(walk.here):  # noqa: B007 - the last is all of them
            yield tally.count
        below.append(found)
        while below and not tally.full:
            if not below[-1]:
                below.pop()
                if below:
                    walk.leave()
                    tally.at_least |= len(below) > walk.depth + 1  # what was moved away is not known
                    del below[walk.depth + 1 :]
            elif walk.enter(below[-1].pop()):
                for found in tally.look_into(walk.here):  # noqa: B007 - as above
                    yield tally.count
                below.append(found)
    finally:
        walk.close()
    yield tally.count


def _opened(name: str, folder: int | None) -> int | None:
    try:
        return os.open(name, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=folder)
    except OSError:
        return None


def _which(folder: int) -> tuple[int, int]:
    found = os.fstat(folder)
    return found.st_dev, found.st_ino
