"""replay tries code on stored runs: it says how they fit, and executes and records nothing."""

from __future__ import annotations

import asyncio
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

import pytest

from holdfast import Context, FatalError, RetryPolicy, StepFailed, agent
from holdfast.errors import RunNotFound
from holdfast.model import RunState
from holdfast.testing import Replay, replay
from holdfast.testing.conformance.place import fingerprint
from holdfast.testing.rehearsal import rehearse
from tests.faults import Engine

ONCE = RetryPolicy(attempts=1)
executed: Counter[str] = Counter()


@dataclass
class Work:
    done: int = 0
    words: list[str] = field(default_factory=list)


async def act(word: str) -> str:
    executed[word] += 1
    return word.upper()


async def refuse(word: str) -> str:
    executed[word] += 1
    raise FatalError(word)


@agent(name="worker", retry=ONCE)
async def stored(ctx: Context, rounds: int) -> list[str]:
    first = await ctx.step(act, "setup")
    state = ctx.restore(Work)
    while state.done < rounds:
        state.words += await ctx.map(act, [f"{state.done}{key}" for key in "ab"], key=str)
        try:
            await ctx.step(refuse, "no")
        except StepFailed:
            await ctx.once(f"paid {state.done}", act, "pay")
        await ctx.sleep(0.001)
        state.done += 1
        await ctx.checkpoint(state)
    return [first, *state.words]


async def tried(engine: Engine, the_agent: Any, **options: Any) -> Replay:
    executed.clear()
    before = await fingerprint(engine.store, "r")
    found = await rehearse(engine.store, "r", the_agent, **options)
    assert await fingerprint(engine.store, "r") == before
    assert not executed
    return found


@pytest.mark.parametrize("whole", [False, True])
async def test_the_same_code_fits_a_finished_run_to_its_end(engine: Engine, whole: bool) -> None:
    await engine.finish(stored, 2)
    found = await tried(engine, stored, whole=whole)
    assert found
    assert found.finished
    assert found.message == "it finishes"
    assert found.answered == found.recorded


@pytest.mark.parametrize("at", range(1, 9))
async def test_the_same_code_fits_wherever_a_run_stands_and_stops_where_it_would_execute(
    engine: Engine, at: int
) -> None:
    await engine.client.start(stored, 2, id="r")
    await engine.work(stored, crash_at=at, after=True)
    found = await tried(engine, stored)
    assert found
    assert not found.finished
    assert found.answered == found.recorded
    assert f"it fits up to entry {found.entry}: there it would " in found.message


def renamed() -> Any:
    @agent(name="worker", retry=ONCE)
    async def changed(ctx: Context, rounds: int) -> list[str]:
        first = await ctx.step(act, "setup", name="prepare")
        ctx.restore(Work)
        return [first]

    return changed


def other_arguments() -> Any:
    @agent(name="worker", retry=ONCE)
    async def changed(ctx: Context, rounds: int) -> list[str]:
        await ctx.step(act, "another")
        return []

    return changed


def removed() -> Any:
    @agent(name="worker", retry=ONCE)
    async def changed(ctx: Context, rounds: int) -> list[str]:
        ctx.restore(Work)
        return []

    return changed


def shorter() -> Any:
    @agent(name="worker", retry=ONCE)
    async def changed(ctx: Context, rounds: int) -> list[str]:
        await ctx.step(act, "setup")
        state = ctx.restore(Work)
        state.words += await ctx.map(act, ["0a"], key=str)
        return state.words

    return changed


@pytest.mark.parametrize(
    ("change", "code", "recorded"),
    [
        (renamed, "'prepare' (setup", "entry 1: step 'act' (setup"),
        (other_arguments, "'act' (setup", "entry 1: step 'act' (setup"),
        (removed, None, "entry 1: step 'act' (setup"),
        (shorter, None, "entry 3: step 'act' (segment 0, scope map act.0.0/0b"),
    ],
)
async def test_code_that_does_not_fit_is_told_with_both_sides(
    engine: Engine, change: Any, code: str | None, recorded: str
) -> None:
    await engine.client.start(stored, 2, id="r")
    await engine.work(stored, crash_at=5, after=True)
    found = await tried(engine, change())
    assert not found
    assert found.code is None if code is None else code in str(found.code)
    assert recorded in str(found.stored)


