"""What a group has used: from the kernel's counters where it keeps some, else from its processes one by one."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Collection
from math import inf
from pathlib import Path
from typing import Final

from holdfast.model import Usage
from holdfast.throttle.files import Kept
from holdfast.throttle.ground import Ground
from holdfast.throttle.nodes import TOOLS
from holdfast.throttle.processes import Process, disk_bytes, shared_bytes
from holdfast.throttle.signals import Members

SHARES_EVERY_S: Final = 20.0
"""How often shared memory is counted apart: reading it of 50 processes takes 6 ms, and growth shows between anyway."""

DISK_EVERY: Final = 30
"""Bytes read and written are asked of each process every so many looks, where no control group counts them."""

SELDOM: Final = 10
"""An average of ten seconds, and what hardly ever happens, need not be read at every look."""

QUIET: Final = 3
"""Of a group that is nearly idle it is read so many times as seldom."""

BUSY_US: Final = 5_000
"""CPU time from one look to the next under which a group is nearly idle. An interpreter in which nothing happens takes
4 ms a second; one that is started takes 15, ten `sleep` 6, and 20 MB of memory that are filled about as much."""

NEAR_SHARE: Final = 0.8
"""Of its memory limit: below where memory is reclaimed early (`watch.BRAKE_SHARE`), for the kernel may put to sleep
who is there, and who sleeps looks idle."""

SMALL_CHANGE: Final = 4_000_000
"""Memory that grew or fell by less is a working set that did: what of it is files is read at the next turn."""


class TreeMemory:
    """The memory of processes, what several share counted once: PSS now and then, resident growth in between."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._next_s = 0.0
        self._resident = 0
        self._shares = 0

    def of(self, members: Collection[Process]) -> int:
        """Bytes in use by these now."""
        resident = sum(one.memory_bytes for one in members)
        if self._clock() >= self._next_s:
            self._next_s = self._clock() + SHARES_EVERY_S
            shares = shared_bytes(one.pid for one in members)
            self._resident, self._shares = resident, resident if shares is None else shares
        return min(resident, max(0, self._shares + resident - self._resident))


class TreeCounters:
    """Counts by walking the processes. What ended unseen counts when its parent waited for it.

    `members` are those that count, `roots` the ones that only count for the CPU time of those who ended (a warden).
    """

    def __init__(self, members: Members, roots: Members | None = None) -> None:
        self._members = members
        self._roots = roots
        self._memory = TreeMemory()
        self._most_us = 0
        self._looks = 0
        self._disk: tuple[int, int] | None = None

    def cpu_us(self) -> int:
        """CPU time so far. Never less than before: an orphan takes its time along when it ends."""
        roots = self._roots() if self._roots is not None else []
        self._most_us = max(self._most_us, sum(one.cpu_us for one in [*roots, *self._members()]))
        return self._most_us

    def usage(self) -> Usage:
        """All that can be counted so."""
        members = self._members()
        if self._looks % DISK_EVERY == 0:
            told = disk_bytes(one.pid for one in members)
            self._disk = told if self._disk is None or told is None else _most(self._disk, told)
        self._looks += 1
        roots = self._roots() if self._roots is not None else []
        self._most_us = max(self._most_us, sum(one.cpu_us for one in [*roots, *members]))
        return Usage(
            cpu_us=self._most_us,
            memory_bytes=self._memory.of(members),
            processes=len(members),
            read_bytes=None if self._disk is None else self._disk[0],
            written_bytes=None if self._disk is None else self._disk[1],
        )

    def close(self) -> None:
        """Nothing is held."""


def _most(one: tuple[int | None, int | None], other: tuple[int, int]) -> tuple[int, int]:
    return max(one[0] or 0, other[0]), max(one[1] or 0, other[1])


