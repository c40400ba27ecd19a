"""Budgets as agents use them: reserved before, settled after, parked with everything kept, raised and gone on."""

from __future__ import annotations

import asyncio
import json
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from typing import Any

import pytest

from holdfast import (
    Budget,
    Context,
    Cost,
    Done,
    Price,
    Prices,
    RateLimit,
    RetryPolicy,
    RunState,
    Schedule,
    StepFailed,
    TransientError,
    Worker,
    agent,
    step_context,
)
from holdfast.branches import together
from holdfast.cli.explain import explain
from holdfast.errors import RunFailed, UsageError
from holdfast.model import BudgetChange, Park, Reason, Unit
from holdfast.store import open_store
from holdfast.testing import assert_survives_crashes, simulate
from tests.faults import Engine

CENT = Prices({"m": Price(tokens_in=0, tokens_out=10_000)})
"""A token that is made costs a cent."""
executed: Counter[str] = Counter()


@pytest.fixture(autouse=True)
def _fresh() -> None:
    executed.clear()


def tokens(count: int, model: str = "m") -> Cost:
    return Cost(model=model, max_tokens_out=count)


async def ask(what: str, uses: int = 10) -> str:
    executed[what] += 1
    step_context.used(model="m", tokens_out=uses)
    return what


async def plain(what: str) -> str:
    executed[what] += 1
    return what


async def until(condition: Callable[[], Awaitable[bool]], pause_s: float = 0.02) -> None:
    while not await condition():  # noqa: ASYNC110 - the store is asked, as others would
        await asyncio.sleep(pause_s)


async def spent(engine: Engine, scope: str = "r") -> dict[str, tuple[float | None, float, float]]:
    view = await engine.client.budgets.get(scope)
    assert view is not None
    return {str(one.unit): (one.limit, one.used, one.reserved) for one in view.units}


async def told(engine: Engine, kind: str, id: str = "r") -> list[dict[str, Any]]:
    return [json.loads(event.payload) for event in await engine.events(id) if event.type == kind]


@agent(budget=Budget(usd=1), prices=CENT)
async def asking(ctx: Context, count: int, estimate: int = 20) -> list[str]:
    return [await ctx.step(ask, f"q{n}", cost=tokens(estimate)) for n in range(count)]


# --- one run ----------------------------------------------------------------------------------------------------


async def test_what_a_body_says_it_used_is_charged_instead_of_its_estimate(engine: Engine) -> None:
    assert await engine.finish(asking, 4) == ["q0", "q1", "q2", "q3"]
    found = await spent(engine)
    assert found["usd"] == (1, 0.4, 0)
    assert found["tokens_out"] == (None, 40, 0)
    assert found["requests"] == (None, 4, 0)
    assert found["steps"] == (None, 4, 0)


async def test_a_full_budget_parks_the_run_with_everything_kept_and_a_raise_goes_on(engine: Engine) -> None:
    handle = await engine.client.start(asking, 12, id="r")
    assert await engine.work(asking)
    view = await handle.status()
    assert (view.state, view.reason) == (RunState.WAITING, Reason.BUDGET)
    assert sum(executed.values()) == 9, "of the tenth the estimate does not fit"
    (reached,) = await told(engine, "budget.reached")
    assert (reached["step"], reached["scope"], reached["unit"]) == ("ask", "run:r", "usd")
    assert (await handle.detail()).stopped_by == reached
    assert await engine.work(asking), "nothing is due"
    assert sum(executed.values()) == 9
    await engine.client.budgets.raise_by("r", Budget(usd=0.5))
    assert await engine.work(asking)
    assert await handle.result() == [f"q{n}" for n in range(12)]
    assert set(executed.values()) == {1}
    assert (await spent(engine))["usd"] == (1.5, 1.2, 0)
    told_at = [(one["used"], one["hard"]) for one in await told(engine, "budget.soft")]
    assert told_at == [(800_000_000, 1_000_000_000), (1_200_000_000, 1_500_000_000)], "once for each limit"


async def test_a_replay_reserves_nothing_and_charges_nothing(engine: Engine) -> None:
    await engine.client.start(asking, 4, id="r")
    assert not await engine.work(asking, crash_at=4, after=True)
    assert await engine.work(asking)
    assert (await spent(engine))["requests"] == (None, 4, 0)


