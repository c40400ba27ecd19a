"""A retry policy by itself: the rules of a step's retries, without a run."""

from __future__ import annotations

import asyncio
import threading
from functools import partial

import pytest

from holdfast import FatalError, RetriesExhausted, RetryPolicy, TransientError
from holdfast.rules import retry as rules

QUICK = RetryPolicy(attempts=3, base=0)


class Flaky:
    """Fails so many times, then returns what it was given."""

    def __init__(self, times: int, error: Exception | None = None) -> None:
        self.calls = 0
        self.times = times
        self.error = error or TransientError("busy")

    async def later(self, value: int) -> int:
        return self.now(value)

    def now(self, value: int) -> int:
        self.calls += 1
        if self.calls <= self.times:
            raise self.error
        return value

    async def __call__(self, value: int) -> int:
        return self.now(value)


async def test_what_fails_for_a_while_is_tried_again() -> None:
    for name in ("later", "now", "__call__"):
        flaky = Flaky(2)
        assert await QUICK.run(getattr(flaky, name), 5) == 5
        assert flaky.calls == 3
    flaky = Flaky(2)
    assert await QUICK.run(flaky, 5) == 5
    assert await QUICK.run(lambda: flaky(6)) == 6
    assert await QUICK.run(partial(flaky.later, 7)) == 7


async def test_retries_that_are_used_up_are_one_error_with_the_last_cause() -> None:
    flaky = Flaky(9)
    with pytest.raises(RetriesExhausted, match=r"later failed 3 times.*busy") as caught:
        await QUICK.run(flaky.later, 5)
    assert caught.value.__cause__ is flaky.error
    assert caught.value.failure.message == "busy"
    assert flaky.calls == 3


@pytest.mark.parametrize("error", [FatalError("never"), FileNotFoundError("x"), KeyError("declared")])
async def test_what_trying_again_cannot_cure_is_raised_as_it_is(error: Exception) -> None:
    flaky = Flaky(9, error)
    with pytest.raises(type(error)) as caught:
        await RetryPolicy(attempts=3, base=0, fatal=(KeyError,)).run(flaky.later, 5)
    assert caught.value is error
    assert flaky.calls == 1


async def test_a_cancellation_is_no_failure() -> None:
    began = asyncio.Event()

    async def stands() -> None:
        began.set()
        await asyncio.Event().wait()

    task = asyncio.create_task(QUICK.run(stands))
    await began.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_a_sync_function_does_not_stand_in_the_way_of_the_loop() -> None:
    released = threading.Event()

    async def release() -> None:
        released.set()

    waiting = asyncio.create_task(QUICK.run(released.wait, 20.0))
    await asyncio.sleep(0)
    await release()
    assert await waiting is True


async def test_a_server_is_waited_for_as_long_as_it_asks(monkeypatch: pytest.MonkeyPatch) -> None:
    slept: list[float] = []

    async def sleep(delay_s: float) -> None:
        slept.append(delay_s)

    monkeypatch.setattr("holdfast.parts.recovery.asyncio.sleep", sleep)
    flaky = Flaky(1, TransientError("busy", retry_after_s=42))
    assert await QUICK.run(flaky.later, 5) == 5
    assert slept == [42]


def test_it_is_the_policy_of_agents_too() -> None:
    assert isinstance(QUICK, rules.RetryPolicy)
    assert RetryPolicy.__doc__ == rules.RetryPolicy.__doc__
