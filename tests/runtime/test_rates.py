"""Shared rates as agents use them: never above the rate, no turn at replay, waiting at no slot, Retry-After for all."""

from __future__ import annotations

import asyncio
import itertools
import time
from collections import Counter
from collections.abc import Sequence
from typing import Any

import pytest

from holdfast import (
    Context,
    Done,
    GivenUp,
    NotDone,
    RateLimit,
    RetryPolicy,
    RunState,
    StepFailed,
    TransientError,
    Worker,
    agent,
)
from holdfast.errors import UsageError
from holdfast.model import EntryStatus, NewTurn, Reason, Terms, Turn
from holdfast.rules.rate import LATE_US, LEAD_US
from holdfast.store import open_store
from tests.faults import Crash, CrashingStore, Engine

begun: list[float] = []
executed: Counter[str] = Counter()
BRISK = RateLimit("brisk", "100/s")
SLOW = RateLimit("slow", "1/3s")
HOURLY = RateLimit("hourly", "1/h")


@pytest.fixture(autouse=True)
def _fresh() -> None:
    begun.clear()
    executed.clear()


async def ask(what: str) -> str:
    begun.append(time.clock_gettime(time.CLOCK_BOOTTIME))
    executed[what] += 1
    return what


class CountingStore(CrashingStore):
    """A store that counts how turns were taken, and may die at one of them."""

    def __init__(self, store: Any, *, die_at: int | None = None, after: bool = False, **options: Any) -> None:
        super().__init__(store, **options)
        self.batches: list[int] = []
        self._die_at, self._die_after = die_at, after

    async def take_turns(self, asked: Sequence[NewTurn]) -> list[Turn]:
        self._alive()
        self.batches.append(len(asked))
        dies = len(self.batches) == self._die_at
        if dies and not self._die_after:
            self._die()
        turns = await self._store.take_turns(asked)
        if dies:
            self._die()
        return turns


@agent(name="asking")
async def asking(ctx: Context, count: int) -> list[str]:
    return [await ctx.step(ask, f"q{n}", rate=BRISK) for n in range(count)]


def assert_paced(terms: Terms, times: list[float]) -> None:
    """No window has more starts than the rate allows, give or take the time in which a turn may be used."""
    interval_s = terms.period_us / terms.units / 1e6
    for first, last in itertools.combinations(range(len(times)), 2):
        window_s = sorted(times)[last] - sorted(times)[first] + LATE_US / 1e6
        assert last - first + 1 <= terms.burst + window_s / interval_s


async def test_two_workers_together_keep_the_rate_and_use_it(engine: Engine) -> None:
    for number in range(8):
        await engine.client.start(asking, 10, id=f"r{number}")
    async with Worker(engine.store, [asking]), Worker(engine.store, [asking], name="other"):
        async with asyncio.timeout(30):
            for number in range(8):
                assert await (await engine.client.get(f"r{number}")).result() == [f"q{n}" for n in range(10)]
    assert_paced(BRISK.terms, begun)
    assert max(begun) - min(begun) >= 79 * 0.01 - LATE_US / 1e6


async def test_a_replay_takes_no_turn(engine: Engine) -> None:
    await engine.client.start(asking, 4, id="r")
    assert not await engine.work(asking, crash_at=4, after=True)
    async with open_store(engine.url) as store:
        counting = CountingStore(store)
        await Worker(counting, [asking], until_idle=True).run()  # type: ignore[arg-type]
    assert sum(counting.batches) == 0
    assert executed == {f"q{n}": 1 for n in range(4)}


@pytest.mark.parametrize("after", [False, True])
@pytest.mark.parametrize("at", range(1, 6))
async def test_a_crash_between_the_turn_and_the_body_wastes_the_turn_and_nothing_else(
    engine: Engine, at: int, after: bool
) -> None:
    handle = await engine.client.start(asking, 5, id="r")
    async with open_store(engine.url) as store:
        dying = CountingStore(store, die_at=at, after=after)
        try:
            await Worker(dying, [asking], until_idle=True).run()  # type: ignore[arg-type]
        except* Crash:
            pass
    await engine.work(asking)
    assert await handle.result() == [f"q{n}" for n in range(5)]
    assert set(executed.values()) == {1}
    assert_paced(BRISK.terms, begun)


