"""assert_survives_crashes passes what survives, and finds each way in which an agent does not."""

from __future__ import annotations

import asyncio
import hashlib
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from holdfast import Context, Done, NotDone, RunFailed, RunHandle, agent
from holdfast.rules.artifacts import CHUNK_BYTES
from holdfast.testing import assert_survives_crashes, simulate
from holdfast.testing import plan as planning

executed: Counter[str] = Counter()


@dataclass
class Work:
    done: int = 0
    words: list[str] = field(default_factory=list)


async def act(word: str) -> str:
    executed[word] += 1
    return word.upper()


@agent
async def careful(ctx: Context, rounds: int) -> list[str]:
    first = await ctx.step(act, "setup")
    state = ctx.restore(Work)
    while state.done < rounds:
        state.words += await ctx.map(act, [f"{state.done}{key}" for key in "ab"], key=str)
        await ctx.sleep("1h")
        state.done += 1
        await ctx.checkpoint(state)
    return [first, *state.words]


def test_what_survives_passes_and_its_result_is_returned() -> None:
    executed.clear()
    assert assert_survives_crashes(careful, 2) == ["SETUP", "0A", "0B", "1A", "1B"]
    assert executed["setup"] > 20  # each crash was a run of its own


async def test_it_can_be_asserted_where_an_event_loop_runs() -> None:
    assert assert_survives_crashes(careful, 1, most=5) == ["SETUP", "0A", "0B"]


def test_a_loop_variable_that_no_checkpoint_keeps_is_found() -> None:
    @agent
    async def forgetful(ctx: Context) -> str:
        state = ctx.restore(Work)
        for number in range(3):
            state.words.append(await ctx.step(act, f"a{number}"))
            await ctx.checkpoint(state, force=True)
        return "done"

    with pytest.raises(
        AssertionError, match="step 'act' is recorded 2 times with the same arguments"
    ) as found:
        assert_survives_crashes(forgetful)
    assert "a crash after commit 2 is durable" in str(found.value)
    assert "--crash-plan '2+'" in str(found.value)
    with pytest.raises(AssertionError, match="recorded 2 times"):
        assert_survives_crashes(forgetful, only="2+")
    assert_survives_crashes(forgetful, only="1+")
    assert_survives_crashes(forgetful, only="2+", repeats=["act"])


def test_what_is_kept_outside_the_state_is_found() -> None:
    @agent
    async def outside_state(ctx: Context) -> int:
        state = ctx.restore(Work)
        seen = 0
        while state.done < 3:
            seen += len(await ctx.step(act, f"a{state.done}"))
            state.done += 1
            await ctx.checkpoint(state, force=True)
        return seen

    with pytest.raises(AssertionError, match=r"it returned [24]\n  undisturbed 6"):
        assert_survives_crashes(outside_state)


def test_code_that_decides_by_what_no_replay_repeats_is_found() -> None:
    @agent
    async def fickle(ctx: Context) -> str:
        await ctx.step(act, "x", name=f"attempt {ctx.attempt}")
        await ctx.step(act, "y")
        return "done"

    with pytest.raises(AssertionError, match=r"\(mismatch\): the code calls 'attempt 2' .*next: entry 1"):
        assert_survives_crashes(fickle)


def test_a_state_that_depends_on_when_it_is_saved_is_found() -> None:
    @agent
    async def dependent(ctx: Context) -> int:
        state = ctx.restore(Work)
        entered = state.done
        while state.done < 3:
            await ctx.step(act, f"a{state.done}")
            state.done += 1
            await ctx.checkpoint(state)
        return entered

    with pytest.raises(AssertionError, match="checkpoints always saved"):
        assert_survives_crashes(dependent)


def test_a_race_between_branches_is_found_by_a_seed() -> None:
    @agent
    async def racing(ctx: Context) -> str:
        order: list[str] = []

        async def one(key: str) -> None:
            async with ctx.branch(key):
                order.append(await ctx.step(act, key))

        async with asyncio.TaskGroup() as tasks:
            for key in "abc":
                tasks.create_task(one(key))
        return "".join(order)

    with pytest.raises(AssertionError, match="order by seed"):
        assert_survives_crashes(racing)


def test_the_scene_is_set_around_each_run_and_may_assert() -> None:
    charges: list[str] = []

    async def charge(order: str) -> str:
        charges.append(order)
        return order

    @agent
    async def paying(ctx: Context) -> str:
        return await ctx.step(charge, "order 1")

    @contextmanager
    def bank(most: int) -> Iterator[None]:
        charges.clear()
        yield
        assert len(charges) <= most, "charged twice"

    assert_survives_crashes(paying, scene=lambda: bank(3))
    with pytest.raises(AssertionError, match="charged twice") as found:
        assert_survives_crashes(paying, scene=lambda: bank(1))
    assert "only='1-'" in "".join(found.value.__notes__)


def test_results_can_be_compared_in_ones_own_way() -> None:
    @agent
    async def timed(ctx: Context) -> list[str]:
        word = await ctx.step(act, "a")
        return [word, ctx.now().isoformat()]

    with pytest.raises(AssertionError, match="it returned"):
        assert_survives_crashes(timed)
    assert_survives_crashes(timed, same=lambda one, other: one[0] == other[0])


