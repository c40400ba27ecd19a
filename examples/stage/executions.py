"""A log of every execution of a step body, outside holdfast: the witness for "recorded once, executed how often?".

A body notes itself before it does anything. What is recorded returns without its body being entered, so the notes of
a run are its recorded outcomes plus the executions that a kill cut short.
"""

from __future__ import annotations

import json
import os
import time
from dataclasses import dataclass
from pathlib import Path

from examples.stage import durable


@dataclass(frozen=True, slots=True)
class Execution:
    """One entering of one step's body."""

    step: str
    key: str | None
    pid: int
    at: float

    @property
    def name(self) -> str:
        return self.step if self.key is None else f"{self.step} {self.key}"


def note(log: Path, step: str, key: str | None = None) -> None:
    """Durable before the body goes on: no execution can be cut short without having been noted."""
    line = {"step": step, "key": key, "pid": os.getpid(), "at": time.time()}
    durable.append_line(log, json.dumps(line))


def read(log: Path) -> list[Execution]:
    """Every execution so far, in order."""
    if not log.exists():
        return []
    text = log.read_text()
    whole = text[: text.rfind("\n") + 1]  # a line is being written while we read
    return [Execution(**json.loads(line)) for line in whole.splitlines()]
