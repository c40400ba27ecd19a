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
