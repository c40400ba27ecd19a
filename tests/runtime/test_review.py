"""What a hostile review found: one run's odd values, calls and exceptions never hurt another run, or a replay."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable
from typing import Any

import pytest

from holdfast import Context, RetryPolicy, StepFailed, agent
from holdfast.model import EntryStatus, RunState
from tests.faults import Engine

ONCE = RetryPolicy(attempts=1)


async def echo(word: str) -> str:
    return word


async def _ended(engine: Engine, odd: Any, **options: Any) -> Any:
    """The run of `odd` after its end; the worker must be alive to execute it, and not hang."""
    await engine.client.start(odd, id="r")
    async with asyncio.timeout(10):
        assert await engine.work(odd, **options)
    return await engine.store.get_run("r")


@pytest.mark.parametrize("where", ["agent", "step"])
async def test_an_error_with_half_a_character_in_its_line_is_recorded(engine: Engine, where: str) -> None:
    def bad() -> None:
        raise FileNotFoundError("caf\udcff.py")

    @agent(retry=ONCE)
    async def opens(ctx: Context) -> None:
        if where == "agent":
            bad()
        await ctx.step(bad)

    run = await _ended(engine, opens)
    assert run.state is RunState.FAILED
    assert "caf?.py" in run.failure.message and "FileNotFoundError: caf?.py" in run.failure.frames


@pytest.mark.parametrize("odd", ["\udcff", 5, "x" * 1001, b"a"])
@pytest.mark.parametrize("where", ["key", "name", "once", "sleep", "signal"])
async def test_a_name_or_key_that_would_not_come_back_is_refused_at_the_call(
    engine: Engine, odd: Any, where: str
) -> None:
    calls: dict[str, Callable[[Context], Any]] = {
        "key": lambda ctx: ctx.step(echo, "a", key=odd),
        "name": lambda ctx: ctx.step(echo, "a", name=odd),
        "once": lambda ctx: ctx.once(odd, echo, "a"),
        "sleep": lambda ctx: ctx.sleep(0, key=odd),
        "signal": lambda ctx: ctx.wait_for(odd),
    }

    @agent(retry=ONCE)
    async def odd_words(ctx: Context) -> None:
        await calls[where](ctx)

    run = await _ended(engine, odd_words)
    assert (run.state, run.failure.kind) == (RunState.FAILED, "fatal")
    assert run.failure.type in ("UsageError", "TypeError") and await engine.entries() == []


async def test_a_key_beyond_ascii_comes_back_as_it_was(engine: Engine) -> None:
    @agent
    async def naive(ctx: Context) -> str:
        word = await ctx.step(echo, "a", key="naïve 🌿")
        await ctx.sleep(1.05)
        return word

    run = await _ended(engine, naive)
    assert (run.state, run.attempts) == (RunState.SUCCEEDED, 2)
