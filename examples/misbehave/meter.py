"""Counts from outside what tools of a run use: the witness that holdfast has no part in."""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass, field
from pathlib import Path

import psutil

SETTLE_S = 1.0  # a quota is kept over periods of 0.1 s; the first moments say nothing
LOOK_S = 0.25


@dataclass(slots=True)
class Meter:
    """The CPU time of the processes whose numbers are in a file, as soon as it is there, until they end."""

    pids: Path
    cores: float = 0.0
    measured_s: float = 0.0
    _over: threading.Event = field(default_factory=threading.Event)

    def start(self) -> threading.Thread:
        thread = threading.Thread(target=self._measure, name="meter", daemon=True)
        thread.start()
        return thread

    def stop(self) -> None:
        self._over.set()

    def known(self) -> list[int]:
        """The processes, once their numbers are written whole."""
        text = self.pids.read_text() if self.pids.exists() else ""
        return [int(pid) for pid in text.split()] if text.endswith("\n") else []

    def _measure(self) -> None:
        while not (pids := self.known()):
            if self._over.wait(LOOK_S):
                return
        if self._over.wait(SETTLE_S):
            return
        began, before = time.monotonic(), _cpu_s(pids)
        while before is not None and not self._over.wait(LOOK_S):
            now = _cpu_s(pids)
            if now is None:
                return
            self.measured_s = time.monotonic() - began
            self.cores = (now - before) / self.measured_s


def _cpu_s(pids: list[int]) -> float | None:
    """Seconds of CPU so far; None as soon as one of them has ended."""
    try:
        times = [psutil.Process(pid).cpu_times() for pid in pids]
    except psutil.Error:
        return None
    return sum(one.user + one.system for one in times)