async def test_a_call_larger_than_the_whole_shared_budget_parks_and_a_raise_goes_on(engine: Engine) -> None:
    await engine.client.budgets.set("agent:asking", Budget(usd=0.5), per="1s")
    handle = await engine.client.start(asking, 1, 70, id="r")
    assert await engine.work(asking)
    view, detail = await handle.status(), await handle.detail()
    assert (view.state, view.reason, detail.due_at) == (RunState.WAITING, Reason.BUDGET, None)
    assert not executed
    explained = explain(view, detail, datetime.now(UTC))
    assert explained.why == (
        "step 'ask' may use $0.70, and the whole budget of agent:asking is $0.50: raise it, or let the step ask for "
        "less"
    )
    assert explained.ways[0].command == "holdfast budget raise agent:asking --usd 0.20"
    await engine.client.budgets.raise_by("agent:asking", Budget(usd=0.2))
    assert await engine.work(asking)
    assert await handle.result() == ["q0"]


async def test_a_start_has_a_budget_of_its_own(engine: Engine) -> None:
    await engine.client.start(asking, 4, id="r", budget=Budget(requests=2))
    await engine.work(asking)
    assert executed == {"q0": 1, "q1": 1}
    with pytest.raises(UsageError, match="did you mean"):
        await engine.client.start(asking, 4, budget=5)  # type: ignore[arg-type]


@agent(budget=Budget(steps=3, tool_calls=1))
async def counting(ctx: Context, tools: int) -> int:
    for n in range(tools):
        await ctx.step(plain, f"t{n}", tool=True)
    for n in range(4):
        await ctx.step(plain, f"s{n}")
    return tools


async def test_steps_and_tool_calls_count_by_themselves(engine: Engine) -> None:
    handle = await engine.client.start(counting, 0, id="r")
    await engine.work(counting)
    assert (await handle.status()).reason is Reason.BUDGET
    assert (await spent(engine))["steps"] == (3, 3, 0)
    await engine.client.start(counting, 2, id="tools")
    await engine.work(counting)
    assert executed["t0"] == 1 and not executed["t1"]
    assert (await spent(engine, "tools"))["tool_calls"] == (1, 1, 0)


# --- working time -----------------------------------------------------------------------------------------------

PACED = RateLimit("paced", "1/5s")


async def work(seconds: float) -> float:
    await asyncio.sleep(seconds)
    return seconds


async def staggered(ctx: Context, start: float) -> None:
    async with ctx.branch(str(start)):
        await ctx.sleep(start)
        await ctx.step(work, 4)


@agent(budget=Budget(working_s=30))
async def working(ctx: Context) -> str:
    await ctx.step(work, 10)
    await ctx.sleep("1h")
    await ctx.approval("go on?", expires="1h", default="approve")
    for _ in range(3):
        await ctx.step(work, 1, rate=PACED)
    await ctx.map(work, [4, 4, 4, 4])
    async with asyncio.TaskGroup() as group:
        group.create_task(staggered(ctx, 0))
        group.create_task(staggered(ctx, 1))
    await ctx.sleep("10m")
    return "done"


def test_working_time_is_that_of_bodies_alone_and_counts_once_side_by_side() -> None:
    found: list[float] = []

    async def outside(handle: Any) -> None:
        while True:
            await asyncio.sleep(60)
            budget = (await handle.status()).budget
            found.extend(one.used for one in budget.units if one.unit == "working_s")

    assert simulate(working, outside=outside).result == "done"
    assert found[-1] == pytest.approx(22, abs=0.5)


@agent(budget=Budget(working_s=5))
async def tired(ctx: Context) -> str:
    await ctx.step(work, 6)
    await ctx.step(work, 1)
    return "done"


def test_working_time_that_is_used_up_parks_before_the_next_step() -> None:
    async def outside(handle: Any) -> None:
        async def parked() -> bool:
            return (await handle.status()).reason is Reason.BUDGET

        await until(parked, 1)
        more = BudgetChange(add={Unit.WORKING_S: 10_000_000})
        await handle._store.change_budget(f"run:{handle.id}", more)

    assert simulate(tired, outside=outside).result == "done"


