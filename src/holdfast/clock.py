"""The clocks: wall time for timers and people, time since boot for leases, the name of this boot; and how often a
worker looks around."""

from __future__ import annotations

import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol


@dataclass(frozen=True, slots=True, kw_only=True)
class Pace:
    """How often a worker looks around, in seconds. Simulations have their own; everything else uses `Pace()`."""

    tick_s: float = 0.05  # progress, log lines and step starts are written: 20 a second at most
    round_s: float = (
        0.02  # the least time between two looks at the store: news of every commit must not cost a claim
    )
    refill_s: float = (
        0.002  # the same where none of ours runs, or one has ended: slots are filled soon, and together
    )
    ask_s: float = 0.2  # a busy worker asks what is wished of its runs: a cancel arrives within this
    poll_s: float = 1.0  # the longest time without a look at the store; news make it sooner


class Clock(Protocol):
    """Where time comes from. The simulator has its own; everything else uses `SystemClock`."""

    def wall_us(self) -> int:
        """Microseconds since the epoch; may jump."""
        ...

    def boot_us(self) -> int:
        """Microseconds since boot, suspended time included; never jumps."""
        ...

    def boot_id(self) -> str:
        """The name of this boot of the machine; the same in every container on it."""
        ...


class SystemClock:
    """The machine's clocks."""

    def __init__(self) -> None:
        self._boot_id = _read_boot_id()

    def wall_us(self) -> int:
        return time.time_ns() // 1000

    def boot_us(self) -> int:
        return time.clock_gettime_ns(_BOOT_CLOCK) // 1000

    def boot_id(self) -> str:
        return self._boot_id


# CLOCK_BOOTTIME counts time spent suspended; macOS spells the same thing CLOCK_MONOTONIC.
_BOOT_CLOCK: int = time.CLOCK_BOOTTIME if sys.platform == "linux" else time.CLOCK_MONOTONIC


def _read_boot_id() -> str:
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        import psutil

        return f"booted-{int(psutil.boot_time())}"
