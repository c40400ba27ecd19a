"""A worker that dies at any commit loses nothing acknowledged and repeats nothing recorded."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

import pytest

from holdfast import Context, FatalError, StepFailed, agent
from holdfast.model import EntryStatus, RunState
from tests.faults import Engine


@dataclass
class Work:
    done: int = 0
    words: list[str] = field(default_factory=list)


executed: Counter[str] = Counter()


async def act(word: str) -> str:
    executed[word] += 1
    return word.upper()


async def refuse(word: str) -> str:
    executed[f"refuse {word}"] += 1
    raise FatalError(word)


@agent(name="laborious")
async def laborious(ctx: Context, rounds: int) -> list[str]:
    setup = await ctx.step(act, "setup")
    state = ctx.restore(Work)
    while state.done < rounds:
        state.words.append(await ctx.step(act, f"a{state.done}"))
        try:
            await ctx.step(refuse, f"b{state.done}")
        except StepFailed:
            state.words.append(await ctx.step(act, f"undo{state.done}"))
        await ctx.once(f"paid {state.done}", act, f"once{state.done}")
        state.done += 1
        await ctx.checkpoint(state, force=state.done % 2 == 0)
    return [setup, *state.words]


EXPECTED = ["SETUP", "A0", "UNDO0", "A1", "UNDO1", "A2", "UNDO2"]


async def _crash_then_finish(engine: Engine, *crashes: tuple[int, bool]) -> Counter[str]:
    executed.clear()
    handle = await engine.client.start(laborious, 3, id="r")
    for at, after in crashes:
        if await engine.work(laborious, crash_at=at, after=after):
            break
    await engine.work(laborious)
    run = await engine.store.get_run("r")
    assert run.state is RunState.SUCCEEDED, (run.state, run.failure)
    assert await handle.result() == EXPECTED
    entries = [entry for entry in await engine.entries() if entry.status is not EntryStatus.RETRIED]
    counts = Counter(entry.identity for entry in entries)
    assert max(counts.values()) == 1
    assert [entry.position for entry in await engine.entries()] == list(
        range(1, len(await engine.entries()) + 1)
    )
    return executed.copy()


@pytest.mark.parametrize("after", [False, True])
@pytest.mark.parametrize("at", range(1, 19))
async def test_a_crash_at_every_commit_repeats_at_most_the_step_in_flight(
    engine: Engine, at: int, after: bool
) -> None:
    counts = await _crash_then_finish(engine, (at, after))
    assert sum(counts.values()) - len(counts) <= (0 if after else 1)


@pytest.mark.parametrize("first", range(1, 16, 3))
async def test_two_crashes_in_a_row(engine: Engine, first: int) -> None:
    counts = await _crash_then_finish(engine, (first, False), (2, True))
    assert sum(counts.values()) - len(counts) <= 2
