"""The state machine: every state against every event, then each promise by example."""

from __future__ import annotations

from collections.abc import Callable

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import structs
from msgspec.structs import replace

from holdfast.errors import InvalidTransition, UsageError
from holdfast.model import (
    FINAL_STATES,
    HELD_REASONS,
    INBOX_REASONS,
    Crashed,
    Decision,
    Failed,
    Failure,
    FailureKind,
    Hold,
    Mismatch,
    NewRun,
    Park,
    Reason,
    Release,
    Resolution,
    ResolutionKind,
    Retry,
    Run,
    RunState,
    Succeeded,
)
from holdfast.rules import transitions
from holdfast.rules.states import EVENTS, TABLE
from holdfast.rules.transitions import MAX_CRASHES, MAX_CRASHES_ALONE, Takeover
from holdfast.rules.waits import of_child
from tests.rules.runs import LOST, NOW_US, a_run, running, waiting

QUEUED, RUNNING, WAITING = RunState.QUEUED, RunState.RUNNING, RunState.WAITING
CRASH_ALONE = Takeover(alone=True, counted=True)
CRASH_BESIDE = Takeover(alone=False, counted=True)
DRAIN = Takeover(alone=True, counted=False)
WISHED = Takeover(alone=True, counted=True, wished=True)
HOLD = Hold(reason=Reason.MISMATCH, failure=LOST)
SLEEP = Park(reason=Reason.SLEEP, until_us=NOW_US + 5)


def poisoning(run: Run) -> Decision:
    return transitions.claim(structs.replace(run, crashes=9), 12, NOW_US, takeover=CRASH_BESIDE)


def pausing(run: Run) -> Decision:
    """A running run is paused when its attempt ends after it was asked."""
    if run.state is RUNNING:
        return transitions.settle(structs.replace(run, asked="pause"), SLEEP, NOW_US)
    return transitions.pause(run, NOW_US)


def resuming(run: Run) -> Decision:
    return transitions.resume(structs.replace(run, asked="pause") if run.state is RUNNING else run, NOW_US)


SETTLED = Resolution(kind=ResolutionKind.DONE, position=4, payload=b"1", after=5)

ACTIONS: dict[str, Callable[[Run], Decision]] = {
    "claimed": lambda run: transitions.claim(run, 12, NOW_US, takeover=None),
    "taken_over": lambda run: transitions.claim(run, 12, NOW_US, takeover=CRASH_ALONE),
    "crashed": lambda run: transitions.settle(run, Crashed(failure=LOST), NOW_US),
    "poisoned": poisoning,
    "succeeded": lambda run: transitions.settle(run, Succeeded(result=b"1"), NOW_US),
    "failed": lambda run: transitions.settle(run, Failed(failure=LOST), NOW_US),
    "retried_later": lambda run: transitions.settle(run, Retry(failure=LOST, delay_us=5), NOW_US),
    "parked": lambda run: transitions.settle(run, SLEEP, NOW_US),
    "released": lambda run: transitions.settle(run, Release(), NOW_US),
    "held": lambda run: transitions.settle(run, HOLD, NOW_US),
    "paused": pausing,
    "pause_asked": lambda run: transitions.pause(run, NOW_US),
    "resumed": resuming,
    "signalled": lambda run: transitions.signal(run, "go", 4, NOW_US),
    "funded": lambda run: transitions.fund(run, NOW_US),
    "cancelled": lambda run: transitions.cancel(run, NOW_US),
    "expired": lambda run: transitions.expire(structs.replace(run, deadline_at_us=NOW_US), NOW_US),
    "retried": lambda run: transitions.retry(run, NOW_US),
    "settled": lambda run: transitions.settle_effect(run, NOW_US, resolution=SETTLED),
    "lined_up": lambda run: transitions.line_up(run, NOW_US, "customer-7", 2),
    "called_up": lambda run: transitions.call_up(run, NOW_US - 9, NOW_US),
    "needs_code": lambda run: transitions.needs_code(run, NOW_US),
    "code_found": lambda run: transitions.code_found(run, NOW_US),
}

# For each event, a reason under which a queued or waiting run can make the move.
FITTING: dict[tuple[RunState, str], Reason] = {
    (QUEUED, "retried"): Reason.BACKOFF,
    (QUEUED, "called_up"): Reason.LIMIT,
    (WAITING, "lined_up"): Reason.SIGNAL,
    (WAITING, "claimed"): Reason.SLEEP,
    (WAITING, "needs_code"): Reason.SLEEP,
    (WAITING, "resumed"): Reason.PAUSED,
    (WAITING, "retried"): Reason.POISON,
    (WAITING, "code_found"): Reason.NEEDS_CODE,
    (WAITING, "settled"): Reason.EFFECT_UNKNOWN,
}


