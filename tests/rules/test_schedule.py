"""Scheduling: the order, the limits, the suspects, and that nobody starves."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from holdfast.errors import UsageError
from holdfast.rules.schedule import (
    MAX_PRIORITY,
    WEIGHT_US,
    Candidate,
    check_priority,
    claim_key,
    closed_by,
    pick,
    runs_alone,
)
from tests.rules.runs import running


def handed_out(
    *candidates: Candidate,
    slots: int = 10,
    running: dict[str, int] | None = None,
    limits: dict[str, int | None] | None = None,
    worker_runs: int = 0,
    alone: bool = False,
) -> list[int]:
    return pick(
        candidates,
        slots=slots,
        running=running or {},
        limits=limits or {},
        worker_runs=worker_runs,
        alone=alone,
    )


def of(key: int, queue: str = "q", suspect: bool = False) -> Candidate:
    return Candidate(key=key, claim_key=key, queue=queue, suspect=suspect)


def test_the_smaller_priority_goes_first_and_waiting_makes_up_for_it():
    assert claim_key(0, -1) < claim_key(0, 0) < claim_key(0, 1)
    assert claim_key(0, 1) < claim_key(WEIGHT_US + 1, 0)


def test_runs_are_handed_out_in_order_as_many_as_fit():
    assert handed_out(of(3), of(1), of(2), slots=2) == [1, 2]


def test_runs_due_at_the_same_moment_go_in_the_order_of_creation():
    assert handed_out(Candidate(5, 0, "q"), Candidate(4, 0, "q")) == [4, 5]


def test_a_full_queue_is_passed_over_and_holds_nobody_else_up():
    assert handed_out(of(1, "a"), of(2, "a"), of(3, "b"), running={"a": 1}, limits={"a": 2}) == [1, 3]


def test_the_limit_of_all_queues_together_holds():
    assert handed_out(of(1, "a"), of(2, "b"), running={"a": 2, "c": 1}, limits={"*": 4}) == [1]


def test_a_queue_with_limit_none_has_no_limit():
    assert handed_out(of(1), of(2), limits={"q": None, "*": None}) == [1, 2]


def test_a_suspect_is_handed_out_alone_to_a_worker_without_runs():
    assert handed_out(of(1, suspect=True), of(2), of(3)) == [1]


def test_others_pass_a_suspect_when_the_worker_is_busy():
    assert handed_out(of(1, suspect=True), of(2), worker_runs=1) == [2]


def test_a_suspect_is_never_put_beside_a_run_that_goes_first():
    assert handed_out(of(1), of(2, suspect=True), of(3)) == [1, 3]


def test_nothing_is_put_beside_a_run_that_must_be_alone():
    assert handed_out(of(1), worker_runs=1, alone=True) == []


def test_a_suspect_whose_queue_is_full_keeps_nobody_waiting():
    assert handed_out(of(1, "a", suspect=True), of(2, "b"), running={"a": 1}, limits={"a": 1}) == [2]


def test_a_suspect_is_alone_until_it_has_recorded_something():
    assert runs_alone(running(suspect=True))
    assert not runs_alone(running(suspect=True, position=6))
    assert not runs_alone(running())


@pytest.mark.parametrize("priority", [-MAX_PRIORITY, 0, MAX_PRIORITY])
def test_a_priority_within_bounds_is_taken(priority: int):
    assert check_priority(priority) == priority


@pytest.mark.parametrize("priority", [-MAX_PRIORITY - 1, MAX_PRIORITY + 1])
def test_a_priority_out_of_bounds_is_refused_by_name(priority: int):
    with pytest.raises(UsageError, match=f"priority {priority} is out of bounds"):
        check_priority(priority)


# --- properties ---------------------------------------------------------------------------------------------

QUEUES = st.sampled_from(["a", "b", "c"])
LIMITS = st.dictionaries(st.sampled_from(["a", "b", "c", "*"]), st.none() | st.integers(0, 6))
CANDIDATES = st.lists(
    st.builds(Candidate, st.integers(1, 99), st.integers(0, 9), QUEUES, st.booleans()),
    unique_by=lambda one: one.key,
)


@given(CANDIDATES, st.integers(0, 8), st.dictionaries(QUEUES, st.integers(0, 5)), LIMITS, st.integers(0, 2))
def test_no_limit_is_ever_exceeded_and_the_order_is_kept(candidates, slots, running, limits, worker_runs):
    keys = handed_out(*candidates, slots=slots, running=running, limits=limits, worker_runs=worker_runs)
    by_key = {one.key: one for one in candidates}
    picked = [by_key[key] for key in keys]
    assert len(picked) <= slots
    assert picked == sorted(picked, key=lambda one: (one.claim_key, one.key))
    after = {queue: running.get(queue, 0) + sum(one.queue == queue for one in picked) for queue in "abc"}
    for queue, live in after.items():
        limit = limits.get(queue)
        assert limit is None or live <= max(limit, running.get(queue, 0))
    limit = limits.get("*")
    assert limit is None or sum(after.values()) <= max(limit, sum(running.values()))
    if any(one.suspect for one in picked):
        assert len(picked) == 1 and worker_runs == 0


@given(CANDIDATES, st.integers(1, 8))
def test_an_idle_worker_without_limits_takes_the_first_run_whatever_it_is(candidates, slots):
    first = min(candidates, key=lambda one: (one.claim_key, one.key), default=None)
    assert handed_out(*candidates, slots=slots)[:1] == ([first.key] if first else [])


@given(st.integers(-20, 20), st.integers(1, 5))
def test_a_run_of_low_priority_is_not_starved_by_a_stream_of_better_ones(better: int, each_tick: int):
    """One slot a minute and more arrivals than slots: the low one goes as soon as its age makes up for its priority."""
    low = Candidate(key=0, claim_key=claim_key(0, 30), queue="q")
    waiting = [low]
    for minute in range(60):
        now_us = minute * 60_000_000
        fresh = range(1 + minute * each_tick, 1 + (minute + 1) * each_tick)
        waiting += (Candidate(key, claim_key(now_us, better), "q") for key in fresh)
        (taken,) = handed_out(*waiting, slots=1)
        if taken == 0:
            break
        waiting = [one for one in waiting if one.key != taken]
    ahead = (30 - better) * each_tick + each_tick + 1  # those that arrive before its key is the smallest
    assert taken == 0 or ahead >= 60


def test_a_suspect_is_taken_by_the_next_worker_that_is_idle_however_many_passed_it():
    suspect = Candidate(key=1, claim_key=0, queue="q", suspect=True)
    crowd = [Candidate(key, key, "q") for key in range(2, 50)]
    assert handed_out(suspect, *crowd, slots=4, worker_runs=3) == [2, 3, 4, 5]
    assert handed_out(suspect, *crowd[4:], slots=4, worker_runs=0) == [1]


def test_a_limit_of_0_closes_a_queue_and_that_of_all_queues_every_one():
    assert closed_by("q", {"q": 0, "*": 0}) == "q"
    assert closed_by("q", {"q": 1, "*": 0}) == "*"
    assert closed_by("q", {"q": 1, "*": None, "other": 0}) is None
    assert closed_by("q", {}) is None
