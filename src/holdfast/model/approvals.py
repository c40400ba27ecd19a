"""Questions to people: asked in the transaction of an entry, answered from outside, once."""

from __future__ import annotations

from enum import StrEnum
from typing import Final

from msgspec import Struct

from holdfast.model.changes import Beside

TOLD_FROM_OUTSIDE: Final = frozenset(
    {"approval.answered", "approval.escalated", "budget.missing", "budget.soft", "budget.set"}
)
"""Events that a run gets while an attempt holds it, and that are none of the attempt's."""


class ApprovalStatus(StrEnum):
    """What became of a question. Only an open one can be answered."""

    OPEN = "open"
    ANSWERED = "answered"
    EXPIRED = "expired"
    WITHDRAWN = "withdrawn"  # the run ended, the code went on without it, or its entry was superseded


class NewApproval(Beside, frozen=True, kw_only=True):
    """A question, asked by the entry beside it. `context` is JSON for the person who answers."""

    question_hash: bytes
    segment: int
    question: str
    options: tuple[str, ...]
    context: bytes = b"null"
    expires_at_us: int | None = None
    escalate_at_us: int | None = None
    escalate_to: str | None = None


class CloseApproval(Beside, frozen=True, kw_only=True):
    """Question `n` is over without an answer, unless it has one. `EXPIRED` sends the run the signal that says so."""

    n: int
    status: ApprovalStatus


class ApprovalOutcome(Struct, frozen=True, kw_only=True):
    """What ended a question: the signal that the run consumes, and what it records. No `choice`: nobody answered."""

    at_us: int
    choice: str | None = None
    by: str | None = None
    comment: str = ""


class Answer(Struct, frozen=True, kw_only=True):
    """What a person says to the question with this hash, as they saw it."""

    question_hash: bytes
    choice: str
    by: str
    comment: str = ""


class ApprovalRecord(Struct, frozen=True, kw_only=True):
    """A question as stored. `n` is the position of the entry that asked it; `escalated` that its time came."""

    run: str
    agent: str
    n: int
    question_hash: bytes
    question: str
    options: tuple[str, ...]
    context: bytes
    status: ApprovalStatus
    asked_at_us: int
    expires_at_us: int | None = None
    escalate_at_us: int | None = None
    escalate_to: str | None = None
    escalated: bool = False
    choice: str | None = None
    comment: str = ""
    answered_by: str | None = None
    answered_at_us: int | None = None