# --- what the result says ---------------------------------------------------------------------------------------


def usage_result(**usage: object) -> dict[str, object]:
    return {"text": "hi", "model": "m", "usage": usage}


async def answer(usage: dict[str, object]) -> dict[str, object]:
    return usage_result(**usage)


@agent(budget=Budget(usd=1), prices=CENT)
async def returning(ctx: Context, usage: dict[str, object], costs: bool = True) -> object:
    if costs:
        return await ctx.step(answer, usage, cost=tokens(50))
    return await ctx.step(answer, usage)


@pytest.mark.parametrize("costs", [True, False])
async def test_the_usage_that_a_result_carries_is_charged(engine: Engine, costs: bool) -> None:
    usage = {"input_tokens": 5, "output_tokens": 7, "cache_read_input_tokens": 100}
    await engine.finish(returning, usage, costs)
    found = await spent(engine)
    assert found["usd"] == (1, 0.07, 0)
    assert [found[unit][1] for unit in ("tokens_in", "tokens_out", "tokens_cached", "requests")] == [
        5,
        7,
        100,
        1,
    ]


class Hostile:
    @property
    def usage(self) -> object:
        raise ValueError("not today")


async def hostile() -> Any:
    return Hostile()


@agent(budget=Budget(usd=1), prices=CENT)
async def unlucky(ctx: Context) -> str:
    try:
        await ctx.step(hostile, cost=tokens(50))
    except StepFailed as error:  # it cannot be recorded
        return error.failure.type
    return "recorded"


async def test_an_object_that_raises_when_it_is_asked_fails_no_paid_call(engine: Engine) -> None:
    assert await engine.finish(unlucky) == "NotSerializable"
    assert (await spent(engine))["requests"] == (None, 1, 0)


@pytest.mark.parametrize("count", [-7, "seven", 1.5, True, 10**18])
async def test_a_usage_that_is_garbage_charges_the_estimate_and_says_so(
    engine: Engine, count: object
) -> None:
    await engine.finish(returning, {"input_tokens": 5, "output_tokens": count})
    assert (await spent(engine))["usd"] == (1, 0.5, 0)
    (warning,) = await told(engine, "warning")
    assert warning["code"] == "usage"


async def bad_words(bad: object) -> str:
    step_context.used(tokens_out=bad)  # type: ignore[arg-type]
    return "never"


@agent(budget=Budget(usd=1), prices=CENT, retry=RetryPolicy(attempts=1))
async def saying(ctx: Context, bad: object) -> object:
    return await ctx.step(bad_words, bad, cost=tokens(50))


@pytest.mark.parametrize("bad", [-1, "7", 1.5])
async def test_garbage_that_a_body_says_is_an_error_where_it_says_it(engine: Engine, bad: object) -> None:
    handle = await engine.client.start(saying, bad, id="r")
    await engine.work(saying)
    with pytest.raises(RunFailed, match="no count of tokens"):
        await handle.result()
    assert (await spent(engine))["usd"] == (1, 0, 0), "nothing negative was charged"


async def test_used_is_refused_outside_a_step_and_for_what_is_no_usage() -> None:
    with pytest.raises(UsageError, match="belongs to the body of a step"):
        step_context.used(tokens_out=1)
    with pytest.raises(UsageError, match="int is no usage object"):
        step_context.used(7)


def in_thread(what: str) -> str:
    step_context.used({"prompt_tokens": 1, "completion_tokens": 3}, model="m")
    step_context.used(tokens_out=2, model="m")
    return what


@agent(budget=Budget(usd=1), prices=CENT)
async def threaded(ctx: Context) -> str:
    return await ctx.once("k", in_thread, "k") + await ctx.step(in_thread, "s", cost=tokens(9))


async def test_usage_is_said_from_any_thread_adds_up_and_counts_for_once_too(engine: Engine) -> None:
    assert await engine.finish(threaded) == "ks"
    assert (await spent(engine))["usd"] == (1, 0.1, 0)
    assert (await spent(engine))["requests"] == (None, 4, 0)


