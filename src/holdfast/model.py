"""The nouns: frozen values that rows, rules and the API share.

Instants are whole microseconds since the epoch (`_us`). Payloads are JSON as bytes: no value holds a user's object.
Those that every step makes are msgspec Structs, made several times as fast: they change by `msgspec.structs.replace`.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Final, NamedTuple

from msgspec import Struct

SETUP: Final = -1
"""The segment number of everything recorded above `ctx.restore`."""


class RunState(StrEnum):
    """The six states of a run. Everything finer is a `Reason` beside it."""

    QUEUED = "queued"
    RUNNING = "running"
    WAITING = "waiting"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"

    @property
    def final(self) -> bool:
        """Whether only an operator's retry leads out of this state."""
        return self in FINAL_STATES


FINAL_STATES: Final = frozenset({RunState.SUCCEEDED, RunState.FAILED, RunState.CANCELLED})


class Reason(StrEnum):
    """Why a run is in its state: what a person reads to know why nothing moves."""

    BACKOFF = "backoff"  # queued: a retry after a failure
    DRAINED = "drained"  # queued: released by a worker that shuts down
    CRASHED = "crashed"  # queued/running: its worker went down
    SLEEP = "sleep"  # waiting: until a time
    SIGNAL = "signal"  # waiting: for a signal
    PAUSED = "paused"  # waiting: an operator paused it
    PARKED = "parked"  # waiting: its `holdfast run` was interrupted; `run --id` goes on
    POISON = "poison"  # waiting: it took its worker down too often
    MISMATCH = "mismatch"  # waiting: the code does not fit what is recorded
    CHECKPOINT_LOST = "checkpoint_lost"  # waiting: no good checkpoint is left
    NEEDS_CODE = "needs_code"  # waiting: no worker has its version of the agent
    THROTTLED = "throttled"  # running: slowed down because the machine is under pressure
    STUCK = "stuck"  # running: a sync step outlived its timeout and cannot be killed


HELD_REASONS: Final = frozenset({Reason.POISON, Reason.MISMATCH, Reason.CHECKPOINT_LOST})
"""Waits that only an operator's `retry` ends."""


class FailureKind(StrEnum):
    """The class of a failure: what it means for trying again."""

    TRANSIENT = "transient"
    FATAL = "fatal"
    CHECKPOINT = "checkpoint"
    LOST = "lost"  # the worker went down
    TIMED_OUT = "timed_out"
    CANCELLED = "cancelled"
    MISMATCH = "mismatch"


@dataclass(frozen=True, slots=True, kw_only=True)
class Failure:
    """A classified error, as it is recorded.

    `type` is the error's class name, `frames` the user's own frames as text (ours cut out), `entries` the positions
    of the recorded step failures found in the error, its causes, contexts and groups: an operator's retry
    supersedes them. `unclassified` says that nobody declared this error, so it is taken to be transient.
    """

    kind: FailureKind
    type: str
    message: str
    retry_after_s: float | None = None
    unclassified: bool = False
    frames: str = ""
    cause: Failure | None = None
    entries: tuple[int, ...] = ()

    def summary(self) -> str:
        """The failure in one line."""
        return f"{self.type}: {self.message}" if self.message else self.type

    def told(self) -> dict[str, object]:
        """The failure as events tell it: the form that `show --json` has for an error."""
        cause = self.cause and self.cause.told()
        return {"type": self.type, "message": self.message, "class": self.kind, "cause": cause}


# --- the journal --------------------------------------------------------------------------------------------


class Identity(NamedTuple):
    """What a recorded call is known by: `(segment | SETUP, scope, name, key | occurrence)` within its run.

    `scope` is the path of the branch, "" at the root. `key` replaces the occurrence; then `occurrence` is 0.
    """

    segment: int
    scope: str
    name: str
    key: str | None
    occurrence: int

    def __str__(self) -> str:
        where = "setup" if self.segment == SETUP else f"segment {self.segment}"
        which = f"key {self.key!r}" if self.key is not None else f"occurrence {self.occurrence}"
        return f"{self.name!r} ({where}, {f'scope {self.scope}, ' if self.scope else ''}{which})"


