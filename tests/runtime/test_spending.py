"""Budgets under attack: what is paid is charged at its price, whatever raises, is cut off, huge or cancelled."""

from __future__ import annotations

import asyncio
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from holdfast import (
    Budget,
    Context,
    Cost,
    FatalError,
    Price,
    Prices,
    RateLimit,
    RetryPolicy,
    RunState,
    StepFailed,
    TransientError,
    Worker,
    agent,
    step_context,
)
from holdfast.errors import RunFailed, UsageError
from holdfast.model import BudgetChange, Reason, Unit
from holdfast.store.protocol import Store
from holdfast.testing import simulate
from tests.faults import Engine
from tests.runtime.test_budgets import CENT, ask, executed, plain, spent, tokens, told, work

TWO = Prices({"cheap": Price(tokens_in=0, tokens_out=1), "dear": Price(tokens_in=0, tokens_out=10_000)})


@pytest.fixture(autouse=True)
def _fresh() -> None:
    executed.clear()


# --- money ------------------------------------------------------------------------------------------------------


async def several(how: str) -> str:
    executed[how] += 1
    match how:
        case "two models":
            step_context.used(model="cheap", tokens_out=10)
            step_context.used(model="dear", tokens_out=10)
        case "money and tokens":
            step_context.used(usd=Decimal("0.5"))  # type: ignore[arg-type]
            step_context.used(model="dear", tokens_out=10)
        case "nobody's price":
            step_context.used(model="dear", tokens_out=10)
            step_context.used(model="nobody", tokens_out=10)
        case _:
            step_context.used(tokens_out=10)
    return how


@agent(budget=Budget(usd=5), prices=TWO)
async def buying(ctx: Context, how: str, times: int = 1, costs: bool = False) -> str:
    for _ in range(times):
        await ctx.step(several, how, cost=Cost(usd=0.3) if costs else None)
    return how


@pytest.mark.parametrize(("how", "usd"), [("two models", 0.10001), ("money and tokens", 0.6)])
async def test_each_request_of_a_step_is_charged_by_its_own_price(
    engine: Engine, how: str, usd: float
) -> None:
    await engine.finish(buying, how)
    assert (await spent(engine))["usd"] == (5, usd, 0)


@pytest.mark.parametrize(
    ("how", "said"),
    [("nobody's price", "model 'nobody' has no price"), ("no model", "without a model or the money")],
)
async def test_under_a_limit_of_money_nothing_begins_after_a_step_that_nobody_can_price(
    engine: Engine, how: str, said: str
) -> None:
    handle = await engine.client.start(buying, how, 9, id="r")
    await engine.work(buying)
    with pytest.raises(RunFailed, match=said):
        await handle.result()
    assert executed == {how: 1}, "what was paid is recorded, and it is the last"
    assert len(await engine.entries()) == 2
    (warning,) = await told(engine, "warning")
    assert warning["code"] == "no_price"


async def test_where_an_estimate_names_the_money_it_is_charged_for_what_nobody_can_price(
    engine: Engine,
) -> None:
    await engine.finish(buying, "nobody's price", 2, True)
    assert (await spent(engine))["usd"] == (5, 0.6, 0)