def told(decision: Decision) -> dict[str, object]:
    (note,) = decision.notes
    assert note.type == f"run.{decision.run.state}"
    return msgspec.json.decode(note.payload, type=dict[str, object])


# --- the table ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("event", sorted(EVENTS))
@pytest.mark.parametrize("state", list(RunState))
def test_every_state_answers_every_event_as_the_table_says(state: RunState, event: str):
    due = NOW_US - 1 if state in (QUEUED, WAITING) else None
    reason = FITTING.get((state, event), Reason.SLEEP if state is WAITING else None)
    run = a_run(state, reason, available_at_us=due)
    asks_instead = event == "pause_asked" and (state, "paused") in TABLE and state is not RUNNING
    if (state, event) in TABLE:
        decision = ACTIONS[event](run)
        assert decision.run.state in TABLE[state, event]
        assert (decision.notes == ()) == (decision.run.state is state and (state, event) not in NOTED)
    elif asks_instead:
        assert ACTIONS[event](run).run.reason is Reason.PAUSED
    else:
        with pytest.raises(InvalidTransition, match=r"run r-1 is .*: \w+"):
            ACTIONS[event](run)


# The state stays and the feed says so all the same: another attempt, another reason, another time.
NOTED = {
    (RUNNING, "taken_over"),
    (WAITING, "paused"),
    (WAITING, "needs_code"),
    (QUEUED, "retried"),
    (QUEUED, "lined_up"),
    (QUEUED, "called_up"),
}


def test_no_move_leads_out_of_succeeded_and_only_a_retry_out_of_the_other_final_states():
    leaving = {(s, event) for (s, event), to in TABLE.items() if s in FINAL_STATES and to != {s}}
    assert leaving == {(RunState.FAILED, "retried"), (RunState.CANCELLED, "retried")}


# --- create -------------------------------------------------------------------------------------------------


def test_a_new_run_is_queued_and_due_after_its_delay():
    new = NewRun(
        id="a", agent="x", version="1", input=b"{}", queue="q", priority=-2, delay_us=30, deadline_us=100
    )
    decision = transitions.create(new, 5, 1_000)
    run = decision.run
    assert (run.key, run.id, run.state, run.available_at_us, run.deadline_at_us) == (
        5,
        "a",
        QUEUED,
        1_030,
        1_100,
    )
    assert told(decision) == {
        "reason": None,
        "available_at_us": 1_030,
        "agent": "x",
        "version": "1",
        "queue": "q",
        "priority": -2,
    }


def test_a_new_run_without_a_deadline_has_none():
    assert (
        transitions.create(NewRun(id="a", agent="x", version="1", input=b"{}"), 1, 0).run.deadline_at_us
        is None
    )


@pytest.mark.parametrize(
    "wrong",
    [{"priority": 1_001}, {"delay_us": -1}, {"deadline_us": 0}],
    ids=["priority", "delay", "deadline"],
)
def test_a_new_run_with_impossible_figures_is_refused(wrong: dict[str, int]):
    with pytest.raises(UsageError, match=next(iter(wrong)).removesuffix("_us")):
        transitions.create(NewRun(id="a", agent="x", version="1", input=b"{}", **wrong), 1, 0)  # type: ignore[arg-type]


# --- claim --------------------------------------------------------------------------------------------------


def test_a_claim_gives_the_run_a_new_token_and_a_worker():
    before = a_run(reason=Reason.BACKOFF, step="old", wait_name="x", position=8)
    decision = transitions.claim(before, 12, NOW_US, takeover=None)
    run = decision.run
    assert (run.state, run.reason, run.worker, run.token, run.attempts) == (RUNNING, None, 12, 4, 3)
    assert (run.claimed_position, run.started_at_us, run.step, run.asked, run.wait_name) == (
        8,
        NOW_US,
        None,
        None,
        None,
    )
    assert told(decision) == {"reason": None, "attempt": 3, "worker": 12}


def test_a_claim_by_a_newer_version_says_which_one_it_continues():
    run = a_run()
    decision = transitions.claim(run, 12, NOW_US, takeover=None, version="9")
    assert (decision.run.version, told(decision)["version"]) == ("9", "9")
    assert told(decision)["continues"] == run.version != "9"
    kept = transitions.claim(run, 12, NOW_US, takeover=None)
    assert kept.run.version == run.version
    assert "continues" not in told(kept)


def test_the_start_of_a_run_is_its_first_claim():
    assert transitions.claim(a_run(started_at_us=5), 12, NOW_US, takeover=None).run.started_at_us == 5


@pytest.mark.parametrize("reason", [Reason.SLEEP, *sorted(INBOX_REASONS)])
def test_a_wait_that_is_over_is_claimed_directly(reason: Reason):
    run = waiting(reason, available_at_us=NOW_US, wait_name="go")
    assert transitions.claim(run, 12, NOW_US, takeover=None).run.state is RUNNING


