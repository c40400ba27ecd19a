"""Loops as agents meet them: told, then parked for a person, the same after every resume."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import pytest

from holdfast import Context, Cost, FatalError, RunState, StepFailed, Worker, agent
from holdfast.cli.explain import explain
from holdfast.errors import UsageError
from holdfast.model import Reason
from holdfast.store.protocol import Store
from holdfast.testing import assert_survives_crashes
from tests.faults import CrashingStore, Engine

executed: Counter[str] = Counter()
answers: dict[str, str] = {}


@pytest.fixture(autouse=True)
def _fresh() -> None:
    executed.clear()
    answers.clear()


async def search(what: str) -> str:
    executed[what] += 1
    return answers.get(what, "nothing")


async def broken(what: str) -> str:
    executed[what] += 1
    raise FatalError("no such page")


async def ask(history: list[str]) -> str:
    executed["ask"] += 1
    return "let me think"


async def told(engine: Engine, kind: str) -> list[dict[str, Any]]:
    return [json.loads(event.payload) for event in await engine.events() if event.type == kind]


@agent
async def stubborn(ctx: Context, times: int) -> list[str | None]:
    nudges: list[str | None] = []
    for n in range(times):
        await ctx.step(search, "kelp", key=str(n), tool=True)
        nudges.append(ctx.nudge)
    return nudges


async def test_the_agent_is_told_after_three_turns_and_once_in_the_feed(engine: Engine) -> None:
    nudges = await engine.finish(stubborn, 5)
    assert nudges[:2] == [None, None]
    assert nudges[2] == (
        "search was called 3 times with the same arguments and returned the same: doing it again will not help. "
        "Try something else, or say what is missing."
    )
    assert nudges[4] is not None
    (nudged,) = await told(engine, "loop.nudged")
    assert (nudged["rule"], nudged["turns"], nudged["tools"], nudged["arguments"]) == (
        "repeated",
        3,
        ["search"],
        "('kelp',)",
    )


async def test_six_turns_park_the_run_with_the_repeated_action_shown_and_resume_goes_on(
    engine: Engine,
) -> None:
    handle = await engine.client.start(stubborn, 7, id="r")
    await engine.work(stubborn)
    view = await handle.status()
    assert (view.state, view.reason, executed["kelp"]) == (RunState.WAITING, Reason.LOOP, 6)
    (parked,) = await told(engine, "loop.parked")
    assert (await handle.detail()).stopped_by == parked
    assert parked["arguments"] == "('kelp',)"
    await handle.resume()
    await engine.work(stubborn)
    assert (await handle.result())[6] is not None
    assert executed["kelp"] == 7


async def test_a_loop_that_goes_on_is_parked_again(engine: Engine) -> None:
    handle = await engine.client.start(stubborn, 14, id="r")
    for parked_at in (6, 12):
        await engine.work(stubborn)
        assert (await handle.status()).reason is Reason.LOOP
        assert executed["kelp"] == parked_at
        await handle.resume()
    await engine.work(stubborn)
    assert len(await handle.result()) == 14


@dataclass
class Chat:
    turns: int = 0
    said: list[str] = field(default_factory=list)


@agent
async def chatting(ctx: Context, times: int) -> list[str]:
    chat = ctx.restore(Chat)
    while chat.turns < times:
        await ctx.step(search, "kelp", tool=True)
        nudge = ctx.nudge
        if nudge:  # another call, so that a replay which says otherwise is a mismatch
            chat.said.append(await ctx.step(str, nudge[:9], name="rethink"))
        chat.turns += 1
        await ctx.checkpoint(chat)
    return chat.said


def test_a_nudge_is_the_same_after_a_crash_anywhere_whatever_was_saved() -> None:
    assert assert_survives_crashes(chatting, 5, most=80) == ["search wa"] * 3


async def test_a_checkpoint_at_every_turn_hides_no_loop(engine: Engine) -> None:
    handle = await engine.client.start(chatting, 9, id="r")
    await engine.work(chatting, crash_at=8, after=True)
    await engine.work(chatting)
    assert (await handle.status()).reason is Reason.LOOP
    assert executed["kelp"] == 6
    await handle.resume()
    await engine.work(chatting)
    assert len(await handle.result()) == 7


@agent
async def failing(ctx: Context, times: int) -> int:
    for _ in range(times):
        try:
            await ctx.step(broken, "kelp", tool=True)
        except StepFailed:
            pass
    return times


async def test_the_same_error_five_times_parks(engine: Engine) -> None:
    handle = await engine.client.start(failing, 9, id="r")
    await engine.work(failing)
    assert (await handle.status()).reason is Reason.LOOP
    assert executed["kelp"] == 5
    assert (await told(engine, "loop.parked"))[0]["rule"] == "failed"


@agent
async def polling(ctx: Context, times: int) -> str | None:
    for _ in range(times):
        await ctx.step(search, "kelp", tool=True, poll=True)
    return ctx.nudge


async def test_a_poll_may_ask_as_often_as_it_likes(engine: Engine) -> None:
    assert await engine.finish(polling, 20) is None
    assert executed["kelp"] == 20


async def test_steps_that_are_no_tools_are_not_watched(engine: Engine) -> None:
    @agent(name="plain")
    async def plain(ctx: Context) -> str | None:
        for _ in range(20):
            await ctx.step(search, "kelp")
        return ctx.nudge

    assert await engine.finish(plain) is None


async def test_results_that_differ_are_no_loop(engine: Engine) -> None:
    @agent(name="curious")
    async def curious(ctx: Context) -> str | None:
        for n in range(20):
            answers["kelp"] = str(n)
            await ctx.step(search, "kelp", tool=True)
        return ctx.nudge

    assert await engine.finish(curious) is None


@agent
async def pondering(ctx: Context, times: int) -> int:
    history: list[str] = []
    for _ in range(times):
        history.append(await ctx.step(ask, history, cost=Cost(usd=0)))
    return times


async def test_a_model_that_only_says_the_same_is_parked_after_eight_times(engine: Engine) -> None:
    handle = await engine.client.start(pondering, 20, id="r")
    await engine.work(pondering)
    assert (await handle.status()).reason is Reason.LOOP
    assert executed["ask"] == 8
    assert (await told(engine, "loop.parked"))[0]["rule"] == "said"


@agent
async def ponging(ctx: Context, times: int) -> int:
    for n in range(times):
        await ctx.step(search, "kelp" if n % 2 else "reef", tool=True)
    return times


async def test_two_calls_in_turn_are_parked_after_ten(engine: Engine) -> None:
    handle = await engine.client.start(ponging, 20, id="r")
    await engine.work(ponging)
    assert (await handle.status()).reason is Reason.LOOP
    assert sum(executed.values()) == 10


@agent
async def wide(ctx: Context, times: int) -> str | None:
    for _ in range(times):
        await ctx.map(search, ["kelp"] * 8, key=None, tool=True)
    return ctx.nudge


async def test_identical_calls_side_by_side_are_one_turn(engine: Engine) -> None:
    assert await engine.finish(wide, 2) is None
    assert executed["kelp"] == 16


async def test_a_loop_in_branches_parks_once_nothing_else_moves(engine: Engine) -> None:
    handle = await engine.client.start(wide, 7, id="r")
    await engine.work(wide)
    view = await handle.status()
    assert view.reason is Reason.LOOP
    assert executed["kelp"] == 48, "the eight of the sixth turn are all recorded"
    await handle.resume()
    await engine.work(wide)
    assert await handle.result() is not None
    assert executed["kelp"] == 56


async def circling(ctx: Context) -> None:
    async with ctx.branch("circles"):
        for n in range(9):
            await ctx.step(search, "kelp", key=str(n), tool=True)


async def sleeping(ctx: Context) -> None:
    async with ctx.branch("sleeps"):
        await ctx.sleep("1h")


async def computing(ctx: Context) -> None:
    async with ctx.branch("computes"):
        await ctx.step(asyncio.sleep, 2, name="compute")


@agent
async def beside(ctx: Context, sleeps: bool) -> str:
    async with asyncio.TaskGroup() as group:
        group.create_task(circling(ctx))
        group.create_task(sleeping(ctx) if sleeps else computing(ctx))
    return "done"


async def test_a_loop_beside_a_sleep_waits_for_a_person_all_the_same(engine: Engine) -> None:
    handle = await engine.client.start(beside, True, id="r")
    await engine.work(beside)
    view = await handle.status()
    assert (view.state, view.reason, executed["kelp"]) == (RunState.WAITING, Reason.LOOP, 6)
    assert (await engine.store.get_run("r")).available_at_us is None, "nothing but a person wakes it"
    await handle.resume()
    async with Worker(engine.store, [beside]), asyncio.timeout(20):
        while (await handle.status()).reason is not Reason.SLEEP:
            await engine.store.wait_for_news(1)
    assert executed["kelp"] == 9


async def test_a_loop_that_stands_in_a_branch_stands_after_a_drain(engine: Engine) -> None:
    handle = await engine.client.start(beside, False, id="r")
    async with Worker(engine.store, [beside], drain_timeout=20), asyncio.timeout(20):
        while not await told(engine, "loop.parked"):
            await engine.store.wait_for_news(1)
    await engine.work(beside)
    view = await handle.status()
    assert (view.state, view.reason, executed["kelp"]) == (RunState.WAITING, Reason.LOOP, 6)
    await handle.resume()
    await engine.work(beside)
    assert (await handle.result(), executed["kelp"]) == ("done", 9)


async def test_a_loop_that_stands_in_a_branch_stands_after_the_death_of_its_worker(engine: Engine) -> None:
    handle = await engine.client.start(beside, False, id="r")
    stores: list[CrashingStore] = []

    def through(store: Store) -> CrashingStore:
        stores.append(CrashingStore(store))
        return stores[0]

    async with asyncio.timeout(20):
        working = asyncio.create_task(engine.work(beside, through=through))
        while (await handle.status()).reason is not Reason.LOOP:
            await engine.store.wait_for_news(1)
        view = await handle.status()
        assert view.state is RunState.RUNNING, "its other branch computes"
        explained = explain(view, await handle.detail(), datetime.now(UTC))
        assert "it goes round in circles" in explained.why
        stores[0].dead = True
        assert not await working
    await engine.work(beside)
    view = await handle.status()
    assert (view.state, view.reason, view.attempts) == (RunState.WAITING, Reason.LOOP, 1), (
        "nothing was executed"
    )
    await handle.resume()
    await engine.work(beside)
    assert (await handle.result(), executed["kelp"]) == ("done", 9)


@agent
async def racing(ctx: Context) -> str:
    async def circles() -> str:
        await circling(ctx)
        return "circles"

    async def leaves() -> str:
        await ctx.step(asyncio.sleep, 1, name="compute")
        return "leaves"

    winner, _ = await ctx.race({"circles": circles, "leaves": leaves})
    await ctx.step(asyncio.sleep, 60, name="long")
    return winner


async def test_a_loop_in_a_branch_that_lost_its_race_is_over(engine: Engine) -> None:
    handle = await engine.client.start(racing, id="r")
    async with Worker(engine.store, [racing], drain_timeout=0), asyncio.timeout(20):
        while (await handle.status()).reason is not Reason.LOOP:
            await engine.store.wait_for_news(1)
        while (await handle.status()).step != "long":
            await engine.store.wait_for_news(1)
        assert (await handle.status()).reason is None


async def test_a_model_that_waits_by_polls_is_not_parked(engine: Engine) -> None:
    @agent(name="patient")
    async def patient(ctx: Context) -> str | None:
        for _ in range(20):
            await ctx.step(ask, [], cost=Cost(usd=0))
            await ctx.step(search, "build", tool=True, poll=True)
        return ctx.nudge

    assert await engine.finish(patient) is None


async def test_poll_without_tool_says_what_is_meant(engine: Engine) -> None:
    @agent(name="odd")
    async def odd(ctx: Context) -> str:
        with pytest.raises(UsageError, match="add tool=True"):
            ctx.step(search, "kelp", poll=True)
        return "ok"

    assert await engine.finish(odd) == "ok"
