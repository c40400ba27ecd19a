"""Groups in trouble: an item that fails among siblings that cope, a key that changed, a checkpoint put before a map."""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import Any

import pytest

from holdfast import Context, FatalError, RetryPolicy, StepFailed, agent, standing
from holdfast.model import Reason, Run, RunState
from tests.faults import Engine

ONCE = RetryPolicy(attempts=1)
executed: Counter[str] = Counter()
fixed: set[str] = set()


@pytest.fixture(autouse=True)
def nothing_done(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(standing, "LOADED_SLEEP_S", 0.05)
    executed.clear()
    fixed.clear()


async def act(word: str) -> str:
    executed[word] += 1
    if word.startswith("bad") and word not in fixed:
        raise FatalError(word)
    return word.upper()


# --- a failing item, and siblings that handle failures of their own ---------------------------------------------


@agent(name="coper", retry=ONCE)
async def coper(ctx: Context, word: str) -> str:
    """An item of three steps. The second fails, which "c" cannot cope with."""
    said = await ctx.step(act, f"{word}1")
    try:
        said += await ctx.step(act, f"bad-{word}")
    except StepFailed:
        if word == "c":
            raise
        said += await ctx.step(act, f"{word}-undo")
    return said + await ctx.step(act, f"{word}2")


@agent(name="branching", retry=ONCE)
async def branching(ctx: Context) -> list[str]:
    """Branches that do what a coper does; "c" fails last."""
    said: dict[str, str] = {}
    others = asyncio.Event()

    async def item(word: str) -> None:
        async with ctx.branch(word):
            if word == "c":
                await others.wait()
            said[word] = await coper.fn(ctx, word)
        if len(said) == 2:
            others.set()

    async with asyncio.TaskGroup() as tasks:
        for word in "abc":
            tasks.create_task(item(word))
    return [said[word] for word in "abc"]


@agent(name="mapping", retry=ONCE)
async def mapping(ctx: Context) -> list[str]:
    """A map of copers, one at a time; "c" is the last."""
    return await ctx.map(coper, ["a", "b", "c"], key=str, limit=1)


COPED = ["A1A-UNDOA2", "B1B-UNDOB2", "C1BAD-CC2"]
DONE_ONCE = Counter(["a1", "bad-a", "a-undo", "a2", "b1", "bad-b", "b-undo", "b2", "c1", "bad-c", "c2"])


@pytest.mark.parametrize("the_agent", [branching, mapping], ids=["branches", "map"])
async def test_a_retry_after_a_failed_item_keeps_what_its_siblings_coped_with(
    engine: Engine, the_agent: Any
) -> None:
    handle = await engine.client.start(the_agent, id="r")
    await engine.work(the_agent, coper)
    assert (await engine.store.get_run("r")).state is RunState.FAILED
    fixed.add("bad-c")
    await handle.retry()
    await engine.work(the_agent, coper)
    assert await handle.result() == COPED
    assert executed == DONE_ONCE + Counter(["bad-c"])


@pytest.mark.parametrize(("at", "after"), [(at, at % 3 == 0) for at in range(1, 13)])
@pytest.mark.parametrize("when", ["before the failure", "after the retry"])
async def test_siblings_that_coped_are_kept_whenever_the_worker_is_killed(
    engine: Engine, at: int, after: bool, when: str
) -> None:
    handle = await engine.client.start(branching, id="r")
    early = when == "before the failure"
    crashed = early and not await engine.work(branching, crash_at=at, after=after)
    await engine.work(branching)
    assert (await engine.store.get_run("r")).state is RunState.FAILED
    fixed.add("bad-c")
    await handle.retry()
    crashed |= not early and not await engine.work(branching, crash_at=at, after=after)
    await engine.work(branching)
    assert await handle.result() == COPED
    repeated = executed - DONE_ONCE - Counter(["bad-c"])
    assert repeated.total() <= (2 if crashed else 0)  # in flight beside each other
    if not early:
        assert set(repeated) <= {"bad-c", "c2"}  # the siblings were done with


# --- code that changed -------------------------------------------------------------------------------------------


def mapper(items: list[str], *, checkpoint: bool = False) -> Any:
    @agent(name="mapper", retry=ONCE)
    async def changing(ctx: Context) -> list[str]:
        state: dict[str, int] = ctx.restore(dict[str, int], default={})
        if checkpoint:
            await ctx.checkpoint(state)
        words = await ctx.map(act, items, key=str, limit=1)
        return [*words, await ctx.step(act, "last")]

    return changing


ITEMS = ["a", "b", "c", "d"]


async def stopped(engine: Engine, at: int) -> None:
    """A run of the map whose worker died when `at` of its items were recorded."""
    await engine.client.start(mapper(ITEMS), id="r")
    assert not await engine.work(mapper(ITEMS), crash_at=max(1, at), after=at > 0)
    if at == 0:
        executed.clear()


async def gone_on(engine: Engine, the_agent: Any) -> Run:
    await engine.work(the_agent)
    return await engine.store.get_run("r")


@pytest.mark.parametrize("at", range(5))
async def test_an_item_whose_key_changed_is_held_once_it_is_recorded_and_can_be_dropped(
    engine: Engine, at: int
) -> None:
    changed = mapper(["a", "x", "c", "d"])
    await stopped(engine, at)
    before = executed.copy()
    run = await gone_on(engine, changed)
    if at >= 2:
        assert (run.state, run.reason) == (RunState.WAITING, Reason.MISMATCH)
        assert run.mismatch is not None
        assert "'map act.0.0' without this branch" in run.mismatch.message
        assert "map act.0.0/b" in run.mismatch.message
        assert executed == before
        assert run.mismatch.entry is not None
        await engine.client.handle(changed, "r").retry(drop=run.mismatch.entry)
        run = await gone_on(engine, changed)
    assert run.state is RunState.SUCCEEDED, run.failure
    assert await engine.client.handle(changed, "r").result() == ["A", "X", "C", "D", "LAST"]
    assert set(executed.values()) == {1}


@pytest.mark.parametrize("way", ["put back", "from the checkpoint"])
@pytest.mark.parametrize("at", range(5))
async def test_a_checkpoint_before_a_map_is_held_once_an_item_is_recorded(
    engine: Engine, at: int, way: str
) -> None:
    changed = mapper(ITEMS, checkpoint=True)
    await stopped(engine, at)
    before = executed.copy()
    run = await gone_on(engine, changed)
    if at:
        assert (run.state, run.reason) == (RunState.WAITING, Reason.MISMATCH)
        assert run.mismatch is not None
        assert "checkpoint call 1" in run.mismatch.message
        assert "map act.0.0/a" in run.mismatch.message
        assert executed == before
        handle = engine.client.handle(changed, "r")
        if way == "put back":
            changed = mapper(ITEMS)
            await handle.retry()
        else:
            await handle.retry(from_checkpoint=True)
        run = await gone_on(engine, changed)
    assert run.state is RunState.SUCCEEDED, (run.reason, run.failure)
    assert await engine.client.handle(changed, "r").result() == ["A", "B", "C", "D", "LAST"]
    again = before if at and way != "put back" else Counter[str]()
    assert executed == Counter([*ITEMS, "last"]) + again
