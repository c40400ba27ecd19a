"""What an error means for trying again, and when the next try is.

Laws of this file:
1. The user's word counts first (`RetryPolicy.classify`, `fatal`, `transient`), then what the error says of itself
   (our classes, an HTTP status), then what is known of its class (`rules/known_errors.py`).
2. What nobody declared is transient, and says so (`unclassified`).
3. One policy acts at a time: an error that already used up the tries of its step is fatal for everything around it.
4. The delay never overflows, never exceeds its cap, and is spread by chance (full jitter: M. Brooker, "Exponential
   Backoff and Jitter", AWS 2015). A server's Retry-After can only make it longer.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, cast

from holdfast.duration import Duration, seconds
from holdfast.errors import StepFailed, TransientError, UsageError
from holdfast.model import Failure, FailureKind
from holdfast.rules.known_errors import known_kind, retry_after_s

MAX_ATTEMPTS: Final = 1_000
"""More tries than anyone waits for; a policy beyond it is a loop, and belongs into the agent."""

MAX_CAP_S: Final = 86_400.0
"""A day between two tries: what must wait longer is a schedule."""

MAX_RETRY_AFTER_S: Final = 3_600.0
"""An hour: a server that asks for more (seen: 60 days) is wrong or down, and one try an hour harms nobody."""

MOST_TOLD: Final = 3
"""Of a group's errors so many stand in its message."""

MAX_MESSAGE_BYTES: Final = 8_192
"""Enough for any message a person reads; some libraries put whole response bodies into theirs."""

MAX_CAUSES: Final = 5
"""Depth of recorded causes: deeper ones repeat what is above them."""

_MAX_WALKED: Final = 1_000  # errors looked through for failed steps: bounds the walk through huge groups

_TRIED_AGAIN: Final = frozenset({FailureKind.TRANSIENT, FailureKind.TIMED_OUT, FailureKind.LOST})


@dataclass(frozen=True, slots=True, kw_only=True)
class RetryPolicy:
    """How often and when to try again, and which errors to try again.

    `attempts` counts every try, the first included. The delay before try n+1 is a random part of
    `min(cap, base · factor^(n-1))`. `transient` and `fatal` name error classes, subclasses included; the nearest
    class of an error wins. `classify` is asked first, and answers None for what it does not know.
    """

    attempts: int = 5
    base: Duration = "1s"
    factor: float = 2.0
    cap: Duration = "60s"
    transient: tuple[type[BaseException], ...] = ()
    fatal: tuple[type[BaseException], ...] = ()
    classify: Callable[[BaseException], FailureKind | None] | None = None

    def __post_init__(self) -> None:
        if not 1 <= self.attempts <= MAX_ATTEMPTS:
            raise UsageError(f"RetryPolicy(attempts={self.attempts!r}): from 1 (no retry) to {MAX_ATTEMPTS}")
        if not (math.isfinite(self.factor) and self.factor >= 1):
            raise UsageError(f"RetryPolicy(factor={self.factor!r}): a finite number, 1 or more")
        base_s, cap_s = seconds(self.base), seconds(self.cap)
        if not base_s <= cap_s <= MAX_CAP_S:
            raise UsageError(
                f"RetryPolicy(base={self.base!r}, cap={self.cap!r}): the base may not exceed the cap, the cap not a day"
            )
        for field, classes in (("transient", self.transient), ("fatal", self.fatal)):
            _check_classes(field, classes)
        both = set(self.transient) & set(self.fatal)
        if both:
            names = ", ".join(sorted(one.__name__ for one in both))
            raise UsageError(f"RetryPolicy: {names} cannot be both transient and fatal")


def _check_classes(field: str, classes: object) -> None:
    if not isinstance(classes, tuple):
        raise UsageError(f"RetryPolicy({field}={classes!r}): a tuple of error classes, such as (ValueError,)")
    for one in cast("tuple[object, ...]", classes):
        if not (isinstance(one, type) and issubclass(one, BaseException)):
            raise UsageError(f"RetryPolicy({field}=…): {one!r} is not an error class")


# --- what an error means ------------------------------------------------------------------------------------


def classify(error: BaseException, policy: RetryPolicy) -> Failure:
    """The error as a Failure, without frames. Whatever the error's own methods do, this does not raise."""
    return _failure(error, policy, MAX_CAUSES, _entries(error))


def _failure(error: BaseException, policy: RetryPolicy, depth: int, entries: tuple[int, ...] = ()) -> Failure:
    kind, cause = _kind(error, policy), _cause(error, policy, depth)
    return Failure(
        kind=kind or FailureKind.TRANSIENT,
        type=type(error).__name__,
        message=_message(error),
        retry_after_s=_asked_delay_s(error),
        unclassified=kind is None,
        cause=cause,
        entries=entries,
    )


def _kind(error: BaseException, policy: RetryPolicy) -> FailureKind | None:
    """None: nobody knows this error."""
    declared = _declared_kind(error, policy)
    if declared is not None:
        return declared
    members = _members(error)
    return _group_kind([_kind(member, policy) for member in members]) if members else known_kind(error)


def _members(error: BaseException) -> tuple[BaseException, ...]:
    """The errors of a group; () for any other error (a group is never empty)."""
    if not isinstance(error, BaseExceptionGroup):
        return ()
    return cast("BaseExceptionGroup[BaseException]", error).exceptions


