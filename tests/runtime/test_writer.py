"""The way of a Change to the store: in a batch, or on the spot where nothing could join it."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import pytest
from msgspec import structs

from holdfast import Context, Worker, agent
from holdfast.errors import Conflict, StoreUnavailable
from holdfast.model import Change, Committed, Note, RefusedChange, Run
from holdfast.store import open_store
from holdfast.store.protocol import Store
from holdfast.store.sqlite import engine as store_engine
from holdfast.testing.conformance.children import born
from holdfast.testing.conformance.place import new_run, register, start
from holdfast.writer import Writer
from tests.faults import Engine

STEPS = 300


turns = 0
turns_at: list[int] = []


async def echo(number: int) -> int:
    turns_at.append(turns)
    return number


@agent
async def quick(ctx: Context, steps: int) -> int:
    return sum([await ctx.step(echo, number) for number in range(steps)])


class Watched:
    """A real store that counts which way the Changes come, and may answer a commit on the spot with an error."""

    def __init__(self, store: Store, *, lie_at: int | None = None) -> None:
        self._store = store
        self._lie_at = lie_at
        self.at_once = 0
        self.batches = 0

    def commit_now(self, changes: Sequence[Change]) -> list[Committed | RefusedChange] | None:
        answers = self._store.commit_now(changes)
        self.at_once += answers is not None
        if answers is not None and self.at_once == self._lie_at:
            raise StoreUnavailable("nobody knows what became of it")
        return answers

    async def commit(self, changes: Sequence[Change]) -> list[Committed | RefusedChange]:
        self.batches += 1
        return await self._store.commit(changes)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)


async def served(engine: Engine, runs: int = 1, **options: Any) -> Watched:
    """Start runs of `quick` and serve them through a watched store."""
    for number in range(runs):
        await engine.client.start(quick, STEPS, id=f"r{number}")
    async with open_store(engine.url) as store:
        watched = Watched(store, **options)
        await Worker(watched, [quick], until_idle=True).run()  # type: ignore[arg-type]
        return watched


async def test_a_run_alone_commits_on_the_spot_and_yet_lets_others_have_their_turns(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(store_engine, "LOOP_COMMIT_S", 60.0)  # however slow the disk is now

    async def turning() -> None:
        global turns
        while True:
            await asyncio.sleep(0)
            turns += 1

    turns_at.clear()
    other = asyncio.create_task(turning())
    watched = await served(engine)
    other.cancel()
    assert watched.at_once > STEPS / 4  # on a slow disk a stretch is a commit
    assert len(set(turns_at)) > 3
    assert len(await engine.entries("r0")) == STEPS


async def test_runs_beside_each_other_share_their_commits(engine: Engine) -> None:
    watched = await served(engine, runs=8)
    assert watched.batches < 8 * STEPS / 2
    assert watched.at_once < STEPS  # the last of them may be alone at its end


async def test_a_commit_on_the_spot_that_ended_in_an_error_is_looked_for_before_it_is_tried_again(
    engine: Engine,
) -> None:
    await served(engine, lie_at=100)
    entries = await engine.entries("r0")
    assert [entry.identity.occurrence for entry in entries] == list(range(STEPS))
    assert {entry.token for entry in entries} == {1}  # the attempt found its entry and went on
    assert await engine.client.handle(quick, "r0").result() == sum(range(STEPS))


@dataclass
class Count:
    n: int = 0


async def never() -> None:
    await asyncio.sleep(3600)


@agent
async def impatient(ctx: Context) -> None:
    count = ctx.restore(Count)
    for number in range(5):
        await ctx.step(echo, number)
        with suppress(TimeoutError):
            async with asyncio.timeout(0):
                await ctx.step(never)
        await ctx.checkpoint(count, name=f"named {number}")


class Forgetful(Watched):
    """Records what was abandoned, and answers with an error."""

    def commit_now(self, changes: Sequence[Change]) -> list[Committed | RefusedChange] | None:
        answers = super().commit_now(changes)
        if answers is not None and changes[0].entries[:1] and changes[0].entries[0].status == "abandoned":
            raise StoreUnavailable("nobody knows what became of it")
        return answers


async def test_what_was_submitted_behind_a_lost_answer_is_not_taken_for_recorded(engine: Engine) -> None:
    await engine.client.start(impatient, id="r")
    async with open_store(engine.url) as store:
        await Worker(Forgetful(store), [impatient], until_idle=True).run()  # type: ignore[arg-type]
    names = [checkpoint.name for checkpoint in await engine.store.list_checkpoints("r")]
    assert names == [f"named {number}" for number in range(5)]


@agent
async def hasty(ctx: Context) -> None:
    for number in range(5):
        with suppress(TimeoutError):
            async with asyncio.timeout(0):
                await ctx.step(never)
        await ctx.step(echo, number)


class Mumbling(Watched):
    """Records what it is given, and once answers with an error that tells nothing: when so many Changes of one run
    came together."""

    def __init__(self, store: Store, *, together: int) -> None:
        super().__init__(store)
        self._together = together
        self.lied = False

    def commit_now(self, changes: Sequence[Change]) -> None:
        """Never on the spot."""
        return

    async def commit(self, changes: Sequence[Change]) -> list[Committed | RefusedChange]:
        answers = await super().commit(changes)
        runs = [change.run for change in changes if change.entries or change.checkpoint]
        if not self.lied and self._together in (runs.count(run) for run in runs):
            self.lied = True
            raise RuntimeError("nobody knows what became of it")
        return answers


async def mumbled(engine: Engine, served: Any, *args: Any, runs: int, together: int) -> None:
    """Serve runs of the agent through a store that mumbles once."""
    for number in range(runs):
        await engine.client.start(served, *args, id=f"r{number}")
    async with open_store(engine.url) as store:
        mumbling = Mumbling(store, together=together)
        await Worker(mumbling, [served], until_idle=True).run()  # type: ignore[arg-type]
    assert mumbling.lied
    for number in range(runs):  # no attempt was told that it had lost its lease
        assert {entry.token for entry in await engine.entries(f"r{number}")} == {1}


@pytest.mark.parametrize("runs", [1, 4])
async def test_entries_of_a_run_that_were_recorded_before_an_error_are_all_found(
    engine: Engine, runs: int
) -> None:
    await mumbled(engine, hasty, runs=runs, together=2)
    for number in range(runs):
        entries = await engine.entries(f"r{number}")
        assert [entry.status for entry in entries] == ["abandoned", "ok"] * 5


@pytest.mark.parametrize("runs", [1, 4])
async def test_a_checkpoint_that_was_recorded_before_an_error_is_not_recorded_again(
    engine: Engine, runs: int
) -> None:
    await mumbled(engine, impatient, runs=runs, together=2)
    for number in range(runs):
        names = [checkpoint.name for checkpoint in await engine.store.list_checkpoints(f"r{number}")]
        assert names == [f"named {n}" for n in range(5)]


async def test_a_change_alone_that_was_recorded_before_an_error_is_not_taken_for_unstorable(
    engine: Engine,
) -> None:
    await mumbled(engine, quick, 3, runs=1, together=1)
    assert await engine.client.handle(quick, "r0").result() == 3


async def test_notes_behind_what_could_not_be_are_told_once_though_the_answer_was_lost(
    engine: Engine,
) -> None:
    worker = await register(engine.store)
    attempt = await start(engine.store, worker)
    await engine.store.create_run(new_run("taken"))
    taken = born(attempt, "taken")
    writer = Writer(Mumbling(engine.store, together=1), lambda: True)  # type: ignore[arg-type]
    writer.follow(attempt.run)
    conflict = writer.submit(taken)
    said = structs.replace(attempt.change(notes=(Note("log", b'"said"'),)), position=attempt.position + 1)
    noted = writer.submit(said)
    writing = asyncio.create_task(writer.run())
    async with asyncio.timeout(10):
        await noted
        with pytest.raises(Conflict):
            await conflict
    writing.cancel()
    assert [event.payload for event in await engine.events() if event.type == "log"] == [b'"said"']


class Blind(Mumbling):
    """Mumbles, and then cannot say what it has recorded."""

    blind = True

    async def get_run(self, id: str) -> Run:
        if self.lied and self.blind:
            self.blind = False
            raise RuntimeError("nothing can be read")
        return await self._store.get_run(id)


async def test_an_attempt_ends_when_nobody_can_know_what_it_recorded_and_the_next_one_finds_out(
    engine: Engine,
) -> None:
    await engine.client.start(hasty, id="r")
    async with open_store(engine.url) as store:
        blind = Blind(store, together=2)
        await Worker(blind, [hasty], until_idle=True).run()  # type: ignore[arg-type]
    assert not blind.blind
    entries = await engine.entries("r")
    assert [entry.status for entry in entries] == ["abandoned", "ok"] * 5
    assert [entry.token for entry in entries] == [1] * 2 + [2] * 8
