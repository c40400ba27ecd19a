"""One run in virtual time: what it takes of one's own time, what a plan makes of it, and how it is told."""

from __future__ import annotations

import asyncio
import sys
import threading
import time
from collections import Counter
from dataclasses import dataclass, field
from datetime import timedelta

import pytest

from holdfast import (
    Context,
    Every,
    FatalError,
    RetryPolicy,
    RunFailed,
    RunHandle,
    StepFailed,
    TransientError,
    agent,
)
from holdfast.errors import RunCancelled, UsageError
from holdfast.testing import NotOver, simulate

executed: Counter[str] = Counter()
left: list[str] = []


@pytest.fixture(autouse=True)
def nothing_done() -> None:
    executed.clear()
    left.clear()


@dataclass
class Work:
    done: int = 0
    words: list[str] = field(default_factory=list)


async def act(word: str) -> str:
    executed[word] += 1
    await asyncio.sleep(0)
    return word.upper()


@agent
async def patient(ctx: Context, days: int) -> list[str]:
    state = ctx.restore(Work)
    while state.done < days:
        state.words.append(await ctx.step(act, f"a{state.done}"))
        await ctx.sleep("1d")
        state.done += 1
        await ctx.checkpoint(state)
    return state.words


def test_days_of_sleep_take_none_of_ones_own_time() -> None:
    began = time.monotonic()
    trial = simulate(patient, 30)
    assert time.monotonic() - began < 10
    assert trial.result == [f"A{n}" for n in range(30)]
    assert timedelta(days=30) <= trial.took < timedelta(days=30, minutes=1)
    assert len(trial.steps) == 60
    assert trial.run.state == "succeeded"


def test_backoffs_and_step_timeouts_and_deadlines_are_virtual() -> None:
    async def flaky() -> str:
        executed["flaky"] += 1
        if executed["flaky"] < 4:
            raise TransientError("not yet")
        return "at last"

    async def endless() -> None:
        await asyncio.sleep(10**6)

    @agent(retry=RetryPolicy(attempts=5, base="1h", cap="1h"), deadline="30d")
    async def trying(ctx: Context) -> str:
        word = await ctx.step(flaky)
        with pytest.raises(StepFailed):
            await ctx.step(endless, timeout="2h", retry=RetryPolicy(attempts=1))
        return word

    assert simulate(trying).result == "at last"

    @agent(deadline="1h")
    async def late(ctx: Context) -> None:
        await ctx.sleep("2h")

    ended = simulate(late)
    with pytest.raises(RunFailed, match="deadline"):
        ended.result  # noqa: B018
    assert timedelta(hours=1) <= ended.took < timedelta(hours=1, seconds=1)


@pytest.mark.parametrize(
    "plan", ["1-", "1+", "2-", "3+", "2+,1-", "1-,1-", "3-,2+ seed=4", "4+ save=never", "9-"]
)
def test_a_crash_is_a_death_and_what_is_durable_is_not_done_again(plan: str) -> None:
    @agent(name="finally")
    async def cleaning(ctx: Context) -> list[str]:
        try:
            state = ctx.restore(Work)
            while state.done < 3:
                state.words.append(await ctx.step(act, f"a{state.done}"))
                state.done += 1
                await ctx.checkpoint(state, force=True)
            assert left == []  # nobody left a try block before: the dead do not
            return state.words
        finally:
            left.append("finally")

    assert simulate(cleaning, plan=plan).result == ["A0", "A1", "A2"]
    lost = plan.count("-") if plan != "9-" else 0
    assert sum(executed.values()) - 3 <= lost


def test_the_newest_checkpoint_can_be_found_corrupt() -> None:
    trial = simulate(patient, 4, plan="9+ save=always corrupt")
    assert trial.result == ["A0", "A1", "A2", "A3"]
    assert set(executed.values()) == {1}


