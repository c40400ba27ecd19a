"""What a tree of processes uses, and what on this machine could bound it."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

import msgspec

from holdfast.model.budgets import BudgetRecord
from holdfast.model.changes import Beside
from holdfast.model.events import Progress
from holdfast.model.workers import Level


class Metric(StrEnum):
    """A figure of a tree of processes that can be judged."""

    CPU = "cpu"  # percent of one core
    MEMORY = "memory"  # bytes, working set
    MEMORY_STALL = "memory_stall"  # percent of the last 10 s in which nothing moved for want of memory
    PROCESSES = "processes"
    WORKSPACE = "workspace"  # bytes in the run's folder
    DISK_FREE = "disk_free"  # bytes left on its disk: less is worse


class Strength(StrEnum):
    """How far a mechanism may be relied on."""

    KERNEL = "kernel"  # the kernel bounds the whole tree: nothing gets past it, not for an instant
    EACH = "each process"  # the kernel bounds each process alone: many together may use more
    WATCHED = "watched"  # measured again and again, and acted on afterwards: it may be exceeded for a moment
    REFUSED = "refused"  # nothing here acts


@dataclass(frozen=True, slots=True)
class Mechanism:
    """What acts for one limit, or for one rung of the ladder: `by` in words; `why` it is no better."""

    strength: Strength
    by: str
    why: str = ""


class Usage(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """What a tree has used since it began (`cpu_us`, `read_bytes`, `written_bytes`, the count of kills), and uses now
    (`memory_bytes`: the working set; `processes`). None: nothing here counts it.

    `oom_kills` are processes that the kernel killed because the tree was at its memory limit. `memory_stall` is the
    percentage of the last 10 s in which the whole tree waited for memory.
    """

    cpu_us: int
    memory_bytes: int
    processes: int
    read_bytes: int | None = None
    written_bytes: int | None = None
    oom_kills: int = 0
    memory_stall: float | None = None


class HostStall(msgspec.Struct, frozen=True, gc=False):
    """Pressure of the whole machine: percent of the last 10 s in which some task waited for the CPU, and in which all
    of them waited for memory or for a disk."""

    cpu: float
    memory: float
    disk: float


class TreeSample(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """One look at a tree, or several of them in one (`span_us` is the time it stands for, up to `at_us`, since boot).

    `cpu_percent` is of one core and a mean; memory and processes are the highest in the span; `read_bytes` and
    `written_bytes` are of the span. Workspace and free space in bytes; `workspace_at_least`: it
    holds more than was counted. `loop_lag_s` is the longest time in the span for
    which the event loop of the run's own process kept somebody waiting. None: not measured.
    """

    at_us: int
    span_us: int
    cpu_percent: float
    memory_bytes: int
    processes: int
    read_bytes: int | None = None
    written_bytes: int | None = None
    workspace_bytes: int | None = None
    disk_free_bytes: int | None = None
    memory_stall: float | None = None
    oom_kills: int = 0
    loop_lag_s: float | None = None
    host: HostStall | None = None
    workspace_at_least: bool = False


class Sampled(Beside, frozen=True, kw_only=True):
    """What its worker sees of the processes of one run. `history` replaces the one that is stored; None leaves it.

    Instants are counted from the moment of the writing, so they are 0 or less: the store's clock makes them its own.
    """

    sample: TreeSample
    level: Level = Level.OK
    history: tuple[TreeSample, ...] | None = None


class NewSample(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """What the attempt of the run with this token is seen to use."""

    run: int
    token: int
    sampled: Sampled


class RunSample(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """The newest sample of the processes of one run, by the store's clock; `token` is the attempt that it is of."""

    token: int
    sample: TreeSample
    level: Level


class Wish(StrEnum):
    """What a person may ask of the one who executes a run."""

    THROTTLE = "throttle"  # hold it back until it is let go
    KILL = "kill"  # end the processes of its attempt; the run goes on from its checkpoint


class Glimpse(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """What is known of a run beside its row, at one moment. Of one that is executed: `heard_at_us` is when its newest
    event was written, `step_at_us` when its newest open step began, if it was told."""

    progress: Progress | None = None
    sample: RunSample | None = None
    throttled: bool = False
    heard_at_us: int | None = None
    step_at_us: int | None = None
    budget: BudgetRecord | None = None