def test_nothing_is_claimed_before_it_is_due():
    with pytest.raises(InvalidTransition, match=r"due in 0\.5 s"):
        transitions.claim(a_run(available_at_us=NOW_US + 500_000), 12, NOW_US, takeover=None)


@pytest.mark.parametrize("reason", sorted(HELD_REASONS | {Reason.PAUSED, Reason.PARKED, Reason.NEEDS_CODE}))
def test_a_run_that_waits_for_someone_is_not_claimed(reason: Reason):
    with pytest.raises(InvalidTransition, match="r-1"):
        transitions.claim(waiting(reason), 12, NOW_US, takeover=None)


# --- crashes ------------------------------------------------------------------------------------------------


def test_a_crash_that_recorded_nothing_is_counted_and_makes_the_run_suspect():
    decision = transitions.claim(running(), 12, NOW_US, takeover=CRASH_ALONE)
    run = decision.run
    assert (run.token, run.crashes, run.crashes_alone, run.suspect) == (4, 1, 1, True)
    assert told(decision)["taken_over"] == "crashed"


def test_a_crash_beside_others_is_not_counted_as_alone():
    run = transitions.claim(running(crashes=1, crashes_alone=1), 12, NOW_US, takeover=CRASH_BESIDE).run
    assert (run.crashes, run.crashes_alone, run.suspect) == (2, 1, True)


def test_a_crash_after_a_recorded_entry_clears_the_counters():
    before = running(position=6, claimed_position=5, crashes=2, crashes_alone=2, suspect=True)
    run = transitions.claim(before, 12, NOW_US, takeover=CRASH_ALONE).run
    assert (run.state, run.crashes, run.crashes_alone, run.suspect) == (RUNNING, 0, 0, False)


def test_a_drain_or_a_reboot_counts_nothing():
    before = running(crashes=1, crashes_alone=1, suspect=True)
    decision = transitions.claim(before, 12, NOW_US, takeover=DRAIN)
    run = decision.run
    assert (run.crashes, run.crashes_alone, run.suspect) == (1, 1, True)
    assert told(decision)["taken_over"] == "drained"


def test_a_kill_that_was_wished_counts_nothing_when_the_worker_dies_over_it():
    decision = transitions.claim(running(crashes=2, crashes_alone=2), 12, NOW_US, takeover=WISHED)
    run = decision.run
    assert (run.state, run.crashes, run.crashes_alone, run.suspect) == (RUNNING, 2, 2, False)
    assert told(decision)["taken_over"] == "killed"


@pytest.mark.parametrize(
    "end",
    [
        lambda run: transitions.claim(run, 12, NOW_US, takeover=CRASH_BESIDE),
        lambda run: transitions.claim(run, 12, NOW_US, takeover=WISHED),
        lambda run: transitions.settle(run, Release(reason=Reason.KILLED), NOW_US),
        lambda run: transitions.settle(run, Crashed(failure=LOST), NOW_US),
    ],
)
def test_a_run_that_goes_round_in_a_branch_waits_for_a_person_however_its_attempt_ends(end):
    run = end(running(reason=Reason.LOOP, worker=5)).run
    assert (run.state, run.reason, run.worker, run.available_at_us) == (WAITING, Reason.LOOP, None, None)
    asked = end(running(reason=Reason.LOOP, worker=5, asked="pause")).run
    assert asked.reason is Reason.PAUSED


def test_a_run_that_recorded_nothing_keeps_its_crashes_through_a_release_and_a_claim():
    before = running(crashes=2, crashes_alone=2, suspect=True)
    released = transitions.settle(before, Release(), NOW_US).run
    claimed = transitions.claim(released, 13, NOW_US, takeover=None).run
    assert (claimed.crashes, claimed.crashes_alone, claimed.suspect) == (2, 2, True)


def test_an_entry_recorded_before_the_settlement_clears_the_crashes():
    before = running(position=6, claimed_position=5, crashes=2, crashes_alone=2, suspect=True)
    run = transitions.settle(before, SLEEP, NOW_US).run
    assert (run.crashes, run.crashes_alone, run.suspect) == (0, 0, False)


@pytest.mark.parametrize(
    "before",
    [
        running(crashes=2, crashes_alone=MAX_CRASHES_ALONE - 1),
        running(crashes=MAX_CRASHES - 1),
        running(crashes=MAX_CRASHES - 1, asked="pause"),
    ],
    ids=["alone", "in all", "a pause was asked"],
)
def test_a_run_that_goes_on_taking_its_worker_down_is_held_as_poison(before: Run):
    decision = transitions.claim(before, 12, NOW_US, takeover=CRASH_ALONE)
    run = decision.run
    assert (run.state, run.reason, run.worker, run.available_at_us) == (WAITING, Reason.POISON, None, None)
    assert (run.token, run.attempts) == (4, 2)
    assert run.failure is not None
    assert run.failure.kind is FailureKind.LOST
    assert "holdfast retry r-1" in run.failure.message
    assert told(decision)["error"] == {
        "type": "WorkerLost",
        "message": run.failure.message,
        "class": "lost",
        "cause": None,
    }


