"""Schedules: when runs start by themselves, and what became of every fire."""

from __future__ import annotations

from enum import StrEnum
from typing import TypeAlias

from msgspec import Struct

from holdfast.model.budgets import NewBudget
from holdfast.model.limits import Lane


class Cron(Struct, frozen=True, kw_only=True):
    """Due at the times of a cron expression, as clocks in `zone` show them."""

    expression: str
    zone: str = "UTC"


class Interval(Struct, frozen=True, kw_only=True):
    """Due every `every_us`, counted from `anchor_us`, which itself is not due."""

    every_us: int
    anchor_us: int = 0


class After(Struct, frozen=True, kw_only=True):
    """Due once for each run that succeeded and belongs to the schedule, or to the agent, of this name."""

    name: str


Trigger: TypeAlias = Cron | Interval | After
"""What makes a schedule due."""


class CatchUpKind(StrEnum):
    """Which of the fires that nobody was there for are made up for."""

    SKIP = "skip"
    LAST = "last"
    ALL = "all"


class CatchUp(Struct, frozen=True, kw_only=True):
    """What becomes of missed fires. Of `all`, the newest `most` that were due within `window_us`."""

    kind: CatchUpKind = CatchUpKind.LAST
    most: int = 100
    window_us: int = 86_400_000_000


class Overlap(StrEnum):
    """What becomes of a fire while a run of its schedule is unfinished."""

    SKIP = "skip"
    QUEUE = "queue"
    CANCEL = "cancel"
    ALLOW = "allow"


class NewSchedule(Struct, frozen=True, kw_only=True):
    """A schedule as it is asked for. `input` is the JSON object that every run of it gets.

    The anchor of an Interval is the store's to set. `deadline_us` counts from the creation of each run.
    """

    name: str
    agent: str
    version: str
    input: bytes
    trigger: Trigger
    catch_up: CatchUp = CatchUp()
    overlap: Overlap = Overlap.SKIP
    jitter_us: int = 0
    queue: str = "default"
    priority: int = 0
    deadline_us: int | None = None
    lane: Lane | None = None  # of every run of it; written, not read back
    budget: NewBudget | None = None  # the same
    needs: tuple[str, ...] = ()  # the same


class ScheduleRecord(Struct, frozen=True, kw_only=True):
    """A schedule as stored. `next_due_us` is the due time that comes next (None: no time makes it due), `last_due_us`
    the newest that was met: both only grow, so none is met twice. `wake_us` is when a controller must look at it: the
    next due time with its jitter, or at once because a fire waits that can go now. `held`: why it was paused, when
    no person did it. The counts are of its whole life.
    """

    new: NewSchedule
    created_at_us: int
    next_due_us: int | None
    wake_us: int | None
    last_due_us: int | None = None
    paused: bool = False
    held: str | None = None
    fires: int = 0
    missed: int = 0
    skipped: int = 0

    @property
    def name(self) -> str:
        """Its name, unique in the store."""
        return self.new.name


class FireStatus(StrEnum):
    """What became of a fire."""

    FIRED = "fired"
    QUEUED = "queued"  # it waits for its turn
    SKIPPED = "skipped"  # another run of the schedule was unfinished
    MISSED = "missed"  # nobody was there at its time, and the policy does not make up for it


class FireCause(StrEnum):
    """What made a fire."""

    TIME = "time"
    RUN = "run"
    BACKFILL = "backfill"
    PERSON = "person"


class Fire(Struct, frozen=True, kw_only=True):
    """One fire of a schedule. `mark` is its identity within the schedule: what is met once is never met again.

    `n` counts up within the schedule (0: not stored yet). `run` is the id of its run, `why` the reason of a fire
    without one. `source` is the run whose success made it. `held`: it came while the schedule was paused.
    """

    schedule: str
    mark: str
    due_us: int
    cause: FireCause
    status: FireStatus
    n: int = 0
    run: str | None = None
    at_us: int = 0
    why: str | None = None
    source: str | None = None
    held: bool = False


class Fired(Struct, frozen=True, kw_only=True):
    """What a look at the schedules did: how many were fired, and in how many microseconds the next one is due
    (None: no schedule has a time)."""

    schedules: int
    next_in_us: int | None
