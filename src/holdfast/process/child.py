"""The process of a run: it holds the code, and no database. What it records, its worker writes."""

from __future__ import annotations

import asyncio
import ctypes
import os
import random
import signal
import socket
import sys
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, TypeVar, cast

from holdfast import capture
from holdfast.agents import Agent, AnyAgent
from holdfast.attempt import Attempt
from holdfast.channel import ChannelPort
from holdfast.clock import Clock, SystemClock
from holdfast.errors import AgentNotFound, Conflict, HoldfastError, LeaseLost, NotSerializable, ProtocolError
from holdfast.failures import refused
from holdfast.model import (
    Amounts,
    Change,
    Claim,
    Committed,
    Content,
    Crashed,
    Entry,
    NewChild,
    Outcome,
    Reserved,
    Retry,
    Signal,
    Standing,
    Turn,
)
from holdfast.process import frames
from holdfast.process.frames import (
    LENGTH,
    Alive,
    Answer,
    Asked,
    Begin,
    End,
    Hello,
    Pressure,
    Refusal,
    Reply,
    SlowDown,
)
from holdfast.process.wire import Wire
from holdfast.references import agent_at
from holdfast.rules.rate import RateLimit
from holdfast.store_clock import StoreClock

T = TypeVar("T")

TICK_S: Final = 0.05
"""How often what waits is written, as a worker does for its own runs."""
ALIVE_S: Final = 1.0
"""How often the loop says that it turns."""
NO_CODE_REST_S: Final = 10.0
"""A version that is not there any more is looked for again then: a deploy restarts the worker meanwhile."""
_PR_SET_PDEATHSIG: Final = 1


class SocketChannel:
    """The channel of a process: Changes and questions go through the socket, and the answers come back."""

    def __init__(self, wire: Wire) -> None:
        self._wire = wire
        self._numbers = 0
        self._open: dict[int, tuple[asyncio.Future[Any], Callable[[], None] | None]] = {}
        self._gone: LeaseLost | None = None

    def submit(
        self, change: Change, on_unstorable: Callable[[], None] | None = None
    ) -> asyncio.Future[Committed]:
        number, answer = self._next(on_unstorable)
        if self._gone is not None:
            return answer
        try:
            self._wire.send(frames.commit(number, change))
        except NotSerializable as error:
            self._refused(number, error)
        else:
            if change.outcome is not None:  # the last word: recorded when this process has gone
                answer.set_result(Committed(change.position, 0, 0))
        return answer

    def over(self) -> None:
        """The worker knows: it saw the outcome."""

    def _next(self, on_unstorable: Callable[[], None] | None = None) -> tuple[int, asyncio.Future[Any]]:
        self._numbers += 1
        future: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        if self._gone is None:
            self._open[self._numbers] = future, on_unstorable
        else:
            _fail(future, self._gone)
        return self._numbers, future

    async def _ask(self, what: str, *args: object) -> Any:  # noqa: ANN401 - each question says what it is
        number, answer = self._next()
        if self._gone is None:
            try:
                self._wire.send(frames.ask(number, what, *args))
            except NotSerializable as error:
                self._refused(number, error)
        return frames.answer_of(what, await answer)

    def answered(self, frame: Answer | Reply | Refusal) -> None:
        """An answer has come."""
        if isinstance(frame, Refusal):
            self._refused(frame.id, frames.error_of(frame))
            return
        future, _ = self._open.pop(frame.id, (None, None))
        if future is not None and not future.done():
            future.set_result(frame.committed if isinstance(frame, Answer) else frame.value)

    def _refused(self, number: int, error: HoldfastError) -> None:
        future, on_unstorable = self._open.pop(number, (None, None))
        if on_unstorable is not None and isinstance(error, NotSerializable | Conflict):
            on_unstorable()
        if future is not None:
            _fail(future, error)

    def gone(self) -> None:
        """The worker has gone: nothing that was not answered is known to be recorded."""
        self._gone = LeaseLost("the worker has gone")
        for future, _ in self._open.values():
            _fail(future, self._gone)
        self._open.clear()

    # --- questions ------------------------------------------------------------------------------------------

    async def count_once(self) -> int:
        return cast("int", await self._ask("count_once"))

    async def once(self, key: str) -> Entry | None:
        return cast("Entry | None", await self._ask("once", key))

    async def take_turn(self, limit: RateLimit, call: str) -> Turn:
        return cast("Turn", await self._ask("take_turn", limit, call))

    async def reserve(self, call: str, asked: Amounts) -> Reserved:
        return cast("Reserved", await self._ask("reserve", call, asked))

    async def hold_back(self, limit: RateLimit, for_us: int) -> None:
        await self._ask("hold_back", limit, for_us)

    async def held_back(self, limit: RateLimit) -> bool:
        return cast("bool", await self._ask("held_back", limit))

    async def inbox(self) -> tuple[int, list[Signal]]:
        return cast("tuple[int, list[Signal]]", await self._ask("inbox"))

    async def begin_content(self) -> int:
        return cast("int", await self._ask("begin_content"))

    async def add_chunk(self, upload: int, n: int, chunk: bytes) -> None:
        await self._ask("add_chunk", upload, n, chunk)

    async def seal_content(self, upload: int, content_id: str, size_bytes: int) -> Content:
        return cast("Content", await self._ask("seal_content", upload, content_id, size_bytes))

    async def check_child(self, new: NewChild) -> None:
        await self._ask("check_child", new)

    async def child(self, child_id: str) -> Standing | None:
        return cast("Standing | None", await self._ask("child", child_id))


