"""What agent code is promised: steps, waits, time and chance, live and replayed."""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import pytest

from holdfast import (
    Context,
    FatalError,
    RetryPolicy,
    RunFailed,
    StepFailed,
    TransientError,
    WaitTimedOut,
    Worker,
    agent,
)
from holdfast.model import EntryKind, EntryStatus, RunState
from tests.faults import Engine, Interrupted

QUICK = RetryPolicy(attempts=3, base=0.001, cap=0.002)


@dataclass
class Tally:
    done: int = 0
    seen: list[str] = field(default_factory=list)


async def echo(value: str) -> str:
    return value


async def test_a_step_returns_its_result_and_records_it(engine: Engine) -> None:
    @agent
    async def one(ctx: Context, word: str) -> str:
        return await ctx.step(echo, word)

    assert await engine.finish(one, "hi") == "hi"
    [entry] = await engine.entries()
    assert (entry.identity.name, entry.status, entry.payload) == ("echo", EntryStatus.OK, b'"hi"')


async def test_a_sync_step_runs_in_a_thread(engine: Engine) -> None:
    import threading

    def where() -> bool:
        return threading.current_thread() is threading.main_thread()

    @agent
    async def one(ctx: Context) -> bool:
        return await ctx.step(where)

    assert await engine.finish(one) is False


async def test_what_a_step_returns_is_the_decoded_recording_the_first_time_too(engine: Engine) -> None:
    made = Tally(done=3)

    async def tally() -> Tally:
        return made

    @agent
    async def one(ctx: Context) -> bool:
        got = await ctx.step(tally)
        return got == made and got is not made

    assert await engine.finish(one) is True


async def test_a_result_that_does_not_survive_is_a_fatal_step_failure_naming_step_type_and_fix(
    engine: Engine,
) -> None:
    async def pair():  # type: ignore[no-untyped-def]
        return (1, 2)

    @agent
    async def one(ctx: Context) -> Any:
        return await ctx.step(pair)

    with pytest.raises(RunFailed, match=r"pair.*tuple.*annotate"):
        await engine.finish(one)


async def test_a_partial_counts_as_the_function_inside_it_and_a_lambda_needs_a_name(engine: Engine) -> None:
    async def add(a: int, b: int = 0) -> int:
        return a + b

    @agent
    async def one(ctx: Context) -> int:
        total = await ctx.step(functools.partial(add, b=2), 1)
        return total + await ctx.step(lambda: 4, name="four")

    assert await engine.finish(one) == 7
    assert [entry.identity.name for entry in await engine.entries()] == ["add", "four"]

    @agent
    async def unnamed(ctx: Context) -> int:
        return await ctx.step(lambda: 4)

    with pytest.raises(RunFailed, match="name"):
        await engine.finish(unnamed, id="u")


async def test_a_transient_failure_is_retried_in_place_and_an_exhausted_one_carries_its_cause(
    engine: Engine,
) -> None:
    tries = []

    async def flaky() -> int:
        tries.append(1)
        if len(tries) < 3:
            raise TransientError("not yet")
        return len(tries)

    async def never() -> int:
        raise ConnectionError("down")

    @agent(retry=QUICK)
    async def one(ctx: Context) -> int:
        value = await ctx.step(flaky)
        with pytest.raises(StepFailed, match="down") as failed:
            await ctx.step(never)
        assert failed.value.failure.type == "RetriesExhausted"
        assert failed.value.failure.cause is not None
        assert failed.value.failure.cause.type == "ConnectionError"
        return value

    assert await engine.finish(one) == 3
    statuses = [entry.status for entry in await engine.entries()]
    assert statuses.count(EntryStatus.RETRIED) == 4


async def test_a_fatal_error_is_not_retried_and_its_frames_are_the_users_own(engine: Engine) -> None:
    tries = []

    async def broken() -> int:
        tries.append(1)
        return len(None)  # type: ignore[arg-type]

    @agent
    async def one(ctx: Context) -> int:
        return await ctx.step(broken)

    with pytest.raises(RunFailed, match="TypeError") as failed:
        await engine.finish(one)
    assert tries == [1]
    frames = failed.value.failure.frames
    assert "in broken" in frames
    assert "recording.py" not in frames


