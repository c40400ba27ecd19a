"""map, race and branch: concurrency inside a run, replayed the same whatever finished first."""

from __future__ import annotations

import asyncio
import functools
import random
import tracemalloc
from collections import Counter
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from holdfast import Context, FatalError, RetryPolicy, RunFailed, StepFailed, agent, recording, standing
from holdfast.agents import AnyAgent
from holdfast.model import EntryKind, EntryStatus, FailureKind, Reason, RunState
from holdfast.store import open_store
from holdfast.worker import Worker
from tests.faults import Engine, SlowStore

ONCE = RetryPolicy(attempts=1)
executed: Counter[str] = Counter()
chance = random.Random(7)


@pytest.fixture(autouse=True)
def nothing_done() -> None:
    executed.clear()


async def act(word: str) -> str:
    executed[word] += 1
    await asyncio.sleep(chance.random() / 500)
    return word.upper()


async def refuse(word: str) -> str:
    executed[word] += 1
    await asyncio.sleep(chance.random() / 500)
    if word.startswith("bad"):
        raise FatalError(word)
    return word.upper()


async def for_ever(word: str) -> str:
    executed[word] += 1
    await asyncio.sleep(3600)
    return word


async def settled(engine: Engine, the_agent: Any, *args: Any, at: int, after: bool) -> Any:
    """Crash at the commit, go on as often as it takes, and return the result."""
    handle = await engine.client.start(the_agent, *args, id="r")
    await engine.work(the_agent, crash_at=at, after=after)
    await engine.work(the_agent)
    run = await engine.store.get_run("r")
    assert run.state is RunState.SUCCEEDED, (run.state, run.reason, run.failure)
    entries = [e for e in await engine.entries() if e.status in (EntryStatus.OK, EntryStatus.FAILED)]
    assert max(Counter(entry.identity for entry in entries).values()) == 1
    recorded = Counter(entry.payload for entry in entries if entry.status is EntryStatus.OK)
    assert set(recorded.values()) == {1}
    return await handle.result()


async def until_waiting(engine: Engine) -> None:
    while (await engine.store.get_run("r")).state is not RunState.WAITING:  # noqa: ASYNC110 - another handle's news
        await asyncio.sleep(0.02)


crashes = pytest.mark.parametrize(
    ("at", "after"), [(at, after) for at in range(1, 13) for after in (False, True)]
)


# --- map ------------------------------------------------------------------------------------------------------


@agent(name="mapper", retry=ONCE)
async def mapper(ctx: Context, count: int) -> list[str]:
    first = await ctx.step(act, "first")
    words = await ctx.map(act, [f"w{n}" for n in range(count)], key=lambda word: word, limit=4)
    return [first, *words, await ctx.step(act, "last")]


async def test_a_map_returns_its_results_in_the_order_of_the_items(engine: Engine) -> None:
    assert await engine.finish(mapper, 9) == ["FIRST", *(f"W{n}" for n in range(9)), "LAST"]


@crashes
async def test_a_map_that_is_killed_at_any_commit_repeats_at_most_what_was_in_flight(
    engine: Engine, at: int, after: bool
) -> None:
    assert await settled(engine, mapper, 9, at=at, after=after) == [
        "FIRST",
        *(f"W{n}" for n in range(9)),
        "LAST",
    ]
    assert sum(executed.values()) - len(executed) <= 4


async def test_no_more_items_than_the_limit_are_done_at_a_time(engine: Engine) -> None:
    now = most = 0

    async def busy(number: int) -> int:
        nonlocal now, most
        now += 1
        most = max(most, now)
        await asyncio.sleep(0.01)
        now -= 1
        return number

    @agent
    async def limited(ctx: Context) -> list[int]:
        return await ctx.map(busy, range(20), limit=3)

    assert await engine.finish(limited) == list(range(20))
    assert most == 3


async def test_a_map_of_nothing_is_nothing(engine: Engine) -> None:
    @agent
    async def empty(ctx: Context) -> list[str]:
        return await ctx.map(act, [])

    assert await engine.finish(empty) == []


