"""When the demo kills its worker: a seeded plan, and the trigger that waits for the moment."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import time
from dataclasses import dataclass, field
from pathlib import Path

from examples.refactor import executions
from examples.refactor.executions import Execution

APPLY_S = 0.05  # an apply takes about as long: most of it is waiting for the disk


@dataclass(frozen=True, slots=True)
class Kill:
    """A kill to come: in this step of a change, once so many changes have begun, so long after the step began."""

    after_changes: int
    step: str
    delay_s: float


@dataclass(frozen=True, slots=True)
class Killed:
    """A kill that happened: in the middle of this execution, so long after it began."""

    pid: int
    during: Execution
    after_s: float


def choose_kills(changes: int, count: int, *, tests_s: float, seed: int) -> list[Kill]:
    """Spread the kills over the changes, at random within each stretch; in tests and in applies by turns.

    `tests_s` is how long the whole suite takes. With few changes every kill is in tests: they can be cut short twice.
    """
    chance = random.Random(seed)
    kills = []
    for number in range(count):
        in_apply = number % 2 == 1 and changes >= 2 * count
        place = int(changes * (number + chance.uniform(0.2, 0.8)) / count)
        delay_s = chance.uniform(0.0, APPLY_S) if in_apply else chance.uniform(0.05, 0.5) * tests_s
        kills.append(Kill(max(1, place), "apply" if in_apply else "verify", delay_s))
    return kills


@dataclass(slots=True)
class Killer:
    """Follows the execution log and kills the worker when the moment of the next kill has come."""

    log: Path
    kills: list[Kill] = field(default_factory=list)
    _seen: int = 0
    _began: set[str] = field(default_factory=set)
    _due_at: float | None = None

    def look(self, worker: subprocess.Popen[bytes]) -> Killed | None:
        """Kill if it is time. Call it every few milliseconds."""
        if self.kills and self._due_at is None and self.moment_has_come():
            self._due_at = time.monotonic() + self.kills[0].delay_s
        if self._due_at is None or time.monotonic() < self._due_at or worker.poll() is not None:
            return None
        self._due_at = None
        self.kills.pop(0)
        os.kill(worker.pid, signal.SIGKILL)
        worker.wait()
        during = executions.read(self.log)[-1]
        return Killed(worker.pid, during, time.time() - during.at)

    def moment_has_come(self) -> bool:
        """Whether the step that the next kill waits for has just begun."""
        size = self.log.stat().st_size if self.log.exists() else 0
        if size == self._seen:
            return False
        self._seen = size
        entered = executions.read(self.log)
        self._began.update(one.key for one in entered if one.key is not None)
        return len(self._began) >= self.kills[0].after_changes and entered[-1].step == self.kills[0].step