def test_a_pause_that_was_asked_survives_the_death_of_the_worker():
    run = transitions.claim(running(asked="pause"), 12, NOW_US, takeover=CRASH_ALONE).run
    assert (run.state, run.reason, run.token, run.worker) == (WAITING, Reason.PAUSED, 4, None)
    assert (run.crashes, run.suspect) == (1, True)


# --- settle -------------------------------------------------------------------------------------------------

OUTCOMES = [
    Succeeded(result=b"{}"),
    Failed(failure=LOST),
    Retry(failure=LOST, delay_us=9),
    SLEEP,
    Park(reason=Reason.SIGNAL, wait_name="go"),
    Park(reason=Reason.CHILD, wait_name=of_child("c")),
    Park(reason=Reason.PARKED),
    Park(reason=Reason.PAUSED),
    Release(),
    HOLD,
]


@pytest.mark.parametrize("asked", [None, "pause"])
@pytest.mark.parametrize("outcome", OUTCOMES, ids=repr)
def test_a_settled_run_has_no_worker_no_step_no_wish_and_the_same_token(outcome: object, asked: str | None):
    run = transitions.settle(running(asked=asked, step="fetch"), outcome, NOW_US).run  # type: ignore[arg-type]
    assert (run.worker, run.step, run.asked, run.token) == (None, None, None, 3)
    assert (run.finished_at_us == NOW_US) == run.state.final
    assert run.finished_at_us is None or run.available_at_us is None


def test_success_keeps_the_result_and_clears_the_failure_before():
    before = running(failure=LOST, mismatch=Mismatch(message="m", call=None, entry=None))
    run = transitions.settle(before, Succeeded(result=b'"done"'), NOW_US).run
    assert (run.state, run.result, run.failure, run.mismatch) == (RunState.SUCCEEDED, b'"done"', None, None)


def test_failure_keeps_the_failure():
    decision = transitions.settle(running(), Failed(failure=LOST), NOW_US)
    assert (decision.run.state, decision.run.failure) == (RunState.FAILED, LOST)
    assert told(decision) == {
        "reason": None,
        "attempt": 2,
        "error": {"type": "ConnectionError", "message": "gone", "class": "transient", "cause": None},
    }


def test_a_retry_waits_in_the_queue_and_counts_a_failure():
    decision = transitions.settle(running(), Retry(failure=LOST, delay_us=9, supersede=(2, 4)), NOW_US)
    run = decision.run
    assert (run.state, run.reason, run.available_at_us, run.failures) == (
        QUEUED,
        Reason.BACKOFF,
        NOW_US + 9,
        1,
    )
    assert (run.failure, decision.supersede) == (LOST, (2, 4))
    assert told(decision)["available_at_us"] == NOW_US + 9


def test_a_retry_of_a_step_counts_no_failure_of_the_run():
    run = transitions.settle(running(failures=2), Retry(failure=LOST, delay_us=9, counted=False), NOW_US).run
    assert run.failures == 2


def test_a_sleep_wakes_at_its_time_also_one_in_the_past():
    run = transitions.settle(running(), Park(reason=Reason.SLEEP, until_us=3), NOW_US).run
    assert (run.state, run.reason, run.available_at_us) == (WAITING, Reason.SLEEP, 3)


@pytest.mark.parametrize(
    ("seen", "until", "due"), [(4, None, None), (4, 99, 99), (3, None, NOW_US), (3, 99, NOW_US)]
)
@pytest.mark.parametrize("reason", sorted(INBOX_REASONS))
def test_no_signal_is_lost_between_looking_and_parking(
    reason: Reason, seen: int, until: int | None, due: int | None
):
    park = Park(reason=reason, wait_name="go", inbox_seen=seen, until_us=until)
    run = transitions.settle(running(inbox_no=4), park, NOW_US).run
    assert (run.reason, run.wait_name, run.available_at_us) == (reason, "go", due)


@pytest.mark.parametrize("reason", [Reason.PAUSED, Reason.PARKED])
def test_a_run_parked_for_a_person_wakes_by_no_clock(reason: Reason):
    run = transitions.settle(running(), Park(reason=reason, until_us=NOW_US, wait_name="x"), NOW_US).run
    assert (run.state, run.reason, run.available_at_us, run.wait_name) == (WAITING, reason, None, None)


