"""The simulated agents: plays, whose every line leaves a mark that the laws can find again in the store.

A mark is `<tag|n>`: the tag names the line of the play, `n` the one execution that made it. So a second execution,
or another line's outcome, can never pass for the first.
"""

from __future__ import annotations

import asyncio
import random
import re
from collections.abc import Awaitable, Callable
from contextlib import suppress
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Final, Protocol

from holdfast import (
    ChildFailed,
    Context,
    Done,
    Every,
    FatalError,
    NotDone,
    RateLimit,
    RetryPolicy,
    StepFailed,
    TransientError,
    agent,
)
from holdfast.errors import ApprovalExpired, WaitTimedOut
from holdfast.model import Note

MARK: Final = re.compile(r"<([^|<>]+)\|(\d+)>")
UNRECORDED: Final = ("chance", "stumble", "checkpoint")
CHILDREN: Final = ("call", "give up", "two", "brood", "leave")
PACED: Final = RateLimit("paced", "1/1700ms", burst=2)
POLICY: Final = RetryPolicy(attempts=4, base="1s", factor=3.0, cap="30s")


@dataclass
class Line:
    """One line of a play: what to do, under which tag, for how long."""

    kind: str
    tag: str
    seconds: float = 0.0


@dataclass
class Story:
    """The state of a play: the next line, and what was seen so far."""

    at: int = 0
    done: int = 0
    seen: list[str] = field(default_factory=list)


class Stage(Protocol):
    """What the agents see of the simulated world."""

    calm: bool
    chance: random.Random

    def mark(self, tag: str) -> str: ...
    def entered(self, life: Life) -> None: ...
    def started(self, life: Life, tag: str) -> None: ...
    def begun(self, life: Life, tag: str) -> None: ...
    def happened(self, life: Life, tag: str) -> str: ...
    def undone(self, run: str, tag: str) -> None: ...
    def found(self, run: str, tag: str) -> str | None: ...
    def began(self, life: Life, tag: str) -> None: ...
    def saw(self, life: Life, tag: str, what: str) -> None: ...
    def supposed(self, life: Life, tag: str, what: str, *, recorded: str | None = None) -> None: ...
    def awoke(self, life: Life, tag: str) -> None: ...


stage: ContextVar[Stage] = ContextVar("sim_stage")


class Life:
    """One attempt, as its own code sees it."""

    def __init__(self, ctx: Context) -> None:
        self.ctx = ctx
        self.run = ctx.run_id
        self.token = ctx._port.run.token
        self.width = 1  # bodies at a time, at most
        self.key = ctx._port.run.key
        self.supposed: list[tuple[str, str, str | None]] = []


life: ContextVar[Life] = ContextVar("sim_life")


# --- bodies of steps ----------------------------------------------------------------------------------------


async def work(tag: str, seconds: float) -> str:
    """Take some time, then succeed."""
    stage.get().started(life.get(), tag)
    await asyncio.sleep(seconds * (0.5 + stage.get().chance.random()))
    return stage.get().mark(tag)


async def work_or_fail(tag: str, seconds: float, odds: float) -> str:
    """Take some time, then succeed or fail."""
    result = await work(tag, seconds)
    if not stage.get().calm and stage.get().chance.random() < odds:
        raise TransientError(result)
    return result


async def act_once(tag: str, seconds: float, odds: float) -> str:
    """Something that must not happen twice: it happens in the middle, unless the body fails before."""
    scene, me = stage.get(), life.get()
    scene.started(me, tag)
    scene.begun(me, tag)
    await asyncio.sleep(seconds * scene.chance.random())
    if not scene.calm and scene.chance.random() < odds:
        scene.undone(me.run, tag)
        raise TransientError("nothing was done")
    what = scene.happened(me, tag)
    await asyncio.sleep(seconds * scene.chance.random())
    return what


async def look_for(tag: str, seconds: float, odds: float) -> Done[str] | NotDone:
    """Whether it happened; now and then nobody answers."""
    await asyncio.sleep(seconds * stage.get().chance.random())
    if not stage.get().calm and stage.get().chance.random() < odds:
        raise TransientError("no answer")
    what = stage.get().found(life.get().run, tag)
    return Done(what) if what is not None else NotDone()


