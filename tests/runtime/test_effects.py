"""Steps with effect="once": never a blind second run, whenever the worker dies; verify or a person decides."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from typing import Any

import pytest

from holdfast import (
    Context,
    Done,
    FatalError,
    GivenUp,
    NotDone,
    RetryPolicy,
    RunFailed,
    StepFailed,
    TransientError,
    agent,
)
from holdfast.errors import InvalidTransition, NotSerializable, PayloadTooLarge, Refused
from holdfast.model import Failure, Reason, Run, RunState
from tests.faults import Engine

SOON = RetryPolicy(attempts=3, base=0, cap=0)
ONCE = RetryPolicy(attempts=1)

effects: Counter[str] = Counter()
"""What happened in the world."""
asked: Counter[str] = Counter()
"""How often verify was asked."""


@pytest.fixture(autouse=True)
def nothing_done() -> None:
    effects.clear()
    asked.clear()


async def pay(what: str) -> str:
    effects[what] += 1
    await asyncio.sleep(0)
    return f"paid {what}"


async def look(what: str) -> Done[str] | NotDone:
    asked[what] += 1
    return Done(f"paid {what}") if effects[what] else NotDone()


async def run_of(engine: Engine) -> Run:
    return await engine.store.get_run("r")


async def statuses(engine: Engine) -> list[str]:
    return [str(entry.status) for entry in await engine.entries()]


async def held(engine: Engine) -> int:
    """The entry that the run is held for."""
    run = await run_of(engine)
    assert (run.state, run.reason) == (RunState.WAITING, Reason.EFFECT_UNKNOWN), (run.state, run.failure)
    assert run.failure is not None
    return run.failure.entries[0]


# --- a worker that dies ---------------------------------------------------------------------------------------


@agent(name="payer", retry=ONCE)
async def payer(ctx: Context) -> list[str]:
    first = await ctx.step(pay, "a", effect="once")
    second = await ctx.step(pay, "b", effect="once")
    return [first, second]


@agent(name="payer", retry=ONCE)
async def careful(ctx: Context) -> list[str]:
    first = await ctx.step(pay, "a", effect="once", verify=look)
    second = await ctx.step(pay, "b", effect="once", verify=look)
    return [first, second]


crashes = pytest.mark.parametrize(
    ("at", "after"), [(at, after) for at in range(1, 6) for after in (False, True)]
)


async def test_an_effect_leaves_its_intent_before_and_its_outcome_after(engine: Engine) -> None:
    assert await engine.finish(payer) == ["paid a", "paid b"]
    assert await statuses(engine) == ["intended", "ok", "intended", "ok"]
    assert (await run_of(engine)).steps == 2


@crashes
async def test_a_crash_at_any_commit_runs_no_effect_twice_and_asks_a_person(
    engine: Engine, at: int, after: bool
) -> None:
    handle = await engine.client.start(payer, id="r")
    crashed = not await engine.work(payer, crash_at=at, after=after)
    await engine.work(payer)
    run = await run_of(engine)
    while run.state is RunState.WAITING:
        entry = await held(engine)
        intent = next(one for one in await engine.entries() if one.position == entry)
        what = "ab"[intent.identity.occurrence]
        await handle.settle_effect(entry, Done(f"paid {what}") if effects[what] else NotDone())
        await engine.work(payer)
        run = await run_of(engine)
    assert await handle.result() == ["paid a", "paid b"]
    assert effects == {"a": 1, "b": 1}
    assert crashed or at == 5


@crashes
async def test_verify_decides_alone_after_a_crash_at_any_commit(engine: Engine, at: int, after: bool) -> None:
    handle = await engine.client.start(careful, id="r")
    await engine.work(careful, crash_at=at, after=after)
    await engine.work(careful)
    assert await handle.result() == ["paid a", "paid b"]
    assert effects == {"a": 1, "b": 1}
    assert sum(asked.values()) <= 1


async def test_an_effect_in_doubt_is_held_until_somebody_says_what_became_of_it(engine: Engine) -> None:
    handle = await engine.client.start(payer, id="r")
    await engine.work(payer, crash_at=2)
    await engine.work(payer)
    entry = await held(engine)
    with pytest.raises(InvalidTransition, match=f"holdfast approve r {entry}"):
        await handle.resume()
    await handle.retry()  # without a word about the effect it is only looked at again
    await engine.work(payer)
    assert await held(engine) == entry
    assert effects == {"a": 1}
    await handle.settle_effect(entry, Done("it is there"))
    await engine.work(payer)
    assert await handle.result() == ["it is there", "paid b"]


# --- what a person says ---------------------------------------------------------------------------------------


async def _held_payer(engine: Engine) -> Any:
    handle = await engine.client.start(payer, id="r")
    await engine.work(payer, crash_at=2)
    await engine.work(payer)
    assert await held(engine) == 1
    return handle


async def test_not_done_runs_the_body_again(engine: Engine) -> None:
    handle = await _held_payer(engine)
    view = await handle.settle_effect(1, NotDone())
    assert (view.state, view.error) == (RunState.QUEUED, None)
    await engine.work(payer)
    assert await handle.result() == ["paid a", "paid b"]
    assert effects["a"] == 2  # a person said so
    assert (await statuses(engine))[:3] == ["intended", "intended", "ok"]


async def test_given_up_fails_the_step_with_the_message(engine: Engine) -> None:
    handle = await _held_payer(engine)
    await handle.settle_effect(1, GivenUp("the bank says no"))
    await engine.work(payer)
    with pytest.raises(RunFailed, match="the bank says no"):
        await handle.result()
    assert effects == {"a": 1}


async def test_a_verdict_is_told_in_the_events_and_names_its_effect(engine: Engine) -> None:
    handle = await _held_payer(engine)
    await handle.settle_effect(1, Done("paid a"))
    told = [event for event in await engine.events() if event.type == "effect.settled"]
    assert [event.payload for event in told] == [b'{"effect":1,"verdict":"done"}']


async def test_a_result_that_does_not_fit_is_refused_when_the_code_comes_by(engine: Engine) -> None:
    handle = await _held_payer(engine)
    await handle.settle_effect(1, Done({"no": "text"}))
    await engine.work(payer)
    await held(engine)
    assert "does not fit" in ((await run_of(engine)).failure or Failure).message
    await handle.settle_effect(1, Done("paid a"))
    await engine.work(payer)
    assert await handle.result() == ["paid a", "paid b"]


async def test_only_an_unknown_effect_of_a_held_run_is_settled(engine: Engine) -> None:
    handle = await _held_payer(engine)
    with pytest.raises(Refused, match="unknown are: 1"):
        await handle.settle_effect(7, NotDone())
    with pytest.raises(PayloadTooLarge, match="into a file"):
        await handle.settle_effect(1, Done("x" * 70_000))
    with pytest.raises(NotSerializable):
        await handle.settle_effect(1, Done(object()))
    await handle.settle_effect(1, Done("paid a"))
    with pytest.raises(InvalidTransition, match="queued"):
        await handle.settle_effect(1, NotDone())
    await engine.work(payer)
    with pytest.raises(Refused, match="done"):
        await handle.settle_effect(1, NotDone())


# --- errors of the body -----------------------------------------------------------------------------------------


async def _once(engine: Engine, body: Any, **options: Any) -> Any:
    @agent(name="single", retry=SOON)
    async def single(ctx: Context) -> str:
        return await ctx.step(body, "a", effect="once", **options)

    handle = await engine.client.start(single, id="r")
    await engine.work(single)
    handle.agent = single
    return handle


async def test_only_an_error_that_says_that_nothing_was_done_is_tried_again(engine: Engine) -> None:
    async def refused_twice(what: str) -> str:
        effects["tries"] += 1
        if effects["tries"] < 3:
            raise TransientError("the line is busy")
        return await pay(what)

    handle = await _once(engine, refused_twice)
    assert await handle.result() == "paid a"
    assert await statuses(engine) == ["intended", "retried", "intended", "retried", "intended", "ok"]


async def test_any_other_error_is_not_tried_again(engine: Engine) -> None:
    async def broken(what: str) -> str:
        effects[what] += 1
        raise ConnectionError("reset by peer")

    handle = await _once(engine, broken)
    with pytest.raises(RunFailed, match="not tried again"):
        await handle.result()
    assert effects == {"a": 1}
    await handle.retry()  # the failure is superseded, and what was done stays done
    await engine.work(handle.agent)
    assert await held(engine) == 1
    assert effects == {"a": 1}


async def test_after_an_error_verify_is_asked_at_once(engine: Engine) -> None:
    async def half_broken(what: str) -> str:
        effects[what] += effects["tries"] > 0
        effects["tries"] += 1
        raise ConnectionError("reset by peer")

    handle = await _once(engine, half_broken, verify=look)
    assert await handle.result() == "paid a"
    assert (effects["a"], effects["tries"], asked["a"]) == (1, 2, 2)


async def test_tries_that_did_nothing_leave_nothing_to_ask(engine: Engine) -> None:
    async def busy(what: str) -> str:
        effects["tries"] += 1
        raise TransientError("the line is busy")

    handle = await _once(engine, busy)
    with pytest.raises(RunFailed, match="3 times"):
        await handle.result()
    await handle.retry()
    await engine.work(handle.agent)
    assert (await run_of(engine)).state is RunState.FAILED
    assert effects["tries"] == 6


async def test_a_timeout_is_unknown(engine: Engine) -> None:
    async def slow(what: str) -> str:
        effects[what] += 1
        await asyncio.sleep(60)
        return what

    await _once(engine, slow, timeout=0.01)
    await held(engine)
    assert effects == {"a": 1}


async def test_a_thread_that_does_not_end_is_unknown_and_verify_is_not_believed(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("holdfast.calls.STUCK_GRACE_S", 0.05)

    def stuck(what: str) -> str:
        effects[what] += 1
        time.sleep(0.5)
        return what

    await _once(engine, stuck, timeout=0.01, verify=look)
    await held(engine)
    assert (effects["a"], asked["a"]) == (1, 0)


# --- verify -----------------------------------------------------------------------------------------------------


async def _after_a_crash(engine: Engine, verify: Any) -> Any:
    @agent(name="single", retry=SOON)
    async def single(ctx: Context) -> str:
        return await ctx.step(pay, "a", effect="once", verify=verify)

    handle = await engine.client.start(single, id="r")
    await engine.work(single, crash_at=2)
    await engine.work(single)
    return handle


def down(what: str) -> Done[str]:
    asked[what] += 1
    raise OSError("no route to host")


def clumsy(what: str) -> str:
    return what


@pytest.mark.parametrize(("verify", "says"), [(down, "no route to host"), (clumsy, "returned str")])
async def test_a_verify_that_cannot_say_leaves_it_to_a_person(engine: Engine, verify: Any, says: str) -> None:
    await _after_a_crash(engine, verify)
    await held(engine)
    failure = (await run_of(engine)).failure
    assert failure is not None
    assert says in f"{failure.message} {failure.cause}"
    assert effects == {"a": 1}


async def test_a_verify_that_stumbles_is_asked_again(engine: Engine) -> None:
    def flaky(what: str) -> Done[str]:
        asked[what] += 1
        if asked[what] < 3:
            raise OSError("no route to host")
        return Done("seen")

    assert await (await _after_a_crash(engine, flaky)).result() == "seen"
    assert (effects["a"], asked["a"]) == (1, 3)


async def test_a_body_that_never_comes_to_an_end_is_not_begun_for_ever(engine: Engine) -> None:
    async def nothing(what: str) -> NotDone:
        return NotDone()

    @agent(name="fatal", retry=ONCE)
    async def fatal(ctx: Context) -> str:
        return await ctx.step(pay, "a", effect="once", verify=nothing)

    handle = await engine.client.start(fatal, id="r")
    for _ in range(10):
        assert not await engine.work(fatal, crash_at=2)
    await engine.work(fatal)
    entry = await held(engine)
    assert effects["a"] == 10
    await handle.settle_effect(entry, NotDone())
    await engine.work(fatal)
    assert await handle.result() == "paid a"


async def test_verify_may_give_up(engine: Engine) -> None:
    handle = await _after_a_crash(engine, lambda what: GivenUp("declined"))
    with pytest.raises(RunFailed, match="declined"):
        await handle.result()


async def test_verify_belongs_to_effects_that_happen_once(engine: Engine) -> None:
    @agent
    async def wrong(ctx: Context) -> None:
        await ctx.step(pay, "a", verify=look)

    with pytest.raises(RunFailed, match="add effect='once'"):
        await engine.finish(wrong)


# --- groups -----------------------------------------------------------------------------------------------------


@agent(name="many", retry=ONCE)
async def many(ctx: Context) -> list[str]:
    return await ctx.map(pay, "abcdef", key=str, limit=3, effect="once")


@agent(name="many", retry=ONCE)
async def many_careful(ctx: Context) -> list[str]:
    return await ctx.map(pay, "abcdef", key=str, limit=3, effect="once", verify=look)


in_a_map = pytest.mark.parametrize(
    ("at", "after"), [(at, after) for at in range(1, 9) for after in (False, True)]
)


@in_a_map
async def test_in_a_map_verify_decides_about_each(engine: Engine, at: int, after: bool) -> None:
    handle = await engine.client.start(many_careful, id="r")
    await engine.work(many_careful, crash_at=at, after=after)
    await engine.work(many_careful)
    assert await handle.result() == [f"paid {what}" for what in "abcdef"]
    assert set(effects.values()) == {1}


@in_a_map
async def test_in_a_map_a_person_is_asked_about_each_and_the_others_are_done_meanwhile(
    engine: Engine, at: int, after: bool
) -> None:
    handle = await engine.client.start(many, id="r")
    await engine.work(many, crash_at=at, after=after)
    await engine.work(many)
    for _ in range(6):
        if (await run_of(engine)).state is RunState.SUCCEEDED:
            break
        await held(engine)
        for effect in await handle.effects():  # all that are unknown, in one go
            if effect.state == "unknown" and (await run_of(engine)).state is RunState.WAITING:
                what = effect.scope[-1]
                done = Done(f"paid {what}") if effects[what] else NotDone()
                await handle.settle_effect(effect.n, done)
        await engine.work(many)
    assert await handle.result() == [f"paid {what}" for what in "abcdef"]
    assert set(effects.values()) == {1}


async def test_a_hold_waits_for_what_is_in_flight_beside_it(engine: Engine) -> None:
    """Or it would be cut off in the middle and be unknown, too."""
    begun, go_on = asyncio.Event(), asyncio.Event()

    async def dies(what: str) -> None:
        effects[what] += 1
        await begun.wait()
        try:
            await asyncio.sleep(60)
        finally:
            asyncio.get_running_loop().call_later(0.1, go_on.set)

    async def slow(what: str) -> None:
        begun.set()
        await go_on.wait()
        effects[what] += 1

    @agent(name="two", retry=ONCE)
    async def two(ctx: Context) -> None:
        async def branch(body: Any, timeout: float | None) -> None:
            async with ctx.branch(body.__name__):
                await ctx.step(body, body.__name__, effect="once", timeout=timeout)
                await ctx.step(pay, f"after {body.__name__}")

        async with asyncio.TaskGroup() as group:
            group.create_task(branch(dies, 0.1))
            group.create_task(branch(slow, None))

    await engine.client.start(two, id="r")
    await engine.work(two)
    await held(engine)
    assert effects == {"dies": 1, "slow": 1}
    assert sorted(await statuses(engine)) == ["intended", "intended", "ok"]


async def test_a_race_loser_in_doubt_does_not_hold_a_race_that_is_decided(engine: Engine) -> None:
    async def quick(ctx: Context) -> str:
        return await ctx.step(pay, "quick", effect="once")

    async def slow(ctx: Context) -> str:
        async def body(what: str) -> str:
            effects[what] += 1
            await asyncio.sleep(3600)
            return what

        return await ctx.step(body, "slow", effect="once", name="slow")

    @agent(name="racing", retry=ONCE)
    async def racing(ctx: Context) -> str:
        won, _ = await ctx.race({"slow": lambda: slow(ctx), "quick": lambda: quick(ctx)})
        return won + await ctx.step(pay, "after", effect="once")

    handle = await engine.client.start(racing, id="r")
    assert not await engine.work(racing, crash_at=5)
    await engine.work(racing)
    run = await run_of(engine)
    if run.state is RunState.WAITING:
        entry = await held(engine)
        await handle.settle_effect(entry, GivenUp("lost"))
        await engine.work(racing)
    assert set(effects.values()) == {1}


async def test_code_that_cancels_an_effect_leaves_it_abandoned_and_never_run_again(engine: Engine) -> None:
    async def slow(what: str) -> str:
        effects[what] += 1
        await asyncio.sleep(3600)
        return what

    @agent(name="impatient", retry=ONCE)
    async def impatient(ctx: Context) -> str:
        try:
            async with asyncio.timeout(0.02):
                await ctx.step(slow, "a", effect="once")
        except TimeoutError:
            return await ctx.step(pay, "instead")
        return "in time"

    handle = await engine.client.start(impatient, id="r")
    await engine.work(impatient, crash_at=4)
    await engine.work(impatient)
    assert await handle.result() == "paid instead"
    assert effects["a"] == 1
    assert [one.state for one in await handle.effects()] == ["abandoned"]


# --- code that changed, tails that are superseded ----------------------------------------------------------------


async def test_an_effect_in_doubt_is_not_passed_by_under_another_name(engine: Engine) -> None:
    await engine.client.start(payer, id="r")
    await engine.work(payer, crash_at=2)

    @agent(name="payer", retry=ONCE)
    async def renamed(ctx: Context) -> list[str]:
        first = await ctx.step(pay, "a", effect="once", name="charge", verify=look)
        return [first, await ctx.step(pay, "b", effect="once")]

    handle = engine.client.handle(renamed, "r")
    await engine.work(renamed)
    run = await run_of(engine)
    assert (run.reason, run.mismatch and run.mismatch.entry) == (Reason.MISMATCH, 1)
    await handle.retry(accept=1)
    await engine.work(renamed)
    assert await handle.result() == ["paid a", "paid b"]
    assert effects == {"a": 1, "b": 1}


def stateful(*names: str) -> Any:
    """An agent that calls effects of these names; a dash makes a step of it."""

    @agent(name="stateful", retry=ONCE)
    async def calls(ctx: Context) -> list[str]:
        ctx.restore(dict)
        words: list[str] = []
        for number, name in enumerate(names):
            effect: Any = "repeatable" if name.startswith("-") else "once"
            words.append(await ctx.step(pay, name[-1], effect=effect, name=name, key=str(number)))
        return words

    return calls


@pytest.mark.parametrize(
    "names",
    [("-new", "pay a", "pay b"), ("-new", "charge a", "pay b"), ("-new", "charge b", "charge a")],
    ids=["the same", "renamed", "moved"],
)
async def test_from_checkpoint_asks_about_each_effect_one_by_one(
    engine: Engine, names: tuple[str, ...]
) -> None:
    before, changed = stateful("-old", "pay a", "pay b", "-last"), stateful(*names)
    await engine.client.start(before, id="r")
    assert not await engine.work(before, crash_at=5, after=True)
    handle = engine.client.handle(changed, "r")
    await engine.work(changed)
    assert (await run_of(engine)).reason is Reason.MISMATCH
    await handle.retry(from_checkpoint=True)
    unknown = await handle.effects()
    assert [(one.state, one.result) for one in unknown] == [("unknown", "paid a"), ("unknown", "paid b")]
    for name in names[1:]:
        await engine.work(changed)
        await handle.settle_effect(await held(engine), Done(f"paid {name[-1]}"))
    await engine.work(changed)
    assert await handle.result() == [f"paid {name[-1]}" for name in names]
    assert (effects["a"], effects["b"]) == (1, 1)


async def test_an_orphaned_effect_that_is_settled_asks_no_more(engine: Engine) -> None:
    before, changed = stateful("-old", "pay a"), stateful("-new", "charge a")
    await engine.client.start(before, id="r")
    await engine.work(before, crash_at=3, after=True)
    handle = engine.client.handle(changed, "r")
    await engine.work(changed)
    await handle.retry(from_checkpoint=True)
    await engine.work(changed)
    entry = await held(engine)
    orphan = (await handle.effects())[0].n
    assert orphan != entry
    assert f"entry {orphan}" in ((await handle.detail()).failure or Failure).message
    view = await handle.settle_effect(orphan, Done("it was another one"))
    assert view.reason is Reason.EFFECT_UNKNOWN  # it is held for the other
    await handle.settle_effect(entry, NotDone())
    await engine.work(changed)
    assert await handle.result() == ["paid w", "paid a"]


async def test_a_rerun_that_a_person_names_is_their_word(engine: Engine) -> None:
    @agent(name="payer", retry=ONCE)
    async def other(ctx: Context) -> list[str]:
        first = await ctx.step(pay, "z", effect="once")
        return [first, await ctx.step(pay, "b", effect="once")]

    await engine.client.start(payer, id="r")
    await engine.work(payer, crash_at=2, after=True)
    await engine.work(other)
    assert (await run_of(engine)).reason is Reason.MISMATCH
    handle = engine.client.handle(other, "r")
    await handle.retry(rerun=2)
    await engine.work(other)
    assert await handle.result() == ["paid z", "paid b"]


async def test_a_retry_of_the_run_asks_about_the_effects_of_its_cleanup(engine: Engine) -> None:
    async def fail(what: str) -> str:
        effects[what] += 1
        raise FatalError("no")

    @agent(name="cleaning", retry=ONCE)
    async def cleaning(ctx: Context) -> str:
        try:
            await ctx.step(fail, "work")
        except StepFailed:
            await ctx.step(pay, "refund", effect="once", verify=look)
            raise
        return "done"

    handle = await engine.client.start(cleaning, id="r")
    await engine.work(cleaning)
    await handle.retry()
    await engine.work(cleaning)
    assert (await run_of(engine)).state is RunState.FAILED
    assert effects == {"work": 2, "refund": 1}
    assert asked == {"refund": 1}


async def test_a_pause_between_intent_and_body_leaves_nothing_half_done(engine: Engine) -> None:
    """An effect in doubt waits for the pause to end like any other call."""
    handle = await _held_payer(engine)
    await handle.settle_effect(1, Done("paid a"))
    await handle.pause()
    await engine.work(payer)
    assert (await run_of(engine)).reason is Reason.PAUSED
    await handle.resume()
    await engine.work(payer)
    assert await handle.result() == ["paid a", "paid b"]


async def test_a_checkpoint_lets_go_of_effects_behind_it(engine: Engine) -> None:
    @agent(name="loop", retry=ONCE)
    async def loop(ctx: Context) -> int:
        state = ctx.restore(list[int], default=[])
        while len(state) < 3:
            await ctx.step(pay, str(len(state)), effect="once")
            state.append(1)
            await ctx.checkpoint(state, force=True)
        return len(state)

    for at in range(1, 9):
        effects.clear()
        handle = await engine.client.start(loop, id=f"r{at}")
        await engine.work(loop, crash_at=at, after=True)
        await engine.work(loop)
        run = await engine.store.get_run(f"r{at}")
        if run.reason is Reason.EFFECT_UNKNOWN and run.failure:
            await handle.settle_effect(run.failure.entries[0], NotDone())
            await engine.work(loop)
        assert await handle.result() == 3
        assert set(effects.values()) == {1}


def test_verdicts_are_values() -> None:
    assert Done(1) == Done(1)
    assert GivenUp().message == "given up"