@pytest.mark.parametrize("outcome", [SLEEP, Release(), Retry(failure=LOST, delay_us=9)], ids=repr)
def test_a_pause_that_was_asked_is_kept_when_the_attempt_ends_for_another_reason(outcome: object):
    run = transitions.settle(running(asked="pause"), outcome, NOW_US).run  # type: ignore[arg-type]
    assert (run.state, run.reason, run.available_at_us) == (WAITING, Reason.PAUSED, None)


def test_a_failed_attempt_whose_run_is_paused_still_counts_and_supersedes():
    decision = transitions.settle(
        running(asked="pause"), Retry(failure=LOST, delay_us=9, supersede=(2,)), NOW_US
    )
    assert (decision.run.failures, decision.run.failure, decision.supersede) == (1, LOST, (2,))


def test_a_release_is_claimable_at_once_and_counts_nothing():
    run = transitions.settle(running(), Release(reason=Reason.STUCK), NOW_US).run
    assert (run.state, run.reason, run.available_at_us, run.failures, run.crashes) == (
        QUEUED,
        Reason.STUCK,
        NOW_US,
        0,
        0,
    )


def test_a_held_run_keeps_what_disagrees():
    mismatch = Mismatch(message="m", call=None, entry=3)
    decision = transitions.settle(running(), replace(HOLD, mismatch=mismatch), NOW_US)
    run = decision.run
    assert (run.state, run.reason, run.failure, run.mismatch) == (WAITING, Reason.MISMATCH, LOST, mismatch)
    assert run.available_at_us is None


@pytest.mark.parametrize(
    ("outcome", "says"),
    [
        (Park(reason=Reason.POISON), "no reason to park"),
        (Park(reason=Reason.SLEEP), "wake time"),
        (Park(reason=Reason.SIGNAL), "name of its signal"),
        (Park(reason=Reason.CHILD), "name of its signal"),
        (Hold(reason=Reason.SLEEP, failure=LOST), "no reason to hold"),
    ],
)
def test_an_outcome_that_would_strand_the_run_is_refused(outcome: object, says: str):
    with pytest.raises(InvalidTransition, match=says):
        transitions.settle(running(), outcome, NOW_US)  # type: ignore[arg-type]


# --- cancel, expire -----------------------------------------------------------------------------------------


def test_cancel_fences_a_running_attempt_out():
    decision = transitions.cancel(running(asked="pause", step="fetch"), NOW_US)
    run = decision.run
    assert (run.state, run.token, run.worker, run.asked, run.step) == (
        RunState.CANCELLED,
        4,
        None,
        None,
        None,
    )
    assert run.finished_at_us == NOW_US
    assert told(decision) == {"reason": None, "attempt": 2}


def test_cancelling_again_changes_nothing():
    run = a_run(RunState.CANCELLED)
    assert transitions.cancel(run, NOW_US) == Decision(run=run)


def test_a_run_past_its_deadline_fails_as_timed_out_and_its_attempt_is_fenced_out():
    run = transitions.expire(running(deadline_at_us=NOW_US), NOW_US).run
    assert (run.state, run.token, run.worker) == (RunState.FAILED, 4, None)
    assert run.failure is not None
    assert run.failure.kind is FailureKind.TIMED_OUT
    assert "60 s" in run.failure.message


@pytest.mark.parametrize("deadline", [None, NOW_US + 1])
def test_a_run_within_its_deadline_does_not_expire(deadline: int | None):
    with pytest.raises(InvalidTransition, match="has not passed"):
        transitions.expire(running(deadline_at_us=deadline), NOW_US)


# --- pause, resume ------------------------------------------------------------------------------------------


def test_a_running_run_is_asked_to_pause_and_goes_on_until_its_next_safe_point():
    decision = transitions.pause(running(), NOW_US)
    assert (decision.run.state, decision.run.asked, decision.run.token) == (RUNNING, "pause", 3)
    assert decision.notes == ()


@pytest.mark.parametrize(
    "run", [a_run(), waiting(Reason.SLEEP, available_at_us=5), waiting(Reason.NEEDS_CODE)]
)
def test_what_does_not_run_is_paused_at_once(run: Run):
    paused = transitions.pause(run, NOW_US).run
    assert (paused.state, paused.reason, paused.available_at_us) == (WAITING, Reason.PAUSED, None)


def test_pausing_a_paused_run_changes_nothing():
    run = waiting(Reason.PAUSED)
    assert transitions.pause(run, NOW_US) == Decision(run=run)


@pytest.mark.parametrize("reason", sorted(HELD_REASONS))
def test_a_held_run_is_neither_paused_nor_resumed_but_retried(reason: Reason):
    for act in (transitions.pause, transitions.resume):
        way_out = "holdfast approve r-1" if reason is Reason.EFFECT_UNKNOWN else "holdfast retry r-1"
        with pytest.raises(InvalidTransition, match=way_out):
            act(waiting(reason), NOW_US)