class EntryKind(StrEnum):
    """What kind of call an entry answers: `group` is a map or a race as a whole."""

    STEP = "step"
    TIMER = "timer"
    SIGNAL = "signal"
    ONCE = "once"
    GROUP = "group"


class EntryStatus(StrEnum):
    """How a recorded call ended.

    `RETRIED` is a failed try of a call that is not over: it counts tries and answers nothing.
    `UNSEEN` marks that the outcome before it, of the same identity, was never delivered.
    """

    OK = "ok"
    FAILED = "failed"
    ABANDONED = "abandoned"
    RETRIED = "retried"
    UNSEEN = "unseen"


class Entry(Struct, frozen=True, gc=False):
    """One recorded outcome. `position` is the attempt's counter, gapless within the run.

    `at_us` is when it was recorded (0 until then), `started_at_us` when the call began, `token` the attempt that
    recorded it. `payload` is the JSON of the result, of the Failure, or of a timer's wake time in microseconds.
    `signal` is the number of the inbox signal that the entry consumes. `args_hash` is b"" when it is not checked.
    """

    identity: Identity
    kind: EntryKind
    status: EntryStatus
    payload: bytes
    args_hash: bytes = b""
    started_at_us: int = 0
    signal: int | None = None
    position: int = 0
    at_us: int = 0
    token: int = 0
    superseded: bool = False


class ResolutionKind(StrEnum):
    """The ways out of a mismatch."""

    ACCEPT = "accept"
    INSERT = "insert"
    DROP = "drop"
    RERUN = "rerun"
    FROM_CHECKPOINT = "from_checkpoint"


class Call(Struct, frozen=True, kw_only=True, gc=False):
    """A call at hand: what the code asked for. Recorded with a mismatch, so that a resolution can name it."""

    identity: Identity
    args_hash: bytes = b""


@dataclass(frozen=True, slots=True, kw_only=True)
class Resolution:
    """An operator's answer to a mismatch, an entry of its own in the events of the run.

    `accept`: the entry at `position` answers `call`, in the place of the entry `before`. `insert`: `call` executes
    before the entry at `position`, which stays. `drop`: the entry at `position` is superseded. `rerun`: it is
    superseded and `call` executes in its place. `recorded` is the identity of the entry at `position` (not of
    `insert`), `before` the entry that was recorded next. `rules.journal.resolve` makes one.
    """

    kind: ResolutionKind
    position: int | None = None
    call: Call | None = None
    after: int = 0  # the run's position when it was given: it speaks of entries up to here
    recorded: Identity | None = None
    before: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Mismatch:
    """The code and the journal disagree: `call` is what the code does, `entry` what is recorded next.

    Either may be None: the code ended (or took a checkpoint) with entries left, or nothing else was recorded.
    """

    message: str
    call: Call | None
    entry: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Checkpoint:
    """A snapshot of state: `n` counts up within the run; `segment` is the one it opens.

    `state` is JSON and None in listings. `good` says whether the stored bytes match their hash.
    """

    n: int
    segment: int
    name: str | None
    at_us: int
    size_bytes: int
    good: bool
    state: bytes | None = None
    now_us: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Signal:
    """A named message from outside to a run, kept until an entry consumes it. `n` counts up within the run."""

    n: int
    name: str
    payload: bytes
    at_us: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Journal:
    """All that an attempt needs to go on: the newest good checkpoint, the setup, the tail, and what is in the inbox.

    `entries` are the live ones (not superseded, of the setup or of `segment >= base`), in order of position, tries
    (`RETRIED`) and marks (`UNSEEN`) included. `corrupt` lists the checkpoints passed over because they are bad.
    `lost` says that checkpoints exist, none is good, and the journal no longer reaches back to the start.
    """

    checkpoint: Checkpoint | None
    entries: tuple[Entry, ...]
    resolutions: tuple[Resolution, ...] = ()
    corrupt: tuple[int, ...] = ()
    lost: bool = False

    @property
    def base_segment(self) -> int:
        """The segment in which the code continues after `restore`."""
        return self.checkpoint.segment if self.checkpoint else 0