# --- prices -----------------------------------------------------------------------------------------------------


@agent(budget=Budget(usd=1), prices=CENT)
async def unpriced(ctx: Context, model: str | None = "x", usd: float | None = None) -> str:
    return await ctx.step(plain, "p", cost=Cost(model=model, max_tokens_out=5, usd=usd))


async def test_a_model_without_price_under_a_limit_of_money_is_an_error_that_names_the_fix(
    engine: Engine,
) -> None:
    handle = await engine.client.start(unpriced, id="r")
    await engine.work(unpriced)
    with pytest.raises(RunFailed, match="model 'x' has no price in the prices given"):
        await handle.result()
    handle = await engine.client.start(unpriced, None, id="s")
    await engine.work(unpriced)
    with pytest.raises(RunFailed, match="names neither a model nor its money"):
        await handle.result()
    assert not executed


async def test_without_a_limit_of_money_tokens_alone_are_charged(engine: Engine) -> None:
    handle = await engine.client.start(unpriced, id="r", budget=Budget(tokens_out=10))
    await engine.work(unpriced)
    assert await handle.result() == "p"
    assert (await spent(engine))["tokens_out"] == (10, 5, 0)
    assert "usd" not in await spent(engine)


async def test_a_cost_may_say_its_money_itself(engine: Engine) -> None:
    await engine.client.start(unpriced, None, 0.25, id="r")
    await engine.work(unpriced)
    assert (await spent(engine))["usd"] == (1, 0.25, 0)


async def test_a_shipped_price_that_is_old_is_said_once(engine: Engine) -> None:
    @agent(name="old", budget=Budget(usd=1))
    async def old(ctx: Context) -> str:
        for n in range(2):
            await ctx.step(plain, f"p{n}", cost=Cost(model="claude-haiku-4-5", max_tokens_out=5))
        return "done"

    await engine.finish(old)
    warnings = [one["code"] for one in await told(engine, "warning")]
    assert warnings == (["stale_prices"] if time.time() > 1776384000 else [])  # half a year after 2025-10-15


# --- failures ---------------------------------------------------------------------------------------------------


async def failing(how: str) -> str:
    executed[how] += 1
    if executed[how] < 3:
        if how == "said":
            step_context.used(model="m", tokens_out=4)
        if how == "slow":
            await asyncio.sleep(60)
        raise TransientError("overloaded")
    return how


@agent(budget=Budget(usd=1), prices=CENT, retry=RetryPolicy(attempts=5, base=0.001))
async def retrying(ctx: Context, how: str) -> str:
    return await ctx.step(failing, how, cost=tokens(20), timeout=0.05 if how == "slow" else None)


@pytest.mark.parametrize(
    ("how", "usd"),
    [
        ("refused", 0.20),  # two tries without usage cost nothing, the last one its estimate
        ("said", 0.28),
        ("slow", 0.60),  # nobody knows what a try used that was cut off
    ],
)
async def test_failed_tries_are_charged_what_they_said_or_may_have_used(
    engine: Engine, how: str, usd: float
) -> None:
    await engine.finish(retrying, how)
    found = await spent(engine)
    assert found["usd"] == (1, pytest.approx(usd), 0)
    assert found["requests"] == (None, 3, 0)
    assert found["steps"] == (None, 1, 0)


@agent(budget=Budget(usd=1), prices=CENT)
async def impatient(ctx: Context) -> str:
    async def overdue() -> None:
        patience.reschedule(
            asyncio.get_running_loop().time()
        )  # only now: before it began nothing would be charged
        await asyncio.sleep(60)

    try:
        async with asyncio.timeout(30) as patience:
            await ctx.step(overdue, cost=tokens(20))
    except TimeoutError:
        pass
    return "gave up"


async def test_a_call_that_the_code_cancels_is_charged_its_estimate(engine: Engine) -> None:
    await engine.finish(impatient)
    assert (await spent(engine))["usd"] == (1, 0.2, 0)


def found_done(what: str) -> Done[str]:
    return Done(what)


@agent(budget=Budget(usd=1), prices=CENT)
async def paying(ctx: Context) -> str:
    return await ctx.step(ask, "pay", cost=tokens(20), effect="once", verify=found_done)


