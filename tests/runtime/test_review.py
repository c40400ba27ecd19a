"""What a hostile review found: one run's odd values, calls and exceptions never hurt another run, or a replay."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable, Sequence
from datetime import timedelta
from typing import Any

import pytest

from holdfast import Context, RetryPolicy, StepFailed, agent, open_store
from holdfast.channel import ChannelPort
from holdfast.clock import SystemClock
from holdfast.model import (
    Change,
    EntryStatus,
    Level,
    NewWorker,
    Note,
    Reason,
    Release,
    RunState,
    Sample,
    Served,
)
from holdfast.worker import Worker
from holdfast.writer import MAX_WAITING, StoreChannel, Writer
from tests.faults import Engine

ONCE = RetryPolicy(attempts=1)


async def echo(word: str) -> str:
    return word


async def _ended(engine: Engine, odd: Any, **options: Any) -> Any:
    """The run of `odd` after its end; the worker must be alive to execute it, and not hang."""
    await engine.client.start(odd, id="r")
    async with asyncio.timeout(10):
        assert await engine.work(odd, **options)
    return await engine.store.get_run("r")


@pytest.mark.parametrize("where", ["agent", "step"])
async def test_an_error_with_half_a_character_in_its_line_is_recorded(engine: Engine, where: str) -> None:
    def bad() -> None:
        raise FileNotFoundError("caf\udcff.py")

    @agent(retry=ONCE)
    async def opens(ctx: Context) -> None:
        if where == "agent":
            bad()
        await ctx.step(bad)

    run = await _ended(engine, opens)
    assert run.state is RunState.FAILED
    assert "caf?.py" in run.failure.message and "FileNotFoundError: caf?.py" in run.failure.frames


@pytest.mark.parametrize("odd", ["\udcff", 5, "x" * 1001, b"a"])
@pytest.mark.parametrize("where", ["key", "name", "once", "sleep", "signal"])
async def test_a_name_or_key_that_would_not_come_back_is_refused_at_the_call(
    engine: Engine, odd: Any, where: str
) -> None:
    calls: dict[str, Callable[[Context], Any]] = {
        "key": lambda ctx: ctx.step(echo, "a", key=odd),
        "name": lambda ctx: ctx.step(echo, "a", name=odd),
        "once": lambda ctx: ctx.once(odd, echo, "a"),
        "sleep": lambda ctx: ctx.sleep(0, key=odd),
        "signal": lambda ctx: ctx.wait_for(odd),
    }

    @agent(retry=ONCE)
    async def odd_words(ctx: Context) -> None:
        await calls[where](ctx)

    run = await _ended(engine, odd_words)
    assert (run.state, run.failure.kind) == (RunState.FAILED, "fatal")
    assert run.failure.type in ("UsageError", "TypeError") and await engine.entries() == []


async def test_a_key_beyond_ascii_comes_back_as_it_was(engine: Engine) -> None:
    @agent
    async def naive(ctx: Context) -> str:
        word = await ctx.step(echo, "a", key="naïve 🌿")
        await ctx.sleep(1.05)
        return word

    run = await _ended(engine, naive)
    assert (run.state, run.attempts) == (RunState.SUCCEEDED, 2)


async def test_a_change_the_store_cannot_take_ends_its_own_run_only(engine: Engine) -> None:
    """Beside the limits of the API: whatever the driver raises for one value is one run's trouble."""
    store = open_store(engine.url)
    plain = store.commit

    async def commit(changes: Sequence[Change]) -> Any:
        if any(b"odd" in entry.payload for change in changes for entry in change.entries):
            raise OverflowError("int too big to convert")
        return await plain(changes)

    store.commit = commit  # type: ignore[method-assign]

    @agent(retry=ONCE)
    async def says(ctx: Context, word: str) -> str:
        await ctx.step(echo, "first")
        return await ctx.step(echo, word)

    for n, word in enumerate(["odd", "even", "odd", "even"]):
        await engine.client.start(says, word, id=f"r{n}")
    async with store, asyncio.timeout(10):
        await Worker(store, [says], until_idle=True).run()
    runs = [await engine.store.get_run(f"r{n}") for n in range(4)]
    assert [run.state for run in runs] == [RunState.FAILED, RunState.SUCCEEDED] * 2
    assert runs[0].failure is not None and "int too big to convert" in runs[0].failure.message
    assert [run.attempts for run in runs] == [1] * 4


