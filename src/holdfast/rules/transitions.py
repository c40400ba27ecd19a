"""The states of a run and every move between them, as one table. `docs/states.md` is drawn from it.

Laws of this file:
1. A run moves only along TABLE; what is not in it raises InvalidTransition, which names the way out. A reason can
   refuse a move that its state allows (a held run is not resumed, it is retried); it never allows one more.
2. Final states are left by an operator's retry only; `succeeded` never.
3. The token never falls. It rises at every claim and at every move out of `running` that the attempt did not make.
4. `worker` is set while the run is `running`, and never otherwise.
5. Crashes are counted here, in the claim. Only attempts that recorded nothing count; a recorded entry clears them,
   and so does a long step that recorded another place: `position` then is not `claimed_position`.
6. A pause that was asked is never lost: the attempt that ends for another reason leaves the run paused. Nor is the
   park of a loop in a branch (`running`, for the reason `loop`): whatever cuts the attempt off, the run waits.
7. Every change of state or reason writes one note, `run.<state>`; a decision that changes neither writes none.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Final, assert_never

import msgspec.json
from msgspec.structs import replace

from holdfast.errors import InvalidTransition, UsageError
from holdfast.model import (
    HELD_REASONS,
    INBOX_REASONS,
    Crashed,
    Decision,
    Failed,
    Failure,
    FailureKind,
    Hold,
    NewRun,
    Note,
    Outcome,
    Park,
    Reason,
    Release,
    Resolution,
    Retry,
    Run,
    RunState,
    Succeeded,
)
from holdfast.rules import waits
from holdfast.rules.schedule import check_priority
from holdfast.rules.states import CANCELLED, FAILED, QUEUED, RUNNING, SUCCEEDED, TABLE, WAITING

MAX_CRASHES_ALONE: Final = 3
"""Three times down as the only run of its worker, recording nothing: it is the run, not its neighbours."""

MAX_CRASHES: Final = 10
"""Beside others the blame is shared, so more is needed; without a bound a guilty run would go round for ever."""

CRASH_DELAY_US: Final = 1_000_000
"""After a crash of its process the run rests so long, and twice as long after each more: it may be the machine."""

_WAITS: Final = INBOX_REASONS | {Reason.SLEEP, Reason.RATE, Reason.BUDGET}
_PARKS: Final = _WAITS | {Reason.LOOP, Reason.PAUSED, Reason.PARKED}
_RESUMABLE: Final = frozenset({Reason.PAUSED, Reason.PARKED, Reason.BUDGET, Reason.LOOP})
_RETRIABLE_WAITS: Final = HELD_REASONS | {Reason.NEEDS_CODE}


@dataclass(frozen=True, slots=True)
class Takeover:
    """Facts about a dead worker: was the run the only one it held, and does its end count as a crash? `wished`: a
    person wanted the attempt killed."""

    alone: bool
    counted: bool
    wished: bool = False


# --- beginning ----------------------------------------------------------------------------------------------


def create(new: NewRun, key: int, now_us: int) -> Decision:
    """The run as it begins: `queued`, due after its delay. Raises UsageError for a bad priority or delay."""
    check_priority(new.priority)
    if new.delay_us < 0:
        raise UsageError(f"run {new.id}: the delay is {new.delay_us} µs: it cannot be negative")
    if new.deadline_us is not None and new.deadline_us <= 0:
        raise UsageError(f"run {new.id}: the deadline is {new.deadline_us} µs: it must be positive, or None")
    run = Run(
        key=key,
        id=new.id,
        agent=new.agent,
        version=new.version,
        queue=new.queue,
        priority=new.priority,
        needs=new.needs,
        state=QUEUED,
        reason=None,
        created_at_us=now_us,
        available_at_us=now_us + new.delay_us,
        deadline_at_us=None if new.deadline_us is None else now_us + new.deadline_us,
    )
    note = _note(run, agent=run.agent, version=run.version, queue=run.queue, priority=run.priority)
    return Decision(run=run, notes=(note,))


def claim(
    run: Run, worker: int, now_us: int, *, takeover: Takeover | None, version: str | None = None
) -> Decision:
    """Hand the run to `worker` under a new token. `takeover` is given when the run is `running` on a dead worker,
    `version` when it is continued by that one, since no worker has its own any more.

    The answer is not always `running`: a run that took its worker down too often becomes `waiting: poison`, one whose
    pause was asked `waiting: paused`, and one in a loop `waiting: loop`.
    """
    if takeover is None:
        _check(run, "claimed")
        _check_due(run, now_us, "claimed")
        return _hand_out(_forgiven(run), worker, now_us, version, {})
    _check(run, "taken_over")
    run = _count(run, takeover)
    if run.crashes_alone >= MAX_CRASHES_ALONE or run.crashes >= MAX_CRASHES:
        return _poison(run, _worker_lost(run))
    if run.asked == "pause" or run.reason is Reason.LOOP:
        return _stop(replace(run, token=run.token + 1))
    after = Reason.KILLED if takeover.wished else Reason.CRASHED if takeover.counted else Reason.DRAINED
    return _hand_out(run, worker, now_us, version, {"taken_over": after})


def _hand_out(run: Run, worker: int, now_us: int, version: str | None, why: dict[str, object]) -> Decision:
    if version is not None:
        why |= {"version": version, "continues": run.version}
    claimed = replace(
        run,
        version=version or run.version,
        state=RUNNING,
        reason=None,
        token=run.token + 1,
        attempts=run.attempts + 1,
        worker=worker,
        claimed_position=run.position,
        started_at_us=now_us if run.started_at_us is None else run.started_at_us,
        step=None,
        asked=None,
        wait_name=None,
    )
    note = _note(claimed, attempt=claimed.attempts, worker=worker, available_at_us=None, **why)
    return Decision(run=claimed, notes=(note,))


def _forgiven(run: Run) -> Run:
    """An entry recorded since the last claim proves that the run gets on: no crash before it counts any more."""
    if run.position == run.claimed_position:
        return run
    return replace(run, crashes=0, crashes_alone=0, suspect=False)


def _count(run: Run, takeover: Takeover) -> Run:
    if run.position != run.claimed_position:
        return _forgiven(run)
    if takeover.wished or not takeover.counted:
        return run
    alone = run.crashes_alone + (1 if takeover.alone else 0)
    return replace(run, crashes=run.crashes + 1, crashes_alone=alone, suspect=True)


def _worker_lost(run: Run) -> Failure:
    return Failure(
        kind=FailureKind.LOST,
        type="WorkerLost",
        message=(
            f"the run went down with its worker {run.crashes} times in a row and recorded nothing in between"
            f" ({run.crashes_alone} times it was the worker's only run). It is held and blocks nobody."
            f" Look at its last step, then: holdfast retry {run.id}"
        ),
    )


def _process_lost(run: Run, last: Failure) -> Failure:
    message = (
        f"the process of the run died {run.crashes} times in a row and recorded nothing in between, the last time: "
        f"{last.message}. It is held and blocks nobody. Look at its last step, then: holdfast retry {run.id}"
    )
    return dataclasses.replace(last, message=message)


def _poison(run: Run, failure: Failure) -> Decision:
    poisoned = _out_of_running(run, WAITING, Reason.POISON)
    poisoned = replace(poisoned, token=run.token + 1, failure=failure)
    return _moved(run, poisoned, "poisoned", attempt=run.attempts, error=failure.told())


def line_up(run: Run, now_us: int, key: str, ahead: int) -> Decision:
    """Put the due run in the line of its concurrency key, behind `ahead` others: due no more until it is called."""
    _check(run, "lined_up")
    _check_due(run, now_us, "lined_up")
    return _moved(run, _out_of_running(run, QUEUED, Reason.LIMIT), "lined_up", concurrency=key, ahead=ahead)


def call_up(run: Run, due_at_us: int, now_us: int) -> Decision:
    """Call the run out of the line: due as it was when it joined it."""
    _check(run, "called_up")
    if run.reason is not Reason.LIMIT:
        raise _refused(run, "called_up", _way_out(run))
    called = replace(_out_of_running(run, QUEUED, None), available_at_us=min(due_at_us, now_us))
    return _moved(run, called, "called_up")


# --- how an attempt ends by itself --------------------------------------------------------------------------


def settle(run: Run, outcome: Outcome, now_us: int) -> Decision:
    """End the attempt as it asks for. `run.position` counts the entries of the same Change already.

    Leaves the token: the attempt itself made this move.
    """
    run = _forgiven(run)
    match outcome:
        case Succeeded(result=result):
            done = replace(_out_of_running(run, SUCCEEDED, None), result=result, failure=None, mismatch=None)
            return _moved(run, replace(done, finished_at_us=now_us), "succeeded", attempt=run.attempts)
        case Failed(failure=failure):
            return _fail(run, failure, now_us, "failed")
        case Retry():
            return _retry_later(run, outcome, now_us)
        case Park():
            return _park(run, outcome, now_us)
        case Release(reason=reason):
            if run.asked == "pause" or run.reason is Reason.LOOP:
                return _stop(run)
            released = replace(_out_of_running(run, QUEUED, reason), available_at_us=now_us)
            return _moved(run, released, "released", attempt=run.attempts)
        case Hold(reason=reason, failure=failure, mismatch=mismatch):
            if reason not in HELD_REASONS:
                raise _refused(
                    run, "held", f"{reason} is no reason to hold a run; use one of {_names(HELD_REASONS)}"
                )
            held = replace(_out_of_running(run, WAITING, reason), failure=failure, mismatch=mismatch)
            return _moved(run, held, "held", attempt=run.attempts, error=failure.told())
        case Crashed(failure=failure):
            return _crash(run, failure, now_us)
        case _:
            assert_never(outcome)


def _fail(run: Run, failure: Failure, now_us: int, event: str) -> Decision:
    failed = replace(_out_of_running(run, FAILED, None), failure=failure, finished_at_us=now_us)
    return _moved(run, failed, event, attempt=run.attempts, error=failure.told())


def _crash(run: Run, failure: Failure, now_us: int) -> Decision:
    """The process of the run died, and the worker lives: it is known whose fault it was, so nobody is suspected."""
    run = replace(_count(run, Takeover(alone=True, counted=True)), failure=failure, suspect=False)
    if run.crashes_alone >= MAX_CRASHES_ALONE or run.crashes >= MAX_CRASHES:
        return _poison(run, _process_lost(run, failure))
    if run.asked == "pause" or run.reason is Reason.LOOP:
        return _stop(run)
    rest_us = CRASH_DELAY_US << max(0, run.crashes - 1)
    crashed = replace(_out_of_running(run, QUEUED, Reason.CRASHED), available_at_us=now_us + rest_us)
    return _moved(
        run,
        crashed,
        "crashed",
        attempt=run.attempts,
        available_at_us=crashed.available_at_us,
        error=failure.told(),
    )


def _retry_later(run: Run, retry: Retry, now_us: int) -> Decision:
    run = replace(run, failure=retry.failure, failures=run.failures + (1 if retry.counted else 0))
    if run.asked == "pause":
        return replace(_pause(run), supersede=retry.supersede)
    later = replace(_out_of_running(run, QUEUED, Reason.BACKOFF), available_at_us=now_us + retry.delay_us)
    decision = _moved(
        run,
        later,
        "retried_later",
        attempt=run.attempts,
        failures=run.failures,
        available_at_us=later.available_at_us,
        error=retry.failure.told(),
    )
    return replace(decision, supersede=retry.supersede)


def _park(run: Run, park: Park, now_us: int) -> Decision:
    if park.reason not in _PARKS:
        raise _refused(run, "parked", f"{park.reason} is no reason to park; use one of {_names(_PARKS)}")
    if park.reason in (Reason.SLEEP, Reason.RATE) and park.until_us is None:
        raise _refused(
            run, "parked", f"a {park.reason} needs a wake time, or nothing would ever wake the run"
        )
    if park.reason in INBOX_REASONS and park.wait_name is None:
        raise _refused(run, "parked", "a wait needs the name of its signal")
    if run.asked == "pause" or park.reason is Reason.PAUSED:
        return _pause(run)
    wakes_at_us = None if park.reason is Reason.PARKED else park.until_us
    if park.reason in INBOX_REASONS and run.inbox_no > park.inbox_seen:
        wakes_at_us = (
            now_us  # a signal that the attempt has not seen: it may be the one, so look again at once
        )
    wait_name = park.wait_name if park.reason in INBOX_REASONS else None
    parked = _out_of_running(run, WAITING, park.reason)
    parked = replace(parked, available_at_us=wakes_at_us, wait_name=wait_name)
    return _moved(run, parked, "parked", attempt=run.attempts, available_at_us=wakes_at_us, signal=wait_name)


# --- what operators ask for ---------------------------------------------------------------------------------


def cancel(run: Run, now_us: int, *, parent: str | None = None) -> Decision:
    """End the run as cancelled. Idempotent. From then on nothing of it is recorded. `parent`: the one whose end it is
    that cancels it."""
    _check(run, "cancelled")
    if run.state is CANCELLED:
        return Decision(run=run)
    cancelled = replace(_fenced(run, CANCELLED), finished_at_us=now_us)
    return _moved(run, cancelled, "cancelled", attempt=run.attempts, parent=parent)


def pause(run: Run, now_us: int) -> Decision:
    """Pause the run: at once, or, when it is running, at its next safe point (it is asked). Idempotent."""
    if run.state is RUNNING:
        _check(run, "pause_asked")
        return Decision(run=replace(run, asked="pause"))
    _check(run, "paused")
    if run.reason is Reason.PAUSED:
        return Decision(run=run)
    if run.reason in HELD_REASONS:
        raise _refused(run, "paused", _way_out(run))
    return _pause(run)


def resume(run: Run, now_us: int) -> Decision:
    """Let a paused or parked run go on, or take back a pause that was only asked."""
    _check(run, "resumed")
    if run.state is RUNNING:
        if run.asked != "pause":
            raise _refused(run, "resumed", _way_out(run))
        return Decision(run=replace(run, asked=None))
    if run.reason not in _RESUMABLE:
        raise _refused(run, "resumed", _way_out(run))
    return replace(_back_to_queue(run, now_us, "resumed"), claimable=True)


def retry(
    run: Run, now_us: int, *, supersede: tuple[int, ...] = (), resolution: Resolution | None = None
) -> Decision:
    """Queue the run again, every counter at zero. A deadline that passed starts anew, with its whole length."""
    _check(run, "retried")
    if run.state is QUEUED and run.reason is not Reason.BACKOFF:
        raise _refused(run, "retried", _way_out(run))
    if run.state is WAITING and run.reason not in _RETRIABLE_WAITS:
        raise _refused(run, "retried", _way_out(run))
    deadline_at_us = run.deadline_at_us
    if deadline_at_us is not None and deadline_at_us <= now_us:
        deadline_at_us = now_us + (deadline_at_us - run.created_at_us)
    cleared = replace(
        run,
        failures=0,
        crashes=0,
        crashes_alone=0,
        suspect=False,
        failure=None,
        mismatch=None,
        finished_at_us=None,
        deadline_at_us=deadline_at_us,
    )
    decision = _back_to_queue(cleared, now_us, "retried", by="operator")
    return replace(decision, supersede=supersede, resolution=resolution, claimable=True)


def settle_effect(run: Run, now_us: int, *, resolution: Resolution) -> Decision:
    """A person says what became of an effect. The run goes on when it is held for this one."""
    _check(run, "settled")
    if run.reason is not Reason.EFFECT_UNKNOWN:
        raise _refused(run, "settled", _way_out(run))
    told = {"effect": resolution.position, "verdict": resolution.kind}
    note = Note("effect.settled", msgspec.json.encode(told))
    if run.failure is not None and resolution.position not in run.failure.entries:
        return Decision(run=run, notes=(note,), resolution=resolution)
    cleared = replace(run, failure=None)
    decision = _back_to_queue(cleared, now_us, "settled", by="operator")
    return replace(decision, notes=(note, *decision.notes), resolution=resolution, claimable=True)


def signal(run: Run, name: str, n: int, now_us: int) -> Decision:
    """Signal `n`, of this name, is in the inbox. A run that waits for the name is claimable at once."""
    _check(run, "signalled")
    run = replace(run, inbox_no=max(run.inbox_no, n))
    if waits.waits_for(run.wait_name, name):
        run = replace(run, available_at_us=now_us)
    return Decision(run=run)


def fund(run: Run, now_us: int) -> Decision:
    """A budget that the run waits for was raised: it is claimable at once. Another wait of it is looked at again."""
    _check(run, "funded")
    return Decision(run=replace(run, available_at_us=now_us) if run.reason in _WAITS else run)


# --- what the Controller finds ------------------------------------------------------------------------------


def expire(run: Run, now_us: int) -> Decision:
    """Fail the run: its deadline passed."""
    _check(run, "expired")
    if run.deadline_at_us is None or run.deadline_at_us > now_us:
        raise _refused(run, "expired", "its deadline has not passed")
    allowed_s = (run.deadline_at_us - run.created_at_us) / 1_000_000
    failure = Failure(
        kind=FailureKind.TIMED_OUT,
        type="DeadlinePassed",
        message=(
            f"the run was not done {allowed_s:g} s after its start, its deadline."
            f" To give it as long again: holdfast retry {run.id}"
        ),
    )
    ended = replace(_fenced(run, FAILED), failure=failure, finished_at_us=now_us)
    return _moved(run, ended, "expired", attempt=run.attempts, error=failure.told())


def needs_code(run: Run, now_us: int) -> Decision:
    """No live worker serves the version of this due run: it waits for one."""
    _check(run, "needs_code")
    _check_due(run, now_us, "needs_code")
    waiting = _out_of_running(run, WAITING, Reason.NEEDS_CODE)
    return _moved(run, waiting, "needs_code", agent=run.agent, version=run.version)


def code_found(run: Run, now_us: int) -> Decision:
    """A worker serves the version again: back to the queue."""
    _check(run, "code_found")
    if run.reason is not Reason.NEEDS_CODE:
        raise _refused(run, "code_found", _way_out(run))
    return _back_to_queue(run, now_us, "code_found")


# --- shapes that several moves share ------------------------------------------------------------------------


def _out_of_running(run: Run, state: RunState, reason: Reason | None) -> Run:
    return replace(
        run,
        state=state,
        reason=reason,
        worker=None,
        step=None,
        asked=None,
        wait_name=None,
        available_at_us=None,
    )


def _fenced(run: Run, state: RunState) -> Run:
    """A final state that the attempt did not choose: whatever still runs can record nothing."""
    token = run.token + 1 if run.state is RUNNING else run.token
    return replace(_out_of_running(run, state, None), token=token)


def _pause(run: Run) -> Decision:
    return _moved(run, _out_of_running(run, WAITING, Reason.PAUSED), "paused", attempt=run.attempts)


def _stop(run: Run) -> Decision:
    """The attempt of a run that was to pause is over, or of one in a loop, which was about to park."""
    if run.asked == "pause":
        return _pause(run)
    return _moved(run, _out_of_running(run, WAITING, Reason.LOOP), "parked", attempt=run.attempts)


def _back_to_queue(run: Run, now_us: int, event: str, **why: object) -> Decision:
    queued = replace(_out_of_running(run, QUEUED, None), available_at_us=now_us)
    return _moved(run, queued, event, **why)


def _moved(before: Run, after: Run, event: str, **why: object) -> Decision:
    _check(before, event, to=after.state)
    return Decision(run=after, notes=(_note(after, **why),))


def _note(run: Run, **why: object) -> Note:
    payload: dict[str, object] = {"reason": run.reason, "available_at_us": run.available_at_us, **why}
    told = {name: value for name, value in payload.items() if name == "reason" or value is not None}
    return Note(f"run.{run.state}", msgspec.json.encode(told))


# --- refusals -----------------------------------------------------------------------------------------------


def _check(run: Run, event: str, to: RunState | None = None) -> None:
    targets = TABLE.get((run.state, event))
    if targets is None or run.reason is Reason.IMPORTING:
        raise _refused(run, event, _way_out(run))
    assert to is None or to in targets, f"{run.state} → {to} by {event} is not in the table"


def check_whole(run: Run) -> None:
    """Raise InvalidTransition for a run that is being imported: it is not here yet."""
    if run.reason is Reason.IMPORTING:
        raise _refused(run, "changed", _way_out(run))


def _check_due(run: Run, now_us: int, event: str) -> None:
    if run.available_at_us is None:
        raise _refused(run, event, _way_out(run))
    if run.available_at_us > now_us:
        raise _refused(run, event, f"it is due in {(run.available_at_us - now_us) / 1_000_000:g} s")


def _refused(run: Run, event: str, way_out: str) -> InvalidTransition:
    reason = f" ({run.reason})" if run.reason is not None else ""
    return InvalidTransition(
        f"run {run.id} is {run.state}{reason}, so it cannot be {_SPOKEN.get(event, event)}: {way_out}"
    )


_SPOKEN: Final = {
    "pause_asked": "paused",
    "retried_later": "settled (retry)",
    "succeeded": "settled (succeeded)",
    "failed": "settled (failed)",
    "parked": "settled (parked)",
    "released": "settled (released)",
    "held": "settled (held)",
    "taken_over": "taken over",
    "lined_up": "put in line",
    "called_up": "called out of the line",
    "needs_code": "marked as needs_code",
    "code_found": "queued for found code",
    "settled": "told what became of an effect",
}


def _way_out(run: Run) -> str:
    match run.state:
        case RunState.QUEUED if run.reason is Reason.LIMIT:
            return "it starts by itself when a run of its concurrency key ends"
        case RunState.QUEUED if run.reason is Reason.IMPORTING:
            return f"it is being imported: `holdfast import FILE` goes on with it, holdfast delete {run.id} gives it up"
        case RunState.QUEUED:
            return "it starts by itself when it is due and a worker serves its agent"
        case RunState.RUNNING:
            return f"wait for it, or: holdfast pause {run.id} · holdfast cancel {run.id}"
        case RunState.WAITING:
            return _way_out_of_wait(run)
        case RunState.SUCCEEDED:
            return "it is done, and its result stays; start another run under another id"
        case RunState.FAILED | RunState.CANCELLED:
            return f"it has ended; to run it again: holdfast retry {run.id}"
        case _:
            assert_never(run.state)


def _way_out_of_wait(run: Run) -> str:
    match run.reason:
        case Reason.PAUSED | Reason.PARKED | Reason.LOOP:
            return f"to go on: holdfast resume {run.id}"
        case Reason.BUDGET:
            return f"it does not fit in its budget: holdfast show {run.id} says which, holdfast budget raise raises it"
        case Reason.SIGNAL:
            return "it waits for a signal: " + " or ".join(
                f"holdfast signal {run.id} {name}" for name in waits.names(run.wait_name)
            )
        case Reason.APPROVAL:
            return f"it waits for an answer: holdfast approve {run.id}"
        case Reason.CHILD:
            children = [waits.child_of(name) or name for name in waits.names(run.wait_name)]
            return "it waits for its child: " + " or ".join(f"holdfast show {child}" for child in children)
        case Reason.SLEEP | Reason.RATE:
            return f"it wakes by itself; to end it: holdfast cancel {run.id}"
        case Reason.NEEDS_CODE:
            return (
                f"start a worker that has version {run.version} of {run.agent}, or: holdfast retry {run.id}"
            )
        case Reason.EFFECT_UNKNOWN:
            entry = run.failure.entries[0] if run.failure and run.failure.entries else "ENTRY"
            return f"say what happened: holdfast approve {run.id} {entry} --done JSON | --rerun | --fail"
        case _:
            return f"it is held for you: holdfast retry {run.id}"


def _names(reasons: frozenset[Reason]) -> str:
    return ", ".join(sorted(reasons))
