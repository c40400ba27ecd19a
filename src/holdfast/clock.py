"""The clocks: wall time for timers and people, time since boot for leases, and the name of this boot."""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import Protocol


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