async def test_an_effect_that_does_not_fit_is_not_begun(engine: Engine) -> None:
    handle = await engine.client.start(paying, id="r", budget=Budget(usd=0.25))
    await engine.client.budgets.set("r", Budget(usd=0.0))
    await engine.work(paying)
    view = await handle.status()
    assert (view.reason, executed["pay"]) == (Reason.BUDGET, 0)
    assert [entry.status for entry in await engine.entries()] == [], (
        "no intent: nobody has to ask whether it was done"
    )


# --- crashes ----------------------------------------------------------------------------------------------------


@agent(budget=Budget(usd=5), prices=CENT)
async def surviving(ctx: Context) -> list[str]:
    found = [await ctx.step(ask, f"q{n}", cost=tokens(20)) for n in range(3)]
    found += await ctx.map(plain, ["a", "b"], cost=tokens(5))
    await ctx.sleep("10m")
    return found


def test_a_crash_at_any_commit_is_survived_and_charged_one_call_in_flight_at_most() -> None:
    books: list[tuple[float, float]] = []

    async def outside(handle: Any) -> None:
        books.append((0, 0))
        while True:
            await asyncio.sleep(60)
            budget = (await handle.status()).budget
            books[-1] = next((one.used, one.reserved) for one in budget.units if one.unit == "usd")

    assert_survives_crashes(surviving, outside=outside, most=60)
    assert len(books) > 20
    assert {reserved for _, reserved in books} == {0}, "what was lost is settled"
    assert min(used for used, _ in books) == pytest.approx(0.4), "nothing is forgotten"
    assert max(used for used, _ in books) <= 0.4 + 2 * 0.2 + 1e-9, (
        "two crashes cost two calls in flight at most"
    )
    assert any(used > 0.5 for used, _ in books), "a lost call is charged"


@pytest.mark.parametrize("after", [False, True])
@pytest.mark.parametrize("at", range(1, 5))
async def test_a_crash_between_reserve_and_settle_overspends_one_call_at_most(
    engine: Engine, at: int, after: bool
) -> None:
    handle = await engine.client.start(asking, 4, id="r", budget=Budget(usd=0.55))
    await engine.work(asking, crash_at=at, after=after)
    await engine.work(asking)
    await engine.sweep()
    while (await handle.status()).reason is Reason.BUDGET:
        await engine.client.budgets.raise_by("r", Budget(usd=0.2))
        await engine.work(asking)
    await handle.result()
    billed = sum(executed.values()) * 0.1
    _, used, reserved = (await spent(engine))["usd"]
    assert reserved == 0
    assert billed - 1e-9 <= used <= billed + 0.2, (
        "the books never say less than the bill, and one estimate more at most"
    )


async def test_a_run_cancelled_in_the_middle_of_a_call_is_charged_its_estimate(engine: Engine) -> None:
    @agent(name="slow", budget=Budget(usd=1), prices=CENT)
    async def slow(ctx: Context) -> float:
        return await ctx.step(work, 60, cost=tokens(20))

    handle = await engine.client.start(slow, id="r")
    async with Worker(engine.store, [slow]):

        async def reserved() -> bool:
            return (await spent(engine)).get("usd") == (1, 0, 0.2)

        await until(reserved)
        await handle.cancel()
    await engine.sweep()
    assert (await spent(engine))["usd"] == (1, 0.2, 0)


# --- shared scopes ----------------------------------------------------------------------------------------------


async def all_stand(handles: list[Any]) -> bool:
    views = [await each.status() for each in handles]
    return all(view.state.final or view.reason is Reason.BUDGET for view in views)


async def test_two_workers_charging_one_project_stay_within_it(engine: Engine) -> None:
    await engine.client.budgets.set("project:reef", Budget(usd=1))
    handles = [await engine.client.start(asking, 4, id=f"r{n}", tags={"project": "reef"}) for n in range(6)]
    async with (
        open_store(engine.url) as other,
        Worker(engine.store, [asking]),
        Worker(other, [asking], name="other"),
        asyncio.timeout(50),
    ):
        await until(lambda: all_stand(handles), 0.1)
    limit, used, reserved = (await spent(engine, "project:reef"))["usd"]
    assert (limit, reserved) == (1, 0)
    assert used == pytest.approx(sum(executed.values()) * 0.1)
    assert 0.8 < used <= 1 + 1e-9
    await engine.client.budgets.raise_by("project:reef", Budget(usd=9))
    await engine.work(asking)
    assert [await each.result() for each in handles] == [["q0", "q1", "q2", "q3"]] * 6