def _declared_kind(error: BaseException, policy: RetryPolicy) -> FailureKind | None:
    if policy.classify is not None:
        try:
            answer = policy.classify(error)
            if answer is not None:
                return FailureKind(answer)
        except Exception:  # noqa: BLE001 - a user's function: its bug must not hide the error it was asked about
            return FailureKind.FATAL
    for klass in type(error).__mro__:
        if klass in policy.fatal:
            return FailureKind.FATAL
        if klass in policy.transient:
            return FailureKind.TRANSIENT
    return None


def _group_kind(kinds: list[FailureKind | None]) -> FailureKind | None:
    """One member that trying again cannot cure decides for its group; members that were only cancelled do not."""
    rest = [kind for kind in kinds if kind is not FailureKind.CANCELLED]
    if not rest:
        return FailureKind.CANCELLED
    for kind in (FailureKind.FATAL, FailureKind.MISMATCH, FailureKind.CHECKPOINT):
        if kind in rest:
            return kind
    return None if None in rest else FailureKind.TRANSIENT


def _cause(error: BaseException, policy: RetryPolicy, depth: int) -> Failure | None:
    if depth == 0:
        return None
    if isinstance(error, StepFailed):
        return error.failure
    if error.__cause__ is not None:
        return _failure(error.__cause__, policy, depth - 1)
    members = _members(error)
    if not members:
        return None
    kind = _kind(error, policy)
    telling = next((member for member in members if _kind(member, policy) is kind), members[0])
    return _failure(telling, policy, depth - 1)


def _asked_delay_s(error: BaseException) -> float | None:
    members = _members(error)
    if members:
        asked = [delay_s for member in members if (delay_s := _asked_delay_s(member)) is not None]
        return max(asked, default=None)
    if isinstance(error, TransientError):
        delay_s = error.retry_after_s
        return delay_s if delay_s is not None and math.isfinite(delay_s) and delay_s >= 0 else None
    return retry_after_s(error)


def _message(error: BaseException) -> str:
    """What the error says; of a group, what its first members say, too."""
    members = (f"{type(member).__name__}: {_text(member)}" for member in _members(error)[:MOST_TOLD])
    return _cut(": ".join((_text(error), "; ".join(members))) if _members(error) else _text(error))


def _text(error: BaseException) -> str:
    try:
        return str(error)
    except Exception:  # noqa: BLE001 - foreign code: an error that cannot say what it is is still an error
        return f"(its message cannot be read: str() of {type(error).__name__} raised)"


def _cut(text: str) -> str:
    encoded = text.encode("utf-8", "replace")  # a lone surrogate, of a file's name say, cannot be recorded
    if len(encoded) <= MAX_MESSAGE_BYTES:
        return encoded.decode()
    return f"{encoded[:MAX_MESSAGE_BYTES].decode(errors='ignore')}… (cut: {len(encoded)} bytes in all)"


def _entries(error: BaseException) -> tuple[int, ...]:
    """The positions of the failed steps in the error, its causes, contexts and groups."""
    found: set[int] = set()
    seen: set[int] = set()
    ahead: list[BaseException | None] = [error]
    while ahead and len(seen) < _MAX_WALKED:
        one = ahead.pop()
        if one is None or id(one) in seen:
            continue
        seen.add(id(one))
        if isinstance(one, StepFailed):
            found.add(one.entry)
        ahead += (*_members(one), one.__cause__, one.__context__)
    return tuple(sorted(found))


# --- when to try again --------------------------------------------------------------------------------------


def next_delay_s(policy: RetryPolicy, failure: Failure, tries: int, chance: float) -> float | None:
    """Seconds until the next try, or None: give up. `tries` counts the failed ones, this one included;
    `chance` is uniform in [0, 1)."""
    if not worth_another(failure) or tries >= policy.attempts:
        return None
    delay_s = _ceiling_s(policy, tries) * chance
    if failure.retry_after_s is None:
        return delay_s
    return max(delay_s, min(failure.retry_after_s, MAX_RETRY_AFTER_S))


def worth_another(failure: Failure) -> bool:
    """Whether a failure of this kind is one that trying again may cure."""
    return failure.kind in _TRIED_AGAIN


def _ceiling_s(policy: RetryPolicy, tries: int) -> float:
    base_s, cap_s = seconds(policy.base), seconds(policy.cap)
    if base_s == 0:
        return 0.0
    try:
        return min(cap_s, base_s * policy.factor ** (tries - 1))
    except OverflowError:
        return cap_s


def exhausted(step: str, failure: Failure, tries: int) -> Failure:
    """Every permitted try of `step` failed: one failure that carries the last one, and keeps its kind.

    A failure that trying again cannot cure exhausts nothing, and is returned as it is.
    """
    if not worth_another(failure):
        return failure
    times = "once, and no further try is allowed" if tries == 1 else f"{tries} times, every try allowed"
    return Failure(
        kind=failure.kind,
        type="RetriesExhausted",
        message=_cut(f"{step} failed {times}; the last error was {failure.summary()}"),
        unclassified=failure.unclassified,
        cause=failure,
        entries=failure.entries,
    )
