"""Code that changed under a stopped run: it goes on rightly or is held, both sides named; never another call's
outcome, never a recorded effect again. Every way out leads on."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import Any

import pytest

from holdfast import Context, FatalError, StepFailed, agent
from holdfast.model import EntryStatus, Reason, Run, RunState
from tests.faults import Engine

executed: Counter[str] = Counter()
Program = list[str]
"""What an agent does: "name:arg" is a step, "cp" a checkpoint call, "cp!" a forced one, "--" the `restore`."""


@dataclass
class Seen:
    at: int = 0
    words: list[str] = field(default_factory=list)


async def say(word: str) -> str:
    executed[word] += 1
    return word


def agent_of(program: Program) -> Any:
    """An agent that follows the program. Its state says how many of its checkpoint calls are behind it."""

    @agent(name="changing")
    async def changing(ctx: Context) -> list[str]:
        words: list[str] = []
        split = program.index("--") if "--" in program else len(program)
        for op in program[:split]:
            words.append(await _step(ctx, op))
        if split == len(program):
            return words
        state = ctx.restore(Seen)
        passed = 0
        for op in program[split + 1 :]:
            if op.startswith("cp"):
                passed += 1
                if passed > state.at:
                    state.at = passed
                    await ctx.checkpoint(state, force=op == "cp!")
            elif passed >= state.at:
                state.words.append(await _step(ctx, op))
        return words + state.words

    return changing


async def _step(ctx: Context, op: str) -> str:
    name, _, arg = op.partition(":")
    return await ctx.step(say, arg or name, name=name)


async def _stopped(engine: Engine, program: Program, at_commit: int) -> None:
    """A run of the program whose worker died right after that commit."""
    executed.clear()
    await engine.client.start(agent_of(program), id="r")
    assert not await engine.work(agent_of(program), crash_at=at_commit, after=True)


async def _go_on(engine: Engine, program: Program) -> Run:
    await engine.work(agent_of(program))
    return await engine.store.get_run("r")


def _result(run: Run) -> str:
    assert run.state is RunState.SUCCEEDED, (run.state, run.reason, run.failure)
    return (run.result or b"").decode()


OLD = ["--", "a:1", "b:2", "c:3", "d:4"]


@pytest.mark.parametrize(
    ("new", "names"),
    [
        (["--", "a:1", "renamed:2", "c:3", "d:4"], ("renamed", "b")),
        (["--", "a:1", "new:9", "b:2", "c:3", "d:4"], ("new", "b")),
        (["--", "a:1", "c:3", "d:4"], ("c", "b")),
        (["--", "b:2", "a:1", "c:3", "d:4"], ("b", "a")),
        (["--", "a:7", "b:2", "c:3", "d:4"], ("a", "other arguments")),
        (["a:1", "--", "b:2", "c:3", "d:4"], ("a", "a")),
        (["--", "a:1", "cp!", "b:2", "c:3", "d:4"], ("checkpoint", "b")),
    ],
    ids=["renamed", "inserted", "removed", "moved", "arguments", "into the setup", "checkpoint inserted"],
)
async def test_a_change_behind_the_stopping_point_is_held_with_both_sides_named(
    engine: Engine, new: Program, names: tuple[str, str]
) -> None:
    await _stopped(engine, OLD, 3)
    before = executed.copy()
    run = await _go_on(engine, new)
    assert (run.state, run.reason) == (RunState.WAITING, Reason.MISMATCH)
    assert run.mismatch is not None
    assert all(name in run.mismatch.message for name in names), run.mismatch.message
    assert executed == before


@pytest.mark.parametrize(
    "new",
    [
        ["--", "a:1", "b:2", "c:3", "new:9", "d:4"],
        ["--", "a:1", "b:2", "c:3", "cp", "d:4", "e:5"],
        ["--", "a:1", "b:2", "c:3"],
    ],
    ids=["inserted ahead", "checkpoint ahead", "removed ahead"],
)
async def test_a_change_ahead_of_the_stopping_point_goes_on(engine: Engine, new: Program) -> None:
    await _stopped(engine, OLD, 3)
    _result(await _go_on(engine, new))
    assert max(executed.values()) == 1


async def test_two_equal_calls_reordered_are_held_never_swapped(engine: Engine) -> None:
    await _stopped(engine, ["--", "fetch:x", "fetch:y", "use:z"], 2)
    run = await _go_on(engine, ["--", "fetch:y", "fetch:x", "use:z"])
    assert run.reason is Reason.MISMATCH
    assert executed == Counter(x=1, y=1)


async def test_a_checkpoint_removed_under_a_stopped_run_is_held_or_right(engine: Engine) -> None:
    program = ["--", "a:1", "cp", "b:2", "cp", "c:3"]
    await _stopped(engine, program, 2)
    run = await _go_on(engine, ["--", "a:1", "b:2", "cp", "c:3"])
    assert run.reason is Reason.MISMATCH
    assert executed == Counter({"1": 1, "2": 1})


WAYS: list[tuple[str, Program, dict[str, Any], str]] = [
    ("renamed, accepted", ["--", "a:1", "renamed:2", "c:3", "d:4"], {"accept": 2}, '["1","2","3","4"]'),
    ("other arguments, accepted", ["--", "a:1", "b:7", "c:3", "d:4"], {"accept": 2}, '["1","2","3","4"]'),
    ("other arguments, again", ["--", "a:1", "b:7", "c:3", "d:4"], {"rerun": 2}, '["1","7","3","4"]'),
    ("inserted", ["--", "a:1", "new:9", "b:2", "c:3", "d:4"], {"insert": True}, '["1","9","2","3","4"]'),
    (
        "inserted, same name",
        ["--", "a:1", "a:9", "b:2", "c:3", "d:4"],
        {"insert": True},
        '["1","9","2","3","4"]',
    ),
    ("removed", ["--", "a:1", "c:3", "d:4"], {"drop": 2}, '["1","3","4"]'),
    ("anything", ["--", "x:8", "d:4"], {"from_checkpoint": True}, '["8","4"]'),
]


@pytest.mark.parametrize(("new", "way", "result"), [way[1:] for way in WAYS], ids=[way[0] for way in WAYS])
@pytest.mark.parametrize("again", [False, True], ids=["once", "and a crash after it"])
async def test_each_way_out_leads_on(
    engine: Engine, new: Program, way: dict[str, Any], result: str, again: bool
) -> None:
    await _stopped(engine, OLD, 3)
    assert (await _go_on(engine, new)).reason is Reason.MISMATCH
    handle = await engine.client.get("r")
    await handle.retry(**way)
    if again:
        assert not await engine.work(agent_of(new), crash_at=1, after=True)
    assert _result(await _go_on(engine, new)) == result
    entries = [entry for entry in await engine.entries() if not entry.superseded]
    assert max(Counter(entry.identity for entry in entries).values()) == 1


async def test_a_wrong_way_out_is_refused_and_changes_nothing(engine: Engine) -> None:
    from holdfast.errors import Refused

    await _stopped(engine, OLD, 3)
    await _go_on(engine, ["--", "a:1", "c:3", "d:4"])
    handle = await engine.client.get("r")
    before = await engine.store.get_run("r")
    for wrong in ({"accept": 99}, {"drop": 99}, {"rerun": 77}):
        with pytest.raises(Refused, match=r"entry|99|77"):
            await handle.retry(**wrong)  # type: ignore[arg-type]
    assert await engine.store.get_run("r") == before


async def test_a_fix_inserted_before_the_failing_step_with_nothing_saved_goes_on(engine: Engine) -> None:
    broken = [True]
    executed.clear()

    async def work(n: int) -> int:
        executed[f"w{n}"] += 1
        if n == 3 and broken:
            raise FatalError("bug")
        return n

    @agent(name="fixed")
    async def fixed(ctx: Context) -> int:
        state = ctx.restore(Seen)
        while state.at < 6:
            if not broken:
                await ctx.step(say, "fix", name="fix")
            await ctx.step(work, state.at)
            state.at += 1
            await ctx.checkpoint(state)
        return state.at

    handle = await engine.client.start(fixed, id="r")
    await engine.work(fixed)
    assert (await engine.store.get_run("r")).checkpoint_n == 1
    broken.clear()
    await handle.retry()
    await engine.work(fixed)
    assert await handle.result() == 6
    assert all(executed[f"w{n}"] == (2 if n == 3 else 1) for n in range(6))


async def test_cleanup_then_raise_runs_both_again_after_a_retry(engine: Engine) -> None:
    broken = [True]
    executed.clear()

    async def fragile() -> str:
        executed["fragile"] += 1
        if broken:
            raise FatalError("bug")
        return "ok"

    @agent(name="careful")
    async def careful(ctx: Context) -> str:
        await ctx.step(say, "before", name="before")
        try:
            return await ctx.step(fragile)
        except StepFailed:
            await ctx.step(say, "cleanup", name="cleanup")
            raise

    handle = await engine.client.start(careful, id="r")
    await engine.work(careful)
    assert (await engine.store.get_run("r")).state is RunState.FAILED
    await handle.retry()
    await engine.work(careful)
    assert (await engine.store.get_run("r")).state is RunState.FAILED
    assert executed == Counter(before=1, fragile=2, cleanup=2)
    broken.clear()
    await handle.retry()
    await engine.work(careful)
    assert await handle.result() == "ok"
    assert executed == Counter(before=1, fragile=3, cleanup=2)


async def _corrupt(engine: Engine, numbers: list[int]) -> None:
    """Flip a byte of stored checkpoints, as a bad disk would."""
    import apsw

    connection = apsw.Connection(engine.url.removeprefix("sqlite:///"))
    for n in numbers:
        [(state,)] = connection.execute("SELECT state FROM checkpoints WHERE n = ?", (n,)).fetchall()
        bad = bytes([state[0] ^ 1]) + state[1:]
        connection.execute("UPDATE checkpoints SET state = ? WHERE n = ?", (bad, n))
    connection.close()


LONG = ["setup:0", "--", *[op for n in range(1, 5) for op in (f"a:{n}", "cp!")], "end:e"]


@pytest.mark.parametrize(
    "bad", [[3], [3, 2], [3, 2, 1], [1]], ids=["newest", "two", "also the first", "an older one"]
)
async def test_a_corrupt_checkpoint_is_passed_over_and_nothing_is_repeated(
    engine: Engine, bad: list[int]
) -> None:
    await _stopped(engine, LONG, 8)
    await _corrupt(engine, bad)
    assert _result(await _go_on(engine, LONG)) == '["0","1","2","3","4","e"]'
    assert max(executed.values()) == 1
    said = [event for event in await engine.events() if event.type == "checkpoint.corrupt"]
    assert len(said) == (0 if bad == [1] else len(bad))


async def test_with_no_good_checkpoint_and_no_way_back_the_run_is_held_never_started_over(
    engine: Engine,
) -> None:
    program = ["--", *[op for n in range(8) for op in (f"a:{n}", "cp!")], "end:e"]
    await _stopped(engine, program, 15)
    kept = [checkpoint.n for checkpoint in await engine.store.list_checkpoints("r")]
    assert len(kept) == 5
    await _corrupt(engine, kept)
    before = executed.copy()
    run = await _go_on(engine, program)
    assert (run.state, run.reason) == (RunState.WAITING, Reason.CHECKPOINT_LOST)
    assert executed == before


async def test_entries_of_a_stopped_run_keep_their_statuses(engine: Engine) -> None:
    await _stopped(engine, OLD, 3)
    _result(await _go_on(engine, OLD))
    assert [entry.status for entry in await engine.entries()] == [EntryStatus.OK] * 4
    assert executed == Counter({"1": 1, "2": 1, "3": 1, "4": 1})