# --- events -------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """An immutable record of the feed of a run. `n` is gapless per run, from 1. `payload` is a JSON object."""

    run: str
    n: int
    at_us: int
    type: str
    payload: bytes


@dataclass(frozen=True, slots=True)
class Note:
    """An event to be written that is not an entry: a state change, progress, log line or warning."""

    type: str
    payload: bytes = b"{}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """How far a run is. `total` None means unknown; 0 is legal and means that there is nothing to do."""

    current: float
    total: float | None = None
    description: str = ""
    phase: str | None = None
    started_at_us: int = 0
    updated_at_us: int = 0


# --- runs ---------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class NewRun:
    """A run as it is asked for. `input` is a JSON object whose keys are the agent's parameters.

    `claimable=False` leaves the run to a claim by id (`holdfast run`, which executes it in its own process).
    """

    id: str
    agent: str
    version: str
    input: bytes
    queue: str = "default"
    priority: int = 0
    delay_us: int = 0
    deadline_us: int | None = None  # a duration, counted from the creation of the run
    claimable: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """One durable execution of an agent for one input, as stored.

    `key` is the store's own number of the run, `id` the user's. `token` fences: it rises at every claim and at every
    transition out of `running` that the attempt did not make. `position` counts entries, `event_no` events.
    `available_at_us` None means: nobody may claim it until something else happens. `attempts` counts claims,
    `failures` failed attempts that count against the retry policy, `crashes` attempts in a row that went down with
    their worker and recorded nothing, `crashes_alone` those of them that were the only run of their worker.
    `claimed_position` is `position` at the last claim. `asked` is what the attempt is asked to do: "pause" or None.
    `wait_name` is the signal waited for. `step` is the newest open step. `checkpoint_n` counts saved checkpoints.
    """

    key: int
    id: str
    agent: str
    version: str
    queue: str
    priority: int
    state: RunState
    reason: Reason | None
    created_at_us: int
    token: int = 0
    position: int = 0
    event_no: int = 0
    steps: int = 0
    step: str | None = None
    checkpoint_n: int = 0
    worker: int | None = None
    available_at_us: int | None = None
    attempts: int = 0
    failures: int = 0
    crashes: int = 0
    crashes_alone: int = 0
    suspect: bool = False
    claimed_position: int = 0
    asked: str | None = None
    wait_name: str | None = None
    inbox_no: int = 0
    deadline_at_us: int | None = None
    started_at_us: int | None = None
    finished_at_us: int | None = None
    failure: Failure | None = None
    mismatch: Mismatch | None = None
    result: bytes | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Created:
    """The answer to `create_run`. `existed` says that the same run was there already."""

    run: Run
    existed: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Claim:
    """A run handed to a worker, with all it needs to go on: one attempt's tenure, numbered by `run.token`."""

    run: Run
    input: bytes
    journal: Journal


# --- what becomes durable -----------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class NewCheckpoint:
    """A state to save. `segment` is the one it opens; `keep` is how many unnamed ones stay."""

    segment: int
    name: str | None
    state: bytes
    keep: int
    now_us: int = 0  # what `ctx.now()` says at this line, so that it says the same after a resume


@dataclass(frozen=True, slots=True, kw_only=True)
class Succeeded:
    """The agent returned. `result` is JSON."""

    result: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Failed:
    """The run ends as failed."""

    failure: Failure


@dataclass(frozen=True, slots=True, kw_only=True)
class Retry:
    """The attempt failed and another one follows after `delay_us`. `counted=False`: no failure is counted."""

    failure: Failure
    delay_us: int
    counted: bool = True
    supersede: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Park:
    """The run waits and is unloaded.

    For `sleep`, `until_us` is the wake time. For `signal`, `wait_name` is the signal and `inbox_seen` the highest
    inbox number that the attempt knows: when a newer signal is there, the run is claimable at once, so that no wake
    is lost; `until_us` then is the time-out, if any. `paused` and `parked` wait for a person.
    """

    reason: Reason
    until_us: int | None = None
    wait_name: str | None = None
    inbox_seen: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Release:
    """The attempt ends by no fault of the run (drain, replaced worker): claimable again at once, nothing counted."""

    reason: Reason = Reason.DRAINED


