"""Questions to people: what can be asked, who may answer, and when it is too late.

Laws:
1. An answer binds to the hash of the question that its giver saw: another question is never answered by it.
2. The first answer stands. The same one again changes nothing, another one is refused.
3. An answer counts before the question's end by the store's clock, and not after it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from typing import Final

import msgspec.json
from msgspec.structs import replace

from holdfast.errors import Refused, UsageError
from holdfast.model import Answer, ApprovalOutcome, ApprovalRecord, ApprovalStatus, Identity
from holdfast.rules.waits import OURS

LONGEST_QUESTION: Final = 2_000
"""Characters of a question: one that a person reads in a list. What it is about belongs into its context."""
MOST_OPTIONS: Final = 20
LONGEST_OPTION: Final = 100
"""An option is typed in a shell and shown on a button."""
LARGEST_CONTEXT_BYTES: Final = 64 * 1024
"""A person reads it, and the inbox of all runs brings a hundred of them: more belongs into a file that it names."""
LONGEST_COMMENT: Final = 10_000
LONGEST_NAME: Final = 200


def signal_name(n: int) -> str:
    """The signal that brings the outcome of question `n` to its run. Users cannot send it."""
    return f"{OURS}approval/{n}"


def question_hash(identity: Identity, fingerprint: bytes) -> bytes:
    """What an answer binds to: which call asks, and the fingerprint of what it asks."""
    return hashlib.blake2b(msgspec.json.encode((identity, fingerprint)), digest_size=16).digest()


def check_question(question: str, options: Sequence[object], context: bytes) -> None:
    """Raise UsageError for what cannot be put to a person."""
    if not question.strip() or len(question) > LONGEST_QUESTION:
        raise UsageError(
            f"the question of an approval has 1 to {LONGEST_QUESTION} characters, not {len(question)}: "
            "put what it is about into context="
        )
    if isinstance(options, str) or not 1 <= len(options) <= MOST_OPTIONS:
        raise UsageError(
            f'an approval has 1 to {MOST_OPTIONS} options, ["yes", "no"] say, not {str(options)[:80]!r}'
        )
    for option in options:
        if (
            not isinstance(option, str)
            or not option
            or len(option) > LONGEST_OPTION
            or not option.isprintable()
        ):
            raise UsageError(
                f"the option {str(option)[:80]!r} of an approval must be one line of 1 to {LONGEST_OPTION} characters"
            )
    if len(set(options)) != len(options):
        raise UsageError(
            f"two options of the approval {question[:80]!r} are the same: {', '.join(map(str, options))}"
        )
    if len(context) > LARGEST_CONTEXT_BYTES:
        raise UsageError(
            f"the context of the approval {question[:80]!r} has {len(context)} bytes, over {LARGEST_CONTEXT_BYTES}: "
            "write a file, and name it in the context"
        )


def check_times(
    expires_us: int | None, escalate_us: int | None, default: str | None, options: Sequence[str]
) -> None:
    """Raise UsageError for times and a default that make no sense together."""
    if default is not None and default not in options:
        raise UsageError(f"default={default!r} is none of the options: {', '.join(options)}")
    if default is not None and expires_us is None:
        raise UsageError("a default counts when the question expires: give expires= too")
    if expires_us is not None and escalate_us is not None and escalate_us >= expires_us:
        raise UsageError("escalate= must come before expires=: after that there is nothing to answer")


def answer(asked: ApprovalRecord, given: Answer, now_us: int) -> ApprovalRecord | None:
    """The question with its answer; None when it has the same one already. Raises UsageError for what is no option,
    Refused when the question changed, is over, or has another answer."""
    if given.choice not in asked.options:
        raise UsageError(
            f"{given.choice!r} is no answer to {_named(asked)}: use one of {', '.join(asked.options)}"
        )
    if not given.by.strip() or len(given.by) > LONGEST_NAME:
        raise UsageError(f"an answer names who gives it, in 1 to {LONGEST_NAME} characters")
    if len(given.comment) > LONGEST_COMMENT:
        raise UsageError(f"the comment has {len(given.comment)} characters, over {LONGEST_COMMENT}")
    if given.question_hash != asked.question_hash:
        raise Refused(f"the question changed: {_named(asked)} is another one; look at it, then answer it")
    if asked.status is ApprovalStatus.ANSWERED:
        if given.choice == asked.choice:
            return None
        raise Refused(
            f"{_named(asked)} has its answer: {asked.answered_by} said {asked.choice!r} on "
            f"{_told(asked.answered_at_us or 0)}. An answer stands; it cannot become {given.choice!r}"
        )
    if asked.status is ApprovalStatus.WITHDRAWN:
        raise Refused(f"{_named(asked)} was withdrawn: the run ended or went on without it")
    if asked.status is ApprovalStatus.EXPIRED or over(asked, now_us):
        raise Refused(
            f"{_named(asked)} expired on {_told(asked.expires_at_us or now_us)}: the answer comes too late"
        )
    return replace(
        asked,
        status=ApprovalStatus.ANSWERED,
        choice=given.choice,
        comment=given.comment,
        answered_by=given.by,
        answered_at_us=now_us,
    )


def over(asked: ApprovalRecord, now_us: int) -> bool:
    """Whether its time is up."""
    return asked.expires_at_us is not None and asked.expires_at_us <= now_us


def ending(asked: Iterable[ApprovalRecord]) -> frozenset[int]:
    """Those of the questions that have an end, by their numbers."""
    return frozenset(one.n for one in asked if one.expires_at_us is not None)


def outcome(answered: ApprovalRecord) -> bytes:
    """What the run is sent: the answer as JSON."""
    return msgspec.json.encode(
        ApprovalOutcome(
            at_us=answered.answered_at_us or 0,
            choice=answered.choice,
            by=answered.answered_by,
            comment=answered.comment,
        )
    )


def expired(now_us: int) -> bytes:
    """What the run is sent when nobody answered in time."""
    return msgspec.json.encode(ApprovalOutcome(at_us=now_us))


def _named(asked: ApprovalRecord) -> str:
    return f"question {asked.n} of run {asked.run} ({asked.question[:80]!r})"


def _told(at_us: int) -> str:
    return datetime.fromtimestamp(at_us / 1_000_000, UTC).strftime("%Y-%m-%d at %H:%M:%SZ")