@pytest.mark.parametrize("after", [False, True])
@pytest.mark.parametrize("at", range(1, 6))
async def test_a_kill_at_every_commit_repeats_at_most_the_step_in_flight(
    engine: Engine, at: int, after: bool
) -> None:
    handle = await engine.client.start(asking, 4, id="r")
    await engine.work(asking, crash_at=at, after=after)
    await engine.work(asking)
    assert await handle.result() == [f"q{n}" for n in range(4)]
    assert sum(executed.values()) <= 4 + (not after)
    statuses = [entry.status for entry in await engine.entries()]
    assert statuses == [EntryStatus.OK] * 4, "a turn leaves no entry"


@agent(name="slowly")
async def slowly(ctx: Context, what: str) -> str:
    return await ctx.step(ask, what, rate=SLOW)


async def test_a_long_wait_unloads_the_run_and_wakes_it_in_time(engine: Engine) -> None:
    first = await engine.client.start(slowly, "a", id="a")
    async with Worker(engine.store, [slowly]):
        await first.result()
        second = await engine.client.start(slowly, "b", id="b")
        async with asyncio.timeout(10):
            while (run := await engine.store.get_run("b")).state is not RunState.WAITING:
                await engine.store.wait_for_news(1)
            assert (run.reason, run.worker) == (Reason.RATE, None)
            assert run.available_at_us is not None
            assert await second.result() == "b"
    assert begun[1] - begun[0] == pytest.approx(3.0, abs=LATE_US / 1e6 + 0.1)
    assert (await engine.store.get_run("b")).attempts == 2


async def test_a_worker_that_dies_while_a_run_waits_leaves_its_turn_to_the_next(engine: Engine) -> None:
    """… for the store has kept it: the other run that waits does not come first."""
    await engine.client.start(slowly, "a", id="a")
    await engine.work(slowly)
    await engine.client.start(slowly, "b", id="b")
    assert not await engine.work(slowly, crash_at=1, after=True), "it dies when the run is unloaded"
    await engine.work(slowly)
    assert executed == {"a": 1, "b": 1}
    assert begun[1] - begun[0] == pytest.approx(3.0, abs=LATE_US / 1e6 + 0.1)


async def test_a_wait_of_an_hour_costs_a_row(engine: Engine) -> None:
    @agent(name="hourly")
    async def hourly(ctx: Context, number: int) -> str:
        return await ctx.step(ask, str(number), rate=HOURLY)

    for number in range(20):
        await engine.client.start(hourly, number, id=f"r{number:02}")
    async with Worker(engine.store, [hourly], capacity=3) as worker:
        async with asyncio.timeout(20):
            while len(begun) < 1 or worker.active or len(await _waiting(engine)) < 19:
                await engine.store.wait_for_news(1)
    wakes = sorted(run.available_at_us or 0 for run in await _waiting(engine))
    gaps = {round((after - before) / 1e6) for before, after in itertools.pairwise(wakes)}
    assert len(begun) == 1 and gaps == {3600}


async def _waiting(engine: Engine) -> list[Any]:
    runs = [await engine.store.get_run(f"r{number:02}") for number in range(20)]
    return [run for run in runs if run.reason is Reason.RATE]


async def test_a_map_takes_its_turns_in_batches(engine: Engine) -> None:
    fast = RateLimit("fast", "1000000/s", burst=1000)

    @agent(name="wide")
    async def wide(ctx: Context) -> int:
        return len(await ctx.map(ask, [str(n) for n in range(1000)], limit=500, rate=fast))

    handle = await engine.client.start(wide, id="r")
    counting = CountingStore(engine.store)
    await Worker(counting, [wide], until_idle=True).run()  # type: ignore[arg-type]
    assert await handle.result() == 1000
    assert sum(counting.batches) >= 1000  # on a busy machine some turns pass unused, and are asked for again
    assert len(counting.batches) <= 100


async def test_branches_that_wait_for_turns_unload_the_run_together(engine: Engine) -> None:
    @agent(name="both")
    async def both(ctx: Context) -> list[str]:
        return await ctx.map(ask, ["a", "b", "c"], rate=HOURLY)

    await engine.client.start(both, id="r")
    async with Worker(engine.store, [both]):
        async with asyncio.timeout(15):
            while (run := await engine.store.get_run("r")).reason is not Reason.RATE:
                await engine.store.wait_for_news(1)
    assert executed == {"a": 1}, "the branch that has its turn is done first"
    assert [entry.status for entry in await engine.entries()] == [EntryStatus.OK]
    left_s = ((run.available_at_us or 0) - await engine.store.now()) / 1e6
    assert left_s == pytest.approx(3600, abs=20), "it wakes for the first of its turns"


