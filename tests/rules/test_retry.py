"""What errors mean for trying again, and when the next try is."""

from __future__ import annotations

import math
from statistics import mean

import pytest
from hypothesis import given
from hypothesis import strategies as st

from holdfast.errors import RetriesExhausted, StepFailed, TransientError, UsageError
from holdfast.model import Failure, FailureKind
from holdfast.rules.retry import (
    MAX_CAUSES,
    MAX_MESSAGE_BYTES,
    MAX_RETRY_AFTER_S,
    RetryPolicy,
    classify,
    exhausted,
    next_delay_s,
)

POLICY = RetryPolicy()
LOST = Failure(kind=FailureKind.TRANSIENT, type="ConnectionError", message="gone")
KINDS = st.sampled_from(list(FailureKind))


def a_failure(kind: FailureKind = FailureKind.TRANSIENT, retry_after_s: float | None = None) -> Failure:
    return Failure(kind=kind, type="E", message="m", retry_after_s=retry_after_s)


def raised(error: BaseException, cause: BaseException | None = None) -> BaseException:
    """The error as it is after it was raised, from its cause."""
    try:
        raise error from cause
    except BaseException as caught:
        return caught


# --- the policy ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        ({"attempts": 0}, r"attempts=0\): from 1"),
        ({"attempts": 10_000}, "to 1000"),
        ({"factor": 0.5}, "factor=0.5"),
        ({"factor": math.inf}, "finite"),
        ({"factor": math.nan}, "finite"),
        ({"base": "2m"}, "may not exceed the cap"),
        ({"cap": "2d"}, "the cap not a day"),
        ({"base": "soon"}, "'soon' is not a duration"),
        ({"transient": [OSError]}, "a tuple of error classes"),
        ({"fatal": (ValueError("x"),)}, "is not an error class"),
        ({"fatal": (int,)}, "is not an error class"),
        ({"fatal": (OSError,), "transient": (OSError,)}, "OSError cannot be both"),
    ],
)
def test_a_policy_that_makes_no_sense_is_refused_by_name(wrong: dict[str, object], says: str):
    with pytest.raises(UsageError, match=says):
        RetryPolicy(**wrong)  # type: ignore[arg-type]


def test_the_defaults_are_those_of_the_docs():
    assert (POLICY.attempts, POLICY.base, POLICY.factor, POLICY.cap) == (5, "1s", 2.0, "60s")


# --- the delay ----------------------------------------------------------------------------------------------


def test_the_delay_doubles_up_to_its_cap():
    policy = RetryPolicy(attempts=10)
    assert [next_delay_s(policy, LOST, tries, 1.0) for tries in range(1, 9)] == [1, 2, 4, 8, 16, 32, 60, 60]


def test_chance_spreads_the_whole_delay_so_that_a_thousand_runs_do_not_come_back_together():
    assert [next_delay_s(POLICY, LOST, 3, chance) for chance in (0.0, 0.25, 0.5)] == [0.0, 1.0, 2.0]


@given(st.integers(1, 999), st.floats(0, 1), st.floats(1, 1e6), st.floats(0, 60), st.floats(60, 86_400))
def test_the_delay_is_within_its_bounds_and_never_overflows(tries, chance, factor, base, cap):
    policy = RetryPolicy(attempts=1_000, base=base, factor=factor, cap=cap)
    delay_s = next_delay_s(policy, LOST, tries, chance)
    assert delay_s is not None
    assert 0 <= delay_s <= cap


@given(st.integers(1, 98), st.floats(1, 10))
def test_later_tries_wait_longer_on_the_average(tries: int, factor: float):
    policy = RetryPolicy(attempts=100, factor=factor)
    chances = [n / 10 for n in range(10)]
    sooner, later = (mean(next_delay_s(policy, LOST, n, c) or 0 for c in chances) for n in (tries, tries + 1))
    assert sooner <= later


def test_a_base_of_nothing_means_at_once():
    assert next_delay_s(RetryPolicy(attempts=1_000, base=0, factor=1e300), LOST, 900, 0.9) == 0.0


def test_the_last_permitted_try_is_followed_by_none():
    assert next_delay_s(POLICY, LOST, 4, 0.5) is not None
    assert next_delay_s(POLICY, LOST, 5, 0.5) is None
    assert next_delay_s(RetryPolicy(attempts=1), LOST, 1, 0.5) is None


