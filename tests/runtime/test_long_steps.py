"""What the body of a step may ask and say: an idempotency key, a cursor to go on from, text for watchers."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import AsyncIterator
from typing import Any

import apsw
import pytest

from holdfast import Context, FatalError, RetryPolicy, RunFailed, TransientError, agent, step_context
from holdfast.bodies import MAX_CURSOR_BYTES
from holdfast.errors import NotSerializable, PayloadTooLarge, UsageError
from holdfast.model import RunState
from tests.faults import Engine

SOON = RetryPolicy(attempts=3, base=0, cap=0)
seen: list[Any] = []


@pytest.fixture(autouse=True)
def nothing_seen() -> None:
    seen.clear()


def rows(engine: Engine, table: str) -> int:
    connection = apsw.Connection(engine.url.removeprefix("sqlite:///"), flags=apsw.SQLITE_OPEN_READONLY)
    try:
        return int(connection.execute(f"SELECT count(*) FROM {table}").fetchall()[0][0])
    finally:
        connection.close()


async def until(condition: Any) -> None:
    async with asyncio.timeout(20):
        while not await condition():  # noqa: ASYNC110 - another handle's news
            await asyncio.sleep(0.01)


# --- who am I -------------------------------------------------------------------------------------------------


async def test_the_key_is_the_same_for_every_try_and_of_no_other_call(engine: Engine) -> None:
    async def body(word: str) -> str:
        seen.append((step_context.idempotency_key, step_context.try_number))
        if step_context.try_number < 3 and word == "a":
            raise TransientError("again")
        return word

    @agent(retry=SOON)
    async def keys(ctx: Context) -> None:
        await ctx.step(body, "a")
        await ctx.step(body, "b")

    await engine.client.start(keys, id="r")
    await engine.work(keys, crash_at=1)
    await engine.work(keys)
    tries = [number for _, number in seen]
    assert tries == [1, 1, 2, 3, 1]
    assert len({key for key, _ in seen[:4]}) == 1
    assert len({key for key, _ in seen}) == 2
    key = seen[0][0]
    assert key.isascii() and len(key) == 43 and " " not in key


async def test_a_run_that_is_deleted_and_made_again_has_other_keys(engine: Engine) -> None:
    async def body() -> None:
        seen.append(step_context.idempotency_key)

    @agent
    async def keys(ctx: Context) -> None:
        await ctx.step(body)

    for _ in range(2):
        await engine.finish(keys)
        await engine.client.handle(keys, "r").delete()
    assert len(set(seen)) == 2


async def test_the_key_of_an_effect_is_the_one_of_its_intent_whatever_it_is_called_since(
    engine: Engine,
) -> None:
    from holdfast import NotDone

    async def body() -> str:
        seen.append(step_context.idempotency_key)
        return "done"

    async def look() -> NotDone:
        seen.append(step_context.idempotency_key)
        return NotDone()

    def named(name: str) -> Any:
        @agent(name="named")
        async def one(ctx: Context) -> str:
            return await ctx.step(body, name=name, effect="once", verify=look)

        return one

    await engine.client.start(named("old"), id="r")
    await engine.work(named("old"), crash_at=2)
    await engine.work(named("new"))
    await engine.client.handle(named("new"), "r").retry(accept=1)
    await engine.work(named("new"))
    assert len(seen) == 3 and len(set(seen)) == 1


async def test_it_belongs_to_the_body_of_a_step(engine: Engine) -> None:
    @agent
    async def outside(ctx: Context) -> bool:
        with pytest.raises(UsageError, match="belongs to the body of a step"):
            step_context.record(1)
        return step_context.active

    assert await engine.finish(outside) is False


# --- cursors ----------------------------------------------------------------------------------------------------


async def crawl(pages: int, saves: bool) -> int:
    """Go on from the cursor; saved pages are never read again."""
    page = step_context.cursor(int, 0)
    while page < pages:
        seen.append(page)
        page += 1
        if saves:
            await step_context.save(page)
        else:
            step_context.record(page)
    return page


@agent(name="crawler", retry=SOON)
async def crawler(ctx: Context, saves: bool = True) -> int:
    return await ctx.step(crawl, 5, saves) + await ctx.step(crawl, 2, saves)


@pytest.mark.parametrize(("at", "after"), [(at, after) for at in range(1, 9) for after in (False, True)])
async def test_a_crash_at_any_commit_goes_on_from_what_was_saved(
    engine: Engine, at: int, after: bool
) -> None:
    handle = await engine.client.start(crawler, id="r")
    await engine.work(crawler, crash_at=at, after=after)
    await engine.work(crawler)
    assert await handle.result() == 7
    assert len(seen) <= 7 + 1  # the page in flight
    assert len(seen) == 7 or not after
    assert rows(engine, "cursors") == 0
    assert (await engine.store.get_run("r")).position == 2


async def test_a_cursor_is_durable_soon_without_anybody_waiting(engine: Engine) -> None:
    go_on = threading.Event()

    def body() -> str:
        step_context.record({"page": 1})
        step_context.record({"page": 2})
        go_on.wait(20)
        return "done"

    @agent(name="threaded")
    async def threaded(ctx: Context) -> str:
        return await ctx.step(body)

    handle = await engine.client.start(threaded, id="r")
    working = asyncio.create_task(engine.work(threaded))
    try:
        await until(handle.cursors)
        (cursor,) = await handle.cursors()
        assert (cursor.name, cursor.cursor) == ("body", {"page": 2})
        assert (await handle.detail()).cursors == (cursor,)
    finally:
        go_on.set()
        await working
    assert rows(engine, "cursors") == 0


async def test_a_step_that_failed_goes_on_from_its_cursor_when_the_run_is_retried(engine: Engine) -> None:
    async def body() -> int:
        page = step_context.cursor(int, 0)
        seen.append(page)
        await step_context.save(page + 1)
        if page < 2:
            raise FatalError("a bug")
        return page

    @agent(name="buggy")
    async def buggy(ctx: Context) -> int:
        return await ctx.step(body)

    handle = await engine.client.start(buggy, id="r")
    for _ in range(2):
        await engine.work(buggy)
        await handle.retry()
    await engine.work(buggy)
    assert await handle.result() == 2
    assert seen == [0, 1, 2]
    assert rows(engine, "cursors") == 0


async def test_a_call_with_other_arguments_begins_at_the_beginning(engine: Engine) -> None:
    async def body(word: str) -> str:
        seen.append((word, step_context.cursor(str)))
        await step_context.save(word)
        return word

    def of(word: str) -> Any:
        @agent(name="worded")
        async def worded(ctx: Context) -> str:
            return await ctx.step(body, word)

        return worded

    await engine.client.start(of("a"), id="r")
    await engine.work(of("a"), crash_at=2)
    await engine.work(of("b"))
    assert seen == [("a", None), ("b", None)]


async def test_a_cursor_says_when_it_cannot_be_recorded_or_read(engine: Engine) -> None:
    async def body() -> str:
        with pytest.raises(PayloadTooLarge, match="where to go on"):
            step_context.record("x" * MAX_CURSOR_BYTES)
        with pytest.raises(NotSerializable, match="the cursor of step 'body'"):
            step_context.record(object())
        step_context.record({"page": 1})
        with pytest.raises(NotSerializable):
            step_context.cursor(int)
        return "ok"

    @agent
    async def wrong(ctx: Context) -> str:
        return await ctx.step(body)

    assert await engine.finish(wrong) == "ok"


async def test_a_try_that_is_over_records_nothing_more(engine: Engine) -> None:
    told = threading.Event()

    def body() -> str:
        if step_context.try_number == 1:
            time.sleep(0.2)
            try:
                step_context.record("late")
            except UsageError as error:
                seen.append(str(error))
                told.set()
                raise
        return str(step_context.cursor(str))

    @agent(retry=SOON)
    async def slow(ctx: Context) -> str:
        return await ctx.step(body, timeout=0.05)

    assert await engine.finish(slow) == "None"
    assert "it ran out of its time" in seen[0]


# --- silence ----------------------------------------------------------------------------------------------------


async def chatty(times: int, then_silent: bool) -> str:
    for number in range(times):
        await asyncio.sleep(0.02)
        step_context.emit(f"{number} ")
    if then_silent:
        await asyncio.sleep(60)
    return "done"


def chatty_thread(times: int, then_silent: bool) -> str:
    for number in range(times):
        time.sleep(0.02)
        step_context.record(number)
    if then_silent:
        time.sleep(0.5)
    return "done"


@pytest.mark.parametrize("body", [chatty, chatty_thread])
async def test_a_step_that_gives_signs_of_life_goes_on_and_a_silent_one_does_not(
    engine: Engine, body: Any
) -> None:
    @agent(retry=RetryPolicy(attempts=1))
    async def listened(ctx: Context, silent: bool) -> str:
        return await ctx.step(body, 20, silent, silence=0.2)

    assert await engine.finish(listened, False) == "done"
    with pytest.raises(RunFailed, match="no sign of life"):
        await engine.finish(listened, True, id="silent")


async def test_a_timeout_holds_whatever_the_body_says(engine: Engine) -> None:
    @agent(retry=RetryPolicy(attempts=1))
    async def listened(ctx: Context) -> str:
        return await ctx.step(chatty, 1000, False, silence=10, timeout=0.1)

    with pytest.raises(RunFailed, match="out of its time"):
        await engine.finish(listened)


# --- streamed text ----------------------------------------------------------------------------------------------


async def _text(pieces: AsyncIterator[Any]) -> list[Any]:
    return [piece async for piece in pieces]


async def test_watchers_see_streamed_text_while_it_comes_and_nothing_of_it_stays(engine: Engine) -> None:
    go_on = asyncio.Event()

    async def body() -> str:
        for word in ("to", "be", "or"):
            step_context.emit(f"{word} ")
        await go_on.wait()
        step_context.emit("not")
        return "to be or not"

    @agent(name="streaming")
    async def streaming(ctx: Context) -> str:
        return await ctx.step(body, key="k")

    handle = await engine.client.start(streaming, id="r")
    working = asyncio.create_task(engine.work(streaming))
    pieces = handle.output()
    async with asyncio.timeout(20):
        first = await anext(pieces)
    assert (first.step, first.key, first.start, first.text) == ("body", "k", 0, "to be or ")
    assert (await engine.store.get_run("r")).state is RunState.RUNNING
    go_on.set()
    rest = await _text(pieces)
    assert all(piece.start == 9 for piece in rest)
    await working
    assert rows(engine, "outputs") == 0
    assert [event for event in await engine.events() if "output" in event.type] == []
    assert (await engine.store.get_run("r")).position == 1


async def test_a_flood_of_text_keeps_its_newest_stretch_and_says_what_is_missing(engine: Engine) -> None:
    go_on = asyncio.Event()

    async def body() -> None:
        for number in range(2000):
            step_context.emit(f"{number:04} " * 1000)
        await go_on.wait()

    @agent(name="flood")
    async def flood(ctx: Context) -> None:
        await ctx.step(body)

    handle = await engine.client.start(flood, id="r")
    working = asyncio.create_task(engine.work(flood))

    async def there() -> bool:
        return bool(await engine.store.read_output("r", 0))

    await until(there)
    kept = await engine.store.read_output("r", 0)
    assert len(kept) <= 256 and sum(len(piece.text) for piece in kept) <= 256 * 4096
    assert kept[-1].text.endswith("1999 ")
    assert kept[0].start == 2000 * 5000 - sum(len(piece.text) for piece in kept)
    go_on.set()
    await working
    assert await handle.result() is None
    assert rows(engine, "outputs") == 0
