"""What becomes durable, whole or not at all: the Changes of attempts, the decisions of rules."""

from __future__ import annotations

from msgspec import Struct

from holdfast.model.events import Note, Progress
from holdfast.model.failures import Failure
from holdfast.model.journal import Entry, Mismatch, Resolution
from holdfast.model.runs import Reason, Run, RunState


class NewCheckpoint(Struct, frozen=True, kw_only=True):
    """A state to save. `segment` is the one it opens; `keep` is how many unnamed ones stay."""

    segment: int
    name: str | None
    state: bytes
    keep: int
    now_us: int = 0  # what `ctx.now()` says at this line, so that it says the same after a resume
    turns: bytes = b""  # what is known of loops at this line, for the same reason


class Succeeded(Struct, frozen=True, kw_only=True):
    """The agent returned. `result` is JSON."""

    result: bytes


class Failed(Struct, frozen=True, kw_only=True):
    """The run ends as failed."""

    failure: Failure


class Retry(Struct, frozen=True, kw_only=True):
    """The attempt failed and another one follows after `delay_us`. `counted=False`: no failure is counted."""

    failure: Failure
    delay_us: int
    counted: bool = True
    supersede: tuple[int, ...] = ()


class Park(Struct, frozen=True, kw_only=True):
    """The run waits and is unloaded.

    For `sleep`, `until_us` is the wake time. For `signal`, `child` and `approval`, `wait_name` is the signal and
    `inbox_seen` the highest inbox number that the attempt knows: when a newer signal is there, the run is claimable at
    once, so that no wake is lost; `until_us` then is the time-out, if any. `paused` and `parked` wait for a person.
    `unfunded`: some of it waits for a budget, so a run whose budget was raised meanwhile is claimable at once.
    """

    reason: Reason
    until_us: int | None = None
    wait_name: str | None = None
    inbox_seen: int = 0
    unfunded: bool = False


class Release(Struct, frozen=True, kw_only=True):
    """The attempt ends by no fault of the run (drain, replaced worker): claimable again at once, nothing counted."""

    reason: Reason = Reason.DRAINED


class Hold(Struct, frozen=True, kw_only=True):
    """The run is held for an operator."""

    reason: Reason
    failure: Failure
    mismatch: Mismatch | None = None


class Crashed(Struct, frozen=True, kw_only=True):
    """The process of the run died, and nothing else with it. Another attempt follows, unless it went on like that."""

    failure: Failure


Outcome = Succeeded | Failed | Retry | Park | Release | Hold | Crashed
"""How an attempt ends by itself."""


class Beside(Struct, frozen=True):
    """Something that becomes durable in the transaction of a Change, whole with it or not at all: the base class."""


class Change(Struct, frozen=True, kw_only=True, gc=False):
    """What an attempt wants to become durable, whole or not at all.

    Fenced: it applies only while the run is `running` under `token`, and, when it has entries, a checkpoint or an
    outcome, only at `position` (the number of entries that the attempt knows to be recorded before these).
    Notes alone compare token and state, not the position. `entries` get the positions that follow. `step` names the
    newest open step and replaces the run's; `reason` replaces that of a running run (None clears it). `beside` is what
    comes into being with the entries.
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
    beside: tuple[Beside, ...] = ()


class Committed(Struct, frozen=True, gc=False):
    """A Change is durable. `position` and `event_no` are the run's counters after it, `at_us` the store's time."""

    position: int
    event_no: int
    at_us: int


class RefusedChange(Struct, frozen=True, kw_only=True):
    """A Change was fenced out and changed nothing: the run's true `state` and `token` say why.

    `conflict`: it was not fenced out. What was to come into being beside its entry cannot, and the attempt goes on.
    """

    state: RunState | None
    token: int
    message: str
    conflict: bool = False


class Decision(Struct, frozen=True, kw_only=True, gc=False):
    """What a rule decided about a run, to become durable in one transaction: the run as it shall be, its events,
    the positions of entries that answer nothing any more, the consumed signals that return to the inbox.

    `claimable`: from now on any worker may claim the run, though it was left to a claim by id.
    """

    run: Run
    notes: tuple[Note, ...] = ()
    supersede: tuple[int, ...] = ()
    resolution: Resolution | None = None
    claimable: bool = False
