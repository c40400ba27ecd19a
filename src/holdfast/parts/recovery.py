"""A retry policy that runs something by itself: the rules of a step's retries, without a run."""

from __future__ import annotations

import asyncio
import inspect
import random
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TypeVar, TypeVarTuple, cast, overload

from holdfast.errors import RetriesExhausted
from holdfast.rules import retry as rules
from holdfast.threads import run_in_thread

R = TypeVar("R")
Ts = TypeVarTuple("Ts")


@dataclass(frozen=True, slots=True, kw_only=True)
class RetryPolicy(rules.RetryPolicy):
    """How often and when to try again, and which errors to try again.

    `attempts` counts every try, the first included. The delay before try n+1 is a random part of
    `min(cap, base · factor^(n-1))`. `transient` and `fatal` name error classes, subclasses included; the nearest
    class of an error wins. `classify` is asked first, and answers None for what it does not know.
    """

    @overload
    async def run(self, fn: Callable[[*Ts], Awaitable[R]], *args: *Ts) -> R: ...

    @overload
    async def run(self, fn: Callable[[*Ts], R], *args: *Ts) -> R: ...

    async def run(self, fn: Callable[..., object], *args: object) -> object:
        """Call `fn(*args)`, async or sync (then in a thread), until it returns or there is no sense in trying again.

        An error that trying again cannot cure is raised as it is. When every try failed, RetriesExhausted is raised,
        with the last error as its cause. Delays, a server's Retry-After and the classes of errors are those of steps.
        Nothing is recorded: a process that dies begins anew. A cancellation is no failure, and passes at once.
        """
        tries = 0
        while True:
            try:
                return await _call(fn, args)
            except Exception as error:
                tries += 1
                failure = rules.classify(error, self)
                chance = random.random()  # noqa: TID251 - jitter outside of any run: nothing is replayed
                delay_s = rules.next_delay_s(self, failure, tries, chance)
                if delay_s is None:
                    name = getattr(fn, "__name__", type(fn).__name__)
                    told = rules.exhausted(name, failure, tries)
                    if told is failure:
                        raise
                    raise RetriesExhausted(told.message, failure) from error
            await asyncio.sleep(delay_s)


async def _call(fn: Callable[..., object], args: tuple[object, ...]) -> object:
    called = fn if inspect.isroutine(fn) else getattr(fn, "__call__", fn)  # noqa: B004 - an object's own
    if inspect.iscoroutinefunction(fn) or inspect.iscoroutinefunction(called):
        return await cast("Awaitable[object]", fn(*args))
    result = await run_in_thread(fn, args).future
    if inspect.isawaitable(result):  # a lambda or a partial round an async function
        return await result
    return result