def test_signals_from_outside_survive_too() -> None:
    @agent
    async def asking(ctx: Context) -> list[str]:
        words = [await ctx.wait_for("word", str) for _ in range(2)]
        return [*words, await ctx.step(act, words[0])]

    async def editor(handle: RunHandle[list[str]]) -> None:
        for word in ("one", "two"):
            await asyncio.sleep(60)
            await handle.signal("word", word)

    assert assert_survives_crashes(asking, outside=editor) == ["one", "two", "ONE"]


def test_an_unknown_effect_is_settled_from_outside_or_told() -> None:
    sent: list[str] = []

    async def send(word: str) -> str:
        sent.append(word)
        return word

    @agent
    async def mailing(ctx: Context) -> str:
        return await ctx.step(send, "a", effect="once")

    async def clerk(handle: RunHandle[str]) -> None:
        for _ in range(10):
            await asyncio.sleep(60)
            if (await handle.status()).reason == "effect_unknown":
                newest = (await handle.steps())[-1].n
                await handle.settle_effect(newest, Done("a") if sent else NotDone())

    @contextmanager
    def post() -> Iterator[None]:
        sent.clear()
        yield
        assert sent == ["a"]

    assert assert_survives_crashes(mailing, scene=post, outside=clerk) == "a"
    with pytest.raises(
        AssertionError, match=r"\(effect_unknown\): step 'send' .* may or may not have happened"
    ):
        assert_survives_crashes(mailing)


@agent
async def keeper(ctx: Context, path: str) -> list[str]:
    large = await ctx.artifact("large", path)
    return [large.id, (await ctx.artifact("small", b"a,b\n")).id]


def test_each_commit_of_an_upload_is_a_place_to_crash(tmp_path: Path) -> None:
    content = b"12345678" * (CHUNK_BYTES // 4) + b"end"
    (tmp_path / "large").write_bytes(content)
    expected = [hashlib.sha256(each).hexdigest() for each in (content, b"a,b\n")]
    trial = simulate(keeper, str(tmp_path / "large"))
    assert trial.result == expected
    assert trial.commits == 11  # begin, three chunks, seal, entry; begin, chunk, seal, entry; the outcome
    inside = simulate(keeper, str(tmp_path / "large"), plan="3+")
    assert (inside.result, inside.run.attempts) == (expected, 2)
    assert inside.commits == 3 + 11  # what was half in is begun again
    assert assert_survives_crashes(keeper, str(tmp_path / "large"), most=44) == expected


def test_an_agent_that_fails_undisturbed_fails_the_test_with_its_own_error() -> None:
    @agent
    async def failing(ctx: Context) -> None:
        raise ValueError("mine")

    with pytest.raises(RunFailed, match="mine"):
        assert_survives_crashes(failing)


def test_every_crash_is_tried_while_they_fit_and_a_fixed_sample_beyond() -> None:
    every = planning.plans(10, 500, checkpoints=True, spare=True)
    crashes = {
        plan.crashes[0] for plan in every if plan == planning.Plan(crashes=plan.crashes[:1]) and plan.crashes
    }
    assert len(crashes) == 20
    assert any(plan.corrupt for plan in every)
    assert {plan.save for plan in every} == {None, "always", "never"}
    assert any(len(plan.crashes) == 2 for plan in every)
    pairs = [
        plan.crashes
        for plan in planning.plans(3, 500, checkpoints=False, spare=False)
        if len(plan.crashes) == 2
    ]
    assert len(pairs) == len(set(pairs)) == 24  # of a short run every pair that can come about
    few = planning.plans(1_000, 50, checkpoints=True, spare=True)
    assert len(few) == 50
    assert few == planning.plans(1_000, 50, checkpoints=True, spare=True)
    assert not any(plan.corrupt for plan in planning.plans(10, 500, checkpoints=True, spare=False))


@pytest.mark.parametrize("plan", planning.plans(12, 300, checkpoints=True, spare=True)[::7])
def test_a_plan_is_what_its_text_says(plan: planning.Plan) -> None:
    assert planning.parse(str(plan)) == plan
    assert plan.told()


def append(folder: str, word: str) -> int:
    with (Path(folder) / "words").open("a") as file:
        file.write(f"{word}\n")
    return len(word)


def read(folder: str) -> list[str]:
    return (Path(folder) / "words").read_text().split()


@agent
async def keeps_files(ctx: Context) -> list[str]:
    for word in ("coral", "kelp"):
        await ctx.step(append, str(ctx.workspace), word, key=word)
        await ctx.sleep("1h")
    return sorted(set(await ctx.step(read, str(ctx.workspace))))


def test_a_workspace_is_there_in_virtual_time_and_survives_each_crash() -> None:
    assert assert_survives_crashes(keeps_files) == ["coral", "kelp"]


@agent
async def trusts_its_files(ctx: Context) -> list[str]:
    """What a step does to a file is done again after a crash, and this one does not allow for it."""
    await ctx.step(append, str(ctx.workspace), "coral")
    return await ctx.step(read, str(ctx.workspace))


def test_a_step_that_does_not_allow_for_what_it_left_in_its_workspace_is_found() -> None:
    with pytest.raises(AssertionError, match="coral"):
        assert_survives_crashes(trusts_its_files)
