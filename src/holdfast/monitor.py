"""The monitor: what this process and all that it started use, and how bad that is.

The figures are those of the whole process, with however many runs in it, and say so (`shared`).
"""

from __future__ import annotations

import asyncio
import os
import shutil
from collections.abc import Generator, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from msgspec.structs import replace

from holdfast.clock import Clock, SystemClock
from holdfast.errors import ProcessNotFound, Refused, UsageError
from holdfast.model import Level, Sample
from holdfast.rules.pressure import Thresholds, measure, verdict
from holdfast.throttle.host import Host

if TYPE_CHECKING:
    import psutil

MOST_WATCHED: Final = 1_000
"""Process trees that one monitor knows at once."""

_MIB = 1024 * 1024


def default_thresholds() -> Thresholds:
    """Thresholds that fit this machine: its memory sets the bounds."""
    import psutil

    return Thresholds.for_machine(psutil.virtual_memory().total / _MIB)


@dataclass(frozen=True, slots=True, kw_only=True)
class Enforced:
    """What was done about a process tree: the sample that asked for it, which processes were made nicer, and for how
    long the tree was stopped (it goes on by now)."""

    sample: Sample
    niced: tuple[int, ...] = ()
    stopped_s: float = 0.0


class Monitor:
    """Measures a tree of processes and judges the figures by thresholds: that under this process, or under any other.

    `path` is any place on the store's disk (none: the disk of the working folder); its *free* space is what is judged.
    A sample takes 0.2 ms, and 0.1 ms more for each child. Call it from one thread, each `interval_s`: CPU use is
    counted from one call to the next, so that the first one tells 0.
    """

    def __init__(
        self,
        thresholds: Thresholds,
        path: Path | None = None,
        interval_s: float = 1.0,
        *,
        clock: Clock | None = None,
    ) -> None:
        self.interval_s = interval_s
        self._thresholds = thresholds
        self._path = path if path is not None else Path.cwd()
        self._clock = clock or SystemClock()
        self._own = _Tree(os.getpid())
        self._others: dict[int, _Tree] = {}

    def sample(self) -> Sample:
        """Measure this process and what it started, and what the kernel tells of the machine. Never raises because of a
        process that ended meanwhile."""
        with closing(Host()) as host:
            stall = host.stall()
        return self._sample(self._own, shared=True, memory_stall=None if stall is None else stall.memory)

    def check(self, pid: int) -> Sample:
        """Measure the process `pid` and what it started, and judge: `level`, and `why` in words.

        Each pid has a level of its own, which ends only when the figure is well back (a tenth). Raises ProcessNotFound
        when there is no such process, or the one that was checked before has ended.
        """
        return self._sample(self._watched(pid), shared=False)

    async def enforce(self, pid: int) -> Enforced:
        """Check, and act on the verdict: at warning the tree is made nice, at critical it is stopped for a second, too.

        Call it each `interval_s` for as long as it shall hold. What is stopped goes on before this returns, also when
        it is cancelled; what somebody else had stopped stays so. Nothing is killed, and memory that is in use does not
        become less: hard limits need a control group, which this does not make. Raises as `check`; UsageError for a
        tree with this process in it; Refused where the system does not allow it.
        """
        tree = self._watched(pid)
        sample = self._sample(tree, shared=False)
        if os.getpid() in tree.processes:
            raise UsageError(f"process {pid} is this one, or started it: who stops himself cannot go on")
        wanted = measure(sample.level)
        try:
            niced = () if wanted.nice is None else tree.make_nice(wanted.nice)
            if wanted.stop_s:
                await tree.stop_for(wanted.stop_s)
        except PermissionError as error:
            raise Refused(f"process {pid}: {error}; run as the user who started it, or as root") from error
        return Enforced(sample=sample, niced=niced, stopped_s=wanted.stop_s)

    def _watched(self, pid: int) -> _Tree:
        tree = self._others.get(pid)
        if tree is None:
            if len(self._others) >= MOST_WATCHED:
                self._others = {one: tree for one, tree in self._others.items() if tree.alive()}
            if len(self._others) >= MOST_WATCHED:
                raise Refused(f"a monitor watches {MOST_WATCHED} process trees at most: use another one")
            tree = _Tree(pid)
        if not tree.alive():
            self._others.pop(pid, None)
            raise ProcessNotFound(f"there is no process {pid} (any more)")
        self._others[pid] = tree
        return tree

    def _sample(self, tree: _Tree, *, shared: bool, memory_stall: float | None = None) -> Sample:
        cpu_percent, memory_bytes = 0.0, 0
        for process in tree.look():
            cpu, memory = _use_of(process)
            cpu_percent += cpu
            memory_bytes += memory
        measured = Sample(
            cpu_percent=round(cpu_percent, 1),
            memory_mb=round(memory_bytes / _MIB, 1),
            disk_mb=round(_free_bytes(self._path) / _MIB, 1),
            processes=len(tree.processes),
            shared=shared,
            at_us=self._clock.wall_us(),
            memory_stall=memory_stall,
        )
        tree.level, why = verdict(tree.level, measured, self._thresholds)
        return replace(measured, level=tree.level, why=why)


