"""Questions to people: a run asks, is unloaded, and goes on with the answer.

Laws:
1. The question is durable with the entry that asks it; the answer, or that none came in time, is the outcome of a
   second entry. Both carry the fingerprint of the question: code that asks something else meets neither.
2. The store decides between the answer and the end of the time, in one transaction. The run consumes its verdict.
3. A question that the code goes past without an answer is withdrawn with the entry that says so.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final, Generic, TypeVar, cast

from msgspec import Struct

from holdfast import codec
from holdfast.duration import Duration, micros
from holdfast.errors import ApprovalExpired, UsageError
from holdfast.failures import encode_failure
from holdfast.model import (
    ApprovalOutcome,
    ApprovalStatus,
    CloseApproval,
    Entry,
    EntryKind,
    EntryStatus,
    Failure,
    FailureKind,
    NewApproval,
    Note,
    Reason,
    Signal,
)
from holdfast.opened import OpenCall, Withdrawal
from holdfast.port import Port
from holdfast.recording import Recording
from holdfast.rules import approvals as rule
from holdfast.rules.journal import ASKED
from holdfast.waits import Waits

Choice = TypeVar("Choice", bound=str)

APPROVE_OR_REJECT: Final = ("approve", "reject")
_NAME: Final = "approval"


@dataclass(frozen=True, slots=True)
class Approval(Generic[Choice]):
    """The answer of a person: the option they chose, who they are, what they added, and when.

    `by` is None when nobody answered in time and the `default` counts.
    """

    choice: Choice
    by: str | None
    comment: str
    at: datetime


class _Asked(Struct):
    """What the entry of a question records: when its time is up."""

    expires_at_us: int | None


@dataclass(frozen=True, slots=True)
class Question:
    """A question as the code asks it, checked. Times are durations from the asking on."""

    text: str
    options: tuple[str, ...]
    context: bytes
    default: str | None
    expires_us: int | None
    escalate_us: int | None
    escalate_to: str | None

    @property
    def fingerprint(self) -> bytes:
        """Equal for equal questions: a replay compares it, and an answer binds to it."""
        return codec.fingerprint((self.text, self.options, self.context.decode()), None)


def question_of(
    text: str,
    options: Sequence[str],
    context: object,
    *,
    default: str | None,
    expires: Duration | None,
    escalate: Duration | None,
    escalate_to: str | None,
) -> Question:
    """The question, if it can be put to a person. Raises UsageError."""
    body = codec.encode(context, what="the context of an approval")
    rule.check_question(text, options, body)
    expires_us = None if expires is None else micros(expires)
    escalate_us = None if escalate is None else micros(escalate)
    rule.check_times(expires_us, escalate_us, default, options)
    if escalate_to is not None and escalate_us is None:
        raise UsageError("escalate_to= names who is told after escalate=: give both")
    return Question(text, tuple(options), body, default, expires_us, escalate_us, escalate_to)


class Approvals:
    """What `ctx.approval` does."""

    __slots__ = ("_port", "_recording", "_waits")

    def __init__(self, port: Port, recording: Recording, waits: Waits) -> None:
        self._port = port
        self._recording = recording
        self._waits = waits

    def open(self, question: Question, key: str | None) -> tuple[OpenCall, OpenCall]:
        """Take the identities of the asking and of the answer, and open the call."""
        fingerprint = question.fingerprint
        asking = self._recording.identify(EntryKind.APPROVAL, f"{_NAME}{ASKED}", key, fingerprint)
        call = self._recording.begin(EntryKind.APPROVAL, _NAME, key, fingerprint)
        call.first, call.withdraws = asking, lambda: _withdrawal(asking.position, question)
        return asking, call

    async def approval(self, call: OpenCall, asking: OpenCall, question: Question) -> Approval[Any]:
        """Ask, unless it is asked already; then wait for the answer, and record it."""
        recording = self._recording
        with call:
            expires_at_us = await self._ask(asking, question)
            recording.deliver(asking)
            entry = await recording.answered(call)
            if entry is None:
                entry = await self._conclude(call, asking.position, expires_at_us, question)
            recording.deliver(call)
            if entry.status is EntryStatus.FAILED:
                raise ApprovalExpired(_late(question), entry=asking.position)
            outcome = _outcome(entry.payload)
            return Approval(outcome.choice, outcome.by, outcome.comment, _instant(outcome.at_us))

    async def _ask(self, asking: OpenCall, question: Question) -> int | None:
        """Make the question durable, or find it recorded; when its time is up."""
        recording = self._recording
        entry = await recording.answered(asking)
        if entry is None:
            now_us = self._port.now_us()
            expires_at_us = None if question.expires_us is None else now_us + question.expires_us
            new = NewApproval(
                question_hash=rule.question_hash(asking.identity, asking.args_hash),
                segment=asking.identity.segment,
                question=question.text,
                options=question.options,
                context=question.context,
                expires_at_us=expires_at_us,
                escalate_at_us=None if question.escalate_us is None else now_us + question.escalate_us,
                escalate_to=question.escalate_to,
            )
            asked = codec.encode(_Asked(expires_at_us), what="a question")
            told = {"n": self._port.position + 1, "question": question.text, "options": question.options}
            self._port.note(Note("approval.asked", _told(**told, expires_at_us=expires_at_us)))
            entry = await self._recorded(asking, asked, new, question)
        return cast("_Asked", codec.decode(entry.payload, _Asked, what="a recorded question")).expires_at_us

    async def _recorded(self, asking: OpenCall, asked: bytes, new: NewApproval, question: Question) -> Entry:
        try:
            return await self._recording.record(asking, EntryStatus.OK, asked, beside=(new,))
        except asyncio.CancelledError:  # asked, and nobody waits for the answer
            withdrawn = _withdrawal(asking.position, question)
            if withdrawn.told is not None:
                self._port.note(withdrawn.told)
            self._port.submit(None, None, (withdrawn.thing,))
            raise

    async def _conclude(self, call: OpenCall, n: int, expires_at_us: int | None, question: Question) -> Entry:
        """Wait for what the store decides, and record it."""
        recording = self._recording
        try:
            signal = await self._verdict(call, n, expires_at_us)
        except asyncio.CancelledError:
            recording.end.check()
            recording.abandon(call)
            raise
        outcome = _outcome(signal.payload)
        if outcome.choice is not None:
            return await recording.record(call, EntryStatus.OK, signal.payload, signal=signal.n)
        self._port.note(
            Note("approval.expired", _told(n=n, question=question.text, default=question.default))
        )
        if question.default is None:
            failure = Failure(kind=FailureKind.TIMED_OUT, type="ApprovalExpired", message=_late(question))
            return await recording.record(call, EntryStatus.FAILED, encode_failure(failure), signal=signal.n)
        decided = ApprovalOutcome(at_us=outcome.at_us, choice=question.default)
        payload = codec.encode(decided, what="the default of an approval")
        return await recording.record(call, EntryStatus.OK, payload, signal=signal.n)

    async def _verdict(self, call: OpenCall, n: int, expires_at_us: int | None) -> Signal:
        """The answer, or the end of the time: whichever the store saw first."""
        name = rule.signal_name(n)
        while True:
            signal = await self._waits.next_signal(call, name, expires_at_us, Reason.APPROVAL)
            if signal is not None:
                return signal
            expired = CloseApproval(n=n, status=ApprovalStatus.EXPIRED)
            await self._recording.end.guarded(self._port.submit(None, None, (expired,)))


def _withdrawal(n: int, question: Question) -> Withdrawal:
    """What the code leaves behind when it goes on without the answer."""
    told = Note("approval.withdrawn", _told(n=n, question=question.text))
    return Withdrawal(CloseApproval(n=n, status=ApprovalStatus.WITHDRAWN), told)


def _told(**told: object) -> bytes:
    """An event's payload. It becomes durable with what is recorded next."""
    return codec.encode(told, what="an event")


def _outcome(payload: bytes) -> ApprovalOutcome:
    return cast("ApprovalOutcome", codec.decode(payload, ApprovalOutcome, what="the outcome of an approval"))


def _late(question: Question) -> str:
    return f"nobody answered {question.text[:200]!r} in time"


def _instant(at_us: int) -> datetime:
    return datetime.fromtimestamp(at_us / 1e6, UTC)
