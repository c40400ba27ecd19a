"""Errors of the user's code as failures: classified, with their own frames, ours cut out."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from dataclasses import replace
from traceback import StackSummary, TracebackException
from typing import Final, cast

from holdfast import codec
from holdfast.errors import HoldfastError, StepFailed, WaitTimedOut
from holdfast.model import Failure, FailureKind
from holdfast.rules import retry as retry_rules
from holdfast.rules.retry import RetryPolicy
from holdfast.tracebacks import is_ours

MAX_CHARS: Final = 16_384
"""Longer tracebacks are cut in the middle: both ends say more than the recursion between them."""
_MAX_LINKS: Final = 50


def failure_of(error: BaseException, policy: RetryPolicy) -> Failure:
    """Classify an error of the user's code and keep their frames of it."""
    return replace(retry_rules.classify(error, policy), frames=user_frames(error))


def cancelling() -> bool:
    """Whether somebody cancels the code that runs now; else its CancelledError came from what it awaited."""
    task = asyncio.current_task()
    return task is None or task.cancelling() > 0


def encode_failure(failure: Failure) -> bytes:
    """A failure as it is recorded."""
    return codec.encode(failure, what="a failure")


def decode_failure(payload: bytes) -> Failure:
    """A recorded failure."""
    return cast("Failure", codec.decode(payload, Failure, what="a recorded failure"))


def timed_out(step: str, *, silent: bool) -> Failure:
    """The step ran longer than its timeout, or said nothing for too long, and has ended."""
    why = "gave no sign of life for too long" if silent else "ran out of its time"
    return Failure(kind=FailureKind.TIMED_OUT, type="TimeoutError", message=f"step {step!r} {why}")


def cancelled_within(step: str, error: asyncio.CancelledError) -> Failure:
    """The body raised CancelledError: something that it awaited was cancelled, not the step."""
    message = f"the body of step {step!r} raised CancelledError, though nobody cancelled the step"
    return Failure(kind=FailureKind.FATAL, type="CancelledError", message=message, frames=user_frames(error))


def refused(error: HoldfastError) -> Failure:
    """The code of the run cannot be executed at all."""
    return Failure(kind=FailureKind.FATAL, type=type(error).__name__, message=str(error))


def stuck(step: str, *, alone: bool) -> Failure:
    """The sync step ran longer than its timeout and does not end. `alone`: in a process of its own."""
    message = f"the sync step {step!r} outlived its timeout, and was ended with its process"
    if not alone:
        message = (
            f"the sync step {step!r} outlived its timeout and cannot be stopped inside the worker's process; "
            "the worker replaces itself. Give the blocking call a timeout of its own, or the agent isolation='process'"
        )
    return Failure(kind=FailureKind.TIMED_OUT, type="TimeoutError", message=message)


def user_frames(error: BaseException) -> str:
    """The traceback of `error` and its causes as text, without frames of holdfast; "" when none is left."""
    trace = TracebackException.from_exception(error, compact=True)
    kept = sum(_cut(link) for link in _chain(trace))
    if not kept:
        return ""
    # A lone surrogate, in the name of a file say, cannot be recorded.
    text = "".join(trace.format()).encode("utf-8", "replace").decode()
    if len(text) <= MAX_CHARS:
        return text
    half = MAX_CHARS // 2
    return f"{text[:half]}\n… {len(text) - MAX_CHARS} characters left out …\n{text[-half:]}"


def recorded_failures(error: BaseException) -> tuple[StepFailed | WaitTimedOut, ...]:
    """The recorded failures in `error`: itself, its causes, contexts and groups."""
    found: dict[int, StepFailed | WaitTimedOut] = {}
    seen: set[int] = set()
    todo: list[BaseException] = [error]
    while todo and len(seen) < _MAX_LINKS:
        link = todo.pop()
        if id(link) in seen:
            continue
        seen.add(id(link))
        if isinstance(link, StepFailed | WaitTimedOut):
            found.setdefault(link.entry, link)
        if isinstance(link, BaseExceptionGroup):
            todo.extend(cast("BaseExceptionGroup[BaseException]", link).exceptions)
        todo.extend(near for near in (link.__cause__, link.__context__) if near is not None)
    return tuple(found.values())


def _chain(trace: TracebackException) -> Iterator[TracebackException]:
    todo = [trace]
    for _ in range(_MAX_LINKS):
        if not todo:
            return
        link = todo.pop()
        yield link
        todo.extend(near for near in (link.__cause__, link.__context__) if near is not None)
        todo.extend(link.exceptions or ())


def _cut(link: TracebackException) -> int:
    theirs = [frame for frame in link.stack if not is_ours(frame)]
    link.stack = StackSummary.from_list(theirs)
    return len(theirs)