async def work_in_turn(tag: str, seconds: float) -> str:
    """Work under a rate; now and then the server asks everybody to wait."""
    stage.get().began(life.get(), tag)
    result = await work(tag, seconds)
    if not stage.get().calm and stage.get().chance.random() < 0.2:
        raise TransientError(result, retry_after_s=7.0)
    return result


async def refuse(tag: str, seconds: float) -> str:
    """Take some time, then fail for good."""
    raise FatalError(await work(tag, seconds))


@dataclass
class Part:
    """What one branch of a group does."""

    tag: str
    seconds: float


async def work_part(part: Part) -> str:
    """Take some time, then succeed."""
    return await work(part.tag, part.seconds)


async def work_part_or_refuse(part: Part) -> str:
    """Take some time, then succeed or fail for good."""
    result = await work(part.tag, part.seconds)
    if not stage.get().calm and stage.get().chance.random() < 0.3:
        raise FatalError(result)
    return result


# --- the agents ---------------------------------------------------------------------------------------------


@agent(name="play", retry=POLICY, checkpoint=Every("60s", steps=4), keep=3)
async def play(ctx: Context, setup: list[Line], plan: list[Line]) -> list[str]:
    """Perform the setup, then the plan from where the newest checkpoint left it."""
    return await _perform_all(ctx, setup, plan)


@agent(name="hurried", retry=POLICY, deadline="8m", checkpoint=Every(None, steps=1000), queue="narrow")
async def hurried(ctx: Context, setup: list[Line], plan: list[Line]) -> list[str]:
    """The same with a deadline, and saved only when it must be."""
    return await _perform_all(ctx, setup, plan)


@agent(name="errand", retry=RetryPolicy(attempts=2, base="1s"))
async def errand(ctx: Context, kind: str, tag: str, seconds: float) -> str:
    """What a play has others do."""
    me = Life(ctx)
    life.set(me)
    stage.get().entered(me)
    if kind == "long":
        with suppress(WaitTimedOut):
            await ctx.wait_for("never", timeout="10m")
    what = await ctx.step(work_or_fail, tag, seconds, 0.3)
    if kind == "deep":
        return await ctx.call(errand, "plain", f"{tag} below", seconds)
    return what


AGENTS: Final = (play, hurried, errand)


async def _perform_all(ctx: Context, setup: list[Line], plan: list[Line]) -> list[str]:
    me = Life(ctx)
    life.set(me)
    stage.get().entered(me)
    seen = [await _perform(ctx, me, line) for line in setup]
    story = ctx.restore(Story, default=Story(seen=seen))
    while story.at < len(plan):
        line = plan[story.at]
        story.at += 1
        if line.kind == "checkpoint":
            await ctx.checkpoint(story, force=line.seconds > 1, name=line.tag if line.seconds > 2 else None)
            continue
        story.seen.append(await _perform(ctx, me, line))
        story.done += line.kind not in UNRECORDED
        ctx.progress(story.done, None, line.tag)
    return story.seen


async def _perform(ctx: Context, me: Life, line: Line) -> str:
    scene, tag = stage.get(), line.tag
    match line.kind:
        case "step":
            what = await ctx.step(work, tag, line.seconds)
        case "named":
            what = await ctx.step(work, tag, line.seconds, name=tag, key="k", timeout="10m")
        case "effect":
            what = await ctx.step(act_once, tag, line.seconds, 0.1, effect="once", name=tag)
        case "verified":
            what = await ctx.step(act_once, tag, line.seconds, 0.1, effect="once", verify=look_for, name=tag)
        case "paced":
            what = await ctx.step(work_in_turn, tag, line.seconds, name=tag, rate=PACED)
        case "once":
            what = await ctx.once(tag, work, tag, line.seconds)
        case "flaky" | "fatal":
            return await _handled(ctx, me, line)
        case "fragile":
            what = await ctx.step(work_or_fail, tag, line.seconds, 0.8)
        case "hasty":
            return await _hasty(ctx, me, line)
        case "sleep":
            await ctx.sleep(line.seconds, key=tag)
            scene.awoke(me, tag)
            return f"slept {tag}"
        case "signal":
            what = await ctx.wait_for("news", str)
        case "impatient":
            return await _impatient(ctx, me, line)
        case "map" | "map with failures" | "hasty map" | "race" | "branches":
            return await perform_group(ctx, me, line)
        case "approval":
            answer = await ctx.approval(
                f"{tag}?", ["yes", "no"], key=tag, escalate="20s", context={"at": tag}
            )
            what = answer.comment
        case "brief":
            return await _brief(ctx, me, line)
        case kind if kind in CHILDREN:
            return await _family(ctx, me, line)
        case "chance":
            what = f"{ctx.uuid()} {ctx.random.random()} {ctx.now().isoformat()}"
            scene.supposed(me, tag, what)
            return what
        case "stumble":
            if not scene.calm and scene.chance.random() < 0.4:
                raise TransientError(f"stumbled at {tag}")
            return f"stood {tag}"
        case other:
            raise FatalError(f"no such line: {other}")
    ctx._port.note(Note("log", f'{{"message":"{scene.mark("log")}"}}'.encode()))
    scene.saw(me, tag, what)
    return what


