"""Going back to the checkpoint with a tail of signals, a question, children and effects: signals return to the inbox,
children are met again, and of effects a person says one by one what became of them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import pytest

from holdfast import (
    ApprovalExpired,
    ChildFailed,
    Context,
    Done,
    FatalError,
    NotDone,
    RetryPolicy,
    RunHandle,
    WaitTimedOut,
    agent,
    standing,
)
from holdfast.effects import MAX_BEGUN
from holdfast.model import (
    ApprovalStatus,
    Change,
    Committed,
    Entry,
    EntryKind,
    EntryStatus,
    Reason,
    RefusedChange,
    RunState,
)
from holdfast.store.protocol import Store
from tests.faults import CrashingStore, Engine

ONCE = RetryPolicy(attempts=1)
executed: Counter[str] = Counter()
edits: set[str] = set()
"""How the code differs from what was recorded."""
broken: set[str] = set()


@pytest.fixture(autouse=True)
def nothing_done(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(standing, "LOADED_SLEEP_S", 0.05)
    executed.clear()
    edits.clear()
    broken.clear()


async def act(word: str) -> str:
    executed[word] += 1
    if word in broken:
        raise FatalError(word)
    return word.upper()


async def pay(word: str) -> str:
    return await act(word)


@agent(name="child", retry=ONCE)
async def child(ctx: Context, word: str) -> str:
    first = await ctx.step(act, f"{word}1")
    if word == "slow":
        await ctx.wait_for("go")
    return first + await ctx.step(act, f"{word}2")


@dataclass
class Words:
    said: list[str] = field(default_factory=list)


@agent(name="closing", retry=ONCE)
async def closing(ctx: Context) -> list[str]:
    """One of everything between its checkpoint and its end."""
    await ctx.step(act, "setup")
    state = ctx.restore(Words)
    if not state.said:
        state.said.append(await ctx.step(act, "before"))
        await ctx.checkpoint(state, force=True)
    said = list(state.said)
    if "new" in edits:
        said.append(await ctx.step(act, "new"))
    said += [await ctx.wait_for("word", str), await ctx.wait_for("word", str)]
    answer = await ctx.approval("pay all?" if "question" in edits else "pay?", ["yes", "no"])
    started = await ctx.start(child, "a")
    said += [answer.choice, await ctx.call(child, "b", id="b")]
    said.append(await ctx.step(pay, "x", effect="once"))
    said.append(await ctx.step(pay, "y", effect="once"))
    return [*said, await started.result()]


class DiesAt(CrashingStore):
    """The process dies once an entry of a certain kind is durable."""

    def __init__(self, store: Store, holds: Callable[[Entry], bool]) -> None:
        super().__init__(store)
        self._holds = holds

    def commit_now(self, changes: Sequence[Change]) -> None:
        """Never on the spot."""
        return

    async def commit(self, changes: Sequence[Change]) -> list[Committed | RefusedChange]:
        """Commit, and die at the entry."""
        answers = await super().commit(changes)
        if any(self._holds(entry) for change in changes for entry in change.entries):
            self._die()
        return answers


async def children(engine: Engine) -> dict[str, str]:
    return {kin.run.id: kin.run.state.value for kin in await engine.store.list_children(["r"], 100)}


async def words_waiting(engine: Engine) -> list[bytes]:
    """The signals in the inbox that the code waits for by their name."""
    run = await engine.store.get_run("r")
    _, signals = await engine.store.read_inbox(run.key)
    return [signal.payload for signal in signals if signal.name == "word"]


async def held_for(engine: Engine) -> Entry:
    """The effect that the run is held for."""
    run = await engine.store.get_run("r")
    assert (run.state, run.reason) == (RunState.WAITING, Reason.EFFECT_UNKNOWN), (run.reason, run.failure)
    assert run.failure is not None
    return (await engine.entries())[run.failure.entries[0] - 1]


class DiesBefore(DiesAt):
    """The process dies when an entry of a certain kind is about to be durable."""

    async def commit(self, changes: Sequence[Change]) -> list[Committed | RefusedChange]:
        """Die at the entry, or commit."""
        if any(self._holds(entry) for change in changes for entry in change.entries):
            self._die()
        return await CrashingStore.commit(self, changes)


def _is_last_intent(entry: Entry) -> bool:
    return entry.status is EntryStatus.INTENDED and entry.identity.occurrence == 1


async def stopped_in_the_last_effect(engine: Engine) -> RunHandle[list[str]]:
    """A run whose worker died between the intent of its last effect and its body, held for new code."""
    handle = await engine.client.start(closing, id="r")
    for word in ("one", "two"):
        await handle.signal("word", word)
    await engine.work(closing, child)
    await handle.approve("yes", by="ann")
    assert not await engine.work(closing, child, through=lambda store: DiesAt(store, _is_last_intent))
    assert await words_waiting(engine) == []
    edits.add("new")
    await engine.work(closing, child)
    assert (await engine.store.get_run("r")).reason is Reason.MISMATCH
    return handle


RESULT = ["BEFORE", "NEW", "one", "two", "yes", "B1B2", "X", "Y", "A1A2"]
EXECUTED = Counter(("setup", "before", "new", "a1", "a2", "b1", "b2", "x", "y"))


async def test_everything_of_a_tail_is_there_again_and_nothing_is_done_twice(engine: Engine) -> None:
    handle = await stopped_in_the_last_effect(engine)
    await engine.work(child)
    family = await children(engine)
    assert list(family.values()) == ["succeeded", "succeeded"]
    await handle.retry(from_checkpoint=True)
    assert await words_waiting(engine) == [b'"one"', b'"two"']
    assert await children(engine) == family
    unknown = await handle.effects()
    assert [(one.state, one.result) for one in unknown] == [("unknown", "X"), ("unknown", None)]

    await engine.work(closing, child)
    first = await held_for(engine)
    assert first.identity.occurrence == 0
    await handle.settle_effect(first.position, Done("X"))
    await engine.work(closing, child)
    second = await held_for(engine)
    assert second.identity.occurrence == 1
    await handle.settle_effect(second.position, NotDone())
    await engine.work(closing, child)

    assert await handle.result() == RESULT
    assert executed == EXECUTED
    assert await children(engine) == family
    assert await words_waiting(engine) == []
    asked = await handle.approvals()
    assert {(view.status, view.by) for view in asked} == {(ApprovalStatus.ANSWERED, "ann")}


async def test_a_question_in_other_words_is_asked_anew(engine: Engine) -> None:
    handle = await stopped_in_the_last_effect(engine)
    edits.add("question")
    await handle.retry(from_checkpoint=True)
    await engine.work(closing, child)
    run = await engine.store.get_run("r")
    assert (run.state, run.reason) == (RunState.WAITING, Reason.APPROVAL)
    await handle.approve("no", by="bob")
    assert await _finished(engine, handle) == [word if word != "yes" else "no" for word in RESULT]
    assert executed == EXECUTED


async def _finished(engine: Engine, handle: RunHandle[list[str]]) -> list[str]:
    """Go on to the end; a person who knows what happened says so of each effect."""
    for _ in range(9):
        await engine.work(closing, child)
        run = await engine.store.get_run("r")
        if run.state.final:
            break
        entry = await held_for(engine)
        word = "xy"[entry.identity.occurrence]
        await handle.settle_effect(entry.position, Done(word.upper()) if executed[word] else NotDone())
    return await handle.result()


@pytest.mark.parametrize("after", [False, True])
@pytest.mark.parametrize("at", range(1, 10))
async def test_a_kill_at_any_commit_on_the_way_back_changes_nothing_of_it(
    engine: Engine, at: int, after: bool
) -> None:
    handle = await stopped_in_the_last_effect(engine)
    await handle.retry(from_checkpoint=True)
    await engine.work(closing, child, crash_at=at, after=after)
    assert await _finished(engine, handle) == RESULT
    repeated = executed - EXECUTED
    assert set(repeated) <= {"new", "a1", "a2", "b1", "b2"}
    assert repeated.total() <= 2  # what was in flight
    assert len(await children(engine)) == 2


async def test_a_body_that_may_be_an_effect_nobody_accounted_for_is_begun_as_often_as_any_other(
    engine: Engine,
) -> None:
    """Its intent is written before it is asked about, and is that of its first begin, too."""

    async def nothing(word: str) -> NotDone:
        return NotDone()

    @agent(name="renaming", retry=ONCE)
    async def renaming(ctx: Context) -> str:
        state = ctx.restore(Words)
        if not state.said:
            state.said.append("begun")
            await ctx.checkpoint(state, force=True)
        name = "charge" if "renamed" in edits else "pay"
        return await ctx.step(pay, "x", name=name, effect="once", verify=nothing)

    def is_outcome(entry: Entry) -> bool:
        return entry.kind is EntryKind.STEP and entry.status is EntryStatus.OK

    async def dies() -> None:
        assert not await engine.work(renaming, through=lambda store: DiesBefore(store, is_outcome))

    handle = await engine.client.start(renaming, id="r")
    await dies()
    edits.add("renamed")
    await engine.work(renaming)
    assert (await engine.store.get_run("r")).reason is Reason.MISMATCH
    await handle.retry(from_checkpoint=True)
    executed.clear()
    for _ in range(MAX_BEGUN):
        await dies()
    await engine.work(renaming)
    entry = await held_for(engine)
    assert executed["x"] == MAX_BEGUN
    await handle.settle_effect(entry.position, NotDone())
    await engine.work(renaming)
    assert await handle.result() == "X"


@agent(name="patient", retry=ONCE)
async def patient(ctx: Context) -> list[str]:
    """Waits for little time, and when its code has changed for long."""
    length = "1h" if "long" in edits else 0.01
    try:
        if "asks" in edits:
            word = (await ctx.approval("go?", ["yes", "no"], expires=length)).choice
        else:
            word = await ctx.wait_for("go", str, timeout=length)
    except (WaitTimedOut, ApprovalExpired):
        word = "late"
    said = [word, await ctx.step(act, "b", name="new" if "new" in edits else "old")]
    return [*said, await ctx.wait_for("end", str)]


@pytest.mark.parametrize("kind", ["waits", "asks"])
async def test_a_rerun_of_a_wait_that_timed_out_waits_anew(engine: Engine, kind: str) -> None:
    edits.add(kind)
    handle = await engine.client.start(patient, id="r")
    await engine.work(patient)
    await engine.work(patient)
    edits.update(("new", "long"))
    await handle.signal("end", "end")
    await engine.work(patient)
    run = await engine.store.get_run("r")
    assert run.mismatch is not None and run.mismatch.entry == 3
    await handle.retry(rerun=2)
    await engine.work(patient)
    run = await engine.store.get_run("r")
    assert run.reason is (Reason.APPROVAL if kind == "asks" else Reason.SIGNAL)
    await (handle.approve("yes") if kind == "asks" else handle.signal("go", "yes"))
    await engine.work(patient)
    assert (await engine.store.get_run("r")).reason is Reason.MISMATCH
    await handle.retry(rerun=3)
    await engine.work(patient)
    assert await handle.result() == ["yes", "B", "end"]


@agent(name="parent", retry=ONCE)
async def parent(ctx: Context) -> list[str]:
    ctx.restore(Words)
    words = [await ctx.step(act, "new")] if "new" in edits else []
    if "alone" in edits:
        return words
    slow = await ctx.start(child, "slow", id="slow")
    try:
        words.append(await ctx.call(child, "bad", id="bad"))
    except ChildFailed:
        words.append("failed")
    return [*words, await slow.result()]


async def test_a_child_under_way_is_met_again_and_one_that_failed_tries_again(engine: Engine) -> None:
    handle = await _held(engine)
    await handle.retry(from_checkpoint=True)
    assert await children(engine) == {"slow": "waiting", "bad": "queued"}
    await engine.work(parent, child)
    await engine.store.add_signal("slow", "go", b"1")
    await engine.work(parent, child)
    assert await handle.result() == ["NEW", "BAD1BAD2", "SLOW1SLOW2"]
    assert executed == {"new": 1, "bad1": 1, "bad2": 2, "slow1": 1, "slow2": 1}


async def test_children_that_the_code_starts_no_more_end_with_the_run(engine: Engine) -> None:
    handle = await _held(engine)
    edits.add("alone")
    await handle.retry(from_checkpoint=True)
    await engine.work(parent)
    assert await handle.result() == ["NEW"]
    assert await children(engine) == {"slow": "cancelled", "bad": "cancelled"}


async def _held(engine: Engine) -> RunHandle[Any]:
    """A run with one child that waits and one that failed, held for new code."""
    broken.add("bad2")
    handle = await engine.client.start(parent, id="r")
    await engine.work(parent, child)
    assert await children(engine) == {"slow": "waiting", "bad": "failed"}
    assert [entry.kind for entry in await engine.entries()] == [EntryKind.CHILD] * 3
    broken.clear()
    edits.add("new")
    await handle.pause()
    await handle.resume()
    await engine.work(parent)
    assert (await engine.store.get_run("r")).reason is Reason.MISMATCH
    return handle
