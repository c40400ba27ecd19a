"""Processes as the system lists them: who stems from whom, what each has used; signals that reach only whom we mean.

A process is known by its number and its start: numbers are given again.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

PROC: Final = Path("/proc")
HAS_PROC: Final = (PROC / "self" / "stat").exists()
_STOPPED: Final = frozenset("Tt")
_ENDED: Final = frozenset("ZXx")


@dataclass(frozen=True, slots=True)
class Process:
    """One process. `started` counts clock ticks since boot; `cpu_us` is its own time and that of the children it waited
    for; `memory_bytes` is resident."""

    pid: int
    parent: int
    session: int
    state: str
    started: int
    cpu_us: int
    memory_bytes: int

    @property
    def ended(self) -> bool:
        """Whether it is only waited for."""
        return self.state in _ENDED

    @property
    def stopped(self) -> bool:
        """Whether somebody has stopped it."""
        return self.state in _STOPPED


def look_at(pid: int) -> Process | None:
    """The process of this number now; None when there is none."""
    return _from_proc(pid) if HAS_PROC else _from_psutil(pid)


_TICK_US: Final = 1_000_000 // os.sysconf("SC_CLK_TCK")
_PAGE: Final = os.sysconf("SC_PAGE_SIZE")


def _from_proc(pid: int) -> Process | None:
    try:
        with open(f"/proc/{pid}/stat", "rb", buffering=0) as file:
            text = file.read()
    except OSError:
        return None
    # The name stands in brackets and may hold anything, brackets too.
    words = text[text.rindex(b")") + 2 :].split()
    return Process(
        pid=pid,
        state=chr(words[0][0]),
        parent=int(words[1]),
        session=int(words[3]),
        cpu_us=sum(int(one) for one in words[11:15]) * _TICK_US,
        started=int(words[19]),
        memory_bytes=int(words[21]) * _PAGE,
    )


def _from_psutil(pid: int) -> Process | None:
    import psutil

    states = {psutil.STATUS_STOPPED: "T", psutil.STATUS_ZOMBIE: "Z"}
    try:
        one = psutil.Process(pid)
        with one.oneshot():
            times = one.cpu_times()
            return Process(
                pid=pid,
                state=states.get(one.status(), "S"),
                parent=one.ppid(),
                session=os.getsid(pid),
                cpu_us=round((times.user + times.system) * 1e6),
                started=round(one.create_time() * 100),
                memory_bytes=one.memory_info().rss,
            )
    except (psutil.Error, OSError):
        return None


def everyone() -> dict[int, Process]:
    """All processes there are."""
    if HAS_PROC:
        pids = [int(name) for name in os.listdir(PROC) if name.isdigit()]
    else:
        import psutil

        pids = psutil.pids()
    found = ((pid, look_at(pid)) for pid in pids)
    return {pid: one for pid, one in found if one is not None}


def below(root: int) -> list[Process]:
    """All that stem from `root`, without it: those that ended are left out, but not what is below them."""
    found: list[Process] = []
    seen = {root}
    todo = list(_children(root))
    while todo:
        pid = todo.pop()
        if pid in seen:
            continue
        seen.add(pid)
        one = look_at(pid)
        if one is None:
            continue
        todo.extend(_children(pid))
        if not one.ended:
            found.append(one)
    return found


def below_for_sure(root: int) -> list[Process]:
    """The same from a scan of all processes: slower, but the kernel's own lists of children may miss some while others
    end, and who must be gone is not guessed."""
    children: dict[int, list[Process]] = {}
    for one in everyone().values():
        children.setdefault(one.parent, []).append(one)
    found: list[Process] = []
    todo = [root]
    while todo:
        for child in children.pop(todo.pop(), ()):
            todo.append(child.pid)
            if not child.ended:
                found.append(child)
    return found


def _children(pid: int) -> list[int]:
    if not HAS_PROC:
        return [one.pid for one in everyone().values() if one.parent == pid]
    found: list[int] = []
    try:
        tasks = os.listdir(f"/proc/{pid}/task")
    except OSError:
        return found
    for task in tasks:
        try:
            with open(f"/proc/{pid}/task/{task}/children", "rb", buffering=0) as file:
                found.extend(int(child) for child in file.read().split())
        except FileNotFoundError:
            if not _LISTS_CHILDREN:
                return [one.pid for one in everyone().values() if one.parent == pid]
        except OSError:
            pass  # it ended meanwhile
    return found


_LISTS_CHILDREN: Final = (PROC / "self" / "task" / str(os.getpid()) / "children").exists()


def boot() -> str:
    """The first letters of this boot's name."""
    from holdfast.clock import SystemClock

    return "".join(letter for letter in SystemClock().boot_id() if letter.isalnum())[:8].ljust(8, "0")


def namespace() -> int:
    """The number of the space in which our process numbers mean something; 0 where there is only one."""
    try:
        return os.stat("/proc/self/ns/pid").st_ino
    except OSError:
        return 0


def signal_if(pid: int, number: signal.Signals, meant: Callable[[], bool]) -> bool:
    """Send the signal if `meant` says, once nobody else can get the number, that it is still the one. Whether it was
    sent. Raises PermissionError."""
    try:
        if not hasattr(os, "pidfd_open"):
            return meant() and _sent(pid, number)
        handle = os.pidfd_open(pid)
    except ProcessLookupError:
        return False
    except PermissionError:
        raise
    except OSError:  # a kernel, or a sandbox, without them
        return meant() and _sent(pid, number)
    try:
        if not meant():
            return False
        signal.pidfd_send_signal(handle, number)
        return True
    except ProcessLookupError:
        return False
    finally:
        os.close(handle)


def _sent(pid: int, number: signal.Signals) -> bool:
    with suppress(ProcessLookupError):
        os.kill(pid, number)
        return True
    return False


def signal_one(process: Process, number: signal.Signals) -> bool:
    """Send the signal to this very process. Whether it was sent. Raises PermissionError."""

    def still() -> bool:
        now = look_at(process.pid)
        return now is not None and now.started == process.started

    return signal_if(process.pid, number, still)


def shared_bytes(pids: Iterable[int]) -> int | None:
    """The memory of these processes, what several share counted once (PSS); None where it cannot be read of each."""
    total = 0
    for pid in pids:
        try:
            text = (PROC / str(pid) / "smaps_rollup").read_bytes()
        except FileNotFoundError:
            if not HAS_PROC:
                return None
            continue
        except ProcessLookupError:
            continue
        except OSError:
            return None
        at = text.find(b"\nPss:")
        if at >= 0:
            total += int(text[at + 5 : text.index(b"kB", at)]) * 1024
    return total


def disk_bytes(pids: Iterable[int]) -> tuple[int, int] | None:
    """What these processes, and the children that they waited for, have (read, written) so far; None where it is not
    told."""
    read = written = 0
    told = False
    for pid in pids:
        try:
            text = (PROC / str(pid) / "io").read_bytes()
        except OSError:
            continue
        told = True
        for word, number in (line.split(b": ") for line in text.splitlines()):
            if word == b"read_bytes":
                read += int(number)
            elif word == b"write_bytes":
                written += int(number)
    return (read, written) if told else None