async def test_code_that_stops_waiting_for_a_turn_leaves_an_entry_and_goes_on(engine: Engine) -> None:
    once_a_second = RateLimit("second", "1/s")

    @agent(name="hasty")
    async def hasty(ctx: Context) -> str:
        await ctx.step(ask, "first", rate=once_a_second)
        try:
            async with asyncio.timeout(0.05):
                await ctx.step(ask, "second", rate=once_a_second)
        except TimeoutError:
            return await ctx.step(ask, "third")
        return "never"

    assert await engine.finish(hasty) == "third"
    assert executed == {"first": 1, "third": 1}
    assert [entry.status for entry in await engine.entries()][1] is EntryStatus.ABANDONED


async def test_a_retry_after_is_heard_by_all_workers(engine: Engine) -> None:
    limit = RateLimit("api", "50/s")

    async def refused_once() -> str:
        executed["tried"] += 1
        if executed["tried"] == 1:
            raise TransientError("429", retry_after_s=1.0)
        return await ask("at last")

    @agent(name="refused", retry=RetryPolicy(base=0))
    async def refused(ctx: Context) -> str:
        return await ctx.step(refused_once, rate=limit)

    @agent(name="bystander")
    async def bystander(ctx: Context) -> list[str]:
        return [await ctx.step(ask, f"b{n}", rate=limit) for n in range(3)]

    first = await engine.client.start(refused, id="refused")
    other = Worker(engine.store, [bystander], name="other")
    async with Worker(engine.store, [refused]), other, asyncio.timeout(20):
        while (rate := await engine.store.get_rate("api")) is None or not rate.held_back_us:
            await engine.store.wait_for_news(1)
        refused_at = time.clock_gettime(time.CLOCK_BOOTTIME)
        second = await engine.client.start(bystander, id="bystander")
        await asyncio.gather(first.result(), second.result())
    assert len(begun) == 4
    assert min(begun) >= refused_at + 0.9, "nobody begins while the server asks to wait"


async def test_a_turn_that_was_given_out_before_a_retry_after_is_taken_again(engine: Engine) -> None:
    limit = RateLimit("api", "1/s")

    @agent(name="second")
    async def second(ctx: Context, what: str) -> str:
        return await ctx.step(ask, what, rate=limit)

    await engine.client.start(second, "a", id="a")
    async with Worker(engine.store, [second]):
        async with asyncio.timeout(20):
            while not begun:
                await engine.store.wait_for_news(1)
            late = await engine.client.start(second, "b", id="b")
            while (await engine.store.get_rate("api")).wait_us < 1_000_000:  # type: ignore[union-attr]
                await engine.store.wait_for_news(1)
            await engine.store.hold_back("api", limit.terms, 1_800_000)
            told_at = time.clock_gettime(time.CLOCK_BOOTTIME)
            await late.result()
    assert begun[1] >= told_at + 1.75


async def test_a_turn_that_comes_too_late_is_lost_and_another_one_taken(engine: Engine) -> None:
    """A loop that was blocked would else begin everything that waited in it at once."""
    limit = RateLimit("api", "1/1.2s")

    @agent(name="two")
    async def two(ctx: Context) -> list[str]:
        return [await ctx.step(ask, what, rate=limit) for what in "ab"]

    counting = CountingStore(engine.store)
    handle = await engine.client.start(two, id="r")
    async with Worker(counting, [two]), asyncio.timeout(20):  # type: ignore[arg-type]
        while sum(counting.batches) < 2:
            await engine.store.wait_for_news(1)
        time.sleep(1.2 + LATE_US / 1e6 + 0.3)
        assert await handle.result() == ["a", "b"]
    assert sum(counting.batches) == 3


async def test_a_drain_does_not_wait_for_turns(engine: Engine) -> None:
    limit = RateLimit("api", "1/1.9s")

    @agent(name="two")
    async def two(ctx: Context) -> list[str]:
        return [await ctx.step(ask, what, rate=limit) for what in "ab"]

    handle = await engine.client.start(two, id="r")
    async with Worker(engine.store, [two], drain_timeout=10) as worker:
        while not begun:
            await engine.store.wait_for_news(1)
        worker.drain()
    assert len(begun) == 1 and (await engine.store.get_run("r")).reason is Reason.DRAINED
    await engine.work(two)
    assert await handle.result() == ["a", "b"]
    assert executed == {"a": 1, "b": 1}