async def test_an_error_outside_steps_is_retried_by_the_agents_policy(engine: Engine) -> None:
    tries = []

    @agent(retry=QUICK)
    async def one(ctx: Context) -> int:
        await ctx.step(echo, "once")
        tries.append(1)
        if len(tries) < 3:
            raise ConnectionError("again")
        return len(tries)

    assert await engine.finish(one) == 3
    assert len(await engine.entries()) == 1


async def test_policies_never_multiply(engine: Engine) -> None:
    tries = []

    async def never() -> None:
        tries.append(1)
        raise ConnectionError("down")

    @agent(retry=QUICK)
    async def one(ctx: Context) -> None:
        await ctx.step(never)

    with pytest.raises(RunFailed):
        await engine.finish(one)
    assert len(tries) == 3


async def test_a_step_timeout_is_recorded_as_timed_out(engine: Engine) -> None:
    async def slow() -> None:
        await asyncio.sleep(30)

    @agent(retry=RetryPolicy(attempts=1))
    async def one(ctx: Context) -> str:
        try:
            await ctx.step(slow, timeout=0.02)
        except StepFailed as error:
            return error.kind
        return "?"

    assert await engine.finish(one) == "timed_out"


CALLS: dict[str, Callable[[Context], Awaitable[Any]]] = {
    "echo": lambda ctx: ctx.step(echo, "a"),
    "sleep": lambda ctx: ctx.sleep(0.01),
    "go": lambda ctx: ctx.wait_for("go"),
    "approval": lambda ctx: ctx.approval("Go on?", ["yes", "no"]),
    "map echo": lambda ctx: ctx.map(echo, ["a", "b"]),
    "race": lambda ctx: ctx.race({"x": lambda: ctx.step(echo, "x")}),
    "child": lambda ctx: ctx.call(child, "a"),
    "child:start": lambda ctx: ctx.start(child, "a"),
    "child:result": lambda ctx: ctx.child(child, "c").result(),
    "note.txt": lambda ctx: ctx.artifact("note.txt", b"small"),
}


@agent(name="child")
async def child(ctx: Context, word: str) -> str:
    return word


@pytest.mark.parametrize("name", CALLS)
@pytest.mark.parametrize("first", [True, False], ids=["first", "second"])
async def test_gather_over_ctx_calls_is_a_clear_error_with_the_fix(
    engine: Engine, name: str, first: bool
) -> None:
    step = CALLS["echo"]

    @agent(retry=RetryPolicy(attempts=1))
    async def one(ctx: Context) -> None:
        calls = [CALLS[name], step] if first else [step, CALLS[name]]
        await asyncio.gather(*(call(ctx) for call in calls))

    with pytest.raises(RunFailed) as failed:
        await engine.finish(one)
    message = failed.value.failure.message
    assert failed.value.failure.type == "UsageError"
    assert "while" in message
    assert name in message
    assert "instead of asyncio.gather use ctx.map, or a ctx.branch for each" in message
    assert [entry for entry in await engine.entries() if entry.status is EntryStatus.OK] == []


async def test_a_forgotten_await_is_a_clear_error(engine: Engine) -> None:
    @agent
    async def one(ctx: Context) -> None:
        ctx.step(echo, "a")
        await ctx.step(echo, "b")

    with pytest.raises(RunFailed, match="await"):
        await engine.finish(one)


async def test_a_key_used_twice_raises_at_once(engine: Engine) -> None:
    @agent
    async def one(ctx: Context) -> None:
        await ctx.step(echo, "a", key="k")
        await ctx.step(echo, "b", key="k")

    with pytest.raises(RunFailed, match="used twice"):
        await engine.finish(one)