async def test_a_state_that_does_not_fit_its_type_is_found(engine: Engine) -> None:
    @dataclass
    class Other:
        count: int

    @agent(name="worker", retry=ONCE)
    async def changed(ctx: Context, rounds: int) -> list[str]:
        await ctx.step(act, "setup")
        ctx.restore(Other)
        return []

    @agent(name="worker", retry=ONCE)
    async def saving(ctx: Context, rounds: int) -> list[str]:
        await ctx.step(act, "setup")
        state = ctx.restore(Work)
        await ctx.checkpoint(state, force=True)
        await ctx.step(refuse, "x")
        return []

    await engine.client.start(saving, 1, id="r")
    await engine.work(saving)
    found = await tried(engine, changed)
    assert not found
    assert "does not fit Other" in found.message


async def test_only_what_the_next_attempt_would_meet_counts_unless_the_whole_is_asked_for(
    engine: Engine,
) -> None:
    @agent(name="worker", retry=ONCE)
    async def changed(ctx: Context, rounds: int) -> list[str]:
        first = await ctx.step(act, "setup")
        state = ctx.restore(Work)
        if state.done < rounds:
            await ctx.step(act, "quite another loop")
        return [first]

    @agent(name="worker", retry=ONCE)
    async def saving(ctx: Context, rounds: int) -> list[str]:
        first = await ctx.step(act, "setup")
        state = ctx.restore(Work)
        await ctx.step(act, "loop")
        state.done = rounds
        await ctx.checkpoint(state, force=True)
        return [first]

    await engine.finish(saving, 2)
    assert (await tried(engine, changed)).finished
    assert not await tried(engine, changed, whole=True)


async def test_another_result_is_told_and_fits(engine: Engine) -> None:
    @agent(name="worker", retry=ONCE)
    async def one(ctx: Context) -> str:
        return await ctx.step(act, "a")

    @agent(name="worker", retry=ONCE)
    async def other(ctx: Context) -> str:
        return await ctx.step(act, "a") + "!"

    await engine.finish(one)
    found = await tried(engine, other)
    assert found
    assert found.message == "it finishes, and returns 'A!'; recorded is 'A'"


async def test_a_failed_run_fails_again_and_code_that_breaks_elsewhere_does_not_fit(engine: Engine) -> None:
    @agent(name="worker", retry=ONCE)
    async def failing(ctx: Context) -> None:
        await ctx.step(act, "a")
        await ctx.step(refuse, "b")

    @agent(name="worker", retry=ONCE)
    async def broken(ctx: Context) -> None:
        await ctx.step(act, "a")
        raise ZeroDivisionError("early")

    await engine.client.start(failing, id="r")
    await engine.work(failing)
    assert (await engine.store.get_run("r")).state is RunState.FAILED
    found = await tried(engine, failing)
    assert (found.fits, found.finished) == (True, True)
    assert "it fails as it did" in found.message
    worse = await tried(engine, broken)
    assert not worse
    assert "ZeroDivisionError: early" in worse.message


async def test_every_branch_is_followed_as_far_as_it_is_recorded(engine: Engine) -> None:
    @agent(name="worker", retry=ONCE)
    async def branching(ctx: Context) -> None:
        async def look(key: str, steps: int) -> None:
            async with ctx.branch(key):
                for number in range(steps):
                    await ctx.step(act, f"{key}{number}")
                if ctx.attempt == 1:
                    await ctx.wait_for(f"go {key}")

        async with asyncio.TaskGroup() as tasks:
            for key, steps in {"a": 1, "b": 3, "c": 2}.items():
                tasks.create_task(look(key, steps))

    await engine.client.start(branching, id="r")
    await engine.work(branching)
    found = await tried(engine, branching)
    assert found
    assert (found.answered, found.recorded) == (6, 6)
    assert found.message.count("would wait in 'go ") == 3


