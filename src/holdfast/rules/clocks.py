"""The four clocks of a run that a worker executes, and what they say together: does it work, or does it hang?

Laws:
1. Each clock is shown by itself: a lease that is renewed says that the worker lives, not that the run moves.
2. Only what is measured of the run alone is a sign of it: the CPU that several runs use together says nothing.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Final

from msgspec import Struct

SILENT_US: Final = 60_000_000
"""Who recorded something within a minute works. A call of a model or a tool that takes longer is looked at."""
BUSY_PERCENT: Final = 5.0
"""Of a core: an idle event loop takes a tenth of that."""


class Sign(StrEnum):
    """What the clocks say together."""

    LOST = "lost"  # the lease is over: another worker takes the run over
    WORKING = "working"  # something was recorded within a minute
    BUSY = "busy"  # nothing was, and its process uses the CPU
    IDLE = "idle"  # nothing was, nor does its process use the CPU: it waits for somebody outside, or hangs
    SILENT = "silent"  # nothing was, and its worker executes others, too: nobody can tell


class Clocks(Struct, frozen=True, kw_only=True):
    """Microseconds that are left of the lease and of the deadline, and for how long nothing was recorded and the newest
    step is open. None: not known, no such step, no deadline."""

    lease_left_us: int | None
    silent_us: int
    step_us: int | None
    deadline_left_us: int | None


def sign(clocks: Clocks, cpu_percent: float | None) -> Sign:
    """Hung or working? `cpu_percent` is that of the processes of this run alone, or None."""
    if clocks.lease_left_us is not None and clocks.lease_left_us <= 0:
        return Sign.LOST
    if clocks.silent_us < SILENT_US:
        return Sign.WORKING
    if cpu_percent is None:
        return Sign.SILENT
    return Sign.BUSY if cpu_percent >= BUSY_PERCENT else Sign.IDLE
