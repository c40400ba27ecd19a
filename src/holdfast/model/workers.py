"""Workers and queues."""

from __future__ import annotations

from enum import StrEnum

from msgspec import Struct

from holdfast.model.runs import RunState


class Served(Struct, frozen=True, kw_only=True):
    """An agent that a worker can execute. It `continues` runs of these older versions that no worker has any more."""

    agent: str
    version: str
    continues: tuple[str, ...] = ()

    def fits(self, agent: str, version: str) -> bool:
        """Whether a run of that agent and version can be executed by it, sooner or later."""
        return self.agent == agent and (self.version == version or version in self.continues)


class Level(StrEnum):
    """The verdict of a threshold."""

    OK = "ok"
    WARNING = "warning"
    CRITICAL = "critical"


class Sample(Struct, frozen=True, kw_only=True):
    """Resources as measured. `disk_mb` is free space; `shared`: of a whole process; `why`: what makes the level.
    `memory_stall`: percent of the last 10 s in which nothing on the whole machine moved for want of memory, None where
    nobody tells."""

    cpu_percent: float
    memory_mb: float
    disk_mb: float
    processes: int
    level: Level = Level.OK
    shared: bool = True
    at_us: int = 0
    why: str = ""
    memory_stall: float | None = None


class NewWorker(Struct, frozen=True, kw_only=True):
    """A worker that registers. `lock_path` is the file it holds a flock on, if it does. `apart` are those of what it
    serves whose runs have a process each. `labels` are what it has for runs that ask for it."""

    name: str
    host: str
    pid: int
    capacity: int
    serves: tuple[Served, ...]
    lock_path: str | None = None
    apart: tuple[Served, ...] = ()
    labels: tuple[str, ...] = ()


class WorkerRecord(Struct, frozen=True, kw_only=True):
    """A registered generation of a worker. `alive` says that its lease holds by the store's clock (or its lock);
    `lease_left_us` is how long it does without another renewal, None for one of another boot."""

    key: int
    name: str
    host: str
    pid: int
    capacity: int
    serves: tuple[Served, ...]
    started_at_us: int
    alive: bool
    draining: bool
    runs: int = 0
    sample: Sample | None = None
    lease_left_us: int | None = None
    apart: tuple[Served, ...] = ()
    labels: tuple[str, ...] = ()


class Ask(Struct, frozen=True, kw_only=True):
    """What the store knows of a run that a worker executes: a newer token, another state, or a wish. `kill`: the
    attempt of this token is to be killed."""

    run: int
    token: int
    position: int
    state: RunState
    asked: str | None
    inbox_no: int
    throttled: bool = False
    kill: bool = False


class QueueRecord(Struct, frozen=True, kw_only=True):
    """A queue, its limit on live leases (None: none), and what is in it."""

    name: str
    limit: int | None
    queued: int = 0
    running: int = 0
