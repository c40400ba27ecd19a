"""Runs, their states, and why they are in them."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from msgspec import Struct

from holdfast.model.budgets import NewBudget
from holdfast.model.failures import Failure
from holdfast.model.journal import Journal, Mismatch
from holdfast.model.limits import Lane


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
    KILLED = "killed"  # queued: a person had the processes of its attempt killed
    IMPORTING = "importing"  # queued: it comes from another store, and is not whole yet
    LIMIT = "limit"  # queued: its concurrency key is at its limit; it stands in line
    SLEEP = "sleep"  # waiting: until a time
    SIGNAL = "signal"  # waiting: for a signal
    APPROVAL = "approval"  # waiting: for a person's answer to a question
    CHILD = "child"  # waiting: for a child to end
    RATE = "rate"  # waiting: for its turn under a shared rate
    BUDGET = "budget"  # waiting: what it would do next does not fit in its budget
    DISK = "disk"  # waiting: its workspace is over its limit; a person makes room
    LOOP = "loop"  # waiting: it did the same again and again; a person looks
    PAUSED = "paused"  # waiting: an operator paused it
    PARKED = "parked"  # waiting: its `holdfast run` was interrupted; `run --id` goes on
    POISON = "poison"  # waiting: it took its worker down too often
    MISMATCH = "mismatch"  # waiting: the code does not fit what is recorded
    CHECKPOINT_LOST = "checkpoint_lost"  # waiting: no good checkpoint is left
    NEEDS_CODE = "needs_code"  # waiting: no worker has its version of the agent
    EFFECT_UNKNOWN = "effect_unknown"  # waiting: nobody knows whether an effect happened; a person decides
    THROTTLED = "throttled"  # running: slowed down, the machine is under pressure or a person asked for it
    STUCK = "stuck"  # running: a sync step outlived its timeout and cannot be killed


HELD_REASONS: Final = frozenset(
    {Reason.POISON, Reason.MISMATCH, Reason.CHECKPOINT_LOST, Reason.EFFECT_UNKNOWN, Reason.DISK}
)
"""Waits that only an operator ends: by a `retry`, or by saying what became of the effect."""


INBOX_REASONS: Final = frozenset({Reason.SIGNAL, Reason.CHILD, Reason.APPROVAL})
"""Waits that a signal in the inbox ends."""
SOMEBODY_REASONS: Final = frozenset({Reason.SIGNAL, Reason.APPROVAL})
"""Waits that somebody outside ends: a person, or a program that sends the signal. A time-out may come first."""


@dataclass(frozen=True, slots=True, kw_only=True)
class NewSignal:
    """A signal to be sent with the start of a run. Sent again with the same `dedup`, it counts once."""

    name: str
    payload: bytes
    dedup: str


@dataclass(frozen=True, slots=True, kw_only=True)
class NewRun:
    """A run as it is asked for. `input` is a JSON object whose keys are the agent's parameters.

    `claimable=False` leaves the run to a claim by id (`holdfast run`, which executes it in its own process).
    `signal` is sent to it in the transaction that creates it, and to the run that is there already.
    `lane` is its concurrency key, `budget` what it may use up, if it has one. `needs` are the labels that it
    asks of the worker that executes it.
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
    tags: tuple[tuple[str, str], ...] = ()
    signal: NewSignal | None = None
    lane: Lane | None = None
    budget: NewBudget | None = None
    needs: tuple[str, ...] = ()


class Run(Struct, frozen=True, kw_only=True, gc=False):
    """One durable execution of an agent for one input, as stored.

    `key` is the store's own number of the run, `id` the user's. `token` fences: it rises at every claim and at every
    transition out of `running` that the attempt did not make. `position` counts entries, `event_no` events.
    `available_at_us` None means: nobody may claim it until something else happens. `attempts` counts claims,
    `failures` failed attempts that count against the retry policy, `crashes` attempts in a row that went down with
    their worker and recorded nothing, `crashes_alone` those of them that were the only run of their worker.
    `claimed_position` is `position` at the last claim. `asked` is what the attempt is asked to do: "pause" or None.
    `wait_name` is the signal waited for. `step` is the newest open step. `checkpoint_n` counts saved checkpoints.
    `needs` are the labels that it asks of a worker.
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
    needs: tuple[str, ...] = ()
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


@dataclass(frozen=True, slots=True, kw_only=True)
class RunFilter:
    """Which runs to list: all conditions given must hold. Newest first, `limit` at most, keys below `before`.

    `goes_on_by_us`: only those that go on by themselves: they run, or are in line or due at some time in a queue that
    is not limited to 0; those that wait for somebody (`SOMEBODY_REASONS`) by then. `served`: of one of these agents, in
    this version of it. `labels`: those that a worker with these labels may execute. Of `tags`, each must be there, with
    its value unless that is "". `text` is looked for, whatever its case, in the id, the agent, the tags, the open step,
    the progress and the error. `top`: no children of other runs.
    """

    agent: str | None = None
    states: frozenset[RunState] = frozenset()
    reasons: frozenset[Reason] = frozenset()
    queue: str | None = None
    id_prefix: str | None = None
    limit: int = 100
    before: int | None = None
    claimable: bool | None = None
    served: frozenset[tuple[str, str]] | None = None
    labels: frozenset[str] | None = None
    goes_on_by_us: int | None = None
    tags: tuple[tuple[str, str], ...] = ()
    text: str | None = None
    top: bool = False