async def _handled(ctx: Context, me: Life, line: Line) -> str:
    """A step whose failure the agent handles, with one that undoes it."""
    try:
        if line.kind == "fatal":
            what = await ctx.step(refuse, line.tag, line.seconds)
        else:
            what = await ctx.step(work_or_fail, line.tag, line.seconds, 0.5)
    except StepFailed as error:
        what = _marks(error)
        stage.get().saw(me, line.tag, what)
        undone = await ctx.step(work, f"{line.tag} undo", 1.0)
        stage.get().saw(me, f"{line.tag} undo", undone)
        return f"{what} {undone}"
    stage.get().saw(me, line.tag, what)
    return what


async def _family(ctx: Context, me: Life, line: Line) -> str:
    """Have others do it: wait for them, give them up, or leave them to themselves."""
    tag, seconds = line.tag, line.seconds
    if line.kind == "brood":
        return f"began {(await ctx.start(errand, 'long', f'{tag} long', seconds)).id}"
    if line.kind == "leave":
        left = await ctx.start(errand, "deep", f"{tag} left", seconds, on_parent_end="leave")
        return f"left {left.id}"
    if line.kind == "two":
        first = await ctx.start(errand, "plain", f"{tag} first", seconds)
        second = await ctx.start(errand, "deep", f"{tag} second", seconds)
        return " ".join([await _outcome(me, tag, each.result()) for each in (second, first)])
    if line.kind == "call":
        return await _outcome(me, tag, ctx.call(errand, "deep", tag, seconds))
    try:
        async with asyncio.timeout(seconds), ctx.branch(tag):
            what = await ctx.call(errand, "long", tag, seconds)
    except TimeoutError:
        return f"gave up {tag}"
    except ChildFailed:
        return f"lost {tag}"
    return f"had {what}"


async def _outcome(me: Life, tag: str, call: Awaitable[str]) -> str:
    try:
        what = await call
    except ChildFailed as error:
        if error.kind == "cancelled":
            return "cancelled"
        return _marks(error)
    stage.get().saw(me, f"{tag} {what.split('|')[0]}", what)
    return what


def _marks(error: StepFailed) -> str:
    """The mark in a failure, wherever it is in the chain of causes."""
    failure = error.failure
    while failure.cause is not None:
        failure = failure.cause
    found = MARK.search(failure.message)
    assert found is not None or isinstance(error, ChildFailed), failure
    return found.group() if found is not None else "failed"


async def _hasty(ctx: Context, me: Life, line: Line) -> str:
    """A step that the agent gives up when it takes too long."""
    try:
        async with asyncio.timeout(line.seconds):
            what = await ctx.step(work, line.tag, line.seconds, name=line.tag)
    except TimeoutError:
        stage.get().supposed(me, line.tag, "given up", recorded="abandoned")
        return f"gave up {line.tag}"
    stage.get().saw(me, line.tag, what)
    return what


async def _brief(ctx: Context, me: Life, line: Line) -> str:
    """A question that expires."""
    try:
        answer = await ctx.approval(f"{line.tag}?", ["yes", "no"], key=line.tag, expires=line.seconds + 1)
    except ApprovalExpired:
        stage.get().supposed(me, line.tag, "no answer", recorded="failed")
        return f"no answer {line.tag}"
    stage.get().saw(me, line.tag, answer.comment)
    return answer.comment