@pytest.mark.parametrize("reason", [Reason.BUDGET, Reason.LOOP, Reason.SLEEP, Reason.CHILD])
def test_a_raise_wakes_what_may_wait_for_a_budget_and_nothing_else(reason: Reason):
    woken = transitions.fund(waiting(reason), NOW_US)
    due = None if reason is Reason.LOOP else NOW_US
    assert (woken.run.available_at_us, woken.run.reason, woken.notes) == (due, reason, ())
    paused = waiting(Reason.PAUSED)
    assert transitions.fund(paused, NOW_US) == Decision(run=paused)


def test_what_a_run_over_its_budget_or_in_a_loop_cannot_do_names_the_way_out():
    for reason, way_out in ((Reason.BUDGET, "holdfast budget raise"), (Reason.LOOP, "holdfast resume r-1")):
        with pytest.raises(InvalidTransition, match=way_out):
            transitions.retry(waiting(reason), NOW_US)


@pytest.mark.parametrize("reason", [Reason.PAUSED, Reason.PARKED, Reason.BUDGET, Reason.LOOP])
def test_resume_makes_a_paused_or_parked_run_claimable_now(reason: Reason):
    run = transitions.resume(waiting(reason), NOW_US).run
    assert (run.state, run.reason, run.available_at_us) == (QUEUED, None, NOW_US)


def test_resume_takes_an_asked_pause_back():
    decision = transitions.resume(running(asked="pause"), NOW_US)
    assert (decision.run, decision.notes) == (running(), ())


@pytest.mark.parametrize(
    ("run", "says"),
    [
        (running(), "holdfast pause r-1"),
        (waiting(Reason.SIGNAL, wait_name="go"), "holdfast signal r-1 go"),
        (waiting(Reason.CHILD, wait_name=of_child("c")), "its child: holdfast show c"),
        (waiting(Reason.SLEEP), "wakes by itself"),
        (waiting(Reason.NEEDS_CODE), "version 0 of refactor"),
        (a_run(), "starts by itself"),
        (a_run(RunState.SUCCEEDED), "another id"),
        (a_run(RunState.FAILED), "holdfast retry r-1"),
    ],
)
def test_what_is_not_paused_is_not_resumed_and_the_error_names_the_way_on(run: Run, says: str):
    with pytest.raises(InvalidTransition, match=says):
        transitions.resume(run, NOW_US)


# --- retry --------------------------------------------------------------------------------------------------

RETRIABLE = [
    a_run(RunState.FAILED),
    a_run(RunState.CANCELLED),
    a_run(reason=Reason.BACKOFF),
    *(waiting(reason) for reason in sorted(HELD_REASONS | {Reason.NEEDS_CODE})),
]


@pytest.mark.parametrize("before", RETRIABLE, ids=lambda run: f"{run.state}-{run.reason}")
def test_retry_queues_the_run_now_with_every_counter_at_zero(before: Run):
    before = structs.replace(before, failures=5, crashes=3, crashes_alone=3, suspect=True, failure=LOST)
    resolution = Resolution(kind=ResolutionKind.DROP, position=3)
    decision = transitions.retry(before, NOW_US, supersede=(3,), resolution=resolution)
    run = decision.run
    assert (run.state, run.reason, run.available_at_us, run.finished_at_us) == (QUEUED, None, NOW_US, None)
    assert (run.failures, run.crashes, run.crashes_alone, run.suspect) == (0, 0, 0, False)
    assert (run.failure, run.mismatch, run.token) == (None, None, 3)
    assert (decision.supersede, decision.resolution) == ((3,), resolution)


@pytest.mark.parametrize(
    ("run", "says"),
    [
        (a_run(RunState.SUCCEEDED), "its result stays"),
        (running(), "holdfast cancel r-1"),
        (a_run(), "starts by itself"),
        (a_run(reason=Reason.DRAINED), "starts by itself"),
        (waiting(Reason.PAUSED), "holdfast resume r-1"),
        (waiting(Reason.SLEEP), "wakes by itself"),
    ],
)
def test_what_need_not_be_retried_is_refused_with_the_way_on(run: Run, says: str):
    with pytest.raises(InvalidTransition, match=says):
        transitions.retry(run, NOW_US)


def test_a_retry_after_the_deadline_gives_the_whole_time_again():
    late = a_run(RunState.FAILED, created_at_us=100, deadline_at_us=350)
    assert transitions.retry(late, NOW_US).run.deadline_at_us == NOW_US + 250
    early = a_run(RunState.FAILED, deadline_at_us=NOW_US + 1)
    assert transitions.retry(early, NOW_US).run.deadline_at_us == NOW_US + 1


