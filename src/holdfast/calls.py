"""One call of a step's body: async on the loop, sync in a thread of ours, each under its own timeout."""

from __future__ import annotations

import asyncio
import functools
import inspect
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Final, cast

import msgspec

from holdfast import threads
from holdfast.codec import Shape
from holdfast.errors import UsageError
from holdfast.model import Beside

STUCK_GRACE_S: Final = 30.0
"""How long a sync body may outlive its timeout before its worker must be replaced: a thread cannot be killed."""


class BodyTimedOut(Exception):
    """The body ran longer than the step's timeout. An async body was cancelled; a sync one has ended by now."""


class BodyStuck(Exception):
    """A sync body outlived its timeout and the grace: only the end of the process ends it."""


class Body(msgspec.Struct, frozen=True):
    """What a step executes: `fn(*args)`, and into which shape its result is recorded. `beside` says what comes into
    being with the entry of a result."""

    fn: Callable[..., object]
    args: tuple[object, ...]
    shape: Shape
    is_async: bool
    timeout_s: float | None
    beside: Callable[[object], tuple[Beside, ...]] | None = None


@dataclass(frozen=True, slots=True)
class Spec:
    """What a function brings along: the name of its steps, the shape of its results, whether it is async."""

    name: str | None
    shape: Shape
    is_async: bool


def spec_of(fn: Callable[..., object]) -> Spec:
    """The Spec of a function; a functools.partial counts as the function inside it."""
    while isinstance(fn, functools.partial):
        fn = fn.func
    try:
        return _spec_of(fn)
    except TypeError:  # not hashable
        return _spec_of.__wrapped__(fn)


@functools.lru_cache(maxsize=1024)
def _spec_of(fn: Callable[..., object]) -> Spec:
    if not callable(fn):
        raise UsageError(
            f"a step needs a function, not {type(fn).__name__}; did you call it? write ctx.step(fn, arg)"
        )
    name = getattr(fn, "__name__", None)
    name = None if name == "<lambda>" else name
    called = fn if inspect.isroutine(fn) else type(fn).__call__
    return Spec(
        name, Shape.of(fn, f"the result of step {name or 'lambda'!r}"), inspect.iscoroutinefunction(called)
    )


async def execute(body: Body, on_stuck: Callable[[bool], None], stray: list[threads.ThreadCall]) -> object:
    """Run the body and return what it returned.

    Raises what it raised, BodyTimedOut or BodyStuck. A thread that is left behind is appended to `stray`.
    """
    if body.is_async:
        called = cast("Awaitable[object]", body.fn(*body.args))
        return await (called if body.timeout_s is None else _in_time(called, body.timeout_s))
    result = await _in_thread(body, on_stuck, stray)
    if inspect.isawaitable(result):  # a lambda or a partial round an async function
        return await (result if body.timeout_s is None else _in_time(result, body.timeout_s))
    return result


async def _in_time(awaitable: Awaitable[object], timeout_s: float) -> object:
    clock = asyncio.timeout(timeout_s)
    try:
        async with clock:
            return await awaitable
    except TimeoutError as error:
        if clock.expired():
            raise BodyTimedOut from error
        raise


async def _in_thread(body: Body, on_stuck: Callable[[bool], None], stray: list[threads.ThreadCall]) -> object:
    call = threads.run_in_thread(body.fn, body.args)
    try:
        # asyncio.wait, unlike wait_for, leaves the future alone when it is cancelled or times out.
        done, _ = await asyncio.wait({call.future}, timeout=body.timeout_s)
        if done:
            return call.future.result()
        on_stuck(True)
        done, _ = await asyncio.wait({call.future}, timeout=STUCK_GRACE_S)
    finally:
        if not call.future.done():
            stray.append(call)
    if not done:
        raise BodyStuck
    on_stuck(False)
    call.future.exception()
    raise BodyTimedOut
