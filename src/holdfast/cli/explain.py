"""Why a run does not move, and the commands that lead out. Pure: a run in, words out."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from holdfast.cli import words
from holdfast.client import ApprovalView, Detail, RunView
from holdfast.model import EntryStatus, Mismatch, Reason, RunState, Unit
from holdfast.rules import budget, labels, waits
from holdfast.rules.budget import run_of_scope
from holdfast.rules.schedule import ALL_QUEUES

CHILDREN_NAMED: Final = 3
"""Of many children that a run waits for, so many are named; the page lists more."""


@dataclass(frozen=True, slots=True)
class WayOut:
    """A command, and what it does."""

    command: str
    meaning: str


@dataclass(frozen=True, slots=True)
class Explanation:
    """One sentence on why the run stands where it stands, and what can be done about it."""

    why: str
    ways: tuple[WayOut, ...] = ()


def explain(view: RunView, detail: Detail, now: datetime) -> Explanation:
    """Say why nothing moves (or that it does), and name the ways out."""
    quoted = shlex.quote(view.id)
    match view.state:
        case RunState.QUEUED:
            return _queued(view, detail, now, quoted)
        case RunState.RUNNING:
            return _running(view, detail, quoted)
        case RunState.WAITING:
            return _waiting(view, detail, now, quoted)
        case RunState.FAILED:
            return Explanation("it failed", (_retry(quoted, "try again: what failed executes again"),))
        case RunState.CANCELLED:
            return Explanation("it was cancelled", (_retry(quoted, "let it go on after all"),))
        case RunState.SUCCEEDED:
            return Explanation("it is done")


def _queued(view: RunView, detail: Detail, now: datetime, quoted: str) -> Explanation:
    due = detail.due_at
    later = due is not None and due > now
    when = words.until(due, now) if due is not None else ""
    if view.reason is Reason.BACKOFF and later:
        failures = words.number(view.failures, "failure")
        return Explanation(f"the next attempt begins {when}, after {failures}", (_retry(quoted, "try now"),))
    if view.reason is Reason.LIMIT:
        why = "it stands in line: the runs of its concurrency key are at their limit (`holdfast watch` tells its place)"
        return Explanation(why)
    if view.reason is Reason.IMPORTING:
        go_on = WayOut("holdfast import FILE", "go on with it, from the same file")
        give_up = WayOut(f"holdfast delete {quoted}", "remove what is here of it")
        return Explanation("it is being imported, and is not whole yet", (go_on, give_up))
    if later:
        return Explanation(f"it starts {when}")
    here = WayOut(
        f"holdfast run … --id {quoted}", "or go on here: what `holdfast run` began, no worker takes"
    )
    closed = detail.closed.get(view.id)
    if closed is not None:
        return Explanation(f"it is due, and no worker begins it: {_limited(closed)}", (_open(closed), here))
    if detail.needs and detail.lacking:
        wanted, missing = labels.told(detail.needs), labels.told(detail.lacking)
        why = f"it is due, and asks for a worker with {wanted}: none that serves {view.agent!r} has {missing}"
        serve = WayOut(f"holdfast worker FILE.py --labels {wanted}", "serve it on such a machine")
        return Explanation(why, (serve, here))
    if detail.pressed is not None:
        return Explanation(
            f"it is due, and its worker begins nothing while it is under pressure: {detail.pressed}", (here,)
        )
    what = (
        {
            Reason.DRAINED: "its worker was shut down; it goes on where it was",
            Reason.CRASHED: "its worker went down; it goes on where it was",
        }.get(view.reason, "it is due")
        if view.reason
        else "it is due"
    )
    wanted = f" --labels {labels.told(detail.needs)}" if detail.needs else ""
    serve = WayOut(f"holdfast worker FILE.py{wanted}  (with {view.agent} in it)", "serve it")
    return Explanation(f"{what}, and waits for a worker of {view.agent!r}", (serve, here))


def _limited(queue: str) -> str:
    return (
        "all queues together are limited to 0"
        if queue == ALL_QUEUES
        else f"the queue {queue!r} is limited to 0"
    )


def _open(queue: str) -> WayOut:
    return WayOut(
        f"holdfast queue {shlex.quote(queue)} --unlimited", "let its runs begin, or as many as --limit N"
    )


def _running(view: RunView, detail: Detail, quoted: str) -> Explanation:
    if detail.asked == "pause":
        return Explanation("a pause is asked: it ends at its next checkpoint or step", (_resume(quoted),))
    if view.worker is None and detail.unserved:
        why = f"its worker is gone, and no other has version {view.version!r} of agent {view.agent!r}"
        return Explanation(why, _serve(view))
    if view.worker is None:
        return Explanation("its worker is gone: the next one that looks takes it over")
    if view.throttled:
        way = WayOut(f"holdfast throttle {quoted} --off", "let it go")
        return Explanation("it is held back, because a person asked for it", (way,))
    if view.reason is Reason.THROTTLED:
        return Explanation("it is slowed down, because the machine is under pressure (`holdfast doctor`)")
    if view.reason is Reason.LOOP:
        return Explanation("it goes round in circles: it waits for you as soon as nothing else of it moves")
    if view.reason is Reason.STUCK:
        why = "a sync step outlived its timeout and cannot be stopped in this process; its worker will replace itself"
        return Explanation(why)
    return Explanation(f"worker {view.worker.name} executes it (pid {view.worker.pid} on {view.worker.host})")


def _waiting(view: RunView, detail: Detail, now: datetime, quoted: str) -> Explanation:
    match view.reason:
        case Reason.SLEEP:
            return Explanation(
                f"it sleeps and wakes {words.until(detail.due_at, now) if detail.due_at else 'later'}"
            )
        case Reason.RATE:
            when = words.until(detail.due_at, now) if detail.due_at else "later"
            return Explanation(f"it waits for its turn under a shared rate, and wakes {when}")
        case Reason.SIGNAL:
            return _waits_for_signal(detail, now, quoted)
        case Reason.APPROVAL:
            return _waits_for_answer(detail, now, quoted)
        case Reason.CHILD:
            return _waits_for_child(view, detail)
        case Reason.BUDGET:
            return _over_budget(view, detail, now, quoted)
        case Reason.LOOP:
            return _looping(detail, quoted)
        case Reason.PAUSED:
            return Explanation("an operator paused it", (_resume(quoted),))
        case Reason.PARKED:
            go_on = WayOut(
                f"holdfast run … --id {quoted}", "go on here, with the arguments it was started with"
            )
            hand_over = WayOut(f"holdfast resume {quoted}", "or hand it to the workers")
            return Explanation("its `holdfast run` was interrupted; everything is kept", (go_on, hand_over))
        case Reason.MISMATCH:
            return Explanation(
                "the code does not fit what is recorded", _ways_out_of(detail.mismatch, quoted)
            )
        case Reason.POISON:
            return Explanation("it took its worker down too often", (_retry(quoted, "try once more"),))
        case Reason.EFFECT_UNKNOWN:
            return _effect_unknown(detail, quoted)
        case Reason.DISK:
            why = (
                "its workspace holds more than its Limits(disk=…): remove files there, or give its agent more"
            )
            return Explanation(why, (_retry(quoted, "go on, when there is room"),))
        case Reason.CHECKPOINT_LOST:
            why = "no stored checkpoint is good, and the journal does not reach back to the start"
            return Explanation(why, (_retry(quoted, "look again, after the store was restored"),))
        case Reason.NEEDS_CODE:
            return Explanation(
                f"no worker has version {view.version!r} of agent {view.agent!r}", _serve(view)
            )
        case _:
            return Explanation(f"it waits ({view.reason})" if view.reason else "it waits")


def _serve(view: RunView) -> tuple[WayOut, WayOut]:
    """Its code, or newer code that says so."""
    return (
        WayOut("holdfast worker FILE.py", f"with version {view.version} of {view.agent} in it"),
        WayOut(
            "holdfast worker FILE.py",
            f"with a newer {view.agent} that continues it: @agent(version=…, continues=[{view.version!r}])",
        ),
    )


def _over_budget(view: RunView, detail: Detail, now: datetime, quoted: str) -> Explanation:
    """Which budget the next step does not fit in, and the command that raises it."""
    if detail.due_at is not None and detail.due_at <= now:
        return Explanation("its budget has room again: any worker goes on with it")
    told = detail.stopped_by or {}
    unit, scope = str(told.get("unit", "usd")), str(told.get("scope", f"run:{view.id}"))
    amounts = {name: told.get(name) for name in ("asked", "hard", "used", "reserved")}
    asked, hard, used, reserved = (value if isinstance(value, int) else 0 for value in amounts.values())
    raised = f"holdfast budget raise {shlex.quote(run_of_scope(scope) or scope)}"
    if unit not in list(Unit) or not told:
        return Explanation(
            "what it would do next does not fit in its budget", (WayOut(f"{raised} --usd 5", ""),)
        )
    kind = Unit(unit)
    why = f"step {told.get('step')!r} may use {budget.told(kind, asked)}"
    if asked > hard:
        why += f", and the whole budget of {scope} is {budget.told(kind, hard)}: raise it, or let the step ask for less"
    else:
        why += f"; of the {budget.told(kind, hard)} of {scope} {budget.told(kind, used)} are used"
    if reserved and asked <= hard:
        why += f" and {budget.told(kind, reserved)} reserved"
    if detail.due_at is not None:
        when = words.until(detail.due_at, now)
        why += (
            f"; it goes on when they make room, or looks again {when}"
            if reserved
            else f"; it looks again {when}"
        )
    lacking = max(1, asked + used + reserved - hard)
    option = f"--{unit.replace('_', '-')} {budget.enough(kind, lacking)}"
    return Explanation(
        why,
        (
            WayOut(f"{raised} {option}", "raise it by what is lacking at least, and go on"),
            WayOut(f"holdfast cancel {quoted}", "give it up"),
        ),
    )


def _looping(detail: Detail, quoted: str) -> Explanation:
    told = detail.stopped_by or {}
    message = str(told.get("message", "it did the same again and again"))
    arguments = words.one_line(str(told.get("arguments", "")), 120)
    return Explanation(
        f"{message} The arguments: {arguments}" if arguments else message,
        (_resume(quoted), WayOut(f"holdfast cancel {quoted}", "give it up")),
    )


def _effect_unknown(detail: Detail, quoted: str) -> Explanation:
    """The effect that the run is held for, and how many more are in doubt."""
    entries = detail.failure.entries if detail.failure else ()
    held = next((one for one in detail.effects if one.n in entries), None)
    number = held.n if held else "ENTRY"
    name = f"{held.name!r} (entry {held.n})" if held else "a step"
    why = f"nobody knows whether {name} happened: find out, then say so"
    if held is not None and held.outcome is not None:
        why += f"; before it was superseded, entry {held.outcome} recorded {words.one_line(str(held.result), 60)}"
    more = sum(one.state == "unknown" for one in detail.effects) - 1
    if more > 0:
        why += f" ({more} more effect{'s' if more > 1 else ''} in doubt)"
    approve = f"holdfast approve {quoted} {number}"
    return Explanation(
        why,
        (
            WayOut(f"{approve} --done JSON", "it happened, and this is its result"),
            WayOut(f"{approve} --rerun", "it did not happen: the step runs again"),
            WayOut(f"{approve} --fail", "neither: the step fails"),
            _retry(quoted, "ask `verify` again, if the step has one"),
        ),
    )


def _waits_for_signal(detail: Detail, now: datetime, quoted: str) -> Explanation:
    names = _theirs(detail)
    signal = "the signal " + " or ".join(repr(name) for name in names)
    if detail.due_at is not None and detail.due_at <= now:
        return Explanation(f"{signal} is there, or its time is up: any worker goes on with it")
    until = f", or until a time-out {words.until(detail.due_at, now)}" if detail.due_at else ""
    return Explanation(f"it waits for {signal}{until}", _send(names, quoted))


def _theirs(detail: Detail) -> list[str]:
    """The signals waited for that a person can send."""
    return [name for name in waits.names(detail.wait_name) if not name.startswith(waits.OURS)]


def _send(names: list[str], quoted: str) -> tuple[WayOut, ...]:
    return tuple(
        WayOut(f"holdfast signal {quoted} {shlex.quote(name)} --data JSON", "send it") for name in names
    )


def _waits_for_answer(detail: Detail, now: datetime, quoted: str) -> Explanation:
    if detail.due_at is not None and detail.due_at <= now:
        return Explanation("it has an answer, or its time is up: any worker goes on with it")
    ways = (*answers(detail.questions), *_send(_theirs(detail), quoted))
    if len(detail.questions) == 1:
        return Explanation(f"it asks: {detail.questions[0].question}", ways)
    return Explanation(f"it asks {words.number(len(detail.questions), 'question')}", ways)


def answers(questions: Sequence[ApprovalView]) -> tuple[WayOut, ...]:
    """The commands that answer these questions."""
    return tuple(
        WayOut(
            f"holdfast approve {shlex.quote(one.run)} {shlex.quote(option)} --question {one.n}",
            "answer so" if len(questions) == 1 else f"answer {words.one_line(one.question, 60)!r} so",
        )
        for one in questions
        for option in one.options
    )


def _waits_for_child(view: RunView, detail: Detail) -> Explanation:
    awaited = [waits.child_of(name) or name for name in waits.names(detail.wait_name)]
    known = {child.id: child for child in view.children}
    told: list[str] = []
    for name in awaited[:CHILDREN_NAMED]:
        child = known.get(name)
        reason = f", {child.reason}" if child is not None and child.reason is not None else ""
        told.append(f"{name} ({child.state}{reason})" if child is not None else name)
    more = len(awaited) - len(told)
    children = " or ".join(told) + (f" or {more} others" if more else "")
    ways = tuple(
        WayOut(f"holdfast show {shlex.quote(name)}", "what it does, or waits for")
        for name in awaited[:CHILDREN_NAMED]
    )
    closed = sorted({detail.closed[name] for name in awaited if name in detail.closed})
    why = "".join(f"; {_limited(queue)}, so that no worker begins it" for queue in closed)
    return Explanation(f"it waits for its child {children}{why}", (*map(_open, closed), *ways))


def _ways_out_of(mismatch: Mismatch | None, quoted: str) -> tuple[WayOut, ...]:
    """The commands that end a mismatch: those that fit which of the two sides exist."""
    retry = f"holdfast retry {quoted}"
    ways = [WayOut(retry, "the code is repaired: look again")]
    if mismatch is not None and mismatch.entry is not None:
        number = mismatch.entry
        if mismatch.call is not None:
            ways += [
                WayOut(
                    f"{retry} --accept {number}",
                    "the recorded outcome answers the call at hand (renamed, changed)",
                ),
                WayOut(f"{retry} --insert", "the call at hand is new: execute it, the recorded ones follow"),
                WayOut(
                    f"{retry} --rerun {number}", "forget the recorded outcome and execute the call at hand"
                ),
            ]
        ways.append(
            WayOut(f"{retry} --drop {number}", "the recorded step was removed from the code: leave it out")
        )
    ways.append(WayOut(f"{retry} --from-checkpoint", "forget everything since the newest good checkpoint"))
    return (*ways, WayOut(f"holdfast cancel {quoted}", "give it up"))


def sides(detail: Detail) -> tuple[str, str] | None:
    """Both sides of a mismatch: what the code does, and what is recorded."""
    mismatch = detail.mismatch
    if mismatch is None:
        return None
    code = (
        str(mismatch.call.identity) if mismatch.call else "nothing more: the code ends, or takes a checkpoint"
    )
    entry = detail.mismatch_entry
    if mismatch.entry is None:
        return code, "nothing of this kind"
    if entry is None:
        return code, f"entry {mismatch.entry}"
    ended = "abandoned" if entry.status is EntryStatus.UNSEEN else entry.status
    return code, f"entry {entry.position}: {entry.kind} {entry.identity}, {ended}"


def _retry(quoted: str, meaning: str) -> WayOut:
    return WayOut(f"holdfast retry {quoted}", meaning)


def _resume(quoted: str) -> WayOut:
    return WayOut(f"holdfast resume {quoted}", "let it go on")