async def test_an_unknown_error_is_transient_and_said_to_be_so(engine: Engine) -> None:
    class Odd(Exception):
        pass

    async def odd() -> None:
        raise Odd("what")

    @agent(retry=QUICK)
    async def one(ctx: Context) -> None:
        await ctx.step(odd)

    with pytest.raises(RunFailed) as failed:
        await engine.finish(one)
    assert failed.value.failure.cause is not None
    assert failed.value.failure.cause.unclassified


async def test_the_users_classes_extend_the_classification(engine: Engine) -> None:
    class Odd(Exception):
        pass

    tries = []

    async def odd() -> None:
        tries.append(1)
        raise Odd("what")

    @agent(retry=RetryPolicy(fatal=(Odd,)))
    async def one(ctx: Context) -> None:
        await ctx.step(odd)

    with pytest.raises(RunFailed):
        await engine.finish(one)
    assert len(tries) == 1


async def test_restore_hands_out_the_default_then_the_saved_state(engine: Engine) -> None:
    attempts = []

    @agent(retry=QUICK)
    async def one(ctx: Context) -> list[str]:
        state = ctx.restore(Tally)
        attempts.append(state.done)
        while state.done < 3:
            state.seen.append(await ctx.step(echo, f"w{state.done}"))
            state.done += 1
            await ctx.checkpoint(state, force=True)
        if len(attempts) < 2:
            raise TransientError("again")
        return state.seen

    assert await engine.finish(one) == ["w0", "w1", "w2"]
    assert attempts == [0, 3]


@pytest.mark.parametrize("mistake", ["checkpoint first", "restore twice", "needs arguments"])
async def test_misuse_of_state_is_a_clear_error(engine: Engine, mistake: str) -> None:
    @dataclass
    class Needs:
        value: int

    @agent
    async def one(ctx: Context) -> None:
        if mistake == "checkpoint first":
            await ctx.checkpoint(Tally())
        elif mistake == "restore twice":
            ctx.restore(Tally)
            ctx.restore(Tally)
        else:
            ctx.restore(Needs)

    with pytest.raises(RunFailed, match=r"restore|default="):
        await engine.finish(one)


async def test_once_is_remembered_for_the_life_of_the_run(engine: Engine) -> None:
    calls = []

    async def pay() -> int:
        calls.append(1)
        return len(calls)

    @agent(retry=QUICK)
    async def one(ctx: Context) -> int:
        state = ctx.restore(Tally)
        first = await ctx.once("pay", pay)
        state.done += 1
        await ctx.checkpoint(state, force=True)
        both = await asyncio.gather(ctx.once("pay", pay), ctx.once("other", echo, "x"))
        if state.done < 2:
            raise TransientError("again")
        assert both == [1, "x"]
        return first

    assert await engine.finish(one) == 1
    assert len(calls) == 1


async def test_sleep_unloads_the_run_and_does_not_begin_again(engine: Engine) -> None:
    @agent
    async def one(ctx: Context) -> int:
        await ctx.step(echo, "before")
        await ctx.sleep(1.2)
        return ctx.attempt

    assert await engine.finish(one) == 2
    types = [event.type for event in await engine.events()]
    assert "run.waiting" in types


async def test_wait_for_receives_a_signal_sent_before_and_one_sent_later(engine: Engine) -> None:
    @agent
    async def one(ctx: Context) -> list[str]:
        first = await ctx.wait_for("go", str)
        second = await ctx.wait_for("go", str)
        return [first, second]

    handle = await engine.client.start(one, id="r")
    await handle.signal("go", "1")
    await engine.work(one)
    run = await engine.store.get_run("r")
    assert (run.state, run.reason, run.wait_name) == (RunState.WAITING, "signal", "go")
    await handle.signal("other", "no")
    await engine.work(one)
    assert (await engine.store.get_run("r")).state is RunState.WAITING
    await handle.signal("go", "2")
    await engine.work(one)
    assert await handle.result() == ["1", "2"]


