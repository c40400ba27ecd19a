"""From a Sample to a verdict, with hysteresis, and what a verdict costs a run.

Laws of this file:
1. A level is entered at its threshold and left only a tenth below it (for free disk space: above), so a figure that
   wavers around a threshold changes nothing.
2. A measure without a threshold is never judged.
3. Being busy is no fault: by default the CPU is not judged at all. Only what runs out is.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final

from holdfast.errors import UsageError
from holdfast.model import Level, Sample

Bounds = tuple[float, float]
"""(warning, critical)"""

HYSTERESIS: Final = 0.1
"""A tenth: more than a figure wavers from second to second, little enough that throttling ends soon after its cause."""

CRITICAL_PAUSE_S: Final = 1.0
"""At a step boundary, as long as the time between two samples: so each step starts with the newest verdict."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Thresholds:
    """(warning, critical) per measure; None: not judged.

    `cpu_percent` is of one core (200: two cores busy) and unjudged by default: the kernel shares the CPU fairly, and
    an agent that runs tests is busy for hours. `memory_mb` depends on the machine: see `for_machine`. `disk_mb` is
    *free* space, so critical lies below warning: at 256 MiB the store can still record for a while what would
    otherwise be lost, at 1 GiB there is time to act. `processes` catches what forks without end: one agent with
    parallel tests has dozens, the usual limit of a user is some thousands. `memory_stall` is the percentage of the last
    10 s in which nothing moved for want of memory, whoever took it: on the machine of a worker, in the group of a run.
    """

    cpu_percent: Bounds | None = None
    memory_mb: Bounds | None = None
    disk_mb: Bounds | None = (1024.0, 256.0)
    processes: Bounds | None = (500.0, 2000.0)
    memory_stall: Bounds | None = (10.0, 20.0)

    def __post_init__(self) -> None:
        for name in ("cpu_percent", "memory_mb", "processes", "memory_stall"):
            _check(name, getattr(self, name), falling=False)
        _check("disk_mb", self.disk_mb, falling=True)

    @classmethod
    def for_machine(cls, memory_mb: float) -> Thresholds:
        """The defaults on a machine (or in a container) with this much memory: warning at 70 % of it, critical at
        85 %, where swapping or the kernel's killer begins when anything else grows, too."""
        return cls(memory_mb=(memory_mb * 0.70, memory_mb * 0.85))


def _check(name: str, bounds: Bounds | None, *, falling: bool) -> None:
    if bounds is None:
        return
    warning, critical = bounds
    if not (math.isfinite(warning) and math.isfinite(critical) and min(warning, critical) >= 0):
        raise UsageError(f"Thresholds({name}={bounds!r}): both must be finite and not negative")
    if (warning < critical) if falling else (warning > critical):
        order = "at least" if falling else "at most"
        raise UsageError(
            f"Thresholds({name}={bounds!r}): (warning, critical), and warning must be {order} critical"
        )


def verdict(previous: Level, sample: Sample, thresholds: Thresholds) -> tuple[Level, str]:
    """The level of the sample, given the one before it: the worst of its measures; and in words which these are."""
    measures = (
        (f"CPU {sample.cpu_percent:.0f} %", _level(previous, sample.cpu_percent, thresholds.cpu_percent)),
        (f"memory {sample.memory_mb:,.0f} MB", _level(previous, sample.memory_mb, thresholds.memory_mb)),
        (f"{sample.processes} processes", _level(previous, sample.processes, thresholds.processes)),
        (
            f"{sample.disk_mb:,.0f} MB of disk free",
            _level(previous, sample.disk_mb, thresholds.disk_mb, falling=True),
        ),
        (
            f"this machine waits for memory {sample.memory_stall or 0.0:.0f} % of the time",
            _level(previous, sample.memory_stall or 0.0, thresholds.memory_stall),
        ),
    )
    worst = max((level for _, level in measures), key=RANKS.__getitem__)
    if worst is Level.OK:
        return worst, ""
    return worst, ", ".join(words for words, level in measures if level is worst)


RANKS: Final = {Level.OK: 0, Level.WARNING: 1, Level.CRITICAL: 2}
"""How bad a level is, for comparing."""


def past(value: float, bound: float, *, falling: bool, ease: float = 0.0) -> bool:
    """Whether `value` is as bad as `bound`; with `ease`, within that share of it. More is worse; `falling`: less is."""
    return value <= bound * (1 + ease) if falling else value >= bound * (1 - ease)


def _level(previous: Level, value: float, bounds: Bounds | None, *, falling: bool = False) -> Level:
    """A level that holds already is left only below its threshold minus a tenth (`falling`: above it)."""
    if bounds is None:
        return Level.OK
    for level, bound in ((Level.CRITICAL, bounds[1]), (Level.WARNING, bounds[0])):
        holds = RANKS[previous] >= RANKS[level]
        if past(value, bound, falling=falling, ease=HYSTERESIS if holds else 0.0):
            return level
    return Level.OK


def slow_down_s(level: Level) -> float:
    """How long a run pauses at a step boundary. A warning is only told; nobody is slowed by it."""
    return CRITICAL_PAUSE_S if level is Level.CRITICAL else 0.0


NICENESS: Final = 10
"""Half-way to the kindest there is: whatever else wants the CPU gets about nine tenths of it."""


@dataclass(frozen=True, slots=True)
class Measure:
    """What is done about a process tree from outside: `nice` to set (None: leave it), and how long to stop it."""

    nice: int | None = None
    stop_s: float = 0.0


def measure(level: Level) -> Measure:
    """A warning makes a tree stand back from the CPU; at critical it is stopped for a while as well. Nothing is killed,
    and niceness is not taken back: without privileges it only rises."""
    if level is Level.OK:
        return Measure()
    return Measure(nice=NICENESS, stop_s=CRITICAL_PAUSE_S if level is Level.CRITICAL else 0.0)