class GroupCounters:
    """Counts by the kernel's files, kept open. What no file tells is asked of the processes, seldom."""

    __slots__ = (
        "_before_us", "_cpu", "_cpu_word", "_disk", "_inactive", "_inactive_word", "_inside", "_io",
        "_kills", "_memory", "_memory_stall", "_memory_stat", "_near", "_oom_kills", "_processes",
        "_rests", "_since_counted", "_since_rest", "_stall", "_tasks", "_usage", "_walk", "_was_busy",
    )  # fmt: skip

    def __init__(
        self, ground: Ground, name: str, members: Members, memory_limit_bytes: int | None = None
    ) -> None:
        v2 = None if ground.v2 is None else ground.v2 / name
        v1 = {controller: own / name for controller, own in ground.v1.items()}
        v2_memory = v2 is not None and "memory" in ground.v2_controllers
        # A number alone costs half of what a page of them does, so v1 is asked first where both are.
        counted = _kept(v1.get("cpuacct"), "cpuacct.usage")
        self._cpu = counted or _kept(v2, "cpu.stat")
        self._cpu_word = b"" if counted is not None else b"usage_usec"
        memory = v2 if v2_memory else v1.get("memory")
        usage, stat = (
            ("memory.current", "memory.stat") if v2_memory else ("memory.usage_in_bytes", "memory.stat")
        )
        self._inactive_word = b"inactive_file" if v2_memory else b"total_inactive_file"
        self._memory = _kept(memory, usage)
        self._memory_stat = _kept(memory, stat)
        self._kills = _kept(memory, "memory.events" if v2_memory else "memory.oom_control")
        self._stall = _kept(v2, "memory.pressure")
        tasks = v2 if "pids" in ground.v2_controllers else v1.get("pids")
        self._tasks = _kept(tasks, "pids.current")
        self._io = _kept(v2, "io.stat") if "io" in ground.v2_controllers else None
        first = v2 if v2 is not None else next(iter(v1.values()))
        self._inside = [_Inside(first / "cgroup.procs"), _Inside(first / TOOLS / "cgroup.procs")]
        self._walk = TreeCounters(members)
        self._near = NEAR_SHARE * (memory_limit_bytes or inf)
        self._rests = self._before_us = 0
        self._was_busy = False
        self._since_rest = SELDOM * QUIET - 1
        self._processes = 0
        self._since_counted = SELDOM
        self._disk: tuple[int | None, int | None] = (None, None)
        self._usage = self._inactive = 0
        self._oom_kills = 0
        self._memory_stall: float | None = None

    def cpu_us(self) -> int:
        """CPU time of all that ever was in the group."""
        if self._cpu is None:
            return self._walk.cpu_us()
        if self._cpu_word:
            return self._cpu.after(self._cpu_word) or 0
        return (self._cpu.number() or 0) // 1000

    def usage(self) -> Usage:
        """What the group has used and uses. Two numbers are read each time, the others as often as the CPU time says
        that they can have changed: a file costs 4 µs when it was last read a second ago, and a hundred runs are to cost
        a seventh of a percent."""
        memory = 0 if self._memory is None else self._memory.number() or 0
        if self._memory is None or self._tasks is None or self._cpu is None:
            return self._with_a_walk(memory)
        cpu_us = self.cpu_us()
        if self._count_others(memory, cpu_us) or self._since_counted >= SELDOM:
            self._processes, self._since_counted = self._tasks.number() or 0, 0
        self._since_counted += 1
        read, written = self._disk
        return Usage(
            cpu_us=cpu_us,
            memory_bytes=max(0, memory - self._inactive),
            processes=self._processes,
            read_bytes=read,
            written_bytes=written,
            oom_kills=self._oom_kills,
            memory_stall=self._memory_stall,
        )

    def _with_a_walk(self, memory: int) -> Usage:
        """The same where the kernel counts only a part of it."""
        walked = self._walk.usage()
        cpu_us = walked.cpu_us if self._cpu is None else self.cpu_us()
        self._count_others(memory, cpu_us)
        tasks = None if self._tasks is None else self._tasks.number()
        return Usage(
            cpu_us=cpu_us,
            memory_bytes=walked.memory_bytes if self._memory is None else max(0, memory - self._inactive),
            processes=walked.processes if tasks is None else tasks,
            read_bytes=walked.read_bytes,
            written_bytes=walked.written_bytes,
            oom_kills=self._oom_kills,
            memory_stall=self._memory_stall,
        )

    def _count_others(self, memory: int, cpu_us: int) -> bool:
        """Read what hardly changes, when it is due, and what of the memory is files, when that comes or goes. Whether
        the group was busy since the last look."""
        busy = cpu_us - self._before_us >= BUSY_US
        self._was_busy = busy or self._was_busy
        self._before_us = cpu_us
        self._since_rest += 1
        if self._since_rest % SELDOM == 0 and not self._quiet(memory):
            self._since_rest, self._was_busy = 0, False
            self._count_the_rest(memory)
            self._rests += 1
        elif not -SMALL_CHANGE < memory - self._usage < SMALL_CHANGE:
            self._count_files(memory)
        return busy

    def _quiet(self, memory: int) -> bool:
        """Whether hardly anything can have happened since the rest was counted, which is not long ago."""
        return (
            self._since_rest < SELDOM * QUIET
            and not self._was_busy
            and memory < self._near
            and not self._memory_stall
        )

    def _count_files(self, memory: int) -> None:
        """The working set is without the pages of files that nobody used lately: whoever wrote a large file would look
        like a leak."""
        self._usage = memory
        self._inactive = 0 if self._memory_stat is None else self._memory_stat.after(self._inactive_word) or 0

    def _count_the_rest(self, memory: int) -> None:
        self._count_files(memory)
        self._oom_kills = self.oom_kills()
        if self._stall is not None:
            self._memory_stall = full_stall(self._stall.read())
        if self._io is not None:
            self._disk = io_totals(self._io.read())
        elif self._rests % (DISK_EVERY // SELDOM) == 0:
            told = disk_bytes(pid for inside in self._inside for pid in inside.pids())
            if told is not None:
                self._disk = _most(self._disk, told)

    def oom_kills(self) -> int:
        """How many the kernel has killed so far because the group was at its memory limit, asked now."""
        return 0 if self._kills is None else self._kills.after(b"oom_kill") or 0

    def close(self) -> None:
        """Let go of the files."""
        for kept in (
            self._cpu, self._memory, self._memory_stat, self._kills, self._stall, self._tasks, self._io,
        ):  # fmt: skip
            if kept is not None:
                kept.close()
        for inside in self._inside:
            inside.close()


class _Inside:
    """Who is in a folder that may come to be later."""

    def __init__(self, procs: Path) -> None:
        self._path = str(procs)
        self._kept: Kept | None = None

    def pids(self) -> list[int]:
        """Those that are in it now."""
        if self._kept is None and os.access(self._path, os.R_OK):
            self._kept = Kept(Path(self._path))
        return [] if self._kept is None else [int(pid) for pid in self._kept.read().split()]

    def close(self) -> None:
        """Let go of the file."""
        if self._kept is not None:
            self._kept.close()


def _kept(folder: Path | None, name: str) -> Kept | None:
    """The file, when the folder and it are there."""
    if folder is None or not (folder / name).exists():
        return None
    return Kept(folder / name)


def full_stall(pressure: bytes) -> float | None:
    """The ten seconds' average of a pressure file's line "full"."""
    at = pressure.find(b"full avg10=")
    return float(pressure[at + 11 : pressure.index(b" ", at + 11)]) if at >= 0 else None


def io_totals(text: bytes) -> tuple[int, int]:
    """Bytes read and written on all devices, of an `io.stat`."""
    totals = {b"rbytes": 0, b"wbytes": 0}
    for word in text.split():
        name, _, number = word.partition(b"=")
        if name in totals:
            totals[name] += int(number)
    return totals[b"rbytes"], totals[b"wbytes"]