async def hold(what: str) -> str:
    executed[what] += 1
    while not executed["let go"]:  # noqa: ASYNC110 - a body may be anything
        await asyncio.sleep(0.02)
    step_context.used(model="m", tokens_out=1)
    return what


@agent(prices=CENT)
async def holding(ctx: Context) -> str:
    return await ctx.step(hold, "held", cost=tokens(80))


async def test_a_run_beside_a_long_call_is_parked_until_that_leaves_room(engine: Engine) -> None:
    await engine.client.budgets.set("project:reef", Budget(usd=1))
    holder = await engine.client.start(holding, id="h", tags={"project": "reef"})
    async with Worker(engine.store, [holding, asking]), asyncio.timeout(50):
        await until(lambda: _is(executed["held"]))
        handle = await engine.client.start(asking, 1, 50, id="r", tags={"project": "reef"})
        await until(lambda: all_stand([handle]))
        explained = explain(await handle.status(), await handle.detail(), datetime.now(UTC))
        assert "$0.80 reserved; it goes on when they make room, or looks again in" in explained.why
        executed["let go"] += 1
        assert await handle.result() == ["q0"], "long before it looks again by itself"
        assert await holder.result() == "held"
        assert (await handle.status()).attempts == 2


async def _is(what: object) -> bool:
    return bool(what)


@agent(budget=Budget(usd=0.35), prices=CENT)
async def parent(ctx: Context) -> list[str]:
    return await ctx.call(middle)


@agent(prices=CENT)
async def middle(ctx: Context) -> list[str]:
    return await ctx.call(leaf)


@agent(prices=CENT)
async def leaf(ctx: Context) -> list[str]:
    return [await ctx.step(ask, f"q{n}", cost=tokens(20)) for n in range(4)]


async def test_a_tree_is_charged_to_its_parked_root_and_a_raise_there_goes_on(engine: Engine) -> None:
    handle = await engine.client.start(parent, id="r")
    await engine.work(parent, middle, leaf)
    assert (await handle.status()).reason is Reason.CHILD
    (low,) = await engine.client.runs(agent="leaf")
    assert low.reason is Reason.BUDGET
    (reached,) = await told(engine, "budget.reached", low.id)
    assert reached["scope"] == "run:r"
    assert (await spent(engine))["usd"] == (0.35, pytest.approx(0.2), 0)
    assert [one.scope for one in await engine.client.budgets.of_run(low.id)] == ["run:r"]
    await engine.client.budgets.raise_by("r", Budget(usd=1))
    await engine.work(parent, middle, leaf)
    assert await handle.result() == ["q0", "q1", "q2", "q3"]
    assert (await spent(engine))["usd"] == (1.35, pytest.approx(0.4), 0)


@agent(prices=CENT)
async def handing(ctx: Context) -> list[str]:
    return await ctx.call(leaf, budget=Budget(usd=0.25))


async def test_the_runs_of_a_schedule_have_the_budget_of_its_agent(engine: Engine) -> None:
    await engine.client.schedules.add(Schedule("hourly", asking, (1,), every="1h"))
    fire = await engine.store.run_schedule_now("hourly")
    assert fire.run is not None
    assert (await spent(engine, fire.run))["usd"] == (1, 0, 0)
    await engine.client.schedules.add(Schedule("hourly", leaf, (), every="1h"))
    fire = await engine.store.run_schedule_now("hourly")
    assert await engine.client.budgets.get(str(fire.run)) is None


async def test_a_child_may_have_a_budget_of_its_own(engine: Engine) -> None:
    await engine.client.start(handing, id="r")
    await engine.work(handing, leaf)
    (low,) = await engine.client.runs(agent="leaf")
    assert low.reason is Reason.BUDGET
    assert sum(executed.values()) == 1