async def _impatient(ctx: Context, me: Life, line: Line) -> str:
    """A wait with a time-out."""
    try:
        what = await ctx.wait_for("news", str, timeout=line.seconds, key=line.tag)
    except WaitTimedOut:
        stage.get().supposed(me, line.tag, "no news", recorded="failed")
        return f"no news {line.tag}"
    stage.get().saw(me, line.tag, what)
    return what


# --- groups ---------------------------------------------------------------------------------------------------


async def perform_group(ctx: Context, me: Life, line: Line) -> str:
    """A line whose parts are done beside each other. The tag of a part is the line's, and its key after an @."""
    count = 2 + len(line.tag) % 3
    parts = [Part(f"{line.tag}@{number}", line.seconds * (0.5 + number % 2)) for number in range(count)]
    me.width = max(me.width, 2 * count)
    match line.kind:
        case "map":
            return _seen_in_order(
                me, parts, await ctx.map(work_part, parts, key=_tag, limit=2, name=line.tag)
            )
        case "map with failures":
            results = await ctx.map(work_part_or_refuse, parts, key=_tag, return_failures=True, name=line.tag)
            told = [_marks(one) if isinstance(one, StepFailed) else one for one in results]
            return _seen_in_order(me, parts, told)
        case "hasty map":
            return await _hasty_map(ctx, me, line, parts)
        case "race":
            return await _race(ctx, me, line, parts)
        case _:
            return await _branches(ctx, me, parts)


def _tag(part: Part) -> str:
    return part.tag


def _seen_in_order(me: Life, parts: list[Part], results: list[str]) -> str:
    assert len(results) == len(parts)
    for part, result in zip(parts, results, strict=True):
        stage.get().saw(me, part.tag, result)
    return " ".join(results)


async def _hasty_map(ctx: Context, me: Life, line: Line, parts: list[Part]) -> str:
    """A map that the agent gives up when it takes too long."""
    try:
        async with asyncio.timeout(1.5 * line.seconds):
            results = await ctx.map(work_part, parts, key=_tag, limit=2, name=line.tag)
    except TimeoutError:
        stage.get().supposed(me, f"map {line.tag}", "given up", recorded="abandoned")
        return f"gave up {line.tag}"
    return _seen_in_order(me, parts, results)


async def _race(ctx: Context, me: Life, line: Line, parts: list[Part]) -> str:
    """Two steps a body: those of the losers are recorded, and answer nothing once the race is decided. Any but the
    first may fail, and is out then."""

    def body(part: Part) -> Callable[[], Awaitable[str]]:
        last = work_part if part is parts[0] else work_part_or_refuse

        async def run() -> str:
            first = await ctx.step(work_part, Part(f"{part.tag} first", part.seconds / 2))
            stage.get().saw(me, f"{part.tag} first", first)
            return await ctx.step(last, part)

        return run

    winner, result = await ctx.race({part.tag: body(part) for part in parts}, name=line.tag)
    stage.get().saw(me, f"{line.tag} winner", result)
    assert result.startswith(f"<{winner}|"), (winner, result)
    return result


async def _branches(ctx: Context, me: Life, parts: list[Part]) -> str:
    """One branch waits for a signal, one sleeps, and all work."""
    found: dict[str, str] = {}

    async def inside(number: int, part: Part) -> None:
        async with ctx.branch(part.tag):
            first = await ctx.step(work_part, Part(f"{part.tag} first", part.seconds))
            stage.get().saw(me, f"{part.tag} first", first)
            if number == 0:
                await _impatient(ctx, me, Line("impatient", f"{part.tag} wait", part.seconds))
            elif number == 1:
                await ctx.sleep(part.seconds, key=f"{part.tag} sleep")
                stage.get().awoke(me, f"{part.tag} sleep")
            found[part.tag] = await ctx.step(work_part, part)

    async with asyncio.TaskGroup() as tasks:
        for number, part in enumerate(parts):
            tasks.create_task(inside(number, part))
    return _seen_in_order(me, parts, [found[part.tag] for part in parts])
