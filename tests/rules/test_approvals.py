"""Questions to people: an answer binds to its question, the first one stands, and after the end it is too late."""

from __future__ import annotations

import msgspec.json
import pytest
from msgspec.structs import replace

from holdfast.errors import Refused, UsageError
from holdfast.model import (
    SETUP,
    Answer,
    ApprovalOutcome,
    ApprovalRecord,
    ApprovalStatus,
    Identity,
    Park,
    Reason,
    RunState,
)
from holdfast.rules import approvals, transitions, waits
from tests.rules.runs import NOW_US, a_run, running

ASKED = ApprovalRecord(
    run="r-1",
    agent="deploy",
    n=5,
    question_hash=b"h",
    question="Deploy?",
    options=("yes", "no"),
    context=b"null",
    status=ApprovalStatus.OPEN,
    asked_at_us=NOW_US - 100,
    expires_at_us=NOW_US + 100,
)
YES = Answer(question_hash=b"h", choice="yes", by="ann", comment="go")
ANSWERED = replace(
    ASKED,
    status=ApprovalStatus.ANSWERED,
    choice="yes",
    comment="go",
    answered_by="ann",
    answered_at_us=NOW_US,
)


def test_an_open_question_takes_its_answer() -> None:
    assert approvals.answer(ASKED, YES, NOW_US) == ANSWERED


def test_the_same_answer_again_changes_nothing_whoever_gives_it() -> None:
    assert approvals.answer(ANSWERED, YES, NOW_US + 50) is None
    assert approvals.answer(ANSWERED, replace(YES, by="bob", comment="too"), NOW_US + 500) is None


def test_another_answer_later_is_refused_and_says_who_answered_what_when() -> None:
    with pytest.raises(Refused, match=r"ann said 'yes' on 1970-01-01 at 00:16:40Z.*cannot become 'no'"):
        approvals.answer(ANSWERED, replace(YES, choice="no"), NOW_US + 1)


def test_an_answer_to_another_question_is_refused() -> None:
    for status in (ApprovalStatus.OPEN, ApprovalStatus.WITHDRAWN):
        with pytest.raises(Refused, match=r"the question changed.*'Deploy\?'"):
            approvals.answer(replace(ASKED, status=status), replace(YES, question_hash=b"other"), NOW_US)


@pytest.mark.parametrize("late_us", [100, 101])
def test_an_answer_at_the_end_or_after_it_is_too_late(late_us: int) -> None:
    assert approvals.answer(ASKED, YES, NOW_US + 99) is not None
    with pytest.raises(Refused, match="too late"):
        approvals.answer(ASKED, YES, NOW_US + late_us)


def test_the_questions_that_end_by_themselves_are_known_by_their_numbers() -> None:
    assert approvals.ending([ASKED, replace(ASKED, n=6, expires_at_us=None)]) == {5}


def test_what_is_over_is_not_answered() -> None:
    with pytest.raises(Refused, match="was withdrawn"):
        approvals.answer(replace(ASKED, status=ApprovalStatus.WITHDRAWN), YES, NOW_US)
    with pytest.raises(Refused, match="expired"):
        approvals.answer(replace(ASKED, status=ApprovalStatus.EXPIRED, expires_at_us=None), YES, NOW_US)


@pytest.mark.parametrize(
    ("changed", "says"),
    [
        ({"choice": "maybe"}, "use one of yes, no"),
        ({"by": "  "}, "who gives it"),
        ({"by": "x" * 201}, "who gives it"),
        ({"comment": "x" * 10_001}, "10001 characters"),
    ],
)
def test_an_answer_that_can_never_work_says_so(changed: dict[str, str], says: str) -> None:
    with pytest.raises(UsageError, match=says):
        approvals.answer(ASKED, replace(YES, **changed), NOW_US)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("question", "options", "context", "says"),
    [
        (" ", ["a"], b"null", "characters, not 1"),
        ("x" * 2_001, ["a"], b"null", "put what it is about into context="),
        ("q", [], b"null", "1 to 20 options"),
        ("q", [str(n) for n in range(21)], b"null", "1 to 20 options"),
        ("q", "yes", b"null", "1 to 20 options"),
        ("q", [1], b"null", "one line"),
        ("q", [""], b"null", "one line"),
        ("q", ["a\nb"], b"null", "one line"),
        ("q", ["x" * 101], b"null", "one line"),
        ("q", ["a", "a"], b"null", "are the same: a, a"),
        ("q", ["a"], b"x" * (64 * 1024 + 1), "write a file"),
    ],
)
def test_what_cannot_be_put_to_a_person_is_refused(
    question: str, options: list[object], context: bytes, says: str
) -> None:
    with pytest.raises(UsageError, match=says):
        approvals.check_question(question, options, context)


def test_what_is_at_the_limits_can_be_asked() -> None:
    approvals.check_question("x" * 2_000, [f"{n:0100}" for n in range(20)], b"x" * 64 * 1024)


@pytest.mark.parametrize(
    ("expires", "escalate", "default", "says"),
    [
        (None, None, "yes", "give expires= too"),
        (10, None, "maybe", "none of the options"),
        (10, 10, None, "before expires="),
    ],
)
def test_times_and_a_default_must_make_sense_together(
    expires: int | None, escalate: int | None, default: str | None, says: str
) -> None:
    with pytest.raises(UsageError, match=says):
        approvals.check_times(expires, escalate, default, ("yes", "no"))


def test_times_that_make_sense_are_taken() -> None:
    approvals.check_times(10, 9, "no", ("yes", "no"))
    approvals.check_times(None, 9, None, ("yes", "no"))


def test_the_run_is_told_the_answer_or_that_there_is_none() -> None:
    told = msgspec.json.decode(approvals.outcome(ANSWERED), type=ApprovalOutcome)
    assert told == ApprovalOutcome(at_us=NOW_US, choice="yes", by="ann", comment="go")
    assert msgspec.json.decode(approvals.expired(7), type=ApprovalOutcome) == ApprovalOutcome(at_us=7)


def test_no_user_can_send_the_signal_of_an_answer() -> None:
    with pytest.raises(UsageError):
        waits.check_signal(approvals.signal_name(5))


def test_the_hash_of_a_question_is_that_of_its_call_and_its_words() -> None:
    here = Identity(SETUP, "", "approval:asked", None, 0)
    known = approvals.question_hash(here, b"print")
    assert known == approvals.question_hash(here, b"print")
    assert known != approvals.question_hash(here._replace(occurrence=1), b"print")
    assert known != approvals.question_hash(here, b"other")


def test_a_run_that_waits_for_an_answer_is_parked_and_woken_like_for_a_signal() -> None:
    name = approvals.signal_name(5)
    park = Park(reason=Reason.APPROVAL, wait_name=name, inbox_seen=2)
    parked = transitions.settle(running(inbox_no=2), park, NOW_US).run
    assert (parked.state, parked.reason, parked.wait_name, parked.available_at_us) == (
        RunState.WAITING,
        Reason.APPROVAL,
        name,
        None,
    )
    assert transitions.signal(parked, name, 3, NOW_US).run.available_at_us == NOW_US
    assert transitions.signal(parked, "other", 3, NOW_US).run.available_at_us is None
    unseen = transitions.settle(running(inbox_no=3), park, NOW_US).run
    assert unseen.available_at_us == NOW_US


def test_a_run_that_waits_for_an_answer_names_the_way_on() -> None:
    waiting = a_run(RunState.WAITING, Reason.APPROVAL)
    with pytest.raises(Refused, match="holdfast approve r-1"):
        transitions.resume(waiting, NOW_US)