class _Tree:
    """A process and everything below it; known ones are kept, because they know their CPU time so far."""

    def __init__(self, root: int) -> None:
        self.level = Level.OK
        self.processes: dict[int, psutil.Process] = {}
        self._root = root
        self._first: psutil.Process | None = None

    def alive(self) -> bool:
        """Whether the root is there, and still the one that it was."""
        import psutil

        try:
            if self._first is None:
                self._first = psutil.Process(self._root)
            return self._first.is_running() and self._first.status() != psutil.STATUS_ZOMBIE
        except (psutil.Error, ValueError, OverflowError):  # a number that no process can have
            return False

    def look(self) -> list[psutil.Process]:
        """All of it, as it is now."""
        import psutil  # not until someone measures: it costs 10 ms to import

        known, self.processes = self.processes, {}
        for pid in _pids_of_tree(self._root):
            try:
                self.processes[pid] = known.get(pid) or psutil.Process(pid)
            except psutil.Error:
                pass  # ended since
        return list(self.processes.values())

    def make_nice(self, nice: int) -> tuple[int, ...]:
        """Make the processes that are less nice as nice as this; which they were. Raises PermissionError."""
        done: list[int] = []
        for process in self.look():
            with _gone_is_fine():
                if process.nice() < nice:
                    process.nice(nice)
                    done.append(process.pid)
        return tuple(done)

    async def stop_for(self, length_s: float) -> None:
        """Stop all of it, and let it go on after this long, whatever happens meanwhile. Raises PermissionError."""
        stopped: dict[int, psutil.Process] = {}
        try:
            while fresh := [one for one in self.look() if one.pid not in stopped and _goes(one)]:
                for process in fresh:  # what it starts while it is being stopped is found by the next look
                    with _gone_is_fine():
                        process.suspend()
                    stopped[process.pid] = process
            await asyncio.sleep(length_s)
        finally:
            for process in reversed(stopped.values()):
                with _gone_is_fine():
                    process.resume()


def _goes(process: psutil.Process) -> bool:
    """Whether the process can be stopped: it has not ended, and nobody else has stopped it."""
    import psutil

    try:
        return process.status() not in (psutil.STATUS_STOPPED, psutil.STATUS_ZOMBIE, psutil.STATUS_DEAD)
    except psutil.Error:
        return False


@contextmanager
def _gone_is_fine() -> Generator[None]:
    """What has ended needs nothing; what belongs to somebody else is a PermissionError."""
    import psutil

    try:
        yield
    except psutil.NoSuchProcess:
        pass
    except psutil.AccessDenied as error:
        raise PermissionError(f"no permission over process {error.pid}") from error


def _pids_of_tree(root: int) -> Iterator[int]:
    todo = [root]
    seen = {root}
    while todo:
        pid = todo.pop()
        yield pid
        for child in _children_of(pid):
            if child not in seen:
                seen.add(child)
                todo.append(child)


def _children_of(pid: int) -> list[int]:
    """The direct children. From the kernel's own list where it has one: psutil reads every process there is."""
    tasks = Path(f"/proc/{pid}/task")
    if (tasks / str(pid) / "children").exists():
        return [child for task in _listed(tasks) for child in _read_pids(tasks / task / "children")]
    import psutil

    try:
        return [child.pid for child in psutil.Process(pid).children()]
    except psutil.Error:
        return []


def _listed(folder: Path) -> list[str]:
    try:
        return os.listdir(folder)
    except OSError:
        return []


def _read_pids(path: Path) -> list[int]:
    try:
        return [int(pid) for pid in path.read_text().split()]
    except OSError:
        return []


def _use_of(process: psutil.Process) -> tuple[float, int]:
    """CPU percent of one core since the last call, and resident bytes; nothing for a process that ended."""
    import psutil

    try:
        with process.oneshot():
            return process.cpu_percent(None), process.memory_info().rss
    except psutil.Error:
        return 0.0, 0


def _free_bytes(path: Path) -> int:
    """Free space for us on the disk of the path, or of its nearest folder that is still there."""
    while True:
        try:
            return shutil.disk_usage(path).free
        except OSError:
            if path == path.parent:
                return 0
            path = path.parent
