"""Concurrency inside a run: a map over items, a race, and branches that the code opens itself.

Laws:
1. Every branch has a scope of its own, named by its key, so that the order of finishing changes no identity.
2. Recorded branches are entered first, in the order of their outcomes, and take no slot of a limit.
3. A group that is left leaves no branch running, and the entries of one left by an exception count as answered.
4. A group that the code cancels, and a race that is decided, is an entry of its parent: it is not entered again.
5. What the branches that lose a race wait for of children is cancelled in the transaction of the winner's entry.
"""

from __future__ import annotations

import asyncio
from collections.abc import (
    AsyncGenerator,
    Awaitable,
    Callable,
    Coroutine,
    Iterable,
    Iterator,
    Mapping,
    Sequence,
)
from contextlib import asynccontextmanager
from typing import Any, Final, Generic, TypeVar, cast

import msgspec

from holdfast import codec
from holdfast.branches import Branches, outer_scope
from holdfast.codec import Shape
from holdfast.errors import StepFailed, UsageError, WaitTimedOut
from holdfast.model import EntryKind, EntryStatus
from holdfast.opened import OpenCall
from holdfast.recording import Recording, current_scope

R = TypeVar("R")

DEFAULT_LIMIT: Final = 16
"""Items of a map at a time, unless it says: enough to hide the latency of calls, few enough to offend no rate limit."""

ARRIVAL_S: Final = 0.1
"""Far longer than a cancellation takes to arrive in groups within groups. Until then nobody inside may think that the
run stands still: it waits for what is given up already."""

_WINNER: Final = "the winner of a race"


class _Winner(msgspec.Struct):
    """What a decided race records."""

    branch: str
    result: msgspec.Raw


def path_of(call: OpenCall) -> str:
    """The path of the group that a call opens, unique in the run."""
    identity = call.identity
    which = str(identity.occurrence) if identity.key is None else f"={escaped(identity.key)}"
    return f"{identity.scope}/{escaped(identity.name)}.{identity.segment}.{which}".lstrip("/")


def escaped(key: str) -> str:
    """A key as a part of a path."""
    return key.replace("%", "%25").replace("/", "%2F")


def keys_of(items: Sequence[Any], key: Callable[[Any], object] | None) -> list[str]:
    """The key of each item: what `key` says of it, or its number. Raises UsageError when two are equal."""
    keys = [str(number) if key is None else str(key(item)) for number, item in enumerate(items)]
    seen: set[str] = set()
    for each in keys:
        if each in seen:
            raise UsageError(
                f"ctx.map has two items with the key {each!r}: keys tell the items apart on a resume, make them "
                "distinct"
            )
        seen.add(each)
    return keys


class Crew:
    """The tasks of one group: none outlives it.

    A branch that is over moves the code around it, however long that takes to hear of it and to record what it makes
    of it: until then nobody may think that the run stands still.
    """

    def __init__(self, branches: Branches) -> None:
        self._branches = branches
        self._tasks: list[asyncio.Task[Any]] = []
        self._unheard = 0

    def over(self) -> None:
        """A branch is over, and the code around it goes on for that."""
        self._unheard += 1
        self._branches.in_flight += 1

    def heard(self, count: int = 1) -> None:
        """The code around the branches waits for the others again, or is done with the group."""
        self._unheard -= count
        self._branches.in_flight -= count
        self._branches.tell()

    def begin(self, coroutine: Coroutine[Any, Any, R], name: str) -> asyncio.Task[R]:
        """Run the coroutine in a task of the group."""
        task = asyncio.get_running_loop().create_task(coroutine, name=name)
        self._tasks.append(task)
        return task

    async def all(self) -> None:
        """Wait until every task has ended, or the first raised; raise what it raised."""
        while running := self._running():
            done, _ = await asyncio.wait(running, return_when=asyncio.FIRST_EXCEPTION)
            raise_first(done)

    async def dismiss(self) -> bool:
        """Cancel what still runs and wait for its end; whether somebody cancelled us meanwhile.

        A branch that then tidies up is waited for as any other: what it calls may be paused, drained or unloaded.
        """
        cancelled = arrived = False
        running = self._cancel()
        while running:
            try:
                if arrived:
                    await asyncio.wait(running, return_when=asyncio.FIRST_COMPLETED)
                else:
                    await asyncio.wait(running, timeout=ARRIVAL_S)
            except asyncio.CancelledError:
                cancelled, arrived = True, False
                running = self._cancel()
            else:
                arrived = True
                self.heard(self._unheard)
                running = self._running()
        for task in self._tasks:
            if not task.cancelled():
                task.exception()  # read here: the group raises one of them
        self.heard(self._unheard)
        return cancelled

    def _running(self) -> set[asyncio.Task[Any]]:
        return {task for task in self._tasks if not task.done()}

    def _cancel(self) -> set[asyncio.Task[Any]]:
        running = self._running()
        for task in running:
            task.cancel()
        return running