@agent(name="child", retry=ONCE)
async def child(ctx: Context, word: str) -> str:
    if word == "never":
        await ctx.wait_for("never")
    return await ctx.step(act, word)


@agent(name="worker", retry=ONCE)
async def parent(ctx: Context, last: str = "") -> list[str]:
    words = [await ctx.call(child, "a")]
    state = ctx.restore(Work)
    handle = await ctx.start(child, "b")
    words += await ctx.map(child, ["c", "d"], key=str)

    async def quick() -> str:
        return await ctx.step(act, "quick")

    async def slow() -> str:
        return await ctx.call(child, "never")

    words.append((await ctx.race({"quick": quick, "slow": slow}))[1])
    words.append(await handle.result())
    await ctx.checkpoint(state)
    words.append(await ctx.step(act, "end"))
    await handle.cancel()
    return words + ([await ctx.call(child, last)] if last else [])


@pytest.mark.parametrize("whole", [False, True])
async def test_calls_of_children_have_their_recorded_outcomes(engine: Engine, whole: bool) -> None:
    await engine.client.start(parent, id="r")
    await engine.work(parent, child)
    found = await tried(engine, parent, whole=whole)
    assert (found.fits, found.message) == (True, "it finishes")
    assert found.answered == found.recorded > 10


@pytest.mark.parametrize("at", range(1, 21, 2))
async def test_code_with_children_fits_wherever_its_run_stands(engine: Engine, at: int) -> None:
    await engine.client.start(parent, id="r")
    await engine.work(parent, child, crash_at=at, after=True)
    found = await tried(engine, parent)
    assert found, found
    assert found.answered == found.recorded
    assert "lie behind" not in found.message


async def test_a_child_whose_outcome_is_not_recorded_is_where_the_code_stops(engine: Engine) -> None:
    await engine.client.start(parent, "never", id="r")
    await engine.work(parent, child)
    found = await tried(engine, parent)
    assert (found.fits, found.finished) == (True, False)
    assert found.message.endswith("there it would wait in 'child' (segment 1, occurrence 0)")


async def test_a_child_that_is_called_otherwise_is_told_with_both_sides(engine: Engine) -> None:
    @agent(name="worker", retry=ONCE)
    async def changed(ctx: Context, last: str = "") -> list[str]:
        words = [await ctx.call(child, "a")]
        ctx.restore(Work)
        return [*words, await ctx.call(child, "b")]

    await engine.client.start(parent, id="r")
    await engine.work(parent, child)
    found = await tried(engine, changed)
    assert not found
    assert "'child:call' (segment 0" in str(found.code)
    assert "child 'child:start' (segment 0" in str(found.stored)


def test_a_run_is_tried_where_no_event_loop_runs(engine_url: str) -> None:
    assert replay("r", stored, store=engine_url).finished
    with pytest.raises(RunNotFound):
        replay("nobody", stored, store=engine_url)


@pytest.fixture
def engine_url(tmp_path: Any) -> str:
    async def finish() -> str:
        engine = Engine(tmp_path)
        async with engine.store:
            await engine.finish(stored, 1)
        return engine.url

    return asyncio.run(finish())


async def measure(folder: str, word: str) -> int:
    return len(folder) + len(word)


@agent(name="measurer", retry=ONCE)
async def in_its_folder(ctx: Context, word: str) -> int:
    return await ctx.step(measure, str(ctx.workspace), word)


async def test_the_workspace_of_a_stored_run_is_its_own(engine: Engine) -> None:
    await engine.finish(in_its_folder, "kelp")
    assert await tried(engine, in_its_folder)