async def test_two_items_with_one_key_are_refused_before_anything_runs(engine: Engine) -> None:
    @agent
    async def twice(ctx: Context) -> list[str]:
        return await ctx.map(act, ["a", "b", "a"], key=str)

    with pytest.raises(RunFailed, match="two items with the key 'a'"):
        await engine.finish(twice)
    assert not executed


@agent(name="handling", retry=ONCE)
async def handling(ctx: Context) -> list[str]:
    try:
        await ctx.map(refuse, ["a", "b", "bad", "c", "d"], limit=2)
    except StepFailed as failed:
        return [failed.failure.message, await ctx.step(act, "after")]
    return []


@crashes
async def test_a_map_ends_with_its_first_failure_and_the_code_goes_on_the_same_on_every_resume(
    engine: Engine, at: int, after: bool
) -> None:
    assert await settled(engine, handling, at=at, after=after) == ["bad", "AFTER"]


@agent(name="keeping", retry=ONCE)
async def keeping(ctx: Context) -> list[str]:
    results = await ctx.map(refuse, ["a", "bad1", "b", "bad2"], limit=4, return_failures=True)
    last = await ctx.step(act, "last")
    return [*(each.failure.message if isinstance(each, StepFailed) else each for each in results), last]


@crashes
async def test_failures_are_results_where_they_are_asked_for(engine: Engine, at: int, after: bool) -> None:
    assert await settled(engine, keeping, at=at, after=after) == ["A", "bad1", "B", "bad2", "LAST"]


async def test_a_map_that_lacks_a_recorded_key_is_held(engine: Engine) -> None:
    items = ["a", "b", "bad"]

    @agent(retry=ONCE)
    async def changing(ctx: Context) -> list[str]:
        return await ctx.map(refuse, items, key=str, limit=1)

    handle = await engine.client.start(changing, id="r")
    await engine.work(changing)
    items[0] = "x"
    await handle.retry()
    await engine.work(changing)
    run = await engine.store.get_run("r")
    assert (run.state, run.reason) == (RunState.WAITING, Reason.MISMATCH)
    assert run.mismatch is not None
    assert "without this branch" in run.mismatch.message


async def test_a_retry_of_a_failed_map_does_only_what_is_missing(engine: Engine) -> None:
    items = ["a", "b", "bad"]

    async def fixable(word: str) -> str:
        executed[word] += 1
        if word == "bad" and executed[word] == 1:
            raise FatalError("not yet")
        return word.upper()

    @agent(retry=ONCE)
    async def fixed(ctx: Context) -> list[str]:
        return await ctx.map(fixable, items, key=str, limit=1)

    handle = await engine.client.start(fixed, id="r")
    await engine.work(fixed)
    await handle.retry()
    await engine.work(fixed)
    assert await handle.result() == ["A", "B", "BAD"]
    assert executed == {"a": 1, "b": 1, "bad": 2}


async def test_a_recorded_failure_is_raised_before_anything_new_is_done(engine: Engine) -> None:
    items = ["bad"]

    @agent(retry=ONCE)
    async def growing(ctx: Context) -> str:
        try:
            await ctx.map(refuse, items, key=str, limit=1)
        except StepFailed:
            await ctx.step(act, "after")
        if ctx.attempt == 1:
            raise FatalError("stop here")
        return "done"

    handle = await engine.client.start(growing, id="r")
    await engine.work(growing)
    items.insert(0, "new")
    await handle.retry()
    await engine.work(growing)
    assert await handle.result() == "done"
    assert executed == {"bad": 1, "after": 1}


@agent(name="impatient", retry=ONCE)
async def impatient(ctx: Context) -> list[str]:
    try:
        await asyncio.wait_for(ctx.map(sometimes, ["a", "slow", "b", "c"], limit=1), 0.15)
    except TimeoutError:
        return [await ctx.step(act, "instead")]
    return []


async def sometimes(word: str) -> str:
    return await (for_ever(word) if word == "slow" else act(word))


@pytest.mark.parametrize("after", [False, True])
@pytest.mark.parametrize("at", range(1, 8))
async def test_a_map_that_the_code_cancels_is_cancelled_again_on_every_resume(
    engine: Engine, at: int, after: bool
) -> None:
    assert await settled(engine, impatient, at=at, after=after) == ["INSTEAD"]


