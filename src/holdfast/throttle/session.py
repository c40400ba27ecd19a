"""A group without control groups: below a warden of its own, bounded by signals and by what each process may have."""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from collections.abc import Callable, Collection, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Final

from holdfast.model import Usage
from holdfast.rules.limits import Limits
from holdfast.throttle.counters import TreeCounters
from holdfast.throttle.group import KILL_TIMEOUT_S
from holdfast.throttle.launching import under_warden
from holdfast.throttle.processes import Process, below, below_for_sure, boot, everyone, look_at, signal_one
from holdfast.throttle.signals import NICENESS, DutyCycle, Members, Stopper, end_all, make_nice


class SessionGroup:
    """See `Group`. `record` is a file that lets a later process find this group's, when ours has died."""

    def __init__(self, name: str, limits: Limits, record: Path | None = None) -> None:
        self.name = name
        self.limits = limits
        self._record = record
        self._root: Process | None = None
        self._below_warden = False
        self._session = 0
        self._last: list[Process] = []
        self._launched = False
        self._stopper = Stopper(self._members)
        self._counters = TreeCounters(self._members, self._warden)
        self._duty: DutyCycle | None = None

    def launch(self, command: Sequence[str], *, linger_s: float = 0.0) -> list[str]:
        """See `Group`."""
        self._launched = True
        return under_warden(command, self.limits, linger_s)

    def attach(self, pid: int) -> None:
        """See `Group`."""
        self._root = look_at(pid)
        self._below_warden = self._launched
        if self._root is not None and self._record is not None:
            keep(self._record, self._root)
        if self.limits.cpu is not None:
            self._take_turns(self.limits.cpu)

    def pids(self) -> tuple[int, ...]:
        """See `Group`. The warden is not among them."""
        return tuple(sorted(one.pid for one in self._members()))

    def usage(self) -> Usage:
        """See `Group`."""
        return self._counters.usage()

    def oom_kills(self) -> int:
        """See `Group`: who is killed for want of memory here is one of the machine's, not of the group's."""
        return 0

    def freeze(self, spare: Collection[int] = ()) -> None:
        """See `Group`. Whoever spares the warden means its first child, which is all that was asked for."""
        spared = set(spare)
        if self._below_warden and self._root is not None and self._root.pid in spared:
            self._members()
            spared.add(self._session)
        self._stopper.freeze(spared)

    def thaw(self) -> None:
        """See `Group`."""
        self._stopper.thaw()

    def set_cpu(self, cores: float | None) -> None:
        """See `Group`."""
        self._take_turns(min((one for one in (cores, self.limits.cpu) if one is not None), default=None))

    def _take_turns(self, cores: float | None) -> None:
        if self._duty is not None:
            self._duty.end()
        self._duty = None if cores is None else DutyCycle(self._stopper, self._counters.cpu_us, cores)

    def set_weight(self, share: float) -> None:
        """See `Group`."""
        make_nice(self._members, NICENESS if share < 1 else 0)

    def set_memory_brake(self, count_bytes: int | None) -> None:
        """See `Group`: nothing here can do it."""

    def kill(self, timeout_s: float = KILL_TIMEOUT_S) -> tuple[int, ...]:
        """See `Group`."""
        self._take_turns(None)
        if self._root is None:
            return ()
        return end_below(self._root, lambda: self._found(sure=True), timeout_s)

    def remove(self) -> None:
        """See `Group`."""
        self.kill()
        if self._record is not None:
            self._record.unlink(missing_ok=True)

    def _warden(self) -> list[Process]:
        """The warden, as it is now: it alone knows the time of those who ended below it."""
        if self._root is None or not self._below_warden:
            return []
        now = look_at(self._root.pid)
        return [now] if now is not None and now.started == self._root.started else []

    def _members(self) -> list[Process]:
        return self._found(sure=False)

    def _found(self, *, sure: bool) -> list[Process]:
        """Who stems from the first process, and, where orphans leave the tree (macOS), who is in its session."""
        root = self._root
        if root is None:
            return []
        now = look_at(root.pid)
        alive = now is not None and now.started == root.started
        found = (below_for_sure(root.pid) if sure else below(root.pid)) if alive else []
        if now is not None and alive and not self._below_warden and not now.ended:
            found.append(now)
        if self._below_warden:
            now = look_at(root.pid)  # after the scan: it counts only if the warden was there to its end
            if now is None or now.started != root.started or now.ended:
                found = self._orphans()
            self._last = found
        self._session = self._session or _session_below(root, found)
        if self._session and (sys.platform != "linux" or not self._below_warden):
            known = {one.pid for one in found}
            found += [
                one
                for one in everyone().values()
                if one.session == self._session
                and one.pid not in known
                and not one.ended
                and one.pid != os.getpid()
            ]
        return [one for one in found if one.pid != root.pid or not self._below_warden]

    def _orphans(self) -> list[Process]:
        """Who was there when the warden was seen last, if somebody has killed it, and who stems from them."""
        known: dict[int, Process] = {}
        for one in self._last:
            now = look_at(one.pid)
            if now is not None and now.started == one.started and not now.ended:
                known[now.pid] = now
                known |= {each.pid: each for each in below(now.pid)}
        return list(known.values())


def _session_below(root: Process, found: Sequence[Process]) -> int:
    """The session that the first process began, or the one that its warden began for it; 0: it is in another's."""
    if root.session == root.pid:
        return root.pid
    return next((one.session for one in found if one.session == one.pid), 0)


def end_below(root: Process, members: Members, timeout_s: float) -> tuple[int, ...]:
    """End the members, then the root; who is left. The root is stopped first: it may be about to start the first."""
    with suppress(PermissionError):
        signal_one(root, signal.SIGSTOP)
        _wait_for(root, lambda now: now.stopped or now.ended)
    left = end_all(members, timeout_s)
    with suppress(PermissionError):
        signal_one(root, signal.SIGCONT if left else signal.SIGKILL)
    if not left:
        _wait_for(root, lambda now: now.ended)
    return left


def _wait_for(process: Process, so: Callable[[Process], bool]) -> None:
    for _ in range(_LOOKS):
        now = look_at(process.pid)
        if now is None or now.started != process.started or so(now):
            return
        time.sleep(_WAIT_S)


_LOOKS: Final = 500
_WAIT_S: Final = 0.002


def keep(record: Path, root: Process) -> None:
    """Write down who heads the group."""
    record.parent.mkdir(parents=True, exist_ok=True)
    text = json.dumps({"boot": boot(), "pid": root.pid, "started": root.started})
    record.write_text(text, encoding="utf-8")


def kept(record: Path) -> Process | None:
    """The process that headed the group of this record, if it is still there: this very one, of this boot."""
    try:
        told = json.loads(record.read_text("utf-8"))
        now = look_at(int(told["pid"])) if told["boot"] == boot() else None
        return now if now is not None and now.started == int(told["started"]) else None
    except (OSError, ValueError, KeyError, TypeError):
        return None
