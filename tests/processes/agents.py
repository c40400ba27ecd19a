"""Agents for processes that get killed. Every execution of a body, and every outcome that code saw, is written to a
file of its own and synced, so that what happened is known whatever dies."""

from __future__ import annotations

import asyncio
import functools
import os
import time
from collections.abc import Callable, Coroutine
from contextvars import ContextVar
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final

import holdfast
from holdfast import (
    ChildFailed,
    Concurrency,
    Context,
    FatalError,
    RateLimit,
    RetryPolicy,
    StepFailed,
    step_context,
)


@dataclass
class Done:
    steps: int = 0
    total: int = 0


def write(folder: str, name: str, line: str) -> None:
    """Append a line, durably."""
    file = os.open(Path(folder) / name, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    try:
        os.write(file, f"{line}\n".encode())
        os.fsync(file)
    finally:
        os.close(file)


async def act(folder: str, n: int, pause_s: float) -> int:
    """The effect of step n, and some work."""
    write(folder, "executed", str(n))
    await asyncio.sleep(pause_s)
    return n


async def refuse(folder: str, n: int) -> int:
    """A step that fails for good."""
    write(folder, "executed", f"refuse-{n}")
    raise FatalError(f"{n} is refused")


@holdfast.agent
async def tally(ctx: Context, folder: str, steps: int, pause_s: float) -> int:
    """`steps` steps, each acknowledged in a file; a checkpoint every ten."""
    await ctx.step(act, folder, -1, 0.0, name="setup")
    write(folder, "acked", "setup #0")
    state = ctx.restore(Done)
    while state.steps < steps:
        n = state.steps
        state.total += await ctx.step(act, folder, n, pause_s)
        write(folder, "acked", f"act {n}")
        if n % 7 == 3:
            try:
                await ctx.step(refuse, folder, n)
            except StepFailed:
                write(folder, "acked", f"refuse {n}")
        state.steps += 1
        ctx.progress(state.steps, steps)
        await ctx.checkpoint(state, force=state.steps % 10 == 0)
    return state.total


@dataclass
class Load:
    folder: str
    word: str
    pause_s: float


async def carry(load: Load) -> str:
    """An effect and some work; the line says which process did it."""
    write(load.folder, "executed", f"{load.word} {os.getpid()}")
    await asyncio.sleep(load.pause_s)
    return load.word


@holdfast.agent
async def fleet(ctx: Context, folder: str, rounds: int, pause_s: float) -> int:
    """Each round a map of eight, four at a time, and a race whose loser leaves a recorded step."""
    write(folder, "attempts", f"{os.getpid()} {ctx.attempt}")
    state = ctx.restore(Done)
    while state.steps < rounds:
        n = state.steps

        def load(word: str, pauses: float, n: int = n) -> Load:
            return Load(folder, f"{n}-{word}", pauses * pause_s)

        async def hare(load: Callable[[str, float], Load] = load) -> str:
            await ctx.step(carry, load("hare1", 2))
            return await ctx.step(carry, load("hare2", 2))

        async def tortoise(load: Callable[[str, float], Load] = load) -> str:
            await ctx.step(carry, load("tortoise1", 1))
            return await ctx.step(carry, load("tortoise2", 10_000))

        for word in await ctx.map(carry, [load(f"m{k}", 1 + k % 3) for k in range(8)], key=_word, limit=4):
            write(folder, "acked", word)
        winner, word = await ctx.race({"hare": hare, "tortoise": tortoise})
        assert (winner, word) == ("hare", f"{n}-hare2")
        write(folder, "acked", word)
        state.steps += 1
        await ctx.checkpoint(state, force=state.steps % 3 == 0)
    return state.steps


def _word(load: Load) -> str:
    return load.word


@holdfast.agent
async def crasher(ctx: Context) -> None:
    """Takes its worker down."""
    os.kill(os.getpid(), 9)


@holdfast.agent
async def blocker(ctx: Context, folder: str, seconds: float) -> str:
    """Blocks the event loop."""
    import time

    await ctx.step(act, folder, 0, 0.0)
    time.sleep(seconds)
    return "done"


@holdfast.agent
async def stubborn(ctx: Context, folder: str) -> None:
    """Swallows everything."""
    await ctx.step(act, folder, 0, 0.0)
    while True:
        try:
            await asyncio.sleep(0.05)
            await ctx.step(act, folder, 1, 0.0, name="never")
        except BaseException:
            pass


def hang() -> None:
    """Never returns."""
    import threading

    threading.Event().wait()


@holdfast.agent
async def hanging(ctx: Context, folder: str) -> str:
    """A sync step that never returns, once."""
    marker = Path(folder) / "hung"
    if not marker.exists():
        marker.touch()
        await ctx.step(hang, timeout=0.3)
    return await ctx.step(_fine, name="hang")


async def _fine() -> str:
    return "fine"


async def pay(folder: str, pause_s: float) -> str:
    """Something that must not happen twice."""
    write(folder, "begun", "pay")
    await asyncio.sleep(pause_s)
    write(folder, "paid", "pay")
    await asyncio.sleep(pause_s)
    return "paid"


@holdfast.agent
async def payer(ctx: Context, folder: str, pause_s: float) -> str:
    """One effect, and a step that shows that the run got past it."""
    paid = await ctx.step(pay, folder, pause_s, effect="once")
    await ctx.step(act, folder, 0, 0.0)
    return paid


async def read_pages(folder: str, pages: int, pause_s: float) -> int:
    """A long step: a line for each page, which is saved before the next begins."""
    page = step_context.cursor(int, 0)
    while page < pages:
        write(folder, "executed", str(page))
        await asyncio.sleep(pause_s)
        page += 1
        await step_context.save(page)
        write(folder, "acked", str(page))
        step_context.emit(f"page {page}\n")
    return page


@holdfast.agent
async def reader(ctx: Context, folder: str, pages: int, pause_s: float) -> int:
    """One step that takes longer than its worker lives."""
    return await ctx.step(read_pages, folder, pages, pause_s)


PACED: Final = RateLimit("paced", "40/s")


async def tell_time(folder: str, n: int) -> int:
    """When it began, by the clock that nobody sets."""
    write(folder, "begun", f"{time.clock_gettime_ns(time.CLOCK_BOOTTIME) // 1000}")
    return n


@holdfast.agent
async def paced(ctx: Context, folder: str, first: int, steps: int) -> int:
    """Steps beside each other, all under one rate that every process shares."""
    return len(
        await ctx.map(tell_time_of(folder), range(first, first + steps), limit=8, name="tell", rate=PACED)
    )


def tell_time_of(folder: str) -> functools.partial[Coroutine[Any, Any, int]]:
    """A step that writes there when it began."""
    return functools.partial(tell_time, folder)


@holdfast.agent(concurrency=Concurrency("narrow", limit=2))
async def narrow(ctx: Context, folder: str, n: int, pause_s: float) -> int:
    """Two of these at once, in however many processes."""
    return await ctx.step(enter_and_leave, folder, n, pause_s)


async def enter_and_leave(folder: str, n: int, pause_s: float) -> int:
    """Be here for a while."""
    write(folder, "narrow", f"in {n} {os.getpid()}")
    await asyncio.sleep(pause_s)
    write(folder, "narrow", f"out {n} {os.getpid()}")
    return n


tenure: ContextVar[int] = ContextVar("tenure")
"""The token of the attempt whose code runs."""


async def errand_step(load: Load) -> str:
    """An effect and some work; the line says in which attempt it was done."""
    write(load.folder, "executed", f"{load.word} {tenure.get()}")
    await asyncio.sleep(load.pause_s)
    if load.word.endswith("bad2"):
        raise FatalError(load.word)
    return load.word


@holdfast.agent
async def errand(ctx: Context, load: Load) -> str:
    """A child of two steps: a "bad" one fails at the second, an "endless" one never comes to it."""
    tenure.set(ctx._port.run.token)
    await ctx.step(errand_step, replace(load, word=f"{load.word}1"))
    if load.word.endswith("endless"):
        await ctx.wait_for("never")
    await ctx.step(errand_step, replace(load, word=f"{load.word}2"))
    return load.word


@dataclass
class Household:
    rounds: int = 0
    words: list[str] = field(default_factory=list)


@holdfast.agent(retry=RetryPolicy(attempts=1))
async def household(ctx: Context, folder: str, rounds: int, pause_s: float, fails: bool) -> list[str]:
    """Each round nine children: one that is started, one that is left, one that ends with its parent, three of a map,
    one that fails, one that wins a race and one that loses it."""
    state = ctx.restore(Household)
    while state.rounds < rounds:
        n = state.rounds

        def load(word: str, n: int = n, pauses: int = 1) -> Load:
            return Load(folder, f"{n}-{word}", pauses * pause_s)

        async def quick(load: Callable[[str], Load] = load) -> str:
            return await ctx.call(errand, load("quick"))

        async def slow(load: Callable[[str], Load] = load, n: int = n) -> str:
            return await ctx.call(errand, load("lost-endless"), id=f"lost-{n}", on_parent_end="leave")

        started = await ctx.start(errand, load("started"))
        await ctx.start(errand, load("left", pauses=20), id=f"left-{n}", on_parent_end="leave")
        await ctx.start(errand, load("endless"), id=f"endless-{n}")
        words = await ctx.map(errand, [load(f"m{k}") for k in range(3)], key=_word)
        try:
            await ctx.call(errand, load("bad"))
        except ChildFailed as failed:
            words.append(failed.failure.cause.message if failed.failure.cause is not None else "")
        words.append((await ctx.race({"quick": quick, "slow": slow}))[1])
        words.append(await started.result())
        for word in words:
            write(folder, "acked", word)
        state.words += words
        state.rounds += 1
        await ctx.checkpoint(state, force=True)
    if fails:
        raise FatalError("the household is dissolved")
    return state.words


@holdfast.agent
async def keeper(ctx: Context, path: str) -> list[str]:
    """Two artifacts, a file and bytes."""
    large = await ctx.artifact("large.bin", path)
    return [large.id, (await ctx.artifact("small.txt", b"small")).id]