def raise_first(done: Iterable[asyncio.Task[Any]]) -> None:
    """Raise what the tasks raised, if any did: of several failures the one that was recorded first."""
    errors = [asyncio.CancelledError() if task.cancelled() else task.exception() for task in done]
    raised = [error for error in errors if error is not None]
    if raised:
        raise min(raised, key=lambda error: error.entry if isinstance(error, StepFailed) else 0)


class Groups:
    """What `ctx.map`, `ctx.race` and `ctx.branch` do."""

    __slots__ = ("_recording",)

    def __init__(self, recording: Recording) -> None:
        self._recording = recording

    def open(self, name: str, key: str | None) -> OpenCall:
        """Take the identity of a map or a race, and open it."""
        call = self._recording.begin(EntryKind.GROUP, name, key, b"")
        call.group = path_of(call)
        return call

    async def map(
        self,
        call: OpenCall,
        keys: Sequence[str],
        body: Callable[[int], Awaitable[R]],
        limit: int,
        return_failures: bool,
        calls: int = 1,
    ) -> list[R | StepFailed]:
        """Do `body` for each item's number in a branch of its own, `limit` at a time; the results in their order.

        The first failure ends the others and is raised, unless failures are results. `calls` is how many outcomes an
        item records: one that has fewer goes on where it was, and takes a slot.
        """
        recording = self._recording
        with call:
            group, crew = path_of(call), Crew(recording.branches)
            if recording.scopes.decided(call.identity):  # it was cancelled: it waits to be cancelled again
                recording.scopes.spend(group)
                await recording.answered(call)
            work = _Map(recording, crew, call, keys, body, return_failures, calls)
            async with self._group(call, group, crew):
                await work.replay()
                await work.execute(limit)
                recording.scopes.leave_group(group)
            return work.results

    async def race(
        self, call: OpenCall, bodies: Mapping[str, Callable[[], Awaitable[R]]], shapes: Mapping[str, Shape]
    ) -> tuple[str, R]:
        """Run the bodies, each in a branch: the key and the result of the first that returns; the others are
        cancelled. A body whose step fails is out of the race; when all are, the failure recorded last is raised."""
        recording = self._recording
        with call:
            group, crew = path_of(call), Crew(recording.branches)
            if recording.scopes.decided(call.identity):
                recording.scopes.spend(group)
                entry = await recording.answered(call)
                assert entry is not None, "it is held"
            else:
                async with self._group(call, group, crew):
                    branch, result = await self._first(crew, group, bodies, shapes)
                    winner = msgspec.json.encode(_Winner(branch, msgspec.Raw(result)))
                    lost = recording.scopes.lost(group)
                    entry = await recording.record(call, EntryStatus.OK, winner, beside=lost)
                recording.scopes.spend(group)
            recording.deliver(call)
            won = cast("_Winner", codec.decode(entry.payload, _Winner, what=_WINNER))
            return won.branch, cast("R", shapes[won.branch].decode(bytes(won.result)))

    @asynccontextmanager
    async def branch(self, key: str) -> AsyncGenerator[None, None]:
        """A scope for what the code inside calls; its key is unique among its siblings until the next checkpoint."""
        recording = self._recording
        recording.nothing_open(f"branch {key!r}")
        identity = recording.identify(EntryKind.GROUP, "branch", key).identity
        scope = f"{identity.scope}/branch.{identity.segment}/{escaped(key)}".lstrip("/")
        token = current_scope.set(scope)
        recording.scopes.enter_branch(scope, identity.scope)
        try:
            yield
            recording.leave_branch(scope)
        except BaseException:
            recording.scopes.spend(scope)
            raise
        finally:
            current_scope.reset(token)

    @asynccontextmanager
    async def _group(self, call: OpenCall, group: str, crew: Crew) -> AsyncGenerator[None, None]:
        """However the group is left, its tasks end first."""
        recording = self._recording
        try:
            yield
        except BaseException as error:
            cancelled = await crew.dismiss() or isinstance(error, asyncio.CancelledError)
            recording.end.check()
            recording.scopes.spend(group)
            if cancelled:
                marked = call.entry is not None and isinstance(error, asyncio.CancelledError)
                if not marked:  # cancelled as its outcome was recorded: that went unseen
                    recording.abandon(call)
                raise asyncio.CancelledError from error
            raise
        if await crew.dismiss():
            recording.end.check()
            recording.unseen(call)
            raise asyncio.CancelledError

    async def _first(
        self,
        crew: Crew,
        group: str,
        bodies: Mapping[str, Callable[[], Awaitable[R]]],
        shapes: Mapping[str, Shape],
    ) -> tuple[str, bytes]:
        recording = self._recording
        recording.scopes.enter_group(group, map(escaped, bodies))
        running = {
            crew.begin(self._in_branch(crew, group, escaped(key), body), f"{group}/{key}"): key
            for key, body in bodies.items()
        }
        out: list[StepFailed | WaitTimedOut] = []
        while running:
            done, _ = await asyncio.wait(running, return_when=asyncio.FIRST_COMPLETED)
            for task in [task for task in running if task in done]:
                key = running.pop(task)
                error = None if task.cancelled() else task.exception()
                if isinstance(error, StepFailed | WaitTimedOut):
                    out.append(error)
                    crew.heard()
                    continue
                return key, shapes[key].recode(task.result())[0]
        raise max(out, key=lambda failed: failed.entry)

    async def _in_branch(self, crew: Crew, group: str, key: str, body: Callable[[], Awaitable[R]]) -> R:
        scope = f"{group}/{key}"
        current_scope.set(scope)  # of this task alone
        self._recording.scopes.enter_branch(scope, outer_scope(scope))
        try:
            result = await body()
            self._recording.leave_branch(scope, group)
        except BaseException:
            self._recording.scopes.spend(scope)
            raise
        finally:
            crew.over()
        return result


