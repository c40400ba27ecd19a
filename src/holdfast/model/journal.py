"""What is recorded of a run: entries, ways out of a mismatch, checkpoints, signals."""

from __future__ import annotations

from enum import StrEnum
from typing import Final, NamedTuple

from msgspec import Struct

SETUP: Final = -1
"""The segment number of everything recorded above `ctx.restore`."""


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
    """What kind of call an entry answers: `group` is a map or a race as a whole, `approval` asking or its answer,
    `child` a start of a child or its outcome."""

    STEP = "step"
    TIMER = "timer"
    SIGNAL = "signal"
    ONCE = "once"
    GROUP = "group"
    APPROVAL = "approval"
    ARTIFACT = "artifact"
    CHILD = "child"


class EntryStatus(StrEnum):
    """How a recorded call ended.

    `RETRIED` is a failed try of a call that is not over: it counts tries and answers nothing.
    `INTENDED` precedes the body of a step with `effect="once"`: what became of it is unknown until an outcome follows,
    or a `RETRIED`, which says that nothing was done.
    `UNSEEN` marks that the outcome before it, of the same identity, was never delivered.
    """

    OK = "ok"
    FAILED = "failed"
    ABANDONED = "abandoned"
    RETRIED = "retried"
    INTENDED = "intended"
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
    """The ways out of a mismatch, and what a person said became of an effect."""

    ACCEPT = "accept"
    INSERT = "insert"
    DROP = "drop"
    RERUN = "rerun"
    FROM_CHECKPOINT = "from_checkpoint"
    REOPEN = "reopen"  # a retry superseded outcomes of effects: they may have happened
    DONE = "done"
    NOT_DONE = "not_done"
    GIVEN_UP = "given_up"


class Call(Struct, frozen=True, kw_only=True, gc=False):
    """A call at hand: what the code asked for. Recorded with a mismatch, so that a resolution can name it."""

    identity: Identity
    args_hash: bytes = b""


class Resolution(Struct, frozen=True, kw_only=True):
    """An operator's answer to a mismatch or to an unknown effect.

    `accept`: the entry at `position` answers `call`, in the place of the entry `before`. `insert`: `call` executes
    before the entry at `position`, which stays. `drop`: the entry at `position` is superseded. `rerun`: it is
    superseded and `call` executes in its place. `recorded` is the identity of the entry at `position` (not of
    `insert`), `before` the entry that was recorded next; `end` is that of the entry that says until when the call of a
    `rerun` lasts: it is superseded, too, and executes before it. `rules.journal.resolve` makes one.

    `reopened` are the intents whose outcomes were superseded. `done`, `not_done` and `given_up` say what became of the
    effect whose intent is at `position`; `payload` is the JSON of its value, or of the Failure.
    """

    kind: ResolutionKind
    position: int | None = None
    call: Call | None = None
    after: int = 0  # the run's position when it was given: it speaks of entries up to here
    recorded: Identity | None = None
    before: int | None = None
    end: Identity | None = None
    reopened: tuple[int, ...] = ()
    payload: bytes = b""


class Mismatch(Struct, frozen=True, kw_only=True):
    """The code and the journal disagree: `call` is what the code does, `entry` what is recorded next.

    Either may be None: the code ended (or took a checkpoint) with entries left, or nothing else was recorded.
    """

    message: str
    call: Call | None
    entry: int | None


class Checkpoint(Struct, frozen=True, kw_only=True):
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
    turns: bytes = b""


class Signal(Struct, frozen=True, kw_only=True):
    """A named message from outside to a run, kept until an entry consumes it. `n` counts up within the run."""

    n: int
    name: str
    payload: bytes
    at_us: int


class StepCursor(Struct, frozen=True, kw_only=True, gc=False):
    """Where the body of a long step is: JSON, for its next try to go on from. `position` is the run's at that time."""

    identity: Identity
    args_hash: bytes
    cursor: bytes
    position: int = 0
    at_us: int = 0


class Journal(Struct, frozen=True, kw_only=True):
    """All that an attempt needs to go on: the newest good checkpoint, the setup, the tail, and what is in the inbox.

    `entries` are the live ones (not superseded, of the setup or of `segment >= base`), in order of position, tries
    (`RETRIED`) and marks (`UNSEEN`) included. `corrupt` lists the checkpoints passed over because they are bad.
    `lost` says that checkpoints exist, none is good, and the journal no longer reaches back to the start. `cursors` are
    the places in long steps that are not over. `limited`: a budget limits units of it.
    """

    checkpoint: Checkpoint | None
    entries: tuple[Entry, ...]
    resolutions: tuple[Resolution, ...] = ()
    corrupt: tuple[int, ...] = ()
    lost: bool = False
    cursors: tuple[StepCursor, ...] = ()
    limited: tuple[str, ...] = ()

    @property
    def base_segment(self) -> int:
        """The segment in which the code continues after `restore`."""
        return self.checkpoint.segment if self.checkpoint else 0
