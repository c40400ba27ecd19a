"""When a demo kills its worker: a plan, and the trigger that waits for each moment."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from examples.stage import executions
from examples.stage.executions import Execution


@dataclass(frozen=True, slots=True)
class Kill:
    """A kill to come: so long after an execution began, once so many different keys were seen; in this step, or any."""

    after: int
    step: str | None
    delay_s: float


@dataclass(frozen=True, slots=True)
class Killed:
    """A kill that happened: in the middle of this execution, so long after it began."""

    pid: int
    during: Execution
    after_s: float


@dataclass(slots=True)
class Killer:
    """Follows the execution log and kills the worker that is at work when the moment of the next kill has come."""

    log: Path
    kills: list[Kill] = field(default_factory=list)
    _seen: int = 0
    _began: set[str] = field(default_factory=set)
    _due_at: float | None = None

    def look(self, workers: Sequence[subprocess.Popen[bytes]]) -> Killed | None:
        """Kill if it is time. Call it every few milliseconds."""
        if self.kills and self._due_at is None and self.moment_has_come():
            self._due_at = time.monotonic() + self.kills[0].delay_s
        if self._due_at is None or time.monotonic() < self._due_at:
            return None
        at_work = executions.read(self.log)[-1].pid
        worker = next((one for one in workers if one.pid == at_work and one.poll() is None), None)
        if worker is None:
            return None
        self._due_at = None
        self.kills.pop(0)
        os.kill(worker.pid, signal.SIGKILL)
        worker.wait()
        during = executions.read(self.log)[-1]
        return Killed(worker.pid, during, time.time() - during.at)

    def moment_has_come(self) -> bool:
        """Whether the execution that the next kill waits for has just begun."""
        size = self.log.stat().st_size if self.log.exists() else 0
        if size == self._seen:
            return False
        self._seen = size
        entered = executions.read(self.log)
        self._began.update(one.key for one in entered if one.key is not None)
        wanted = self.kills[0]
        return len(self._began) >= wanted.after and wanted.step in (None, entered[-1].step)