def _fail(future: asyncio.Future[Any], error: HoldfastError) -> None:
    if not future.done():
        future.set_exception(error)
        future.exception()  # read here, so that nobody being there any more is no warning


# --- one attempt ------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Surroundings:
    """What the code of a run finds around it. `on_gone` is called when the worker has gone before the end;
    `workspace` is where the folder of the run is."""

    on_gone: Callable[[], None]
    workspace: Path | None = None
    alone: bool = True
    clock: Clock = field(default_factory=SystemClock)
    chance: Callable[[], float] = random.random  # noqa: TID251 - jitter


async def serve(wire: Wire, claim: Claim, found: AnyAgent | Outcome, around: Surroundings) -> None:
    """Execute the attempt, to its end, with the agent that was found; or say how it ends because none was."""
    try:
        await _Served(wire, claim, around).execute(found)
        await wire.sent()
    finally:
        wire.close()


class _Served:
    """The attempt, and what the worker says meanwhile."""

    def __init__(self, wire: Wire, claim: Claim, around: Surroundings) -> None:
        self._wire = wire
        self._claim = claim
        self._around = around
        self._channel = SocketChannel(wire)
        self._port = ChannelPort(
            claim, self._channel, around.clock, alone=around.alone, workspace=around.workspace
        )
        self._attempt: Attempt | None = None

    async def execute(self, found: AnyAgent | Outcome) -> None:
        """The whole road."""
        beside = [self._beside(self._hear(), "hear"), self._beside(self._tick(), "tick")]
        try:
            if isinstance(found, Agent):
                self._attempt = Attempt(self._claim, found, self._port, self._around.chance)
                await self._attempt.execute()
            else:
                await self._port.settle(found, None)
        finally:
            for task in beside:
                task.cancel()

    def _beside(self, work: Coroutine[Any, Any, None], name: str) -> asyncio.Task[None]:
        task = asyncio.get_running_loop().create_task(work, name=name)
        task.add_done_callback(self._ended)
        return task

    def _ended(self, task: asyncio.Task[None]) -> None:
        """Whoever does not hear the worker, or cannot speak, goes as if it had gone."""
        error = None if task.cancelled() else task.exception()
        if error is not None:
            print(f"holdfast: the process of run {self._claim.run.id} cannot go on: {error}", file=sys.stderr)  # noqa: T201
            self._leave()

    def _leave(self) -> None:
        self._channel.gone()
        self._around.on_gone()

    async def _tick(self) -> None:
        ticks, lag_s, loop = 0, 0.0, asyncio.get_running_loop()
        while True:
            if ticks % round(ALIVE_S / TICK_S) == 0:
                self._wire.send(Alive(round(lag_s, 3)))
                lag_s = 0.0
            self._port.tick(self._port.now_us())
            ticks += 1
            due_s = loop.time() + TICK_S
            await asyncio.sleep(TICK_S)
            lag_s = max(lag_s, loop.time() - due_s)

    async def _hear(self) -> None:
        while (frame := await self._wire.receive(frames.from_worker)) is not None:
            match frame:
                case Answer() | Reply() | Refusal():
                    self._channel.answered(frame)
                case Asked(outcome=outcome):
                    self._port.asked = None if outcome is None else frames.outcome_of(outcome)
                case End(ending=ending):
                    if self._attempt is not None:
                        self._attempt.interrupt(frames.ending_of(ending))
                case SlowDown(pause_s=pause_s):
                    self._port.slow_down_s = pause_s
                case Pressure(level=level):
                    self._port.pressure = level
                case _:
                    raise ProtocolError(f"the worker sent {type(frame).__name__} in the middle of an attempt")
        self._leave()