# --- signals, code ------------------------------------------------------------------------------------------


def test_a_signal_wakes_the_run_that_waits_for_it():
    run = waiting(Reason.SIGNAL, wait_name="go", inbox_no=1, available_at_us=NOW_US + 99)
    woken = transitions.signal(run, "go", 2, NOW_US).run
    assert (woken.state, woken.inbox_no, woken.available_at_us) == (WAITING, 2, NOW_US)


def test_a_cancel_by_the_end_of_a_parent_says_whose():
    decision = transitions.cancel(running(), NOW_US, parent="p")
    assert told(decision)["parent"] == "p"
    assert "parent" not in told(transitions.cancel(running(), NOW_US))


def test_another_signal_wakes_nobody():
    run = waiting(Reason.SIGNAL, wait_name="go", inbox_no=1)
    assert transitions.signal(run, "stop", 2, NOW_US).run == structs.replace(run, inbox_no=2)


def test_the_inbox_number_never_falls():
    assert transitions.signal(running(inbox_no=9), "go", 2, NOW_US).run.inbox_no == 9


def test_a_run_in_line_is_due_no_more_and_as_due_as_before_when_it_is_called():
    run = waiting(Reason.SIGNAL, available_at_us=NOW_US - 7, wait_name="go")
    lined = transitions.line_up(run, NOW_US, "customer-7", 2)
    assert (lined.run.state, lined.run.available_at_us, lined.run.wait_name) == (QUEUED, None, None)
    assert told(lined) == {"reason": "limit", "concurrency": "customer-7", "ahead": 2}
    called = transitions.call_up(lined.run, NOW_US - 7, NOW_US)
    assert (called.run.reason, called.run.available_at_us) == (None, NOW_US - 7)
    assert transitions.call_up(lined.run, NOW_US + 7, NOW_US).run.available_at_us == NOW_US, (
        "the clock was set back"
    )


def test_only_a_due_run_stands_in_line_and_only_one_in_line_is_called():
    with pytest.raises(InvalidTransition, match="put in line"):
        transitions.line_up(waiting(Reason.SLEEP, available_at_us=NOW_US + 1), NOW_US, "k", 0)
    with pytest.raises(InvalidTransition, match="called out of the line"):
        transitions.call_up(a_run(), NOW_US, NOW_US)
    with pytest.raises(InvalidTransition, match="when a run of its concurrency key ends"):
        transitions.retry(a_run(reason=Reason.LIMIT, available_at_us=None), NOW_US)


@pytest.mark.parametrize("run", [a_run(), waiting(Reason.SLEEP, available_at_us=NOW_US)])
def test_a_due_run_without_code_waits_until_a_worker_has_it(run: Run):
    lacking = transitions.needs_code(run, NOW_US)
    assert (lacking.run.state, lacking.run.reason, lacking.run.available_at_us) == (
        WAITING,
        Reason.NEEDS_CODE,
        None,
    )
    assert told(lacking) == {"reason": "needs_code", "agent": "refactor", "version": "0"}
    found = transitions.code_found(lacking.run, NOW_US + 5).run
    assert (found.state, found.reason, found.available_at_us) == (QUEUED, None, NOW_US + 5)


def test_a_run_that_is_not_due_needs_no_code_yet():
    with pytest.raises(InvalidTransition, match="due in"):
        transitions.needs_code(waiting(Reason.SLEEP, available_at_us=NOW_US + 1), NOW_US)


def test_code_is_found_only_for_what_needs_it():
    with pytest.raises(InvalidTransition, match="wakes by itself"):
        transitions.code_found(waiting(Reason.SLEEP), NOW_US)


# --- properties ---------------------------------------------------------------------------------------------

TAKEOVERS = st.builds(Takeover, alone=st.booleans(), counted=st.booleans(), wished=st.booleans())
PARKS = st.builds(
    Park,
    reason=st.sampled_from([Reason.SLEEP, Reason.SIGNAL, Reason.CHILD, Reason.PAUSED, Reason.PARKED]),
    until_us=st.integers(0, 200),
    wait_name=st.sampled_from(["go", "stop"]),
    inbox_seen=st.integers(0, 3),
)
RETRIES = st.builds(Retry, failure=st.just(LOST), delay_us=st.integers(0, 50), counted=st.booleans())
OUTCOME = st.one_of(
    st.just(Succeeded(result=b"1")),
    st.just(Failed(failure=LOST)),
    RETRIES,
    PARKS,
    st.just(Release()),
    st.just(HOLD),
)
MOVES: st.SearchStrategy[Callable[[Run, int], Decision]] = st.one_of(
    st.just(lambda run, now: transitions.claim(run, 12, now, takeover=None)),
    TAKEOVERS.map(lambda takeover: lambda run, now: transitions.claim(run, 13, now, takeover=takeover)),
    OUTCOME.map(lambda outcome: lambda run, now: transitions.settle(run, outcome, now)),
    st.just(transitions.cancel),
    st.just(transitions.pause),
    st.just(transitions.resume),
    st.just(transitions.retry),
    st.just(transitions.expire),
    st.just(transitions.needs_code),
    st.just(transitions.code_found),
    st.sampled_from(["go", "stop"]).map(
        lambda name: lambda run, now: transitions.signal(run, name, now, now)
    ),
    st.integers(1, 2).map(
        lambda n: lambda run, now: Decision(run=structs.replace(run, position=run.position + n))
    ),
)