@dataclass(frozen=True, slots=True, kw_only=True)
class Hold:
    """The run is held for an operator."""

    reason: Reason
    failure: Failure
    mismatch: Mismatch | None = None


Outcome = Succeeded | Failed | Retry | Park | Release | Hold
"""How an attempt ends by itself."""


class Change(Struct, frozen=True, kw_only=True, gc=False):
    """What an attempt wants to become durable, whole or not at all.

    Fenced: it applies only while the run is `running` under `token`, and, when it has entries, a checkpoint or an
    outcome, only at `position` (the number of entries that the attempt knows to be recorded before these).
    Notes alone compare token and state, not the position. `entries` get the positions that follow. `step` names the
    newest open step and replaces the run's; `reason` replaces that of a running run (None clears it).
    """

    run: int
    token: int
    position: int
    entries: tuple[Entry, ...] = ()
    notes: tuple[Note, ...] = ()
    checkpoint: NewCheckpoint | None = None
    progress: Progress | None = None
    outcome: Outcome | None = None
    step: str | None = None
    reason: Reason | None = None


class Committed(Struct, frozen=True, kw_only=True, gc=False):
    """A Change is durable. `position` and `event_no` are the run's counters after it, `at_us` the store's time."""

    position: int
    event_no: int
    at_us: int


@dataclass(frozen=True, slots=True, kw_only=True)
class RefusedChange:
    """A Change was fenced out and changed nothing: the run's true `state` and `token` say why."""

    state: RunState | None
    token: int
    message: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """What a rule decided about a run, to become durable in one transaction: the run as it shall be, its events,
    the positions of entries that answer nothing any more, the consumed signals that return to the inbox.

    `claimable`: from now on any worker may claim the run, though it was left to a claim by id.
    """

    run: Run
    notes: tuple[Note, ...] = ()
    supersede: tuple[int, ...] = ()
    resolution: Resolution | None = None
    claimable: bool = False


# --- workers ------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Served:
    """An agent that a worker can execute."""

    agent: str
    version: str


class Level(StrEnum):
    """The verdict of a threshold."""

    OK = "ok"
    WARNING = "warning"
    CRITICAL = "critical"


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """Resources as measured. `disk_mb` is free space; `shared`: of a whole process; `why`: what makes the level."""

    cpu_percent: float
    memory_mb: float
    disk_mb: float
    processes: int
    level: Level = Level.OK
    shared: bool = True
    at_us: int = 0
    why: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class NewWorker:
    """A worker that registers. `lock_path` is the file it holds a flock on, if it does."""

    name: str
    host: str
    pid: int
    capacity: int
    serves: tuple[Served, ...]
    lock_path: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerRecord:
    """A registered generation of a worker. `alive` says that its lease holds by the store's clock (or its lock)."""

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


@dataclass(frozen=True, slots=True, kw_only=True)
class Ask:
    """What the store knows of a run that a worker executes: a newer token, another state, or a wish."""

    run: int
    token: int
    position: int
    state: RunState
    asked: str | None
    inbox_no: int


@dataclass(frozen=True, slots=True, kw_only=True)
class QueueRecord:
    """A queue, its limit on live leases (None: none), and what is in it."""

    name: str
    limit: int | None
    queued: int = 0
    running: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class RunFilter:
    """Which runs to list: all conditions given must hold. Newest first, `limit` at most, keys below `before`."""

    agent: str | None = None
    states: frozenset[RunState] = frozenset()
    queue: str | None = None
    id_prefix: str | None = None
    limit: int = 100
    before: int | None = None
    claimable: bool | None = None
