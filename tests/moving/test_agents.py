"""Agents that were under way go on in the new store, and come to the results that they would have come to."""

from __future__ import annotations

import asyncio
import io
from collections import Counter
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from holdfast import Client, Context, FatalError, StepFailed, Worker, agent, open_store
from holdfast.client import RunHandle
from holdfast.model import Reason, RunFilter, RunState
from holdfast.moving import export_runs, import_runs
from holdfast.store.protocol import Store

executed: Counter[str] = Counter()


async def act(word: str) -> str:
    executed[word] += 1
    return word.upper()


@dataclass
class Rounds:
    done: int = 0
    words: list[str] = field(default_factory=list)


@agent
async def sleeps(ctx: Context) -> list[str]:
    first = await ctx.step(act, "slept")
    await ctx.sleep(1.5)
    return [first, await ctx.step(act, "woke")]


@agent
async def listens(ctx: Context) -> object:
    early = await ctx.wait_for("early")
    return [early, await ctx.wait_for("late")]


@agent
async def asks(ctx: Context) -> str:
    answered = await ctx.approval("First?", options=("yes", "no"))
    again = await ctx.approval("Second?", options=("yes", "no"))
    return f"{answered.choice} {again.choice}"


@agent
async def works(ctx: Context) -> list[str]:
    """It never waits: it is executed while it is exported, and paused at a safe point."""
    state = ctx.restore(Rounds)
    while state.done < 150:
        state.words.append(await ctx.step(act, f"round {state.done}"))
        await ctx.step(rest, state.done)
        state.done += 1
        await ctx.checkpoint(state, force=state.done % 5 == 0)
    return state.words


async def rest(_: int) -> None:
    await asyncio.sleep(0.02)


@agent
async def child(ctx: Context, word: str) -> str:
    said = await ctx.step(act, f"child {word}")
    await ctx.wait_for("go")
    return said


@agent
async def parent(ctx: Context) -> list[str]:
    before = await ctx.step(act, "parent")
    both = await ctx.map(child, ["a", "b"], key=lambda word: word)
    artifact = await ctx.artifact("all.txt", " ".join(both).encode())
    return [before, *both, artifact.id]


async def refuse() -> None:
    executed["refused"] += 1
    raise FatalError("no")


@agent
async def fails(ctx: Context) -> str:
    try:
        await ctx.step(refuse)
    except StepFailed as error:
        await ctx.wait_for("go")
        return f"{error.message} {await ctx.once('paid', act, 'paid')}"
    return "?"


AGENTS = [sleeps, listens, asks, works, child, parent, fails]


@pytest.fixture
async def stores(tmp_path: Path) -> AsyncIterator[tuple[Store, Store]]:
    executed.clear()
    async with open_store(tmp_path / "from.db") as old, open_store(tmp_path / "to.db") as new:
        yield old, new


async def begin(client: Client) -> dict[str, RunHandle[object]]:
    handles = {one.name: await client.start(one, id=one.name) for one in AGENTS if one is not child}
    await handles["listens"].signal("early", 1)
    return handles  # type: ignore[return-value]  # results of several types


async def until_all_are_under_way(store: Store) -> None:
    """They wait, or are executed; one was answered."""
    wanted = {"sleep", "signal", "approval", "child"}
    while True:
        runs = await store.list_runs(RunFilter())
        waiting = {str(run.reason) for run in runs if run.state is RunState.WAITING}
        ready = all(run.position for run in runs) and wanted <= waiting and len(runs) == len(AGENTS) + 1
        if ready and (await store.get_run("works")).checkpoint_n:
            return
        await asyncio.sleep(0.02)


async def test_agents_that_were_under_way_come_to_their_results_in_the_new_store(
    stores: tuple[Store, Store],
) -> None:
    old, new = stores
    async with Worker(old, AGENTS):
        await begin(Client(old))
        await until_all_are_under_way(old)
        await (await Client(old).get("asks")).approve("yes")
        out = io.BytesIO()
        assert (await old.get_run("works")).state is RunState.RUNNING  # it is waited for
        done = await export_runs(old, None, out, timeout_s=20)
        assert done.runs == len(AGENTS) + 1
        before = executed.copy()
        await asyncio.sleep(1.6)
        assert executed == before  # nothing goes on here, whatever time it is
    for run in await old.list_runs(RunFilter()):
        assert (run.state, run.reason) == (RunState.WAITING, Reason.PAUSED), run.id

    imported = await import_runs(new, io.BytesIO(out.getvalue()), "file", resume=True)
    assert set(imported.resumed) == set(imported.imported)
    client = Client(new)
    async with Worker(new, AGENTS):
        handles = {one.name: await client.get(one.name) for one in AGENTS if one is not child}
        await handles["listens"].signal("late", 2)
        await handles["fails"].signal("go")
        for kin in await client.tree(["parent"]):
            await (await client.get(kin.id)).signal("go")
        while not await new.list_open_approvals(9):
            await new.wait_for_news(0.1)
        await handles["asks"].approve("no")
        results = {name: await asyncio.wait_for(handle.result(), 20) for name, handle in handles.items()}
    assert results.pop("parent")[:3] == ["PARENT", "CHILD A", "CHILD B"]  # type: ignore[index]
    assert results == {
        "sleeps": ["SLEPT", "WOKE"],
        "listens": [1, 2],
        "asks": "yes no",
        "works": [f"ROUND {n}" for n in range(150)],
        "fails": "no PAID",
    }
    assert set(executed.values()) == {1}, "what was recorded there is not done again here"
    (made,) = await handles["parent"].artifacts()
    assert await handles["parent"].read_artifact(made.id) == b"CHILD A CHILD B"


async def test_runs_can_be_taken_back_where_they_are_resumed_instead(stores: tuple[Store, Store]) -> None:
    old, new = stores
    async with Worker(old, AGENTS):
        handles = await begin(Client(old))
        await until_all_are_under_way(old)
        out = io.BytesIO()
        await export_runs(old, ["works"], out, timeout_s=20)
        await handles["works"].resume()
        assert await asyncio.wait_for(handles["works"].result(), 20) == [f"ROUND {n}" for n in range(150)]
    await import_runs(new, io.BytesIO(out.getvalue()), "file")
    assert (await new.get_run("works")).reason is Reason.PAUSED