INSTANTS = [
    ("claim", 1, False),
    ("claim", 1, True),  # the attempt is there, and its code has not begun
    ("read_inbox", 1, False),
    ("read_inbox", 1, True),  # the inbox was seen without the signal
    ("commit", 1, False),  # the park is on its way, or the time until which it waits
    ("commit", 1, True),  # parked, and the worker has not heard of it
]


@pytest.mark.parametrize(
    ("name", "at", "after", "timeout"),
    [
        *((*instant, timeout) for instant in INSTANTS for timeout in (None, "1h")),
        ("commit", 2, False, "1h"),
        ("commit", 2, True, "1h"),
    ],
)
async def test_a_signal_at_any_instant_of_a_park_is_received_once(
    engine: Engine, name: str, at: int, after: bool, timeout: str | None
) -> None:
    sent: list[int] = []

    @agent
    async def listening(ctx: Context) -> list[str]:
        first = await ctx.wait_for("go", str, timeout=timeout)
        return [first, await ctx.wait_for("go", str)]

    async def send() -> None:
        sent.append((await handle.signal("go", "now")).n)

    handle = await engine.client.start(listening, id="r")
    await engine.work(listening, through=lambda store: Interrupted(store, send, name, at, after))
    assert len(sent) == 1
    assert [entry.signal for entry in await engine.entries() if entry.signal is not None] == sent
    run = await engine.store.get_run("r")
    assert (run.state, run.wait_name) == (RunState.WAITING, "go")  # for the second one
    await handle.signal("go", "then")
    await engine.work(listening)
    assert await handle.result() == ["now", "then"]


async def test_wait_for_times_out_for_good(engine: Engine) -> None:
    @agent
    async def one(ctx: Context) -> str:
        try:
            await ctx.wait_for("go", timeout=0.05)
        except WaitTimedOut:
            return "late"
        return "?"

    assert await engine.finish(one) == "late"


async def test_now_random_and_uuid_are_the_same_on_every_replay(engine: Engine) -> None:
    seen: list[tuple[datetime, float, str]] = []

    @agent(retry=QUICK)
    async def one(ctx: Context) -> int:
        before = (ctx.now(), ctx.random.random(), str(ctx.uuid()))
        await ctx.step(echo, "a")
        after = (ctx.now(), ctx.random.random(), str(ctx.uuid()))
        assert before != after
        seen.extend([before, after])
        if len(seen) < 4:
            raise TransientError("again")
        return len(seen)

    await engine.finish(one)
    assert seen[:2] == seen[2:]


async def test_an_agents_own_timeout_abandons_the_step_live_and_replayed(engine: Engine) -> None:
    ran = []

    async def slow() -> None:
        ran.append(1)
        await asyncio.sleep(60)

    async def helper(ctx: Context) -> None:
        await ctx.step(slow)

    attempts = []

    @agent(retry=QUICK)
    async def one(ctx: Context) -> str:
        attempts.append(1)
        try:
            await asyncio.wait_for(helper(ctx), 0.05)
        except TimeoutError:
            pass
        word = await ctx.step(echo, "fallback")
        if len(attempts) < 2:
            raise TransientError("again")
        return word

    assert await engine.finish(one) == "fallback"
    assert len(ran) == 1
    assert [entry.status for entry in await engine.entries()] == [EntryStatus.ABANDONED, EntryStatus.OK]


async def test_a_call_cancelled_before_it_began_leaves_an_abandoned_entry(engine: Engine) -> None:
    attempts = []

    @agent(retry=QUICK)
    async def one(ctx: Context) -> str:
        attempts.append(1)
        task = asyncio.create_task(ctx.step(echo, "never"))
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        word = await ctx.step(echo, "after")
        if len(attempts) < 2:
            raise TransientError("again")
        return word

    assert await engine.finish(one) == "after"
    assert [entry.status for entry in await engine.entries()] == [EntryStatus.ABANDONED, EntryStatus.OK]


