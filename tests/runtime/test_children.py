"""Children: started once, waited for at no cost, ended with their parent; what happens to them crosses."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

import holdfast
from holdfast import (
    ChildFailed,
    Context,
    FatalError,
    ParentPolicy,
    RetryPolicy,
    RunFailed,
    StepFailed,
    agent,
    standing,
)
from holdfast.errors import Refused, UsageError
from holdfast.model import (
    Change,
    Committed,
    EntryKind,
    EntryStatus,
    Reason,
    RefusedChange,
    RunFilter,
    RunState,
)
from holdfast.store import open_store
from holdfast.store.protocol import Store
from holdfast.worker import Worker
from tests.faults import CrashingStore, Engine, Interrupted

ONCE = RetryPolicy(attempts=1)
executed: Counter[str] = Counter()
broken: set[str] = set()
seen: list[Any] = []


@pytest.fixture(autouse=True)
def nothing_done(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(standing, "LOADED_SLEEP_S", 0.05)  # how long branches that all wait stay in memory
    executed.clear()
    broken.clear()
    seen.clear()


async def act(word: str) -> str:
    executed[word] += 1
    if word in broken:
        raise FatalError(word)
    return word.upper()


@agent(name="shout", retry=ONCE)
async def shout(ctx: Context, word: str) -> str:
    first = await ctx.step(act, f"{word}1")
    return first + await ctx.step(act, f"{word}2")


@agent(name="forever", retry=ONCE)
async def forever(ctx: Context, word: str) -> str:
    await ctx.step(act, word)
    await ctx.wait_for("never")
    return word


def shouted(word: str) -> str:
    return f"{word}1{word}2".upper()


async def until(holds: Callable[[], Awaitable[bool]]) -> None:
    async with asyncio.timeout(20):
        while not await holds():  # noqa: ASYNC110 - another handle's news
            await asyncio.sleep(0.01)


async def states(engine: Engine, id: str = "r") -> dict[str, str]:
    return {kin.run.id: kin.run.state.value for kin in await engine.store.list_children([id], 1000)}


async def check_family(engine: Engine, id: str = "r") -> None:
    """Every recorded start has one child and every child one start; its end was told, and taken at most once."""
    started = [
        entry.payload.decode().strip('"')
        for entry in await engine.entries(id)
        if entry.identity.name.endswith((":start", ":call"))
        and entry.status is EntryStatus.OK
        and not entry.superseded
    ]
    children = await engine.store.list_children([id], 1000)
    assert sorted(started) == sorted(kin.run.id for kin in children)
    taken = [e.signal for e in await engine.entries(id) if e.signal is not None and not e.superseded]
    assert len(taken) == len(set(taken))


async def check_given_up(engine: Engine) -> None:
    """Children that were cancelled were so by the code, before the end of their parent could do it."""
    for id, state in (await states(engine)).items():
        ends = [event.payload for event in await engine.events(id) if event.type == "run.cancelled"]
        assert len(ends) == (state == "cancelled")
        assert not any(b'"parent"' in end for end in ends)


crashes = pytest.mark.parametrize("after", [False, True])


# --- calls and starts -----------------------------------------------------------------------------------------


@dataclass
class Errands:
    words: list[str] = field(default_factory=list)
    waiting: str = ""


@agent(name="family", retry=ONCE)
async def family(ctx: Context) -> list[str]:
    first = await ctx.call(shout, "a")
    state = ctx.restore(Errands)
    if not state.waiting:
        state.waiting = (await ctx.start(shout, "b")).id
        await ctx.checkpoint(state, force=True)
    if not state.words:
        state.words = await ctx.map(shout, ["c", "d"])
        await ctx.checkpoint(state)
    try:
        await ctx.call(shout, "bad")
    except ChildFailed as error:
        state.words.append(f"{error.kind} {error.failure.cause and error.failure.cause.message}")
    last = await ctx.child(shout, state.waiting).result()
    return [first, last, *state.words]


FAMILY = [shouted("a"), shouted("b"), shouted("c"), shouted("d"), "fatal bad2"]


async def test_a_call_is_the_result_of_another_run(engine: Engine) -> None:
    broken.add("bad2")
    handle = await engine.client.start(family, id="r")
    await engine.work(family, shout)
    assert await handle.result() == FAMILY
    assert set(executed.values()) == {1}
    await check_family(engine)
    kinds = Counter(entry.kind for entry in await engine.entries())
    assert kinds == {EntryKind.CHILD: 10}


@crashes
@pytest.mark.parametrize("at", range(1, 34))
async def test_a_kill_at_any_commit_of_parent_or_child_starts_no_child_twice_and_loses_no_outcome(
    engine: Engine, at: int, after: bool
) -> None:
    broken.add("bad2")
    handle = await engine.client.start(family, id="r")
    crashed = not await engine.work(family, shout, crash_at=at, after=after, capacity=1)
    await engine.work(family, shout)
    assert await handle.result() == FAMILY
    assert sum(executed.values()) - len(executed) <= (1 if crashed and not after else 0)
    await check_family(engine)
    assert len(await states(engine)) == 5


async def test_the_kills_reach_to_the_end(engine: Engine) -> None:
    """If the agents above commit more often than they are killed, the range of the test above has to grow."""
    broken.add("bad2")
    await engine.client.start(family, id="r")
    await engine.work(family, shout, capacity=1)
    assert engine.commits <= 33


async def test_a_run_that_waits_for_a_child_costs_a_row(engine: Engine) -> None:
    @agent(name="patient")
    async def patient(ctx: Context) -> str:
        return await ctx.call(forever, "x", id="x")

    await engine.client.start(patient, id="r")
    await engine.work(patient, forever, capacity=1)
    run = await engine.store.get_run("r")
    assert (run.state, run.reason, run.available_at_us) == (RunState.WAITING, Reason.CHILD, None)
    assert executed == {"x": 1}
    await engine.store.add_signal("x", "never", b"1")
    await engine.work(patient, forever, capacity=1)
    assert (await engine.store.get_run("r")).result == b'"x"'


@pytest.mark.parametrize(
    ("name", "at", "after"),
    [
        ("commit", 1, True),  # the start is durable, and the attempt has not heard of it
        ("read_child", 1, False),
        ("read_child", 1, True),  # the child was seen under way
        ("commit", 2, False),  # the park is on its way
        ("commit", 2, True),  # parked, and the worker has not heard of it
    ],
)
async def test_the_end_of_a_child_at_any_instant_of_the_park_is_met_once(
    engine: Engine, name: str, at: int, after: bool
) -> None:
    @agent(name="waits")
    async def waits(ctx: Context) -> str:
        return await ctx.call(shout, "a")

    async def end() -> None:
        seen.append(await engine.work(shout))

    handle = await engine.client.start(waits, id="r")
    await engine.work(waits, through=lambda store: Interrupted(store, end, name, at, after))
    assert seen == [True]
    assert await handle.result() == shouted("a")
    assert executed == {"a1": 1, "a2": 1}
    await check_family(engine)
    assert [entry.signal for entry in await engine.entries()] == [None, 1]


async def test_one_slot_is_enough_for_a_whole_tree(engine: Engine) -> None:
    @agent(name="down")
    async def down(ctx: Context, depth: int) -> int:
        return 1 + await ctx.call(down, depth - 1) if depth else 0

    handle = await engine.client.start(down, 20, id="r")
    await engine.work(down, capacity=1)
    assert await handle.result() == 20
    deepest = max((run.id for run in await engine.store.list_runs(RunFilter())), key=len)
    assert len(deepest) <= 200


async def test_a_child_takes_what_it_is_given_and_its_parents_priority(engine: Engine) -> None:
    @agent(name="giver", queue="quick")
    async def giver(ctx: Context) -> None:
        await ctx.start(shout, "a")
        await ctx.start(shout, "b", id="b", priority=3, queue="slow", delay="1h", on_parent_end="leave")

    await engine.client.start(giver, id="r", priority=-2)
    await engine.work(giver)
    first, second = await engine.store.list_children(["r"], 9)
    assert (first.run.priority, first.run.queue, first.on_parent_end) == (-2, "default", ParentPolicy.CANCEL)
    assert first.run.state is RunState.CANCELLED
    assert (second.run.id, second.run.priority, second.run.queue) == ("b", 3, "slow")
    assert second.run.state is RunState.QUEUED
    assert second.run.available_at_us - second.run.created_at_us == 3_600_000_000


async def test_a_result_can_be_had_twice(engine: Engine) -> None:
    @agent(name="twice")
    async def twice(ctx: Context) -> list[str]:
        handle = await ctx.start(shout, "a")
        return [await handle.result(), await handle.result(), await ctx.child(shout, handle.id).result()]

    assert await _finish(engine, twice, shout) == [shouted("a")] * 3
    assert executed == {"a1": 1, "a2": 1}


async def test_a_child_of_somebody_else_is_no_child(engine: Engine) -> None:
    @agent(name="stranger", retry=ONCE)
    async def stranger(ctx: Context) -> str:
        with pytest.raises(ChildFailed, match="no child"):
            await ctx.child(shout, "other").result()
        await ctx.child(shout, "other").cancel()
        return await ctx.step(act, "on")

    await engine.client.start(shout, "a", id="other", delay="1h")
    assert await _finish(engine, stranger) == "ON"
    assert (await engine.store.get_run("other")).state is RunState.QUEUED


async def _finish(engine: Engine, *agents: Any) -> Any:
    handle = await engine.client.start(agents[0], id="r")
    await engine.work(*agents)
    return await handle.result()


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (lambda ctx: ctx.step(shout, "a"), "ctx.call"),
        (lambda ctx: ctx.call(act, "a"), "@agent"),
        (lambda ctx: ctx.start(shout, "a", on_parent_end="kill"), "'cancel', 'leave'"),
        (lambda ctx: ctx.start(shout, "a", id="two words"), "spaces"),
        (lambda ctx: ctx.start(shout, "a", priority=10_000_000), "priority"),
        (lambda ctx: ctx.call(shout), "word"),
        (lambda ctx: ctx.map(shout, ["a"], timeout=3), "timeout"),
    ],
)
async def test_what_cannot_be_a_child_is_refused_at_the_call(
    engine: Engine, wrong: Callable[[Any], Any], message: str
) -> None:
    @agent(name="wrong", retry=ONCE)
    async def usage(ctx: Context) -> None:
        with pytest.raises(UsageError, match=message):
            await wrong(ctx)

    await _finish(engine, usage)
    assert await states(engine) == {}


# --- failures and cancellation cross ----------------------------------------------------------------------------


@agent(name="careless", retry=ONCE)
async def careless(ctx: Context) -> str:
    await ctx.step(act, "before")
    await ctx.call(shout, "good")
    return await ctx.call(shout, "bad")


async def test_a_childs_failure_is_raised_in_the_parent_the_same_live_and_replayed(engine: Engine) -> None:
    @agent(name="tolerant", retry=ONCE)
    async def tolerant(ctx: Context) -> str:
        try:
            await ctx.call(shout, "bad", id="c")
        except StepFailed as error:
            seen.append((error.kind, error.message, error.entry, str(error), getattr(error, "child", None)))
            cause = error.failure.cause or error.failure
            seen.append((cause.type, "test_children.py" in cause.frames))
        await ctx.wait_for("on")
        return "done"

    broken.add("bad2")
    await engine.client.start(tolerant, id="r")
    await engine.work(tolerant, shout)
    await engine.store.add_signal("r", "on", b"1")
    await engine.work(tolerant, shout)
    told = "child c failed: FatalError: bad2"
    assert seen == [("fatal", told, 2, told, "c"), ("FatalError", True)] * 2


async def test_a_failed_child_fails_its_parent_and_a_retry_of_that_retries_what_failed(
    engine: Engine,
) -> None:
    broken.add("bad2")
    with pytest.raises(RunFailed) as failed:
        await _finish(engine, careless, shout)
    assert failed.value.failure.type == "ChildFailed"
    assert failed.value.failure.cause is not None
    assert failed.value.failure.cause.type == "FatalError"
    broken.clear()
    await (await engine.client.get("r")).retry()
    await engine.work(careless, shout)
    assert (await engine.store.get_run("r")).result == b'"BAD1BAD2"'
    assert executed == {"before": 1, "good1": 1, "good2": 1, "bad1": 1, "bad2": 2}
    await check_family(engine)
    assert len(await states(engine)) == 2


async def test_a_cancelled_child_fails_its_call_as_cancelled(engine: Engine) -> None:
    @agent(name="asks")
    async def asks(ctx: Context) -> str:
        try:
            return await ctx.call(forever, "x", id="c")
        except ChildFailed as error:
            return f"{error.kind} {error.failure.cause and error.failure.cause.type}"

    handle = await engine.client.start(asks, id="r")
    await engine.work(asks, forever)
    await (await engine.client.get("c")).cancel()
    await engine.work(asks, forever)
    assert await handle.result() == "cancelled RunCancelled"


async def test_a_handle_cancels_its_child(engine: Engine) -> None:
    @agent(name="fickle")
    async def fickle(ctx: Context) -> str:
        handle = await ctx.start(forever, "x")
        await handle.cancel()
        with pytest.raises(ChildFailed, match="cancelled"):
            await handle.result()
        return handle.id

    child = await _finish(engine, fickle, forever)
    assert await states(engine) == {child: "cancelled"}


async def test_a_child_that_is_retried_by_itself_is_waited_for_again(engine: Engine) -> None:
    @agent(name="late")
    async def late(ctx: Context) -> str:
        handle = await ctx.start(shout, "bad", id="c")
        await ctx.wait_for("on")
        return await handle.result()

    broken.add("bad1")
    handle = await engine.client.start(late, id="r")
    await engine.work(late, shout)
    broken.clear()
    await (await engine.client.get("c")).retry()
    await engine.store.add_signal("r", "on", b"1")
    await engine.work(late)
    assert (await engine.store.get_run("r")).reason is Reason.CHILD
    await engine.work(late, shout)
    assert await handle.result() == shouted("bad")


# --- the end of a parent ----------------------------------------------------------------------------------------


@agent(name="crowd")
async def crowd(ctx: Context, count: int) -> None:
    for n in range(count):
        await ctx.start(forever, f"x{n}")
    await ctx.wait_for("never")


async def test_a_cancelled_parent_cancels_a_hundred_children_at_once(engine: Engine) -> None:
    await engine.client.start(crowd, 100, id="r")
    await engine.work(crowd)
    await (await engine.client.get("r")).cancel()
    assert Counter((await states(engine)).values()) == {"cancelled": 100}


async def test_code_of_a_child_whose_parent_is_cancelled_is_interrupted(engine: Engine) -> None:
    begun, ended = asyncio.Event(), asyncio.Event()

    async def long() -> None:
        begun.set()
        try:
            await asyncio.sleep(3600)
        finally:
            ended.set()

    @agent(name="slow")
    async def slow(ctx: Context) -> None:
        await ctx.step(long)

    @agent(name="parent")
    async def parent(ctx: Context) -> None:
        await ctx.call(slow)

    handle = await engine.client.start(parent, id="r")
    async with Worker(engine.store, [parent, slow]):
        await begun.wait()
        await handle.cancel()
        async with asyncio.timeout(20):
            await ended.wait()
    assert list((await states(engine)).values()) == ["cancelled"]


async def test_the_deadline_of_a_parent_ends_a_child_that_never_does(engine: Engine) -> None:
    @agent(name="hurried", deadline="300ms")
    async def hurried(ctx: Context) -> str:
        return await ctx.call(forever, "x")

    handle = await engine.client.start(hurried, id="r")
    async with Worker(engine.store, [hurried, forever]):

        async def ended() -> bool:
            await engine.sweep()
            return (await handle.status()).state is RunState.FAILED

        await until(ended)
    assert list((await states(engine)).values()) == ["cancelled"]


async def test_a_child_that_is_left_goes_on_and_its_outcome_stays_with_it(engine: Engine) -> None:
    @agent(name="leaver")
    async def leaver(ctx: Context) -> str:
        return (await ctx.start(shout, "a", on_parent_end="leave")).id

    handle = await engine.client.start(leaver, id="r")
    await engine.work(leaver)
    child = await handle.result()
    await engine.work(shout)
    assert await (await engine.client.get(child)).result() == shouted("a")


async def test_a_retry_of_a_parent_gives_its_children_back(engine: Engine) -> None:
    @agent(name="fragile", retry=ONCE)
    async def fragile(ctx: Context) -> str:
        handle = await ctx.start(shout, "a", delay="1s")
        await ctx.step(act, "bad")
        return await handle.result()

    broken.add("bad")
    handle = await engine.client.start(fragile, id="r")
    await engine.work(fragile)
    assert list((await states(engine)).values()) == ["cancelled"]
    broken.clear()
    await handle.retry()
    await engine.work(fragile, shout)
    assert await handle.result() == shouted("a")
    assert len(await states(engine)) == 1
    assert executed == {"bad": 2, "a1": 1, "a2": 1}


async def test_going_back_to_the_checkpoint_meets_the_same_children(engine: Engine) -> None:
    @agent(name="again", retry=ONCE)
    async def again(ctx: Context) -> list[str]:
        state = ctx.restore(Errands)
        handle = await ctx.start(shout, "a")
        words = [await handle.result(), await ctx.call(shout, "b")]
        await ctx.step(act, "bad")
        return [*words, *state.words]

    broken.add("bad")
    handle = await engine.client.start(again, id="r")
    await engine.work(again, shout)
    before = await states(engine)
    broken.clear()
    await handle.retry(from_checkpoint=True)
    await engine.work(again, shout)
    assert await handle.result() == [shouted("a"), shouted("b")]
    assert await states(engine) == before
    assert executed == {"a1": 1, "a2": 1, "b1": 1, "b2": 1, "bad": 2}


# --- branches ---------------------------------------------------------------------------------------------------


@agent(name="racer", retry=ONCE)
async def racer(ctx: Context) -> list[str]:
    async def quick() -> str:
        return await ctx.call(shout, "quick", key="k")

    async def slow() -> str:
        return await ctx.call(forever, "slow")

    winner, word = await ctx.race({"quick": quick, "slow": slow})
    return [winner, word, await ctx.step(act, "after")]


@crashes
@pytest.mark.parametrize("at", range(1, 14))
async def test_the_child_that_loses_a_race_is_cancelled_whenever_it_is_killed(
    engine: Engine, at: int, after: bool
) -> None:
    handle = await engine.client.start(racer, id="r")
    await engine.work(racer, shout, forever, crash_at=at, after=after)
    await engine.work(racer, shout, forever)
    assert await handle.result() == ["quick", shouted("quick"), "AFTER"]
    assert sorted((await states(engine)).values()) == ["cancelled", "succeeded"]
    await check_family(engine)
    await check_given_up(engine)


@agent(name="hasty", retry=ONCE)
async def hasty(ctx: Context) -> str:
    try:
        async with asyncio.timeout(0.05):
            async with ctx.branch("b"):
                await ctx.call(forever, "x")
    except TimeoutError:
        return await ctx.step(act, "gave up")
    return "never"


@crashes
@pytest.mark.parametrize("at", range(1, 7))
async def test_a_call_that_runs_out_of_its_time_cancels_its_child(
    engine: Engine, at: int, after: bool
) -> None:
    handle = await engine.client.start(hasty, id="r")
    await engine.work(hasty, crash_at=at, after=after)
    await engine.work(hasty)
    assert await handle.result() == "GAVE UP"
    assert set((await states(engine)).values()) <= {"cancelled"}
    await check_given_up(engine)


@pytest.mark.parametrize("turns", range(8))
async def test_a_start_that_is_cancelled_leaves_no_child_behind(engine: Engine, turns: int) -> None:
    @agent(name="shy", retry=ONCE)
    async def shy(ctx: Context) -> list[str]:
        starting = asyncio.ensure_future(ctx.start(forever, "x"))
        for _ in range(turns):
            await asyncio.sleep(0)
        starting.cancel()
        with suppress(asyncio.CancelledError):
            seen.append(await starting)
        return [await ctx.step(act, "on")]

    # With a second run in flight, a commit is never done on the spot.
    await engine.client.start(forever, "y", id="y")
    handle = await engine.client.start(shy, id="r")
    await engine.work(shy, forever)
    assert await handle.result() == ["ON"]
    if not seen:
        await check_given_up(engine)


@crashes
@pytest.mark.parametrize("at", range(1, 13))
async def test_a_map_of_children_that_fails_is_retried_with_all_that_was_cancelled_whenever_it_is_killed(
    engine: Engine, at: int, after: bool
) -> None:
    @agent(name="waver", retry=ONCE)
    async def waver(ctx: Context, word: str) -> str:
        if word == "slow" and "bad" in broken:
            await ctx.wait_for("never")
        return await ctx.step(act, word)

    @agent(name="mapper", retry=ONCE)
    async def mapper(ctx: Context) -> list[str]:
        return await ctx.map(waver, ["a", "slow", "bad"], key=str)

    broken.add("bad")
    handle = await engine.client.start(mapper, id="r")
    crashed = not await engine.work(mapper, waver, crash_at=at, after=after)
    await engine.work(mapper, waver)
    assert sorted((await states(engine)).values()) == ["cancelled", "failed", "succeeded"]
    broken.clear()
    await handle.retry()
    await engine.work(mapper, waver)
    assert await handle.result() == ["A", "SLOW", "BAD"]
    repeated = executed - Counter({"a": 1, "slow": 1, "bad": 2})
    assert repeated.total() <= (2 if crashed else 0)  # those in flight
    await check_family(engine)
    assert len(await states(engine)) == 3


@agent(name="slowly", retry=ONCE)
async def slowly(ctx: Context, word: str) -> str:
    if word == "slow":
        await ctx.wait_for("never")
    return await ctx.step(act, word)


@agent(name="catcher", retry=ONCE)
async def catcher(ctx: Context) -> str:
    try:
        await ctx.map(slowly, ["slow", "bad", "good"], key=str)
    except ChildFailed:
        return await ctx.step(act, "after")
    return "never"


@crashes
@pytest.mark.parametrize("at", range(1, 16))
async def test_children_of_a_map_that_failed_are_cancelled_whenever_it_is_killed(
    engine: Engine, at: int, after: bool
) -> None:
    broken.add("bad")
    handle = await engine.client.start(catcher, id="r")
    await engine.work(catcher, slowly, crash_at=at, after=after)
    await engine.work(catcher, slowly)
    assert await handle.result() == "AFTER"
    await check_family(engine)
    await check_given_up(engine)
    assert "cancelled" in (await states(engine)).values()


async def test_a_map_of_children_keeps_its_limit_over_every_resume(engine: Engine) -> None:
    @agent(name="gate", retry=ONCE)
    async def gate(ctx: Context, n: int) -> int:
        await ctx.wait_for("on")
        return n

    @agent(name="mapper", retry=ONCE)
    async def mapper(ctx: Context) -> list[int]:
        return await ctx.map(gate, range(7), limit=3)

    handle = await engine.client.start(mapper, id="r")
    for done in range(7):
        await engine.work(mapper, gate)
        family = await states(engine)
        assert len(family) == min(7, done + 3)
        waiting = [id for id, state in family.items() if state == "waiting"]
        await engine.store.add_signal(waiting[-1], "on", b"1")
    await engine.work(mapper, gate)
    assert await handle.result() == list(range(7))


async def test_failures_of_mapped_children_are_results_where_they_are_asked_for(engine: Engine) -> None:
    @agent(name="collector", retry=ONCE)
    async def collector(ctx: Context) -> list[str]:
        outcomes = await ctx.map(shout, ["a", "bad"], return_failures=True)
        return [str(each) for each in outcomes]

    broken.add("bad1")
    first, second = await _finish(engine, collector, shout)
    assert first == shouted("a")
    assert second.endswith("failed: FatalError: bad1")


# --- ids --------------------------------------------------------------------------------------------------------


@agent(name="claimant", retry=ONCE)
async def claimant(ctx: Context, word: str) -> list[str]:
    async def one(n: int) -> str:
        async with ctx.branch(str(n)):
            try:
                return (
                    await ctx.call(shout, word, id="shared")
                    if n == 1
                    else await ctx.call(shout, f"{word}{n}")
                )
            except ChildFailed as error:
                return f"{error.failure.type} {error.child}"

    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(one(n)) for n in range(3)]
    return [task.result() for task in tasks]


async def test_an_id_has_one_parent_and_the_other_is_told(engine: Engine) -> None:
    handles = [await engine.client.start(claimant, word, id=word) for word in ("m", "n")]
    await engine.work(claimant, shout)
    results = [await handle.result() for handle in handles]
    losers = [result for result in results if result[1] == "Conflict shared"]
    assert len(losers) == 1
    shared = await engine.store.get_run("shared")
    owners = await engine.store.parents_of([shared.key])
    winner = owners[shared.key]
    assert results["mn".index(winner)] == [shouted(f"{winner}0"), shouted(winner), shouted(f"{winner}2")]
    for id in ("m", "n"):
        await check_family(engine, id)


# --- runs executed where they are started -------------------------------------------------------------------------


@agent(name="embedded")
async def embedded(ctx: Context, left: bool = False) -> list[str]:
    if left:
        await ctx.start(forever, "left", on_parent_end="leave", id="left")
    return await ctx.map(shout, ["a", "b"])


def test_a_run_in_a_script_executes_its_children_too(tmp_path: Path) -> None:
    assert holdfast.run(embedded, store=str(tmp_path / "s.db")) == [shouted("a"), shouted("b")]


def test_a_run_in_a_script_does_not_wait_for_a_child_that_is_left(tmp_path: Path) -> None:
    assert holdfast.run(embedded, True, store=str(tmp_path / "s.db")) == [shouted("a"), shouted("b")]


def test_a_run_in_a_script_says_which_code_its_child_lacks(tmp_path: Path) -> None:
    unnamed = {"x": agent(name="hidden")(shout.fn)}

    def hidden() -> Any:
        return unnamed["x"]

    @agent(name="vague")
    async def vague(ctx: Context) -> str:
        return await ctx.call(hidden(), "a", id="c")

    place = str(tmp_path / "s.db")
    with pytest.raises(Refused, match=r"child c.*needs_code.*'hidden', version '0'.*agents="):
        holdfast.run(vague, store=place, id="r")
    assert holdfast.run(vague, store=place, id="r", agents=[unnamed["x"]]) == shouted("a")


async def test_a_retry_of_a_parent_asks_about_the_effects_of_its_failed_child(engine: Engine) -> None:
    async def order() -> None:
        done.append("order")
        raise RuntimeError("the line broke")

    async def undo() -> None:
        done.append("undo")

    @agent(name="buyer")
    async def buyer(ctx: Context) -> None:
        try:
            await ctx.step(order, effect="once")
        except StepFailed:
            await ctx.step(undo, effect="once")
            raise

    @agent(name="principal")
    async def principal(ctx: Context) -> None:
        await ctx.call(buyer, id="child")

    done: list[str] = []
    handle = await engine.client.start(principal, id="r")
    await engine.work(principal, buyer)
    assert (await handle.status()).state == "failed"
    await handle.retry()
    await engine.work(principal, buyer)
    assert (await engine.store.get_run("child")).reason == "effect_unknown"
    assert done == ["order", "undo"]


@agent(name="undecided")
async def undecided(ctx: Context) -> str:
    async def quick() -> str:
        return await ctx.step(asyncio.sleep, 0.1, name="nap") or "quick"

    async def slow() -> str:
        return await ctx.call(forever, "hi", id="child", on_parent_end="leave")

    return (await ctx.race({"quick": quick, "slow": slow}))[0]


@pytest.mark.parametrize("commit", range(1, 7))
async def test_a_child_that_lost_a_race_is_cancelled_though_its_parent_dies_and_then_returns(
    engine: Engine, commit: int
) -> None:
    await engine.client.start(undecided, id="r")
    await engine.work(undecided, forever, crash_at=commit, after=True)
    await engine.work(undecided, forever)
    assert (await engine.store.get_run("r")).state == "succeeded"
    assert (await engine.store.get_run("child")).state == "cancelled"


@agent(name="rueful", retry=ONCE)
async def rueful(ctx: Context) -> str:
    async def quick() -> str:
        return await ctx.step(act, "quick")

    async def slow() -> str:
        return await ctx.call(forever, "hi", id="child", on_parent_end="leave")

    winner, _ = await ctx.race({"quick": quick, "slow": slow})
    if "mind" in broken:
        raise FatalError("changed my mind")
    return winner


@crashes
@pytest.mark.parametrize("commit", range(1, 7))
async def test_a_child_that_lost_a_race_is_cancelled_though_its_parent_dies_and_then_fails(
    engine: Engine, commit: int, after: bool
) -> None:
    broken.add("mind")
    handle = await engine.client.start(rueful, id="r")
    await engine.work(rueful, forever, crash_at=commit, after=after)
    await engine.work(rueful, forever)
    assert (await engine.store.get_run("r")).state is RunState.FAILED
    assert set((await states(engine)).values()) <= {"cancelled"}
    broken.clear()
    await handle.retry()
    await engine.work(rueful, forever)
    assert await handle.result() == "quick"
    assert set((await states(engine)).values()) <= {"cancelled"}
    await check_given_up(engine)


class DiesWithTheWinner(CrashingStore):
    """The process dies once the winner of a race is durable, before its losers say anything."""

    def commit_now(self, changes: Sequence[Change]) -> None:
        """Never on the spot."""
        return

    async def commit(self, changes: Sequence[Change]) -> list[Committed | RefusedChange]:
        """Commit, and die at the winner."""
        answers = await super().commit(changes)
        if any(entry.kind is EntryKind.GROUP for change in changes for entry in change.entries):
            self._die()
        return answers


@agent(name="ending", retry=ONCE)
async def ending(ctx: Context) -> str:
    async def quick() -> str:
        await begun.wait()
        return "quick"

    async def calls() -> str:
        return await ctx.call(forever, "a", id="called", on_parent_end="leave")

    async def calls_within() -> str:
        return (
            await ctx.race({"inner": lambda: ctx.call(forever, "b", id="within", on_parent_end="leave")})
        )[1]

    async def starts() -> str:
        started = await ctx.start(forever, "d", id="started", on_parent_end="leave")
        return await started.result()

    begun = asyncio.Event()
    asyncio.get_running_loop().call_later(0.3, begun.set)
    bodies = {"calls": calls, "within": calls_within, "starts": starts, "quick": quick}
    return (await ctx.race(bodies))[0]


@pytest.mark.parametrize("again", [False, True])
async def test_a_child_of_a_loser_ends_with_the_record_of_the_winner_whoever_ends_the_run_then(
    engine: Engine, again: bool
) -> None:
    """What was started without waiting for it is left, as its policy says."""
    handle = await engine.client.start(ending, id="r")
    if again:  # the calls are answered from the journal
        assert not await engine.work(ending, crash_at=1, after=True)
    assert not await engine.work(ending, through=DiesWithTheWinner)
    await handle.cancel()
    found = await states(engine)
    assert found.pop("started") == "queued"
    assert found == {"called": "cancelled", "within": "cancelled"}


async def test_a_drain_while_a_race_is_replayed_cancels_no_child(engine: Engine) -> None:
    async def decide() -> str:
        if len(seen) < 3:
            await asyncio.Event().wait()
        return "decided"

    @agent(name="interrupted", retry=ONCE)
    async def interrupted(ctx: Context) -> str:
        async def first() -> str:
            return await ctx.step(decide)

        async def second() -> str:
            return await ctx.call(shout, "a", id="child")

        seen.append(ctx.attempt)
        if len(seen) == 2:  # the end of this attempt is asked for before its code comes to the race again
            worker.drain()
            while ctx._port.asked is None:  # noqa: ASYNC110 - set by the worker
                await asyncio.sleep(0)
        return (await ctx.race({"first": first, "second": second}))[0]

    handle = await engine.client.start(interrupted, id="r")
    assert not await engine.work(interrupted, crash_at=1, after=True)
    assert await states(engine) == {"child": "queued"}
    async with open_store(engine.url) as store:
        worker = Worker(store, [interrupted])
        await worker.run()
    assert (await engine.store.get_run("r")).reason is Reason.DRAINED
    assert await states(engine) == {"child": "queued"}
    await engine.work(interrupted)
    assert await handle.result() == "first"
    assert await states(engine) == {"child": "cancelled"}


async def test_a_call_that_runs_out_of_its_time_at_a_safe_point_cancels_its_child(engine: Engine) -> None:
    async def long() -> None:
        await asyncio.sleep(0.8)

    @agent(name="hurried")
    async def hurried(ctx: Context) -> None:
        async def beside() -> None:
            async with ctx.branch("beside"):
                await ctx.step(long)

        async def call() -> None:
            async with ctx.branch("call"):
                with suppress(TimeoutError):
                    async with asyncio.timeout(0.5):
                        await ctx.call(forever, "hi", id="child", on_parent_end="leave")

        async with asyncio.TaskGroup() as group:
            group.create_task(beside())
            group.create_task(call())

    class Pausing:
        """Pauses the run with the start of its child, and answers when its worker has been told."""

        def __init__(self, store: Store) -> None:
            self._store = store

        def commit_now(self, changes: Sequence[Change]) -> None:
            return None

        async def commit(self, changes: Sequence[Change]) -> list[Committed | RefusedChange]:
            answers = await self._store.commit(changes)
            if any(entry.identity.name.endswith(":call") for change in changes for entry in change.entries):
                await handle.pause()
                await asyncio.sleep(0.3)
            return answers

        def __getattr__(self, name: str) -> Any:
            return getattr(self._store, name)

    handle = await engine.client.start(hurried, id="r")
    async with open_store(engine.url) as store:
        await Worker(Pausing(store), [hurried, forever], until_idle=True).run()  # type: ignore[arg-type]
    assert (await engine.store.get_run("child")).state == "cancelled"
