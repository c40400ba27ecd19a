"""The API as users write it. Type checkers must accept each line, and refuse those that say which refusal they want.

Checked by test_typing.py, never executed. A `type: ignore` that mypy does not need, and a `pyright: ignore` that
pyright does not need, is an error: so what is wrong stays refused.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, assert_type

import holdfast
from holdfast import (
    Approval,
    Budget,
    Client,
    Concurrency,
    Context,
    Cost,
    Every,
    Prices,
    RateLimit,
    RetryPolicy,
    RunHandle,
    Worker,
    agent,
    open_store,
)
from holdfast.testing import Replay, Trial, assert_survives_crashes, replay, simulate


@dataclass
class Report:
    lines: list[str]


@dataclass
class State:
    done: int = 0


def count(path: Path, words: list[str]) -> int:
    return len(words)


def shorten(text: str, to: int = 80) -> str:
    return text[:to]


async def fetch(url: str) -> bytes:
    return url.encode()


@agent
async def bare(ctx: Context, path: Path, times: int) -> Report:
    return Report([str(path)] * times)


@agent(name="set-up", deadline="4h", retry=RetryPolicy(attempts=3), checkpoint=Every("30s", steps=10), keep=3)
async def with_settings(ctx: Context, url: str) -> bytes:
    return await ctx.step(fetch, url)


@agent
async def alone(ctx: Context) -> None: ...


@holdfast.agent(version="2")
async def optional(ctx: Context, path: Path, times: int = 3) -> str:
    return str(path) * times


# --- agents that cannot be ------------------------------------------------------------------------------------


def sync(ctx: Context, path: Path) -> int:
    return 1


agent(sync)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]


# --- clients and handles --------------------------------------------------------------------------------------


async def starts_are_typed_after_the_agent(client: Client) -> None:
    handle = await client.start(bare, Path("x"), 3, id="r1", priority=1, queue="slow", delay="5m")
    assert_type(handle, RunHandle[Report])
    assert_type(await handle.result(), Report)
    assert_type(await client.start(with_settings, "https://a"), RunHandle[bytes])
    assert_type(await client.start(alone), RunHandle[None])
    assert_type(await client.start(optional, Path("x"), 5), RunHandle[str])
    assert_type(client.handle(bare, "r1"), RunHandle[Report])
    await client.start(bare, Path("x"), 3, concurrency=Concurrency("customer-7", limit=2))
    await client.start(bare, Path("x"), 3, concurrency="x")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]

    assert_type(await client.start_many(bare, [(Path("x"), 3)]), list[RunHandle[Report]])
    await client.start(bare, "x", 3)  # type: ignore[misc]  # pyright: ignore[reportArgumentType]
    await client.start(bare, Path("x"), "3")  # type: ignore[misc]  # pyright: ignore[reportArgumentType]
    await client.start(bare, Path("x"))  # type: ignore[misc]  # pyright: ignore[reportArgumentType]
    await client.start(bare, Path("x"), 3, 4)  # type: ignore[misc]  # pyright: ignore[reportArgumentType]
    await client.start(alone, 1)  # type: ignore[misc]  # pyright: ignore[reportArgumentType]
    await client.start(fetch, "https://a")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    await client.start(bare, Path("x"), 3, colour=1)  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]


def a_script_runs_an_agent() -> None:
    assert_type(holdfast.run(bare, Path("x"), 3, id="r1"), Report)
    holdfast.run(bare, "x", 3)  # type: ignore[misc]  # pyright: ignore[reportArgumentType]


async def agents_of_all_types_go_into_one_worker() -> None:
    async with open_store("sqlite:///x.db") as store:
        await Worker(store, [bare, with_settings, alone, optional]).run()


async def an_agent_is_called_like_its_function(ctx: Context) -> None:
    assert_type(await bare(ctx, Path("x"), 3), Report)
    await bare(ctx, "x", 3)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]


# --- the context ----------------------------------------------------------------------------------------------


@agent(concurrency=Concurrency(str, limit=2), budget=Budget(usd=5, working_s="2h"), prices=Prices({}))
async def limited(ctx: Context, path: Path) -> int:
    limit = RateLimit("model-api", "500/m", burst=5)
    assert_type(await ctx.map(count_one, [path], rate=limit), list[int])
    assert_type(await ctx.step(count_one, path, cost=Cost(usd=1), tool=True, poll=True), int)
    await ctx.step(count_one, path, cost=5)  # type: ignore[call-overload]  # pyright: ignore[reportCallIssue, reportArgumentType]
    assert_type(ctx.nudge, str | None)
    await ctx.step(count_one, path, rate="500/m")  # type: ignore[call-overload]  # pyright: ignore[reportCallIssue, reportArgumentType]
    return await ctx.step(count_one, path, rate=limit.cost(3))


def count_one(path: Path) -> int:
    return 1


async def steps_are_typed_after_their_function(ctx: Context) -> None:
    assert_type(await ctx.step(count, Path("x"), ["a"]), int)
    assert_type(await ctx.step(shorten, "text"), str)
    assert_type(await ctx.step(shorten, "text", 3), str)
    assert_type(
        await ctx.step(fetch, "https://a", name="get", key="a", timeout=5, retry=RetryPolicy()), bytes
    )
    assert_type(await ctx.step(lambda: 5, name="five"), int)
    assert_type(await ctx.step(functools.partial(shorten, to=3), "text"), str)
    assert_type(await ctx.once("key", count, Path("x"), ["a"]), int)
    assert_type(await ctx.once("key", fetch, "https://a"), bytes)

    await ctx.step(fetch, 1)  # type: ignore[arg-type]  # pyright: ignore[reportCallIssue, reportArgumentType]
    await ctx.step(fetch)  # type: ignore[arg-type, call-arg]  # pyright: ignore[reportCallIssue, reportArgumentType]
    await ctx.step(count, Path("x"), "a")  # type: ignore[arg-type, call-arg]  # pyright: ignore[reportCallIssue, reportArgumentType]


def verdict(url: str) -> holdfast.Done[bytes] | holdfast.NotDone:
    return holdfast.NotDone()


async def verdict_later(url: str) -> holdfast.Done[bytes] | holdfast.GivenUp:
    return holdfast.Done(b"")


async def effects_are_typed(ctx: Context) -> None:
    assert_type(await ctx.step(fetch, "https://a", effect="once", verify=verdict), bytes)
    assert_type(await ctx.step(fetch, "https://a", effect="once", verify=verdict_later, silence="5m"), bytes)
    await ctx.step(fetch, "https://a", effect="once", verify=shorten)  # type: ignore[call-overload]  # pyright: ignore[reportCallIssue, reportArgumentType]
    await ctx.step(fetch, "https://a", effect="twice")  # type: ignore[call-overload]  # pyright: ignore[reportCallIssue, reportArgumentType]
    holdfast.step_context.record(1)
    assert_type(holdfast.step_context.cursor(State), State | None)
    assert_type(holdfast.step_context.cursor(int, 0), int)
    assert_type(holdfast.step_context.idempotency_key, str)


async def state_is_typed(ctx: Context) -> None:
    state = ctx.restore(State)
    assert_type(state, State)
    assert_type(ctx.restore(dict[str, int], default={}), dict[str, int])
    await ctx.checkpoint(state, force=True, name="half")


async def waits_are_typed(ctx: Context) -> None:
    assert_type(await ctx.sleep("5m"), None)
    assert_type(await ctx.wait_for("decision", State, timeout="1h"), State)
    assert_type(await ctx.wait_for("decision"), object)


Verdict = Literal["ship", "wait"]
VERDICTS: tuple[Verdict, ...] = ("ship", "wait")


async def approvals_are_typed_after_their_options(ctx: Context, client: Client) -> None:
    assert_type(await ctx.approval("Sure?"), Approval[Literal["approve", "reject"]])
    assert_type(await ctx.approval("Sure?", ["yes", "no"], expires="2d", default="no"), Approval[str])
    answer = await ctx.approval("Ship?", VERDICTS, escalate="4h", escalate_to="ann", context={"n": 1})
    assert_type(answer.choice, Verdict)
    assert_type(answer.by, str | None)
    await client.start(alone, id="r", signal=("go", {"n": 1}), dedup="k")
    await ctx.approval("Sure?", default="maybe", expires=1)  # type: ignore[call-overload]  # pyright: ignore[reportArgumentType]
    await ctx.approval("Sure?", [1, 2])  # type: ignore[type-var]  # pyright: ignore[reportArgumentType]


# --- children -------------------------------------------------------------------------------------------------


@agent
async def shouter(ctx: Context, text: str) -> str:
    return text.upper()


@agent
async def caller(ctx: Context) -> str:
    assert_type(await ctx.call(shouter, "a", id="c", priority=1, delay="1h", key="k"), str)
    handle = await ctx.start(shouter, "a", on_parent_end="leave")
    assert_type(handle, holdfast.ChildHandle[str])
    assert_type(await handle.result(), str)
    assert_type(await ctx.child(shouter, handle.id).result(), str)
    await handle.cancel()
    await ctx.start(shouter, "a", on_parent_end=holdfast.ParentPolicy.CANCEL)
    await ctx.call(shouter, 1)  # type: ignore[misc]  # pyright: ignore[reportArgumentType]
    await ctx.start(shouter, "a", on_parent_end="kill")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    return handle.id


# --- concurrency ----------------------------------------------------------------------------------------------


@agent
async def together(ctx: Context, urls: list[str]) -> int:
    async def body() -> int:
        return len(await ctx.step(fetch, urls[0]))

    assert_type(await ctx.map(fetch, urls, key=len, limit=3), list[bytes])
    assert_type(await ctx.map(shorten, urls), list[str])
    assert_type(await ctx.map(fetch, urls, return_failures=True), list[bytes | holdfast.StepFailed])
    await ctx.map(fetch, [1, 2])  # type: ignore[arg-type]  # pyright: ignore[reportCallIssue, reportArgumentType]
    assert_type(await ctx.map(shouter, ["a"]), list[str])
    assert_type(await ctx.map(shouter, ["a"], return_failures=True), list[str | holdfast.StepFailed])
    await ctx.map(shouter, [1])  # type: ignore[misc]  # pyright: ignore[reportCallIssue, reportArgumentType]
    key, won = await ctx.race({"a": body})
    assert_type((key, won), tuple[str, int])
    async with ctx.branch("a"):
        await ctx.step(fetch, "x")
    return won


async def plan(client: Client) -> None:
    schedule = holdfast.Schedule(
        "nightly", bare, [Path(), 3], cron="30 2 * * *", catch_up="all", overlap="queue"
    )
    assert_type((await client.schedules.add(schedule)).paused, bool)
    assert_type((await client.schedules.run_now("nightly")).run, "str | None")
    holdfast.Schedule("s", bare, overlap="wait")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]


# --- testing --------------------------------------------------------------------------------------------------


async def outsider(handle: RunHandle[Report]) -> None:
    await handle.signal("go")


async def stranger(handle: RunHandle[bytes]) -> None: ...


def trials_are_typed() -> None:
    trial = simulate(bare, Path("x"), 2, outside=outsider, plan="1+")
    assert_type(trial, Trial[Report])
    assert_type(trial.result, Report)
    assert_type(
        assert_survives_crashes(bare, Path("x"), 2, same=lambda one, two: one.lines == two.lines), Report
    )
    assert_type(replay("r", bare), Replay)
    simulate(bare, "x", 2)  # type: ignore[misc]  # pyright: ignore[reportArgumentType]
    simulate(bare, Path("x"), 2, outside=stranger)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]


# --- artifacts, and each part alone ----------------------------------------------------------------------------


async def artifacts_are_typed(ctx: Context, handle: RunHandle[int]) -> None:
    assert_type(await ctx.artifact("a.txt", b"bytes"), holdfast.Artifact)
    assert_type(await ctx.artifact("a.txt", Path("x"), key="second"), holdfast.Artifact)
    assert_type(await handle.artifacts(), list[holdfast.Artifact])
    assert_type(await handle.read_artifact("id"), bytes)
    await ctx.artifact("a.txt", 5)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]


async def parts_are_typed() -> None:
    async with open_store("sqlite:///x.db") as store:
        state = holdfast.State(store, "a", State)
        assert_type(await state.load(), State)
        assert_type(await state.save(State()), int)
        assert_type(await state.update(lambda one: State(one.done + 1)), State)
        await state.save(5)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
        assert_type(await holdfast.Checkpoints(store, "a").restore(State), State)
        await holdfast.Progress(store, "a").update(1, 2, "words", phase="p")
        async for view in holdfast.Progress(store, "a").watch():
            assert_type(view.percent, float | None)
    assert_type(await RetryPolicy().run(fetch, "https://a"), bytes)
    assert_type(await RetryPolicy().run(shorten, "text", 3), str)
    await RetryPolicy().run(fetch, 1)  # type: ignore[arg-type]  # pyright: ignore[reportCallIssue, reportArgumentType]
    async with holdfast.Queue(limit=2) as queue:
        assert_type(await queue.put(fetch("https://a"), priority=-1), bytes)
    assert_type((await holdfast.Monitor(holdfast.Thresholds()).enforce(1)).niced, tuple[int, ...])