async def test_a_chatty_run_keeps_one_change_of_news_in_memory_while_the_store_is_away(
    engine: Engine,
) -> None:
    handle = await engine.client.start(chatty, id="r")
    key = await engine.store.register_worker(
        NewWorker(name="w", host="h", pid=1, capacity=1, serves=(Served(agent="chatty", version="0"),)), 10**9
    )
    (claim,) = await engine.store.claim(key, (Served(agent="chatty", version="0"),), 1)
    writer = Writer(engine.store, lambda: True)
    port = ChannelPort(claim, StoreChannel(claim.run, engine.store, writer), SystemClock())
    for n in range(MAX_WAITING + 1):  # the writer does not run: nothing is answered
        port.note(Note("log", b"{}"))
        port.tick(n * 50_000)
    writing = asyncio.create_task(writer.run())
    async with asyncio.timeout(10):
        assert await port.settle(Release(), None)
    writing.cancel()
    assert (await handle.status()).state is RunState.QUEUED


@agent
async def chatty(ctx: Context) -> None:
    """Never executed: its runs are only claimed."""


@pytest.mark.parametrize("odd", [float("nan"), float("inf"), 10**400, "3", None])
async def test_progress_that_is_no_figure_is_refused_at_the_call(engine: Engine, odd: Any) -> None:
    @agent(retry=ONCE)
    async def counts(ctx: Context) -> None:
        ctx.progress(odd, 10)

    run = await _ended(engine, counts)
    assert (run.state, run.failure.type) == (RunState.FAILED, "UsageError")
    assert "finite number" in run.failure.message


async def test_progress_on_a_file_with_half_a_character_in_its_name_is_recorded(engine: Engine) -> None:
    @agent
    async def names(ctx: Context) -> None:
        ctx.progress(1, 2, "caf\udcff.py", phase="\udcff")
        await ctx.step(echo, "a")

    run = await _ended(engine, names)
    progress = await engine.store.get_progress(run.key)
    assert run.state is RunState.SUCCEEDED and progress is not None
    assert (progress.description, progress.phase) == ("caf?.py", "?")


@pytest.mark.parametrize("long", [timedelta.max, 1e30, 10**400, "99999999w"])
async def test_a_sleep_longer_than_the_clock_is_refused_at_the_call(engine: Engine, long: Any) -> None:
    @agent(retry=ONCE)
    async def sleeps(ctx: Context) -> None:
        await ctx.sleep(long)

    run = await _ended(engine, sleeps)
    assert (run.state, run.failure.type) == (RunState.FAILED, "UsageError")
    assert "100 years" in run.failure.message and await engine.entries() == []


async def test_sys_exit_in_an_agent_fails_its_run_and_not_the_worker(engine: Engine) -> None:
    @agent
    async def leaves(ctx: Context) -> None:
        await ctx.step(echo, "a")
        sys.exit(3)

    run = await _ended(engine, leaves)
    assert (run.state, run.attempts) == (RunState.FAILED, 1)
    assert "sys.exit(3)" in run.failure.message and "leaves" in run.failure.frames


async def test_a_once_that_nobody_awaits_any_more_ends_with_its_attempt(engine: Engine) -> None:
    ended = asyncio.Event()

    async def slow() -> None:
        try:
            await asyncio.sleep(3600)
        finally:
            ended.set()

    @agent
    async def forgets(ctx: Context) -> str:
        waiting = asyncio.create_task(ctx.once("k", slow))
        await asyncio.sleep(0.05)
        return "done" if not waiting.done() else "early"

    run = await _ended(engine, forgets)
    assert (run.state, run.result, ended.is_set()) == (RunState.SUCCEEDED, b'"done"', True)