# --- the process ------------------------------------------------------------------------------------------------


def main(end: int) -> None:
    """The whole life of the process. `end` is the file descriptor of its end of the socket."""
    sock = socket.socket(fileno=end)
    sock.set_inheritable(False)  # what the code starts must not keep it open
    _die_with_the_worker()
    for number in (signal.SIGINT, signal.SIGTERM):  # the worker decides what they mean to its runs
        signal.signal(number, _not_ours)
    capture.install()
    try:
        begin = _begin(sock)
        if begin is not None:  # else a spare that was not needed
            asyncio.run(_main(sock, begin, _find(begin)))
    except ProtocolError as error:
        sys.exit(f"holdfast: {error}")


def _not_ours(signum: int, frame: object) -> None:
    """A handler, for what is ignored is ignored in all that the code starts, too."""


def _begin(sock: socket.socket) -> Begin | None:
    """Say that we are there, and wait for what to do; without an event loop, so that imports find none."""
    sock.sendall(frames.pack(Hello(frames.PROTOCOL)))
    head = _read(sock, LENGTH.size)
    body = _read(sock, frames.length_of(head, frames.MAX_FROM_WORKER)) if head else b""
    if not body:
        return None
    begin = frames.from_worker(body)
    if not isinstance(begin, Begin) or begin.protocol != frames.PROTOCOL:
        raise ProtocolError("the worker speaks another version of the protocol: restart it with this code")
    return begin


def _read(sock: socket.socket, size: int) -> bytes:
    """So many bytes; none when the worker goes before."""
    parts: list[bytes] = []
    while size and (part := sock.recv(min(size, 1 << 20))):
        parts.append(part)
        size -= len(part)
    return b"" if size else b"".join(parts)


async def _main(sock: socket.socket, begin: Begin, found: AnyAgent | Outcome) -> None:
    wire = await Wire.over(sock, max_frame=frames.MAX_FROM_WORKER)
    workspace = None if begin.workspace is None else Path(begin.workspace)
    clock = StoreClock(SystemClock(), begin.ahead_us)
    await serve(wire, begin.claim, found, Surroundings(on_gone=_go_too, workspace=workspace, clock=clock))


def _find(begin: Begin) -> AnyAgent | Outcome:
    """The agent, imported as the worker did. Code that changed on the disk since then fails no run: another version is
    waited for, and an import that goes wrong is a crash."""
    origin = begin.origin
    if origin is None:
        raise ProtocolError("the worker did not say where the agent is")
    sys.path[:] = origin.path
    try:
        return agent_at(origin.place, origin.agent, origin.version)
    except AgentNotFound as error:
        return Retry(failure=refused(error), delay_us=round(NO_CODE_REST_S * 1e6), counted=False)
    except HoldfastError as error:
        return Crashed(failure=refused(error))


def _go_too() -> None:
    """The worker has gone: nothing that this process does can be recorded any more."""
    os.killpg(0, signal.SIGKILL)


def _die_with_the_worker() -> None:
    """A worker that is killed takes the interpreter along, also when the code holds its loop. One that died before has
    left a socket without another end."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
