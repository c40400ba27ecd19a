"""The door of a run for the program that it executes: a socket, at which it asks for steps and tells its progress.

Laws:
1. A step of a program is a `ctx.once`: what is answered as recorded is durable, and is never executed again.
2. Of one name one visitor executes at a time; who comes meanwhile waits, and gets what was recorded.
3. The body of the `ctx.once` waits for a success: a visitor that fails, or dies, leaves it open for the next.
"""

from __future__ import annotations

import asyncio
import os
import shlex
import shutil
from contextlib import suppress
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self, cast

import msgspec

from holdfast.commands.words import MAX_LINE, MAX_OUTPUT
from holdfast.context import Context
from holdfast.errors import HoldfastError, ProtocolError, Unwind, UsageError
from holdfast.throttle import scratch


@dataclass(frozen=True, slots=True)
class Recorded:
    """What is kept of a step: the command line that was executed, and what it wrote to stdout."""

    argv: list[str]
    stdout: bytes


class _Message(msgspec.Struct):
    """What a visitor says: the fields of `words`."""

    step: str | None = None
    argv: list[str] = []
    code: int | None = None
    bytes: int = 0
    progress: tuple[float, float | None, str] | None = None


class _Visitor:
    """One connection."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    async def hear(self) -> _Message | None:
        """The next message; None when the visitor has gone."""
        try:
            line = await self._reader.readuntil(b"\n")
        except asyncio.IncompleteReadError:
            return None
        except asyncio.LimitOverrunError as error:
            raise ProtocolError(f"a message is longer than {MAX_LINE} bytes") from error
        try:
            return msgspec.json.decode(line, type=_Message)
        except msgspec.DecodeError as error:
            raise ProtocolError(f"that is no message to a run: {error}: {line[:80]!r}") from error

    async def output(self, size: int) -> bytes:
        """So many bytes."""
        if not 0 <= size <= MAX_OUTPUT:
            raise ProtocolError(f"an output of {size} bytes, over {MAX_OUTPUT}")
        return await self._reader.readexactly(size)

    async def say(self, what: dict[str, object], output: bytes = b"") -> None:
        """Answer."""
        self._writer.write(msgspec.json.encode(what) + b"\n" + output)
        await self._writer.drain()


class _Step:
    """A step that is not recorded yet, as far as this attempt knows."""

    def __init__(self, ctx: Context, name: str) -> None:
        self.turn = asyncio.Lock()
        self.visitors = 0
        self._success: asyncio.Future[Recorded] = asyncio.get_running_loop().create_future()
        self._executes: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._call = asyncio.get_running_loop().create_task(ctx.once(name, self._body), name=f"step {name}")

    async def _body(self) -> Recorded:
        self._executes.set_result(None)
        return await self._success

    @property
    def over(self) -> bool:
        return self._call.done()

    async def recorded(self) -> Recorded | None:
        """What is recorded; None when it is to be executed."""
        either: list[asyncio.Future[Any]] = [self._call, self._executes]
        await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
        return await asyncio.shield(self._call) if self._call.done() else None

    async def record(self, success: Recorded) -> None:
        """Make it durable."""
        self._success.set_result(success)
        await asyncio.shield(self._call)

    def leave(self) -> None:
        self._call.cancel()


class Door:
    """`async with Door(ctx) as door:` a program that is given `door.path` may ask."""

    def __init__(self, ctx: Context) -> None:
        self._ctx = ctx
        self._steps: dict[str, _Step] = {}
        self._visits: set[asyncio.Task[Any]] = set()
        self._server: asyncio.Server | None = None
        self.folder = ""

    @property
    def path(self) -> str:
        """Where the socket is. A path of a socket has at most about 100 bytes, so it is not in the store's folder."""
        return os.path.join(self.folder, "run")

    async def __aenter__(self) -> Self:
        self.folder = scratch.make("door")
        try:
            self._server = await self._listen()
        except OSError:  # a long TMPDIR
            shutil.rmtree(self.folder, ignore_errors=True)
            self.folder = scratch.make("door", "/tmp")  # noqa: S108 - made by mkdtemp
            self._server = await self._listen()
        os.chmod(self.path, 0o600)
        return self

    async def _listen(self) -> asyncio.Server:
        return await asyncio.start_unix_server(self._visit, self.path, limit=MAX_LINE)

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._server is not None
        self._server.close()
        for task in self._visits:
            task.cancel()
        for step in self._steps.values():
            step.leave()
        shutil.rmtree(self.folder, ignore_errors=True)

    async def _visit(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = cast("asyncio.Task[Any]", asyncio.current_task())
        self._visits.add(task)
        visitor = _Visitor(reader, writer)
        try:
            while (message := await visitor.hear()) is not None:
                await self._answer(visitor, message)
        except (ConnectionError, asyncio.IncompleteReadError, Unwind):
            pass  # the visitor has gone, or the attempt ends
        except HoldfastError as error:
            with suppress(ConnectionError):
                await visitor.say({"error": str(error)})
        finally:
            self._visits.discard(task)
            writer.close()

    async def _answer(self, visitor: _Visitor, message: _Message) -> None:
        if message.progress is not None:
            self._ctx.progress(*message.progress)
            await visitor.say({"do": "noted"})
        elif message.step is not None:
            await self._step(visitor, message.step, message.argv)
        else:
            raise ProtocolError("a message to a run has a `step` or a `progress`")

    async def _step(self, visitor: _Visitor, name: str, argv: list[str]) -> None:
        step = self._steps.get(name)
        if step is None:
            step = self._steps[name] = _Step(self._ctx, name)
        step.visitors += 1
        try:
            async with step.turn:
                await self._in_turn(visitor, step, argv)
        finally:
            step.visitors -= 1
            if step.over and not step.visitors:  # it is found in the store from now on, not in memory
                self._steps.pop(name, None)

    async def _in_turn(self, visitor: _Visitor, step: _Step, argv: list[str]) -> None:
        recorded = await step.recorded()
        if recorded is not None:
            _check(recorded.argv, argv)
            await visitor.say({"do": "recorded", "bytes": len(recorded.stdout)}, recorded.stdout)
            return
        await visitor.say({"do": "execute"})
        result = await visitor.hear()
        if result is None:
            return
        if result.code != 0:
            await visitor.say({"do": "noted"})
            return
        await step.record(Recorded(argv, await visitor.output(result.bytes)))
        await visitor.say({"do": "recorded"})


def _check(recorded: list[str], argv: list[str]) -> None:
    if recorded != argv:
        raise UsageError(
            f"it is recorded with another command line: `{shlex.join(recorded)}` then, "
            f"`{shlex.join(argv)}` now; give what is new a name of its own"
        )