async def test_a_worker_may_be_left_before_it_began(engine: Engine) -> None:
    async with asyncio.timeout(10):
        async with Worker(engine.store, [chatty]):
            pass
    assert [worker for worker in await engine.store.list_workers() if worker.alive] == []


@pytest.mark.parametrize("call", ["step", "sleep", "once", "same", "checkpoint"])
async def test_a_call_inside_the_body_of_a_once_is_refused(engine: Engine, call: str) -> None:
    @agent(retry=ONCE)
    async def nests(ctx: Context) -> None:
        async def body() -> None:
            if call == "step":
                await ctx.step(echo, "a")
            elif call == "sleep":
                await ctx.sleep(0)
            elif call == "checkpoint":
                await ctx.checkpoint({})
            else:
                await ctx.once("k" if call == "same" else "other", echo, "a")

        await ctx.once("k", body)

    run = await _ended(engine, nests)
    assert run.state is RunState.FAILED and "body of a ctx.once" in run.failure.message
    assert [entry.kind for entry in await engine.entries()] == ["once"]


@pytest.mark.parametrize("call", ["step", "once", "restore"])
async def test_a_call_from_another_thread_is_refused(engine: Engine, call: str) -> None:
    @agent(retry=ONCE)
    async def threads(ctx: Context) -> None:
        async def there() -> None:
            if call == "step":
                await ctx.step(echo, "a")
            elif call == "once":
                await ctx.once("k", echo, "a")
            else:
                ctx.restore(dict)

        await asyncio.to_thread(asyncio.run, there())

    run = await _ended(engine, threads)
    assert run.state is RunState.FAILED and "another thread" in run.failure.message
    assert await engine.entries() == []


class Odd(BaseException):
    """Not an Exception: test frameworks and event loops have such."""


@pytest.mark.parametrize("kind", [Odd, asyncio.CancelledError])
async def test_a_body_that_raises_anything_leaves_a_failure_that_replays(engine: Engine, kind: Any) -> None:
    async def body() -> None:
        raise kind

    seen: list[str] = []

    @agent(retry=ONCE)
    async def goes_on(ctx: Context) -> str:
        try:
            await ctx.step(body)
        except StepFailed as error:
            seen.append(error.failure.type)
        word = await ctx.step(echo, "b")
        await ctx.sleep(1.05)
        return word

    run = await _ended(engine, goes_on)
    assert (run.state, run.attempts, seen) == (RunState.SUCCEEDED, 2, [kind.__name__] * 2)


async def test_a_body_that_awaits_something_cancelled_fails_its_step(engine: Engine) -> None:
    async def body() -> None:
        inner = asyncio.create_task(asyncio.sleep(5))
        await asyncio.sleep(0)
        inner.cancel()
        await inner

    @agent(retry=ONCE)
    async def awaits(ctx: Context) -> None:
        await ctx.step(body)

    run = await _ended(engine, awaits)
    assert run.state is RunState.FAILED and "nobody cancelled the step" in run.failure.message
    assert [entry.status for entry in await engine.entries()] == [EntryStatus.FAILED]


async def test_the_timeout_of_a_step_holds_for_a_lambda_round_an_async_function(engine: Engine) -> None:
    @agent(retry=ONCE)
    async def hurries(ctx: Context) -> None:
        await ctx.step(lambda: asyncio.sleep(3600), name="slow", timeout=0.05, retry=ONCE)

    run = await _ended(engine, hurries)
    assert (run.state, run.failure.kind) == (RunState.FAILED, "timed_out")


async def test_a_wait_cancelled_while_it_looks_into_the_inbox_replays(engine: Engine) -> None:
    store = open_store(engine.url)
    plain = store.read_inbox

    async def slow(run_key: int) -> Any:
        await asyncio.sleep(0.3)
        return await plain(run_key)

    store.read_inbox = slow  # type: ignore[method-assign]

    @agent(retry=ONCE)
    async def waits(ctx: Context) -> str:
        try:
            await asyncio.wait_for(ctx.wait_for("s"), 0.1)
        except TimeoutError:
            await ctx.step(echo, "too late")
        await ctx.sleep(1.05)
        return "done"

    await engine.client.start(waits, id="r")
    async with store, asyncio.timeout(10):
        await Worker(store, [waits], until_idle=True).run()
    run = await engine.store.get_run("r")
    assert (run.state, run.attempts) == (RunState.SUCCEEDED, 2)