@pytest.mark.parametrize("kind", list(FailureKind))
def test_only_what_another_try_can_cure_is_tried_again(kind: FailureKind):
    curable = kind in (FailureKind.TRANSIENT, FailureKind.TIMED_OUT, FailureKind.LOST)
    assert (next_delay_s(POLICY, a_failure(kind), 1, 0.5) is not None) == curable


def test_a_server_that_asks_for_more_time_gets_it_up_to_an_hour():
    assert next_delay_s(POLICY, a_failure(retry_after_s=20), 1, 1.0) == 20
    assert next_delay_s(POLICY, a_failure(retry_after_s=0.1), 1, 1.0) == 1.0
    assert next_delay_s(POLICY, a_failure(retry_after_s=5_184_000), 1, 1.0) == MAX_RETRY_AFTER_S


# --- exhausted ----------------------------------------------------------------------------------------------


def test_exhausted_retries_are_one_failure_that_carries_the_last():
    last = Failure(
        kind=FailureKind.TIMED_OUT, type="ReadTimeout", message="slow", unclassified=True, entries=(3,)
    )
    failure = exhausted("fetch", last, 5)
    assert (failure.type, failure.kind, failure.cause) == ("RetriesExhausted", FailureKind.TIMED_OUT, last)
    assert (failure.unclassified, failure.entries) == (True, (3,))
    assert failure.message == "fetch failed 5 times, every try allowed; the last error was ReadTimeout: slow"


def test_a_single_try_is_told_as_such():
    assert "once, and no further try" in exhausted("fetch", LOST, 1).message


def test_a_fatal_failure_exhausts_nothing():
    fatal = a_failure(FailureKind.FATAL)
    assert exhausted("fetch", fatal, 2) is fatal


# --- whose word counts --------------------------------------------------------------------------------------


class Busy(OSError):
    pass


class VeryBusy(Busy):
    pass


def test_the_nearest_class_that_the_user_named_decides():
    policy = RetryPolicy(fatal=(OSError, VeryBusy), transient=(Busy,))
    kinds = [classify(error, policy).kind for error in (OSError(), Busy(), VeryBusy())]
    assert kinds == [FailureKind.FATAL, FailureKind.TRANSIENT, FailureKind.FATAL]


def test_the_user_can_make_a_programming_error_transient():
    failure = classify(TypeError("x"), RetryPolicy(transient=(TypeError,)))
    assert (failure.kind, failure.unclassified) == (FailureKind.TRANSIENT, False)


def test_a_classify_function_is_asked_before_anything_else():
    policy = RetryPolicy(
        classify=lambda error: FailureKind.TIMED_OUT if "late" in str(error) else None, fatal=(ValueError,)
    )
    assert classify(ValueError("late"), policy).kind is FailureKind.TIMED_OUT
    assert classify(ValueError("no"), policy).kind is FailureKind.FATAL


@pytest.mark.parametrize("answer", [lambda _: 1 / 0, lambda _: "often"], ids=["raises", "nonsense"])
def test_a_classify_function_with_a_bug_stops_the_retries_and_keeps_the_error(answer):
    failure = classify(ConnectionError("gone"), RetryPolicy(classify=answer))
    assert (failure.kind, failure.message) == (FailureKind.FATAL, "gone")


def test_what_nobody_declared_is_transient_and_says_so():
    class Odd(Exception):
        pass

    failure = classify(Odd("hm"), POLICY)
    assert (failure.kind, failure.type, failure.unclassified) == (FailureKind.TRANSIENT, "Odd", True)


# --- what a failure carries ---------------------------------------------------------------------------------


def test_a_failure_carries_its_causes_to_a_bounded_depth():
    error: BaseException = ValueError("root")
    for n in range(9):
        error = raised(RuntimeError(f"level {n}"), error)
    failure: Failure | None = classify(error, POLICY)
    depth = 0
    while failure is not None and failure.cause is not None:
        failure, depth = failure.cause, depth + 1
    assert depth == MAX_CAUSES


def test_an_error_that_is_its_own_cause_ends():
    error = ValueError("x")
    error.__cause__ = error
    assert classify(error, POLICY).message == "x"


