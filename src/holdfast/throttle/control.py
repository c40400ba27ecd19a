"""A group in the kernel's control groups: v2 where it is, v1 for what v2 lacks here, signals for the rest."""

from __future__ import annotations

from collections.abc import Collection, Generator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

from holdfast.errors import Refused
from holdfast.model import Usage
from holdfast.rules.limits import Limits
from holdfast.throttle.counters import GroupCounters
from holdfast.throttle.files import write_text
from holdfast.throttle.frozen import Freezer, V1Freezer, V2Freezer
from holdfast.throttle.ground import Ground
from holdfast.throttle.group import KILL_TIMEOUT_S
from holdfast.throttle.launching import DATA_FACTOR, in_groups
from holdfast.throttle.nodes import enter, kill_v2, members, pids_in, remove
from holdfast.throttle.processes import Process, below
from holdfast.throttle.signals import NICENESS, DutyCycle, Stopper, end_all, make_nice

PERIOD_US: Final = 100_000
"""The kernel's own default: shorter costs switches, longer is felt as jerks."""

NORMAL_SHARES: Final = 1024
NORMAL_WEIGHT: Final = 100


class ControlGroup:
    """See `Group`. `folder` is what its folders are called in each tree."""

    def __init__(self, name: str, folder: str, limits: Limits, ground: Ground) -> None:
        self.name = name
        self.limits = limits
        self._v2 = None if ground.v2 is None else ground.v2 / folder
        self._v1 = {controller: own / folder for controller, own in ground.v1.items()}
        self._v2_controllers = ground.v2_controllers
        self._folders = _unique([*([self._v2] if self._v2 else []), *self._v1.values()])
        self._removed = False
        self._duty: DutyCycle | None = None
        made: list[Path] = []
        with _refused(name):
            try:
                for one in self._folders:
                    one.mkdir()
                    made.append(one)
                self._limit()
            except OSError:
                for one in made:  # those that were there belong to another group
                    with suppress(OSError):
                        one.rmdir()
                raise
        self._stopper = Stopper(self._members)
        self._freezer = self._find_freezer()
        self._counters = GroupCounters(ground, folder, self._members, limits.memory_bytes)
        if limits.cpu is not None and self._quota is None:
            self._take_turns(limits.cpu)

    # --- limits ---------------------------------------------------------------------------------------------

    def _limit(self) -> None:
        """What the kernel holds from the first process on."""
        limits = self.limits
        if limits.memory_bytes is not None:
            self._limit_memory(limits.memory_bytes)
        if limits.processes is not None and (tasks := self._in("pids")) is not None:
            write_text(tasks / "pids.max", str(limits.processes))
        if limits.cpu is not None and self._quota is not None:
            self._write_quota(self._quota, limits.cpu)

    def _limit_memory(self, count_bytes: int) -> None:
        if "memory" in self._v2_controllers and self._v2 is not None:
            write_text(self._v2 / "memory.max", str(count_bytes))
            with suppress(FileNotFoundError):  # a kernel that does not account for swap
                write_text(self._v2 / "memory.swap.max", "0")
        elif (folder := self._v1.get("memory")) is not None:
            write_text(folder / "memory.limit_in_bytes", str(count_bytes))
            with suppress(FileNotFoundError):
                write_text(folder / "memory.memsw.limit_in_bytes", str(count_bytes))

    def _in(self, controller: str) -> Path | None:
        """The folder where this controller works."""
        return self._v2 if controller in self._v2_controllers else self._v1.get(controller)

    @property
    def _quota(self) -> Path | None:
        return self._in("cpu")

    def _write_quota(self, folder: Path, cores: float | None) -> None:
        quota = "-1" if cores is None else str(round(cores * PERIOD_US))
        if folder is self._v2:
            write_text(folder / "cpu.max", f"{'max' if cores is None else quota} {PERIOD_US}")
        else:
            write_text(folder / "cpu.cfs_period_us", str(PERIOD_US))
            write_text(folder / "cpu.cfs_quota_us", quota)

    # --- Group ----------------------------------------------------------------------------------------------

    def launch(self, command: Sequence[str], *, linger_s: float = 0.0) -> list[str]:
        """See `Group`."""
        memory = self.limits.memory_bytes
        bounded = memory is None or self._in("memory") is not None
        procs = [folder / "cgroup.procs" for folder in self._folders]
        return in_groups(
            command, procs, self.limits, data_bytes=None if bounded else DATA_FACTOR * (memory or 0)
        )

    def attach(self, pid: int) -> None:
        """See `Group`."""
        inside = pids_in(self._folders[0])
        if pid in inside:
            return
        with _refused(self.name):
            enter(self._folders, pid)
            for _ in range(_ROUNDS):
                outside = [one.pid for one in below(pid) if one.pid not in inside]
                if not outside:
                    return
                for one in outside:
                    enter(self._folders, one)
                    inside.add(one)

    def pids(self) -> tuple[int, ...]:
        """See `Group`."""
        return tuple(sorted(one.pid for one in self._members() if not one.ended))

    def usage(self) -> Usage:
        """See `Group`."""
        return self._counters.usage()

    def oom_kills(self) -> int:
        """See `Group`."""
        return self._counters.oom_kills()

    def freeze(self, spare: Collection[int] = ()) -> None:
        """See `Group`."""
        with _refused(self.name):
            self._freezer.freeze(spare)

    def thaw(self) -> None:
        """See `Group`."""
        with _refused(self.name):
            self._freezer.thaw()

    def set_cpu(self, cores: float | None) -> None:
        """See `Group`."""
        least = min((one for one in (cores, self.limits.cpu) if one is not None), default=None)
        if self._quota is not None:
            with _refused(self.name):
                self._write_quota(self._quota, least)
            return
        self._take_turns(least)

    def _take_turns(self, cores: float | None) -> None:
        if self._duty is not None:
            self._duty.end()
        self._duty = None if cores is None else DutyCycle(self._stopper, self._counters.cpu_us, cores)

    def set_weight(self, share: float) -> None:
        """See `Group`."""
        folder = self._quota
        with _refused(self.name):
            if folder is None:
                make_nice(self._members, NICENESS if share < 1 else 0)
            elif folder is self._v2:
                write_text(folder / "cpu.weight", str(max(1, round(NORMAL_WEIGHT * share))))
            else:
                write_text(folder / "cpu.shares", str(max(2, round(NORMAL_SHARES * share))))

    def set_memory_brake(self, count_bytes: int | None) -> None:
        """See `Group`."""
        with _refused(self.name):
            if "memory" in self._v2_controllers and self._v2 is not None:
                write_text(self._v2 / "memory.high", "max" if count_bytes is None else str(count_bytes))
            elif (folder := self._v1.get("memory")) is not None:
                write_text(
                    folder / "memory.soft_limit_in_bytes", "-1" if count_bytes is None else str(count_bytes)
                )

    def kill(self, timeout_s: float = KILL_TIMEOUT_S) -> tuple[int, ...]:
        """See `Group`."""
        self._take_turns(None)
        with _refused(self.name):
            if self._v2 is not None:
                with suppress(OSError):  # where it cannot be written, they are shot one by one
                    kill_v2(self._v2)
                return end_all(self._members, timeout_s)
            if isinstance(self._freezer, V1Freezer):
                # Nobody forks while they are shot; the shots arrive when they are thawed.
                self._freezer.freeze(())
                end_all(self._members, 0)
                self._freezer.thaw()
            return end_all(self._members, timeout_s)

    def remove(self) -> None:
        """See `Group`."""
        if self._removed:
            return
        left = self.kill()
        self._counters.close()
        gone = [remove(folder) for folder in self._folders]
        self._removed = True
        if left or not all(gone):
            raise Refused(f"group {self.name}: processes {left} do not end; its folders stay until they do")

    # --- parts ----------------------------------------------------------------------------------------------

    def _members(self) -> list[Process]:
        return members(self._folders)

    def _find_freezer(self) -> Freezer:
        if self._v2 is not None:
            return V2Freezer(self._v2)
        if "freezer" in self._v1:
            return V1Freezer(self._v1["freezer"])
        return self._stopper


_ROUNDS: Final = 100


def _unique(folders: Sequence[Path]) -> list[Path]:
    return list(dict.fromkeys(folders))


@contextmanager
def _refused(name: str) -> Generator[None]:
    """What the kernel does not let us do, in our words."""
    try:
        yield
    except OSError as error:
        raise Refused(f"group {name}: {error.filename or 'the kernel'}: {error.strerror}") from error