@given(st.lists(MOVES, max_size=25))
def test_whatever_happens_the_laws_hold(moves: list[Callable[[Run, int], Decision]]):
    new = NewRun(id="r-1", agent="x", version="1", input=b"{}", deadline_us=20)
    run = transitions.create(new, 1, 0).run
    for now, move in enumerate(moves, start=1):
        try:
            after = move(run, now).run
        except InvalidTransition:
            continue
        check_laws(run, after)
        run = after


def check_laws(before: Run, after: Run) -> None:
    assert after.token >= before.token
    assert (after.state is RUNNING) == (after.worker is not None)
    assert after.state.final == (after.finished_at_us is not None)
    assert 0 <= after.crashes_alone <= after.crashes <= MAX_CRASHES
    assert after.asked is None or after.state is RUNNING
    assert after.wait_name is None or after.reason in INBOX_REASONS
    assert after.claimed_position <= after.position
    assert after.inbox_no >= before.inbox_no
    if after.worker != before.worker and after.worker is not None:
        assert after.token == before.token + 1
    if before.state.final:
        assert after.state in (before.state, QUEUED)
    if before.state is RunState.SUCCEEDED:
        assert structs.replace(after, inbox_no=0, position=0) == structs.replace(
            before, inbox_no=0, position=0
        )


def test_a_deterministically_killing_run_is_poisoned_after_three_times_alone():
    run = transitions.claim(a_run(), 1, NOW_US, takeover=None).run
    crashes = 0
    while run.state is RUNNING:
        run = transitions.claim(run, 2, NOW_US, takeover=CRASH_ALONE).run
        crashes += 1
    assert (crashes, run.reason) == (3, Reason.POISON)


def test_a_failure_is_told_with_its_class():
    failure = Failure(kind=FailureKind.FATAL, type="TypeError", message="bad")
    decision = transitions.settle(running(), Hold(reason=Reason.CHECKPOINT_LOST, failure=failure), NOW_US)
    assert told(decision)["error"] == {"type": "TypeError", "message": "bad", "class": "fatal", "cause": None}


# --- a process of its own -----------------------------------------------------------------------------------


def crash(run: Run, message: str = "was killed") -> Decision:
    lost = Failure(kind=FailureKind.LOST, type="ProcessLost", message=message)
    return transitions.settle(run, Crashed(failure=lost), NOW_US)


def test_a_run_whose_process_died_goes_on_after_a_rest_that_grows_and_nobody_is_suspected():
    first = crash(a_run(RUNNING, token=4)).run
    assert (first.state, first.reason, first.token, first.suspect) == (QUEUED, Reason.CRASHED, 4, False)
    assert (first.crashes, first.crashes_alone) == (1, 1)
    assert first.available_at_us == NOW_US + transitions.CRASH_DELAY_US
    second = crash(a_run(RUNNING, crashes=1, crashes_alone=1)).run
    assert second.available_at_us == NOW_US + 2 * transitions.CRASH_DELAY_US


def test_a_process_that_dies_three_times_and_records_nothing_is_poison():
    decision = crash(a_run(RUNNING, token=4, crashes=2, crashes_alone=2), "was killed by SIGSEGV")
    assert (decision.run.state, decision.run.reason, decision.run.token) == (WAITING, Reason.POISON, 5)
    assert decision.run.failure is not None
    assert "3 times in a row" in decision.run.failure.message
    assert "was killed by SIGSEGV" in decision.run.failure.message


def test_a_process_that_dies_after_it_recorded_something_starts_counting_anew():
    run = a_run(RUNNING, position=9, claimed_position=8, crashes=2, crashes_alone=2)
    after = crash(run).run
    assert (after.state, after.crashes, after.crashes_alone) == (QUEUED, 0, 0)
    assert after.available_at_us == NOW_US + transitions.CRASH_DELAY_US


def test_a_pause_that_was_asked_is_kept_when_the_process_dies():
    assert crash(a_run(RUNNING, asked="pause")).run.reason is Reason.PAUSED