def test_a_seed_is_one_order_of_what_is_concurrent() -> None:
    @agent
    async def crowded(ctx: Context) -> list[str]:
        return await ctx.map(act, [f"w{n}" for n in range(6)])

    def order(plan: str) -> tuple[str, ...]:
        trial = simulate(crowded, plan=plan)
        assert trial.result == [f"W{n}" for n in range(6)]
        return tuple(entry.identity.scope for entry in trial.entries)

    assert order("seed=1") == order("seed=1")
    assert len({order(f"seed={seed}") for seed in range(10)}) > 5


def test_the_rest_of_the_world_signals_and_cancels() -> None:
    @agent
    async def waiting(ctx: Context) -> str:
        word = await ctx.wait_for("go", str)
        return await ctx.step(act, word)

    async def editor(handle: RunHandle[str]) -> None:
        await asyncio.sleep(86_400)
        await handle.signal("go", "yes")

    trial = simulate(waiting, outside=editor)
    assert trial.result == "YES"
    assert trial.took >= timedelta(days=1)

    async def spoiler(handle: RunHandle[str]) -> None:
        await handle.cancel()

    with pytest.raises(RunCancelled):
        simulate(waiting, outside=spoiler).result  # noqa: B018


def test_a_run_that_nothing_moves_says_what_it_waits_for() -> None:
    @agent
    async def waiting(ctx: Context) -> object:
        return await ctx.wait_for("go")

    with pytest.raises(NotOver, match="it waits for the signal 'go', and nobody sends it: give `outside=`"):
        simulate(waiting).result  # noqa: B018

    @agent
    async def endless(ctx: Context) -> None:
        while True:
            await ctx.sleep("1h")

    with pytest.raises(NotOver, match="it is not over after 2 days"):
        simulate(endless, within="2d").result  # noqa: B018


def test_an_error_of_the_outside_world_is_the_test_s_own() -> None:
    @agent
    async def waiting(ctx: Context) -> object:
        return await ctx.wait_for("go")

    async def broken(handle: RunHandle[object]) -> None:
        raise ZeroDivisionError("outside")

    with pytest.raises(ZeroDivisionError, match="outside"):
        simulate(waiting, outside=broken)


def test_threads_and_child_processes_are_real_and_time_waits_for_them() -> None:
    def slow(word: str) -> str:
        time.sleep(0.05)
        assert threading.current_thread() is not threading.main_thread()
        return word.upper()

    async def child() -> str:
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-c", "print('from a child')", stdout=asyncio.subprocess.PIPE
        )
        out, _ = await process.communicate()
        return out.decode().strip()

    async def hop() -> str:
        return await asyncio.to_thread(slow, "hop")

    @agent
    async def working(ctx: Context) -> list[str]:
        return [
            await ctx.step(slow, "a", timeout="10m"),
            await ctx.step(child, timeout="10m"),
            await ctx.step(hop, timeout="10m"),
        ]

    trial = simulate(working)
    assert trial.result == ["A", "from a child", "HOP"]
    assert trial.took < timedelta(minutes=1)


async def test_a_trial_can_be_made_where_an_event_loop_runs() -> None:
    assert simulate(patient, 1).result == ["A0"]


def test_the_dead_reach_no_store_and_end_only_when_all_is_over() -> None:
    at_the_end: list[int] = []

    @agent(checkpoint=Every(steps=1))
    async def stubborn(ctx: Context) -> int:
        ctx.restore(Work)
        try:
            await ctx.step(act, "one")
            await ctx.step(act, "two")
        finally:
            at_the_end.append(ctx.attempt)
        return ctx.attempt

    assert simulate(stubborn, plan="2-").result == 2
    assert at_the_end == [2, 1]  # the dead one last, when it was cleaned up


@pytest.mark.parametrize("plan", ["x", "3", "0-", "seed=", "save=sometimes"])
def test_a_plan_that_is_none_says_how_to_write_one(plan: str) -> None:
    with pytest.raises(UsageError, match="write crashes as 3-"):
        simulate(patient, 1, plan=plan)


def test_an_agent_that_fails_raises_what_its_run_would() -> None:
    @agent
    async def failing(ctx: Context) -> None:
        raise FatalError("no use")

    with pytest.raises(RunFailed, match="no use"):
        simulate(failing).result  # noqa: B018