async def test_ctx_now_after_a_map_that_was_given_up_is_the_same_on_a_resume(engine: Engine) -> None:
    times = []

    @agent(retry=ONCE)
    async def hasty(ctx: Context) -> None:
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(ctx.map(sometimes, ["a", "slow"], limit=1), 0.15)
        times.append(ctx.now())
        await ctx.step(act, "after")
        if ctx.attempt == 1:
            raise FatalError("stop here")

    handle = await engine.client.start(hasty, id="r")
    await engine.work(hasty)
    await handle.retry()
    await engine.work(hasty)
    await handle.result()
    assert times[0] == times[1]


async def test_a_map_of_ten_thousand_items_beside_other_calls_stays_flat_in_memory(engine: Engine) -> None:
    peaks: list[float] = []

    async def nothing(number: int) -> int:
        return number

    @agent(retry=ONCE)
    async def wide(ctx: Context, items: int) -> int:
        await ctx.step(nothing, -1)
        tracemalloc.start()
        try:
            results = await ctx.map(nothing, range(items), limit=64)
            peaks.append(tracemalloc.get_traced_memory()[1] / 2**20)
        finally:
            tracemalloc.stop()
        return len(results)

    assert await engine.finish(wide, 1_000, id="thousand") == 1_000
    assert await engine.finish(wide, 10_000) == 10_000
    assert (
        peaks[1] < peaks[0] + 10
    )  # MiB: ten times the items; of each, its key, its number and its result stay


@pytest.mark.parametrize("inside", [False, True])
async def test_too_long_a_journal_stops_the_run_and_says_what_shortens_it(
    engine: Engine, monkeypatch: pytest.MonkeyPatch, inside: bool
) -> None:
    monkeypatch.setattr(recording, "WARN_ENTRIES", 3)
    monkeypatch.setattr(recording, "MAX_ENTRIES", 5)

    @agent(retry=ONCE)
    async def endless(ctx: Context) -> None:
        ctx.restore(dict, default={})
        for _ in range(5):
            await ctx.step(act, "a")
        if inside:
            await ctx.map(act, ["a"] * 6, limit=1)
        else:
            await ctx.step(act, "a")

    with pytest.raises(RunFailed, match=r"has over 5 entries: (split the map|call ctx.checkpoint)"):
        await engine.finish(endless)
    warned = [event for event in await engine.events() if event.type == "warning"]
    assert len(warned) == 1 + inside and b"has 3 entries" in warned[0].payload


# --- race -----------------------------------------------------------------------------------------------------


@agent(name="racer", retry=ONCE)
async def racer(ctx: Context) -> list[str]:
    async def quick() -> str:
        await ctx.step(act, "quick1")
        return await ctx.step(act, "quick2")

    async def slow() -> str:
        await ctx.step(act, "slow1")
        return await ctx.step(for_ever, "slow2")

    key, result = await ctx.race({"quick": quick, "slow": slow})
    return [key, result, await ctx.step(act, "after")]


@crashes
async def test_a_race_has_one_winner_whenever_it_is_killed(engine: Engine, at: int, after: bool) -> None:
    assert await settled(engine, racer, at=at, after=after) == ["quick", "QUICK2", "AFTER"]


