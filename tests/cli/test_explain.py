"""Every state and reason has a sentence that says why nothing moves, and the commands that lead out."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from msgspec.structs import replace

from holdfast.cli.explain import explain, sides
from holdfast.client import ApprovalView, ChildView, Detail, EffectView, RunView, WorkerView
from holdfast.model import (
    ApprovalStatus,
    Call,
    Entry,
    EntryKind,
    EntryStatus,
    Failure,
    FailureKind,
    Identity,
    Mismatch,
    ParentPolicy,
    Reason,
    RunState,
)
from holdfast.rules.effects import EffectState
from holdfast.rules.waits import any_of, of_child

NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
NOTHING = Detail(failure=None, mismatch=None, mismatch_entry=None, wait_name=None, due_at=None, asked=None)
VIEW = RunView(
    id="r 1", agent="a", version="2", state=RunState.QUEUED, reason=None, queue="default", priority=0, attempts=1,
    failures=1, steps=0, step=None, progress=None, checkpoint=None, resources=None, worker=None, result=None,
    error=None, created_at=NOW, started_at=None, finished_at=None, tags={},
)  # fmt: skip
CALL = Call(identity=Identity(0, "", "new", None, 0))
ENTRY = Entry(Identity(-1, "", "old", "k", 0), EntryKind.STEP, EntryStatus.OK, b"1", position=3)


def told(
    state: RunState, reason: Reason | None = None, *, view: RunView = VIEW, detail: Detail = NOTHING
) -> str:
    explanation = explain(replace(view, state=state, reason=reason), detail, NOW)
    return "\n".join([explanation.why, *(f"{way.command} # {way.meaning}" for way in explanation.ways)])


ASKED = ApprovalView(
    run="r 1", agent="a", n=4, question="Sure?", options=("yes", "not yet"), context=None,
    status=ApprovalStatus.OPEN, overdue=False, escalate_to=None, hash="00", asked_at=NOW, escalate_at=None,
    expires_at=None, choice=None, by=None, comment="", answered_at=None,
)  # fmt: skip
ASKS = replace(NOTHING, wait_name="holdfast:approval/4", questions=(ASKED,))
ASKS_TWO = replace(NOTHING, wait_name="go\nholdfast:approval/4", questions=(ASKED, replace(ASKED, n=5)))
LATER = replace(NOTHING, due_at=NOW + timedelta(minutes=5))
CHILD = ChildView(
    id="c", agent="b", version="0", state=RunState.WAITING, reason=Reason.NEEDS_CODE,
    on_parent_end=ParentPolicy.CANCEL,
)  # fmt: skip
FAMILY = replace(VIEW, children=(CHILD,))
CLOSED = replace(NOTHING, closed={"r 1": "slow"})
UNSERVED = replace(NOTHING, unserved=True)
PRESSED = replace(NOTHING, pressed="no memory")
ALL_CLOSED = replace(NOTHING, closed={"r 1": "*"})
AWAITING_CLOSED = replace(NOTHING, wait_name=of_child("c"), closed={"c": "slow"})
AWAITING = replace(NOTHING, wait_name=any_of(of_child(child) for child in "cdef"))
EXECUTED = replace(VIEW, worker=WorkerView(name="w", host="h", pid=7))


@pytest.mark.parametrize(
    ("state", "reason", "view", "detail", "says"),
    [
        (RunState.QUEUED, None, VIEW, NOTHING, "waits for a worker of 'a'"),
        (RunState.QUEUED, None, VIEW, LATER, "starts in 5m 00s"),
        (RunState.QUEUED, Reason.BACKOFF, VIEW, LATER, "next attempt begins in 5m 00s, after 1 failure\n"),
        (RunState.QUEUED, Reason.DRAINED, VIEW, NOTHING, "was shut down"),
        (
            RunState.QUEUED,
            None,
            VIEW,
            PRESSED,
            "begins nothing while it is under pressure: no memory\nholdfast run",
        ),
        (RunState.QUEUED, None, VIEW, CLOSED, "'slow' is limited to 0\nholdfast queue slow --unlimited #"),
        (
            RunState.QUEUED,
            None,
            VIEW,
            ALL_CLOSED,
            "together are limited to 0\nholdfast queue '*' --unlimited #",
        ),
        (
            RunState.WAITING,
            Reason.CHILD,
            FAMILY,
            AWAITING_CLOSED,
            "'slow' is limited to 0, so that no worker",
        ),
        (RunState.QUEUED, Reason.CRASHED, VIEW, NOTHING, "went down"),
        (RunState.RUNNING, None, EXECUTED, NOTHING, "worker w executes it (pid 7 on h)"),
        (RunState.RUNNING, None, VIEW, NOTHING, "its worker is gone: the next one"),
        (
            RunState.RUNNING,
            None,
            VIEW,
            UNSERVED,
            "is gone, and no other has version '2' of agent 'a'\nholdfast worker F",
        ),
        (RunState.RUNNING, None, EXECUTED, UNSERVED, "worker w executes it (pid 7 on h)"),
        (RunState.RUNNING, None, EXECUTED, replace(NOTHING, asked="pause"), "holdfast resume 'r 1'"),
        (RunState.RUNNING, Reason.THROTTLED, EXECUTED, NOTHING, "under pressure"),
        (RunState.RUNNING, Reason.STUCK, EXECUTED, NOTHING, "outlived its timeout"),
        (RunState.WAITING, Reason.SLEEP, VIEW, LATER, "wakes in 5m 00s"),
        (
            RunState.WAITING,
            Reason.SIGNAL,
            VIEW,
            replace(NOTHING, wait_name="go"),
            "holdfast signal 'r 1' go --data",
        ),
        (RunState.WAITING, Reason.SIGNAL, VIEW, replace(LATER, wait_name="go"), "time-out in 5m"),
        (RunState.WAITING, Reason.SIGNAL, VIEW, replace(NOTHING, due_at=NOW), "any worker goes on"),
        (
            RunState.WAITING,
            Reason.APPROVAL,
            VIEW,
            ASKS,
            "it asks: Sure?\nholdfast approve 'r 1' yes --question 4",
        ),
        (RunState.WAITING, Reason.APPROVAL, VIEW, ASKS, "holdfast approve 'r 1' 'not yet' --question 4"),
        (RunState.WAITING, Reason.APPROVAL, VIEW, ASKS_TWO, "it asks 2 questions\n"),
        (RunState.WAITING, Reason.APPROVAL, VIEW, ASKS_TWO, "holdfast signal 'r 1' go --data"),
        (RunState.WAITING, Reason.APPROVAL, VIEW, replace(ASKS, due_at=NOW), "any worker goes on"),
        (
            RunState.WAITING,
            Reason.CHILD,
            FAMILY,
            AWAITING,
            "its child c (waiting, needs_code) or d or e or 1 others\n",
        ),
        (RunState.WAITING, Reason.CHILD, VIEW, AWAITING, "holdfast show c #"),
        (RunState.WAITING, Reason.PAUSED, VIEW, NOTHING, "holdfast resume 'r 1'"),
        (RunState.WAITING, Reason.PARKED, VIEW, NOTHING, "holdfast run … --id 'r 1'"),
        (RunState.WAITING, Reason.POISON, VIEW, NOTHING, "holdfast retry 'r 1'"),
        (RunState.WAITING, Reason.CHECKPOINT_LOST, VIEW, NOTHING, "no stored checkpoint is good"),
        (RunState.WAITING, Reason.NEEDS_CODE, VIEW, NOTHING, "no worker has version '2' of agent 'a'"),
        (RunState.WAITING, None, VIEW, NOTHING, "it waits"),
        (RunState.SUCCEEDED, None, VIEW, NOTHING, "it is done"),
        (RunState.FAILED, None, VIEW, NOTHING, "holdfast retry 'r 1'"),
        (RunState.CANCELLED, None, VIEW, NOTHING, "holdfast retry 'r 1'"),
    ],
)
def test_it_says_why_and_how_to_go_on(
    state: RunState, reason: Reason | None, view: RunView, detail: Detail, says: str
) -> None:
    assert says in told(state, reason, view=view, detail=detail)


def test_no_reason_is_without_a_sentence() -> None:
    for reason in Reason:
        for state in (RunState.QUEUED, RunState.RUNNING, RunState.WAITING):
            assert told(state, reason, view=EXECUTED)


@pytest.mark.parametrize(
    ("call", "entry", "offered"),
    [
        (CALL, 3, ["", "--accept 3", "--insert", "--rerun 3", "--drop 3", "--from-checkpoint"]),
        (None, 3, ["", "--drop 3", "--from-checkpoint"]),
        (CALL, None, ["", "--from-checkpoint"]),
    ],
)
def test_a_mismatch_offers_the_ways_out_that_fit_its_two_sides(
    call: Call | None, entry: int | None, offered: list[str]
) -> None:
    detail = replace(NOTHING, mismatch=Mismatch(message="", call=call, entry=entry))
    explanation = explain(replace(VIEW, state=RunState.WAITING, reason=Reason.MISMATCH), detail, NOW)
    commands = [way.command for way in explanation.ways]
    assert commands == [*(f"holdfast retry 'r 1' {way}".strip() for way in offered), "holdfast cancel 'r 1'"]


def test_an_effect_in_doubt_is_named_with_what_is_known_of_it() -> None:
    one = EffectView(n=4, name="pay", key=None, scope="", state=EffectState.UNKNOWN, outcome=5, result="paid")
    failure = Failure(kind=FailureKind.UNKNOWN, type="EffectUnknown", message="?", entries=(4,))
    detail = replace(NOTHING, failure=failure, effects=(one, replace(one, n=7)))
    says = told(RunState.WAITING, Reason.EFFECT_UNKNOWN, detail=detail)
    assert "'pay' (entry 4)" in says and "entry 5 recorded paid" in says and "1 more effect in doubt" in says
    assert "holdfast approve 'r 1' 4 --done JSON" in says
    three = replace(detail, effects=(one, replace(one, n=7), replace(one, n=8)))
    assert "2 more effects in doubt" in told(RunState.WAITING, Reason.EFFECT_UNKNOWN, detail=three)


def test_both_sides_of_a_mismatch_are_named() -> None:
    detail = replace(NOTHING, mismatch=Mismatch(message="", call=CALL, entry=3), mismatch_entry=ENTRY)
    both = sides(detail)
    assert both is not None
    assert "'new'" in both[0] and "segment 0" in both[0]
    assert "entry 3" in both[1] and "'old'" in both[1] and "key 'k'" in both[1]
    ended = sides(replace(detail, mismatch=Mismatch(message="", call=None, entry=3)))
    assert ended is not None and "the code ends" in ended[0]
    assert sides(NOTHING) is None