async def test_sys_exit_in_a_step_fails_the_run_not_the_worker(engine: Engine) -> None:
    import sys

    async def leave() -> None:
        sys.exit(3)

    @agent(retry=QUICK)
    async def one(ctx: Context) -> None:
        await ctx.step(leave)

    with pytest.raises(RunFailed, match="SystemExit"):
        await engine.finish(one)


async def test_a_failed_run_saves_its_last_state_so_that_a_fix_meets_only_the_current_segment(
    engine: Engine,
) -> None:
    fixed = []

    async def work(n: int) -> int:
        if n == 2 and not fixed:
            raise FatalError("bug")
        return n

    @agent
    async def one(ctx: Context) -> int:
        state = ctx.restore(Tally)
        while state.done < 4:
            if fixed:
                await ctx.step(echo, "new step")
            await ctx.step(work, state.done)
            state.done += 1
            await ctx.checkpoint(state)
        return state.done

    handle = await engine.client.start(one, id="r")
    await engine.work(one)
    assert (await engine.store.get_run("r")).state is RunState.FAILED
    fixed.append(1)
    await handle.retry()
    await engine.work(one)
    assert await handle.result() == 4


async def test_progress_is_recorded_and_merged(engine: Engine) -> None:
    @agent
    async def one(ctx: Context) -> None:
        for n in range(5):
            ctx.progress(n + 1, 5, f"file {n}")
            await ctx.step(echo, "x")

    await engine.finish(one)
    run = await engine.store.get_run("r")
    progress = await engine.store.get_progress(run.key)
    assert progress is not None
    assert (progress.current, progress.total, progress.description) == (5, 5, "file 4")


async def test_stdlib_logging_inside_a_run_is_captured_once(engine: Engine) -> None:
    import logging

    logger = logging.getLogger("mine")
    attempts = []

    @agent(retry=QUICK)
    async def one(ctx: Context) -> None:
        attempts.append(1)
        logger.warning("about to")
        await ctx.step(echo, "x")
        if len(attempts) < 2:
            raise TransientError("again")
        logger.error("done")

    await engine.finish(one)
    lines = [event.payload.decode() for event in await engine.events() if event.type == "log"]
    assert [("about to" in line, "done" in line) for line in lines] == [(True, False), (False, True)]


async def test_the_feed_is_gapless(engine: Engine) -> None:
    @agent
    async def one(ctx: Context) -> None:
        state = ctx.restore(Tally)
        for n in range(20):
            await ctx.step(echo, "x")
            ctx.progress(n, 20)
            await ctx.checkpoint(state, force=n % 5 == 0)

    await engine.finish(one)
    assert [event.n for event in await engine.events()] == list(range(1, len(await engine.events()) + 1))


async def test_a_retry_of_a_run_that_ended_by_a_wait_waits_anew(engine: Engine) -> None:
    @agent
    async def one(ctx: Context) -> str:
        return await ctx.wait_for("go", str, timeout=0.05)

    handle = await engine.client.start(one, id="r")
    await engine.work(one)
    with pytest.raises(RunFailed, match="go"):
        await handle.result()
    await handle.retry()
    await handle.signal("go", "now")
    await engine.work(one)
    assert await handle.result() == "now"


async def test_a_retry_of_a_run_that_ended_by_a_wait_gives_it_its_whole_time_again(engine: Engine) -> None:
    timeout = 0.05

    @agent
    async def one(ctx: Context) -> str:
        return await ctx.wait_for("go", str, timeout=timeout)

    handle = await engine.client.start(one, id="r")
    await engine.work(one)
    timeout = 3600
    await handle.retry()
    async with Worker(engine.store, [one]), asyncio.timeout(20):
        while (run := await engine.store.get_run("r")).state is not RunState.WAITING:
            await engine.store.wait_for_news(1)
        assert (run.available_at_us or 0) > await engine.store.now() + 3_000_000_000
        await handle.signal("go", "now")
        assert await handle.result() == "now"
    timers = [entry for entry in await engine.entries() if entry.kind is EntryKind.TIMER]
    assert [entry.superseded for entry in timers] == [True, False]