async def test_branches_that_do_not_fit_beside_each_other_wait_for_each_other(engine: Engine) -> None:
    @agent(name="wide", budget=Budget(usd=1), prices=CENT)
    async def wide(ctx: Context) -> list[str]:
        return await ctx.map(ask, [f"q{n}" for n in range(8)], cost=tokens(45))

    handle = await engine.client.start(wide, id="r")
    await engine.work(wide)
    # Two at a time fit by their estimates, all but the last by what they use.
    view = await handle.status()
    assert view.reason is Reason.BUDGET
    assert sum(executed.values()) == 6
    await engine.client.budgets.raise_by("r", Budget(usd=1))
    await engine.work(wide)
    assert await handle.result() == [f"q{n}" for n in range(8)]
    assert set(executed.values()) == {1}


async def test_a_sleep_in_a_branch_wakes_a_run_whose_other_branch_waits_for_its_budget(
    engine: Engine,
) -> None:
    sleeping = Park(reason=Reason.SLEEP, until_us=7)
    lacking = Park(reason=Reason.BUDGET, unfunded=True)
    both = together([sleeping, lacking])
    assert (both.until_us, both.unfunded) == (7, True)
    signal = Park(reason=Reason.SIGNAL, wait_name="go")
    assert together([signal, lacking]).unfunded


# --- what costs nothing -----------------------------------------------------------------------------------------


async def test_a_run_without_a_budget_reserves_nothing_and_has_no_row(engine: Engine) -> None:
    @agent(name="free")
    async def free(ctx: Context) -> str:
        await ctx.step(plain, "p", tool=True)
        return await ctx.step(plain, "q")

    class Watching:
        def __init__(self, store: Any) -> None:
            self._store = store

        def __getattr__(self, name: str) -> Any:
            return getattr(self._store, name)

        async def reserve(self, asked: Any) -> Any:
            raise AssertionError("nothing is reserved")

    handle = await engine.client.start(free, id="r")
    await Worker(Watching(engine.store), [free], until_idle=True).run()  # type: ignore[arg-type]
    assert await handle.result() == "q"
    assert (await handle.status()).budget is None


async def test_a_run_that_uses_a_model_without_a_budget_says_so_once(engine: Engine) -> None:
    @agent(name="careless", prices=CENT)
    async def careless(ctx: Context) -> str:
        await ctx.step(ask, "said", key="a")
        await ctx.step(ask, "asked", cost=tokens(20))
        return await ctx.step(ask, "again", cost=tokens(20))

    await engine.finish(careless)
    assert len(await told(engine, "budget.missing")) == 1
    view = await engine.client.budgets.get("r")
    assert view is not None
    assert {str(one.unit): (one.limit, one.used) for one in view.units}["usd"] == (None, 0.3)


# --- rates that count tokens ------------------------------------------------------------------------------------


async def test_a_rate_in_tokens_takes_the_estimate_and_settles_to_what_was_used(engine: Engine) -> None:
    limit = RateLimit("tpm", "60/m", burst=60, counts="tokens")  # a token is a second

    @agent(name="paced", prices=CENT)
    async def paced(ctx: Context) -> str:
        return await ctx.step(ask, "q", 10, cost=tokens(50), rate=limit)

    await engine.finish(paced)
    await engine.finish(paced, id="s")
    # 10 are booked after the first, so the 50 of the second fit into the burst; beside 50 they would wait 40 s.
    assert [event for event in await engine.events("s") if b"rate" in event.payload] == []


async def test_a_rate_in_tokens_needs_an_estimate_that_fits_its_burst(engine: Engine) -> None:
    limit = RateLimit("tpm", "60/m", burst=10, counts="tokens")

    @agent(name="paced", retry=RetryPolicy(attempts=1))
    async def paced(ctx: Context, costs: bool) -> str:
        return await ctx.step(plain, "q", rate=limit, cost=tokens(11) if costs else None)

    for costs, said in ((True, "costs 11 units"), (False, "needs an estimate")):
        handle = await engine.client.start(paced, costs)
        await engine.work(paced)
        with pytest.raises(RunFailed, match=said):
            await handle.result()