async def test_a_race_that_is_won_is_not_unloaded_for_its_losers_while_the_disk_is_slow(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    @agent(retry=ONCE)
    async def won(ctx: Context) -> str:
        async def quick() -> str:
            return await ctx.step(act, "quick")

        async def slow() -> str:
            return await ctx.wait_for("never", str)

        return (await ctx.race({"quick": quick, "slow": slow}))[1]

    monkeypatch.setattr(standing, "LOADED_SLEEP_S", 0.01)
    handle = await engine.client.start(won, id="r")
    async with open_store(engine.url) as store:
        disk = SlowStore(store, EntryKind.GROUP, 0.2)
        await Worker(disk, [won], until_idle=True).run()  # type: ignore[arg-type]
    assert (await engine.store.get_run("r")).reason is None
    assert await handle.result() == "QUICK"


def tidies_up(*losers: Callable[[Context], Awaitable[object]]) -> AnyAgent:
    """An agent with a race that "quick" wins; the losers wait for a signal, and tidy up so when they are cancelled."""

    @agent(name="tidying", retry=ONCE)
    async def tidying(ctx: Context) -> str:
        async def quick() -> str:
            return await ctx.step(act, "quick")

        async def loses(tidy: Callable[[Context], Awaitable[object]]) -> str:
            try:
                return await ctx.wait_for("never", str)
            finally:
                await tidy(ctx)

        slow = {f"slow {n}": functools.partial(loses, tidy) for n, tidy in enumerate(losers)}
        return (await ctx.race({**slow, "quick": quick}))[1]

    return tidying


async def test_a_loser_that_tidies_up_keeps_no_drain_waiting(engine: Engine) -> None:
    tidies, drained = asyncio.Event(), asyncio.Event()

    async def tidy(ctx: Context) -> None:
        tidies.set()
        await drained.wait()
        await ctx.step(act, "tidied")

    async def soon(ctx: Context) -> None:
        await asyncio.sleep(0.3)  # over while the other one waits for its safe point

    tidying = tidies_up(tidy, soon)
    handle = await engine.client.start(tidying, id="r")
    worker = Worker(engine.store, [tidying])
    async with asyncio.timeout(10), asyncio.TaskGroup() as group:
        serving = group.create_task(worker.run())
        await tidies.wait()
        worker.drain()
        await asyncio.sleep(0.05)
        drained.set()
        await serving
    assert (await engine.store.get_run("r")).reason is Reason.DRAINED
    await engine.work(tidying)
    assert await handle.result() == "QUICK"


async def test_a_run_whose_losers_wait_as_they_tidy_up_is_unloaded(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def tidy(ctx: Context) -> None:
        await ctx.sleep("1h")

    tidying = tidies_up(tidy)
    monkeypatch.setattr(standing, "LOADED_SLEEP_S", 0.01)
    await engine.client.start(tidying, id="r")
    worker = Worker(engine.store, [tidying])
    async with asyncio.timeout(10), asyncio.TaskGroup() as group:
        serving = group.create_task(worker.run())
        await until_waiting(engine)
        worker.drain()
        await serving
    assert (await engine.store.get_run("r")).reason is Reason.SLEEP


async def test_a_step_of_a_loser_that_tidies_up_times_out_as_any_other(engine: Engine) -> None:
    """In the first Pythons 3.11 `asyncio.timeout` ends with a CancelledError in a task that was cancelled before."""
    kinds: list[FailureKind] = []

    async def tidy(ctx: Context) -> None:
        try:
            await ctx.step(asyncio.sleep, 60, name="flush", timeout=0.01)
        except StepFailed as late:
            kinds.append(late.failure.kind)
            await ctx.step(act, "given up")

    tidying = tidies_up(tidy)
    handle = await engine.client.start(tidying, id="r")
    await engine.work(tidying)
    assert await handle.result() == "QUICK"
    assert kinds == [FailureKind.TIMED_OUT]
    assert executed == {"quick": 1, "given up": 1}


async def test_a_race_that_is_cancelled_as_its_winner_is_recorded_is_cancelled_again(engine: Engine) -> None:
    @agent(retry=ONCE)
    async def impatient(ctx: Context) -> str:
        async def quick() -> str:
            return await ctx.step(act, "quick")

        async def slow() -> str:
            return await ctx.wait_for("never", str)

        try:
            async with asyncio.timeout(0.2):
                return (await ctx.race({"quick": quick, "slow": slow}))[1]
        except TimeoutError:
            await ctx.sleep(1.5)  # another attempt goes on
            return await ctx.step(act, "late")

    handle = await engine.client.start(impatient, id="r")
    await engine.work(impatient, through=lambda store: SlowStore(store, EntryKind.GROUP, 0.5))
    assert await handle.result() == "LATE"
    outcomes = [entry.status for entry in await engine.entries() if entry.kind is EntryKind.GROUP]
    assert outcomes == [EntryStatus.OK, EntryStatus.UNSEEN]


async def test_a_decided_race_is_not_entered_again(engine: Engine) -> None:
    entered = []

    @agent(retry=ONCE)
    async def decided(ctx: Context) -> str:
        async def one() -> str:
            entered.append(1)
            return await ctx.step(act, "one")

        key, _ = await ctx.race({"one": one})
        if len(entered) == 1 and ctx.attempt == 1:
            raise FatalError("after the race")
        return key

    handle = await engine.client.start(decided, id="r")
    await engine.work(decided)
    await handle.retry()
    await engine.work(decided)
    assert await handle.result() == "one"
    assert len(entered) == 1


async def test_a_body_that_fails_is_out_of_the_race_and_the_last_failure_is_raised(engine: Engine) -> None:
    @agent(retry=ONCE)
    async def failing(ctx: Context) -> str:
        def body(word: str) -> Callable[[], Any]:
            async def refused() -> str:
                return await ctx.step(refuse, word)

            return refused

        key, _ = await ctx.race({"x": body("bad1"), "y": body("fine")})
        try:
            await ctx.race({"x": body("bad2"), "y": body("bad3")})
        except StepFailed as failed:
            return f"{key} {failed.failure.message[:3]}"
        return key

    assert await engine.finish(failing) == "y bad"


# --- branches -------------------------------------------------------------------------------------------------


@agent(name="brancher", retry=ONCE)
async def brancher(ctx: Context) -> list[str]:
    found: dict[str, list[str]] = {}

    async def work(key: str) -> None:
        async with ctx.branch(key):
            one = await ctx.step(act, f"{key}1")
            more = await ctx.map(act, [f"{key}2", f"{key}3"])
            found[key] = [one, *more, await ctx.step(act, f"{key}4")]

    async with asyncio.TaskGroup() as tasks:
        for key in "abc":
            tasks.create_task(work(key))
    return [*(word for key in "abc" for word in found[key]), await ctx.step(act, "last")]


@pytest.mark.parametrize("after", [False, True])
@pytest.mark.parametrize("at", range(1, 16))
async def test_branches_of_several_steps_and_a_map_survive_a_kill_at_any_commit(
    engine: Engine, at: int, after: bool
) -> None:
    expected = [f"{key.upper()}{n}" for key in "abc" for n in range(1, 5)]
    assert await settled(engine, brancher, at=at, after=after) == [*expected, "LAST"]
    assert sum(executed.values()) - len(executed) <= 6


@pytest.mark.timeout(180)
async def test_outcomes_and_journals_are_equal_under_a_thousand_shuffled_schedules(engine: Engine) -> None:
    names = [f"r{number}" for number in range(1_000)]
    for name in names:
        await engine.client.start(brancher, id=name)
    await engine.work(brancher, capacity=100)
    expected = [*(f"{key.upper()}{n}" for key in "abc" for n in range(1, 5)), "LAST"]
    orders: set[tuple[Any, ...]] = set()
    journals: set[frozenset[Any]] = set()
    for name in names:
        assert await engine.client.handle(brancher, name).result() == expected
        entries = await engine.entries(name)
        orders.add(tuple(entry.identity for entry in entries))
        journals.add(
            frozenset((entry.identity, entry.kind, entry.status, entry.payload) for entry in entries)
        )
    assert len(orders) > 100  # they were shuffled indeed
    assert len(journals) == 1


async def test_a_key_of_a_branch_is_used_once(engine: Engine) -> None:
    @agent(retry=ONCE)
    async def twice(ctx: Context) -> None:
        async with ctx.branch("a"):
            await ctx.step(act, "a")
        async with ctx.branch("a"):
            await ctx.step(act, "b")

    with pytest.raises(RunFailed, match="key 'a' of step 'branch' is used twice"):
        await engine.finish(twice)


async def test_a_checkpoint_with_a_branch_open_names_the_branch(engine: Engine) -> None:
    @agent(retry=ONCE)
    async def saving(ctx: Context) -> None:
        state = ctx.restore(dict)
        begun, over = asyncio.Event(), asyncio.Event()

        async def inside() -> None:
            async with ctx.branch("a"):
                begun.set()
                await over.wait()

        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(inside())
            await begun.wait()
            try:
                await ctx.checkpoint(state)
            finally:
                over.set()

    with pytest.raises(RunFailed, match=r"ctx\.checkpoint is called while the branch 'branch.0/a' is open"):
        await engine.finish(saving)


async def test_a_checkpoint_inside_a_branch_is_refused(engine: Engine) -> None:
    @agent(retry=ONCE)
    async def saving(ctx: Context) -> None:
        ctx.restore(dict)
        async with ctx.branch("a"):
            await ctx.checkpoint({})

    with pytest.raises(RunFailed, match="belongs to the root of the agent"):
        await engine.finish(saving)


async def test_a_run_is_unloaded_only_when_every_branch_waits_and_goes_on_with_each_in_its_time(
    engine: Engine,
) -> None:
    order: list[str] = []

    @agent(retry=ONCE)
    async def waiting(ctx: Context) -> list[str]:
        async def sleeper() -> str:
            await ctx.sleep(5)
            return await ctx.step(act, "slept")

        async def listener() -> str:
            word = await ctx.wait_for("go", str)
            return await ctx.step(act, word)

        async def worker() -> None:
            await ctx.step(asyncio.sleep, 1.5, name="work")
            order.append("worked")

        results: dict[str, str] = {}

        async def inside(key: str, body: Any) -> None:
            async with ctx.branch(key):
                results[key] = await body()

        async with asyncio.TaskGroup() as tasks:
            for key, body in {"s": sleeper, "l": listener, "w": worker}.items():
                tasks.create_task(inside(key, body))
        return [results["s"], results["l"]]

    handle = await engine.client.start(waiting, id="r")
    working = asyncio.create_task(engine.work(waiting))
    await until_waiting(engine)
    assert order == ["worked"]  # not unloaded under the branch that could move
    parked = await engine.store.get_run("r")
    assert (parked.reason, parked.wait_name) == (Reason.SIGNAL, "go")
    assert parked.available_at_us is not None  # the sleeper's time
    await handle.signal("go", "came")
    await working
    assert await handle.result() == ["SLEPT", "CAME"]
    assert executed["came"] == executed["slept"] == 1


@pytest.mark.parametrize("order", [("a", "b"), ("b", "a")])
async def test_a_run_that_waits_in_several_branches_is_woken_by_the_signal_of_each(
    engine: Engine, order: tuple[str, str]
) -> None:
    @agent(retry=ONCE)
    async def both(ctx: Context) -> list[str]:
        heard: list[str] = []

        async def listen(name: str) -> None:
            async with ctx.branch(name):
                heard.append(await ctx.wait_for(name, str))

        async with asyncio.TaskGroup() as tasks:
            for name in "ab":
                tasks.create_task(listen(name))
        return heard

    handle = await engine.client.start(both, id="r")
    for name in order:
        await engine.work(both)
        run = await engine.store.get_run("r")
        assert (run.reason, run.available_at_us) == (Reason.SIGNAL, None)
        await handle.signal(name, name)
    await engine.work(both)
    assert sorted(await handle.result()) == ["a", "b"]


async def test_a_drain_lets_what_is_in_flight_in_other_branches_be_recorded(engine: Engine) -> None:
    from holdfast import Worker

    begun = asyncio.Event()

    async def slow(number: int) -> int:
        executed[f"s{number}"] += 1
        if number >= 4:
            begun.set()
        await asyncio.sleep(0.05 * (1 + number % 3))
        return number

    @agent(retry=ONCE)
    async def drained(ctx: Context) -> list[int]:
        return await ctx.map(slow, range(12), limit=3)

    handle = await engine.client.start(drained, id="r")
    worker = Worker(engine.store, [drained])
    serving = asyncio.create_task(worker.run())
    await begun.wait()
    worker.drain()
    await serving
    run = await engine.store.get_run("r")
    assert (run.state, run.reason) == (RunState.QUEUED, Reason.DRAINED)
    await engine.work(drained)
    assert await handle.result() == list(range(12))
    assert set(executed.values()) == {1}  # nothing in flight was thrown away