class _Map(Generic[R]):
    """The items of one map: what is recorded of them, and what is left to do."""

    def __init__(
        self,
        recording: Recording,
        crew: Crew,
        call: OpenCall,
        keys: Sequence[str],
        body: Callable[[int], Awaitable[R]],
        return_failures: bool,
        calls: int,
    ) -> None:
        group = path_of(call)
        self.results = cast("list[R | StepFailed]", [None] * len(keys))
        self._recording = recording
        self._crew = crew
        self._group, self._outer = group, call.identity.scope
        self._body = body
        self._return_failures = return_failures
        self._calls = calls
        self._numbers = {f"{group}/{escaped(key)}": number for number, key in enumerate(keys)}

    async def replay(self) -> None:
        """Enter the recorded branches, in the order of their outcomes, before anything new is done."""
        scopes = self._recording.scopes
        branches = (scope.removeprefix(f"{self._group}/") for scope in self._numbers)
        begun: dict[str, int] = {}
        for scope in scopes.enter_group(self._group, branches):
            if scopes.unknown(scope):
                continue
            number = self._numbers.pop(scope)
            if scopes.waits_for_cancel(scope):
                self._crew.begin(self._work(iter([(scope, number)])), scope)
            elif scopes.recorded(scope) < self._calls:
                begun[scope] = number
            else:
                around = current_scope.get()
                try:
                    await self._work(iter([(scope, number)]))
                finally:
                    current_scope.set(around)
        self._numbers = begun | self._numbers

    async def execute(self, limit: int) -> None:
        """Do the rest, `limit` at a time."""
        left = iter(self._numbers.items())
        for number in range(min(limit, len(self._numbers))):
            self._crew.begin(self._work(left), f"{self._group} {number}")
        await self._crew.all()

    async def _work(self, items: Iterator[tuple[str, int]]) -> None:
        """Do one item after the other, each in its branch. The task is left in the scope of the last."""
        scopes, body = self._recording.scopes, self._body
        for scope, number in items:
            current_scope.set(scope)
            scopes.enter_branch(scope, self._outer)
            try:
                try:
                    self.results[number] = await body(number)
                except StepFailed as failed:
                    if not self._return_failures:
                        raise
                    self.results[number] = failed
                scopes.leave_branch(scope, self._group)
            except BaseException:
                self._recording.branches.close(scope)
                self._crew.over()
                raise