class Pressed:
    """The heart of a worker whose machine comes to be short of something."""

    trusted = True
    sample: Sample | None = None

    def start(self) -> None: ...

    def stop(self) -> None: ...

    def beat(self) -> None: ...

    def take_warning(self) -> str | None:
        return None


async def test_a_step_cancelled_while_it_is_throttled_leaves_an_abandoned_entry(engine: Engine) -> None:
    pressed = Pressed()

    @agent(retry=ONCE)
    async def hurries(ctx: Context) -> str:
        pressed.sample = Sample(
            cpu_percent=1,
            memory_mb=2,
            disk_mb=200,
            processes=4,
            level=Level.CRITICAL,
            why="200 MB of disk free",
        )
        await asyncio.sleep(0.5)  # the worker looks at its heart at least so often
        try:
            await asyncio.wait_for(ctx.step(echo, "a"), 0.02)
        except TimeoutError:
            return "cancelled"
        return "not cancelled"

    run = await _ended(engine, hurries, heart=lambda *_: pressed)
    assert (run.state, run.result, run.reason) == (RunState.SUCCEEDED, b'"cancelled"', None)
    (entry,) = await engine.entries()
    assert entry.status is EntryStatus.ABANDONED and entry.started_at_us > 0


async def test_a_call_abandoned_before_it_began_is_not_waited_for_since_the_epoch(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("holdfast.recording._PATIENCE_S", 0.05)
    cancels = True

    @agent(retry=ONCE)
    async def changes(ctx: Context) -> str:
        if cancels:
            task = asyncio.create_task(ctx.step(echo, "a"))
            task.cancel()
            await asyncio.wait({task})
        else:
            await ctx.step(echo, "a")
        await ctx.sleep(1.05)
        return "done"

    await engine.client.start(changes, id="r")
    async with asyncio.timeout(10), open_store(engine.url) as store, Worker(store, [changes]):
        while (await store.get_run("r")).state is not RunState.WAITING:  # noqa: ASYNC110 - another loop's doing
            await asyncio.sleep(0.02)
        cancels = False
        while (await store.get_run("r")).reason is not Reason.MISMATCH:  # noqa: ASYNC110 - another loop's doing
            await asyncio.sleep(0.02)
    run = await engine.store.get_run("r")
    assert run.mismatch is not None and "nothing cancels it" in run.mismatch.message


async def test_a_pause_taken_back_just_before_the_safe_point_does_not_stay(engine: Engine) -> None:
    async def hesitate() -> None:
        await handle.pause()
        await asyncio.sleep(0.5)  # the worker has heard of it by now
        await handle.resume()  # of this it hears only after the step is over

    @agent
    async def goes_on(ctx: Context) -> str:
        await ctx.step(hesitate)
        return await ctx.step(echo, "done")

    handle = await engine.client.start(goes_on, id="r")
    async with asyncio.timeout(10), open_store(engine.url) as store, Worker(store, [goes_on]):
        assert await handle.result() == "done"


async def test_a_worker_that_dies_ends_who_waits_inside_its_block(engine: Engine) -> None:
    async with open_store(engine.url) as store:

        async def claim(*_: object, **__: object) -> Any:
            raise RuntimeError("the claim broke")

        store.claim = claim  # type: ignore[method-assign]
        handle = await engine.client.start(chatty, id="r")
        async with asyncio.timeout(10):
            with pytest.raises(ExceptionGroup) as caught:
                async with Worker(store, [chatty]):
                    await handle.result()
            assert caught.group_contains(RuntimeError, match="the claim broke")
            await asyncio.sleep(0)  # nobody is cancelled any more
    task = asyncio.current_task()
    assert task is not None and task.cancelling() == 0