def test_a_long_message_is_cut_with_a_note():
    failure = classify(ValueError("é" * MAX_MESSAGE_BYTES), POLICY)
    assert failure.message.endswith(f"… (cut: {2 * MAX_MESSAGE_BYTES} bytes in all)")
    assert failure.message.startswith("é" * (MAX_MESSAGE_BYTES // 2) + "…")


def test_a_message_that_cannot_be_encoded_is_recorded_all_the_same():
    assert classify(ValueError("caf\udce9"), POLICY).message == "caf?"


def test_an_error_that_cannot_say_what_it_is_is_recorded_all_the_same():
    class Mute(Exception):
        def __str__(self) -> str:
            raise RuntimeError

    assert "str() of Mute raised" in classify(Mute(), POLICY).message


def step_failed(entry: int) -> StepFailed:
    return StepFailed(LOST, step="fetch", entry=entry)


def test_a_failed_step_is_not_tried_again_by_the_run_and_carries_its_failure():
    failure = classify(step_failed(4), POLICY)
    assert (failure.kind, failure.type, failure.cause, failure.entries) == (
        FailureKind.FATAL,
        "StepFailed",
        LOST,
        (4,),
    )


def test_exhausted_retries_are_not_tried_again_by_the_run():
    assert classify(RetriesExhausted("all tries", LOST), POLICY).kind is FailureKind.FATAL


def test_the_failed_steps_in_causes_contexts_and_groups_are_found():
    try:
        try:
            raise step_failed(9)
        except StepFailed:
            raise ValueError("while cleaning up") from step_failed(2)
    except ValueError as error:
        found = classify(
            ExceptionGroup("both", [error, ExceptionGroup("in", [step_failed(5), step_failed(5)])]), POLICY
        )
    assert found.entries == (2, 5, 9)


# --- groups -------------------------------------------------------------------------------------------------


def group(*errors: Exception) -> ExceptionGroup[Exception]:
    return ExceptionGroup("several", errors)


def test_a_group_is_fatal_when_one_of_it_is():
    failure = classify(group(ConnectionError("a"), group(TypeError("b"))), POLICY)
    assert failure.kind is FailureKind.FATAL
    assert failure.cause is not None
    assert failure.cause.cause is not None
    assert failure.cause.cause.type == "TypeError"


def test_a_group_of_transient_errors_is_transient_and_waits_for_the_slowest_server():
    errors = [
        TransientError("a", retry_after_s=3),
        TransientError("b", retry_after_s=7),
        ConnectionError("c"),
    ]
    failure = classify(group(*errors), POLICY)
    assert (failure.kind, failure.unclassified, failure.retry_after_s) == (FailureKind.TRANSIENT, False, 7)


def test_a_group_with_an_unknown_error_says_so():
    failure = classify(group(ConnectionError(), ValueError("odd")), POLICY)
    assert (failure.kind, failure.unclassified) == (FailureKind.TRANSIENT, True)
    assert failure.cause is not None
    assert failure.cause.type == "ValueError"


def test_a_group_of_time_outs_is_tried_again_and_keeps_a_member_as_its_cause():
    failure = classify(group(TimeoutError("slow"), TimeoutError("slower")), POLICY)
    assert failure.kind is FailureKind.TRANSIENT
    assert failure.cause is not None
    assert (failure.cause.message, failure.retry_after_s) == ("slow", None)


def test_a_group_that_was_raised_from_a_cause_keeps_the_cause():
    failure = classify(raised(group(ConnectionError("a")), ValueError("why")), POLICY)
    assert failure.cause is not None
    assert failure.cause.message == "why"


def test_cancelled_members_do_not_decide_for_their_group():
    import asyncio

    mixed = BaseExceptionGroup("g", [asyncio.CancelledError(), ConnectionError()])
    assert classify(mixed, POLICY).kind is FailureKind.TRANSIENT
    cancelled = BaseExceptionGroup("g", [asyncio.CancelledError()])
    assert classify(cancelled, POLICY).kind is FailureKind.CANCELLED


@pytest.mark.parametrize("asked", [math.nan, math.inf, -1.0, None])
def test_a_transient_error_that_asks_for_an_impossible_delay_gets_the_usual_one(asked: float | None):
    assert classify(TransientError("x", retry_after_s=asked), POLICY).retry_after_s is None


@given(KINDS, st.integers(1, 2_000), st.floats(0, 1), st.none() | st.floats(0, allow_infinity=True))
def test_no_delay_exceeds_an_hour(kind, tries, chance, retry_after_s):
    delay_s = next_delay_s(RetryPolicy(attempts=1_000), a_failure(kind, retry_after_s), tries, chance)
    assert delay_s is None or 0 <= delay_s <= 3_600