async def test_a_price_file_that_is_gone_loses_no_step_that_was_paid(
    engine: Engine, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("HOLDFAST_PRICES", str(tmp_path / "gone.toml"))

    @agent(name="unread", budget=Budget(tokens_out=100))
    async def unread(ctx: Context) -> str:
        return await ctx.step(ask, "q")

    assert await engine.finish(unread) == "q"
    assert (await spent(engine))["tokens_out"] == (100, 10, 0)


async def huge(how: str) -> str:
    if how == "money":
        step_context.used(usd=1e9)
    else:
        step_context.used(model="dear", tokens_out=10**12)
    return how


async def test_amounts_larger_than_the_database_counts_are_the_most_that_it_counts(engine: Engine) -> None:
    @agent(name="rich", budget=Budget(steps=100), prices=Prices({"dear": Price(tokens_in=0, tokens_out=1e6)}))
    async def rich(ctx: Context) -> str:
        for _ in range(10):
            await ctx.step(huge, "money")
        return await ctx.step(huge, "tokens")

    assert await engine.finish(rich) == "tokens"
    await engine.client.budgets.set("r", Budget(usd=5))
    assert (await spent(engine))["usd"][1] > 4e9


async def test_a_rate_in_tokens_survives_a_call_that_used_more_than_can_be_booked(engine: Engine) -> None:
    limit = RateLimit("tpm", "1/m", burst=60, counts="tokens")

    @agent(name="heavy", prices=TWO)
    async def heavy(ctx: Context) -> str:
        return await ctx.step(huge, "tokens", rate=limit, cost=Cost(max_tokens_out=1))

    assert await engine.finish(heavy) == "tokens"
    rate = await engine.store.get_rate("tpm")
    assert rate is not None
    assert rate.wait_us <= 86_400_000_000


# --- calls that are cut off, cancelled, or never begin ----------------------------------------------------------


async def cut_off(what: str) -> str:
    step_context.used(model="m", tokens_out=1)
    await asyncio.sleep(60)
    return what


@agent(budget=Budget(usd=1), prices=CENT, retry=RetryPolicy(attempts=1))
async def impatient(ctx: Context, by_code: bool) -> str:
    try:
        async with asyncio.timeout(0.05 if by_code else None):
            await ctx.step(cut_off, "q", cost=tokens(20), timeout=None if by_code else 0.05)
    except (StepFailed, TimeoutError):
        pass
    return "gave up"


@pytest.mark.parametrize("by_code", [True, False])
async def test_a_call_that_is_cut_off_is_charged_its_estimate_whatever_it_said_before(
    engine: Engine, by_code: bool
) -> None:
    await engine.finish(impatient, by_code)
    found = await spent(engine)
    assert found["usd"] == (1, 0.2, 0)
    assert found["requests"] == (None, 1, 0)


@agent(budget=Budget(usd=1), prices=CENT)
async def drained(ctx: Context) -> list[str]:
    return await ctx.map(cut_off, ["a", "b"], cost=tokens(20))


async def test_bodies_that_a_drain_cuts_off_are_charged_with_the_end_of_the_attempt(engine: Engine) -> None:
    handle = await engine.client.start(drained, id="r")
    async with Worker(engine.store, [drained], drain_timeout=0.3), asyncio.timeout(20):
        while (await spent(engine)).get("usd", (0, 0, 0))[2] < 0.4:
            await engine.store.wait_for_news(0.05)
        await asyncio.sleep(0.2)
    assert (await handle.status()).state is RunState.QUEUED
    found = await spent(engine)
    assert found["usd"] == (1, 0.4, 0), "with no sweep"
    assert found["steps"] == (None, 0, 0), "it is no step that was done"
    assert found["working_s"][1] >= 0.2, "counted once"
    assert found["working_s"][1] < 5


class SlowAnswers:
    """A store whose reservations are made at once, and heard of later."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)

    async def reserve(self, asked: Any) -> Any:
        answer = await self._store.reserve(asked)
        await asyncio.sleep(0.15)
        return answer


@agent(budget=Budget(usd=1), prices=CENT)
async def hasty(ctx: Context) -> str:
    try:
        async with asyncio.timeout(0.05):
            await ctx.step(ask, "never", cost=tokens(90))
    except TimeoutError:
        pass
    async with asyncio.timeout(20):
        return await ctx.step(ask, "q", cost=tokens(90))


async def test_a_call_that_is_cancelled_while_it_reserves_keeps_nothing_and_costs_nothing(
    engine: Engine,
) -> None:
    handle = await engine.client.start(hasty, id="r")
    await engine.work(hasty, through=SlowAnswers)
    assert await handle.result() == "q"
    assert (await spent(engine))["usd"] == (1, 0.1, 0)
    assert executed == {"q": 1}


async def refused(how: str) -> str:
    executed[how] += 1
    raise TransientError("not done") if how == "transient" else FatalError("unknown")


@agent(budget=Budget(tool_calls=3), retry=RetryPolicy(attempts=1))
async def insisting(ctx: Context, how: str) -> str:
    for number in range(9):
        try:
            await ctx.step(refused, how, key=str(number), effect="once", tool=True, poll=True)
        except StepFailed:
            pass
    return "done"


@pytest.mark.parametrize("how", ["transient", "fatal"])
async def test_an_effect_that_fails_counts_as_a_step_and_a_call_of_a_tool(engine: Engine, how: str) -> None:
    handle = await engine.client.start(insisting, how, id="r")
    await engine.work(insisting)
    assert (await handle.status()).reason is Reason.BUDGET
    assert executed == {how: 3}
    assert (await spent(engine))["steps"] == (None, 3, 0)


@agent(budget=Budget(usd=1), prices=CENT)
async def unteachable(ctx: Context) -> str:
    for _ in range(30):
        try:
            await ctx.step(ask, "q", cost=tokens(5, model="nobody's"), tool=True)
        except StepFailed:
            pass
    return "done"


async def test_a_tool_that_is_refused_again_and_again_is_a_loop(engine: Engine) -> None:
    handle = await engine.client.start(unteachable, id="r")
    await engine.work(unteachable)
    assert (await handle.status()).reason is Reason.LOOP
    assert len(await engine.entries()) == 5
    assert not executed


# --- soft limits ------------------------------------------------------------------------------------------------


@agent(budget=Budget(usd=2), prices=CENT)
async def crashing(ctx: Context) -> str:
    return await ctx.step(ask, "q", 1, cost=tokens(85))


async def test_a_soft_limit_that_calls_of_dead_attempts_pass_is_told_once(engine: Engine) -> None:
    await engine.client.start(crashing, id="r", budget=Budget(usd=2, soft=0.4))
    assert not await engine.work(crashing, crash_at=1)
    assert await engine.work(crashing)
    assert [one["used"] for one in await told(engine, "budget.soft")] == [850_000_000]
    await engine.client.start(crashing, id="s", budget=Budget(usd=2, soft=0.4))
    assert not await engine.work(crashing, crash_at=1)
    await (await engine.client.get("s")).cancel()
    await engine.sweep()
    assert [one["used"] for one in await told(engine, "budget.soft", "s")] == [850_000_000]


async def test_a_limit_that_is_set_where_it_is_passed_already_tells_of_it(engine: Engine) -> None:
    await engine.finish(crashing)
    assert await told(engine, "budget.soft") == []
    await engine.client.budgets.set("r", Budget(usd=0.01))
    await engine.client.budgets.set("r", Budget(usd=0.01))
    assert [one["used"] for one in await told(engine, "budget.soft")] == [10_000_000]


# --- beside a rate ----------------------------------------------------------------------------------------------

GATE = RateLimit("gate", "1/10s")
began: list[float] = []


async def stamp(what: str) -> str:
    began.append(asyncio.get_running_loop().time())
    step_context.used(model="m", tokens_out=1)
    return what


async def beside(ctx: Context, name: str, seconds: float) -> None:
    async with ctx.branch(name):
        if seconds:
            await ctx.step(work, seconds)
        else:
            await ctx.step(stamp, name, cost=tokens(10), rate=GATE)


@agent(budget=Budget(usd=1), prices=CENT)
async def gated(ctx: Context) -> str:
    await ctx.step(ask, "all of it", 100, cost=tokens(100))
    async with asyncio.TaskGroup() as group:
        group.create_task(beside(ctx, "slow", 600))
        for name in ("a", "b", "c"):
            group.create_task(beside(ctx, name, 0))
    return "done"


def test_calls_that_waited_for_a_budget_begin_no_faster_than_their_rate() -> None:
    began.clear()

    async def outside(handle: Any) -> None:
        await asyncio.sleep(120)
        await handle._store.change_budget(f"run:{handle.id}", BudgetChange(add={Unit.USD: 10**9}))

    assert simulate(gated, outside=outside).result == "done"
    first, second, third = began
    assert min(second - first, third - second) >= 9.9


async def test_a_turn_that_is_far_ahead_keeps_nothing_of_the_budget_reserved(engine: Engine) -> None:
    hourly = RateLimit("hourly", "1/h")

    @agent(name="slowly", budget=Budget(usd=1), prices=CENT)
    async def slowly(ctx: Context, name: str) -> str:
        return await ctx.step(stamp, name, cost=tokens(60), rate=hourly)

    await engine.finish(slowly, "a")
    handle = await engine.client.start(slowly, "b", id="b")
    async with Worker(engine.store, [slowly]), asyncio.timeout(20):
        while (view := await handle.status()).state is not RunState.WAITING:
            await engine.store.wait_for_news(1)
        assert view.reason is Reason.RATE
        assert (await spent(engine, "b"))["usd"] == (1, 0, 0)


@agent(budget=Budget(usd=1), prices=CENT)
async def hourly(ctx: Context) -> str:
    for number in range(3):
        await ctx.step(stamp, str(number), cost=tokens(60), rate=RateLimit("once an hour", "1/h"))
    return "done"


def test_a_call_whose_turn_has_come_reserves_again_and_begins() -> None:
    began.clear()
    assert simulate(hourly).result == "done"
    first, second, third = began
    assert min(second - first, third - second) >= 3599


# --- what people write ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("table", [5, {"m": 3}, {"m": (3, 15)}, {7: Price(tokens_in=1, tokens_out=1)}])
def test_what_is_no_table_of_prices_is_refused_where_it_is_written(table: Any) -> None:
    with pytest.raises(UsageError, match="a table of prices by model"):
        Prices(table)


async def test_a_step_without_budget_and_cost_is_still_charged_what_it_says(engine: Engine) -> None:
    @agent(name="free", prices=CENT)
    async def free(ctx: Context) -> str:
        await ctx.step(plain, "p")
        return await ctx.step(ask, "q")

    await engine.finish(free)
    assert (await spent(engine))["usd"] == (None, 0.1, 0)
