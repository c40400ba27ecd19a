"""The monitor: what this process and all that it started use, and how bad that is.

The figures are those of the whole process, with however many runs in it, and say so (`shared`).
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from holdfast.clock import Clock, SystemClock
from holdfast.model import Level, Sample
from holdfast.rules.pressure import Thresholds, verdict

if TYPE_CHECKING:
    import psutil

_MIB = 1024 * 1024


def default_thresholds() -> Thresholds:
    """Thresholds that fit this machine: its memory sets the bounds."""
    import psutil

    return Thresholds.for_machine(psutil.virtual_memory().total / _MIB)


class Monitor:
    """Measures the tree of processes under this one, and judges the figures by thresholds.

    `path` is any place on the store's disk (none: the disk of the working folder); its *free* space is what is judged.
    `sample()` takes 0.2 ms, and 0.1 ms more for each child. Call it from one thread, each `interval_s`: CPU use is
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
        self._level = Level.OK
        self._processes: dict[int, psutil.Process] = {}

    def sample(self) -> Sample:
        """Measure now. Never raises because of a process that ended meanwhile."""
        cpu_percent, memory_bytes = 0.0, 0
        for process in self._tree():
            cpu, memory = _use_of(process)
            cpu_percent += cpu
            memory_bytes += memory
        measured = Sample(
            cpu_percent=round(cpu_percent, 1),
            memory_mb=round(memory_bytes / _MIB, 1),
            disk_mb=round(_free_bytes(self._path) / _MIB, 1),
            processes=len(self._processes),
            at_us=self._clock.wall_us(),
        )
        self._level, why = verdict(self._level, measured, self._thresholds)
        return replace(measured, level=self._level, why=why)

    def _tree(self) -> list[psutil.Process]:
        """This process and everything below it; known ones are kept, because they know their CPU time so far."""
        import psutil  # not until someone measures: it costs 10 ms to import

        known, self._processes = self._processes, {}
        for pid in _pids_of_tree(os.getpid()):
            try:
                self._processes[pid] = known.get(pid) or psutil.Process(pid)
            except psutil.Error:
                pass  # ended since
        return list(self._processes.values())


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