@pytest.mark.parametrize("how", ["pause", "drain"])
async def test_a_turn_far_ahead_beside_a_once_keeps_no_run_from_a_pause_or_a_drain(
    engine: Engine, how: str
) -> None:
    underway = asyncio.Event()

    async def long() -> None:
        underway.set()
        await asyncio.sleep(3600)

    @agent(name="beside")
    async def beside(ctx: Context) -> str:
        await ctx.step(ask, "a", rate=HOURLY)
        once = asyncio.create_task(ctx.once("kept", long))
        await underway.wait()
        try:
            return await ctx.step(ask, "b", rate=HOURLY)
        finally:
            once.cancel()

    handle = await engine.client.start(beside, id="r")
    counting = CountingStore(engine.store)
    async with asyncio.timeout(20), Worker(counting, [beside], drain_timeout=3600) as worker:  # type: ignore[arg-type]
        while len(counting.batches) < 2:
            await engine.store.wait_for_news(1)
        if how == "drain":
            worker.drain()
        else:
            await handle.pause()
        while (run := await engine.store.get_run("r")).state is RunState.RUNNING:
            await engine.store.wait_for_news(1)
    assert run.reason is (Reason.DRAINED if how == "drain" else Reason.PAUSED)


@pytest.mark.parametrize("word", [Done("it is there"), GivenUp("never mind")])
async def test_an_effect_in_doubt_takes_no_turn_to_be_asked_about_or_to_take_the_answer(
    engine: Engine, word: Done[str] | GivenUp
) -> None:
    @agent(name="paying", retry=RetryPolicy(attempts=1))
    async def paying(ctx: Context) -> str:
        try:
            return await ctx.step(ask, "pay", rate=HOURLY, effect="once")
        except StepFailed as failed:
            return failed.failure.message

    handle = await engine.client.start(paying, id="r")
    assert not await engine.work(paying, crash_at=2), "the payment is made, and not recorded"
    counting = CountingStore(engine.store)
    async with asyncio.timeout(20):
        await Worker(counting, [paying], until_idle=True).run()  # type: ignore[arg-type]
        run = await engine.store.get_run("r")
        assert run.reason is Reason.EFFECT_UNKNOWN and run.failure is not None
        await handle.settle_effect(run.failure.entries[0], word)
        await Worker(counting, [paying], until_idle=True).run()  # type: ignore[arg-type]
        assert await handle.result() == (word.value if isinstance(word, Done) else word.message)
    assert counting.batches == []
    assert executed == {"pay": 1}


async def test_an_effect_that_was_not_done_waits_for_its_turn_before_it_is_begun_again(
    engine: Engine,
) -> None:
    @agent(name="paying", retry=RetryPolicy(attempts=1))
    async def paying(ctx: Context) -> str:
        return await ctx.step(ask, "pay", rate=HOURLY, effect="once")

    handle = await engine.client.start(paying, id="r")
    assert not await engine.work(paying, crash_at=2)
    async with asyncio.timeout(20):
        await engine.work(paying)
    run = await engine.store.get_run("r")
    assert run.failure is not None
    await handle.settle_effect(run.failure.entries[0], NotDone())
    async with Worker(engine.store, [paying]), asyncio.timeout(20):
        while (await engine.store.get_run("r")).reason is not Reason.RATE:
            await engine.store.wait_for_news(1)
    assert executed == {"pay": 1}
    assert [entry.status for entry in await engine.entries()] == [EntryStatus.INTENDED], (
        "nothing is begun yet"
    )


async def test_what_is_no_rate_is_refused_with_what_was_meant(engine: Engine) -> None:
    @agent(name="wrong")
    async def wrong(ctx: Context) -> str:
        with pytest.raises(UsageError, match=r"did you mean rate=RateLimit\('openai', '500/m'\)"):
            await ctx.step(ask, "a", rate="500/m")  # type: ignore[arg-type]
        with pytest.raises(UsageError, match="did you mean '500/m'"):
            RateLimit("openai", "500 per minute")
        return "told"

    assert await engine.finish(wrong) == "told"


def test_a_woken_run_has_time_to_come() -> None:
    assert LEAD_US > LATE_US
