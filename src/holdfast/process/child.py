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
from typing import Any, Final, TypeVar, cast

from holdfast import capture
from holdfast.agents import AnyAgent, agent_at
from holdfast.attempt import Attempt
from holdfast.channel import ChannelPort
from holdfast.clock import Clock, SystemClock
from holdfast.errors import Conflict, HoldfastError, LeaseLost, NotSerializable, ProtocolError
from holdfast.failures import refused
from holdfast.model import (
    Change,
    Committed,
    Content,
    Entry,
    Failed,
    NewChild,
    Signal,
    Standing,
    Turn,
)
from holdfast.process import frames
from holdfast.process.frames import (
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
    Tell,
)
from holdfast.process.wire import Wire
from holdfast.rules.rate import RateLimit

T = TypeVar("T")

TICK_S: Final = 0.05
"""How often what waits is written, as a worker does for its own runs."""
ALIVE_S: Final = 1.0
"""How often the loop says that it turns."""
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
        if self._gone is None:
            self._wire.send(frames.commit(number, change))
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
            self._wire.send(frames.ask(number, what, *args))
        return frames.answer_of(what, await answer)

    def answered(self, frame: Answer | Reply | Refusal) -> None:
        """An answer has come."""
        future, on_unstorable = self._open.pop(frame.id, (None, None))
        if future is None:
            return
        if isinstance(frame, Refusal):
            error = frames.error_of(frame)
            if on_unstorable is not None and isinstance(error, NotSerializable | Conflict):
                on_unstorable()
            _fail(future, error)
        elif not future.done():
            future.set_result(frame.committed if isinstance(frame, Answer) else frame.value)

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
    """What the code of a run finds around it: `find` imports its agent, `on_gone` is called when the worker has gone
    before the end."""

    find: Callable[[Begin], AnyAgent]
    on_gone: Callable[[], None]
    alone: bool = True
    clock: Clock = field(default_factory=SystemClock)
    chance: Callable[[], float] = random.random  # noqa: TID251 - jitter


async def serve(wire: Wire, around: Surroundings) -> None:
    """Execute the attempt that the worker sends, to its end."""
    wire.send(Hello(frames.PROTOCOL))
    begin = await wire.receive(frames.from_worker)
    if begin is None:
        return  # a spare that was not needed
    if not isinstance(begin, Begin) or begin.protocol != frames.PROTOCOL:
        raise ProtocolError("the worker speaks another version of the protocol: restart it with this code")
    try:
        await _Served(wire, begin, around).execute()
        await wire.sent()
    finally:
        wire.close()


class _Served:
    """The attempt, and what the worker says meanwhile."""

    def __init__(self, wire: Wire, begin: Begin, around: Surroundings) -> None:
        self._wire = wire
        self._begin = begin
        self._around = around
        self._channel = SocketChannel(wire)
        self._port = ChannelPort(begin.claim, self._channel, around.clock, alone=around.alone)
        self._attempt: Attempt | None = None

    async def execute(self) -> None:
        """The whole road."""
        beside = [self._beside(self._hear(), "hear"), self._beside(self._tick(), "tick")]
        try:
            agent = self._around.find(self._begin)
        except HoldfastError as error:
            await self._port.settle(Failed(failure=refused(error)), None)
        else:
            self._attempt = Attempt(self._begin.claim, agent, self._port, self._around.chance)
            await self._attempt.execute()
        finally:
            for task in beside:
                task.cancel()

    def _beside(self, work: Coroutine[Any, Any, None], name: str) -> asyncio.Task[None]:
        return asyncio.get_running_loop().create_task(work, name=name)

    async def _tick(self) -> None:
        ticks = 0
        while True:
            if ticks % round(ALIVE_S / TICK_S) == 0:
                self._wire.send(Alive())
            self._port.tick(self._port.now_us())
            ticks += 1
            await asyncio.sleep(TICK_S)

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
                case Tell(note=note):
                    self._port.note(note)
                case _:
                    raise ProtocolError(f"the worker sent {type(frame).__name__} in the middle of an attempt")
        self._channel.gone()
        self._around.on_gone()


# --- the process ------------------------------------------------------------------------------------------------


def main(end: int) -> None:
    """The whole life of the process. `end` is the file descriptor of its end of the socket."""
    _die_with_the_worker()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the worker decides what a Ctrl-C means
    capture.install()
    try:
        asyncio.run(_main(socket.socket(fileno=end)))
    except ProtocolError as error:
        sys.exit(f"holdfast: {error}")


async def _main(end: socket.socket) -> None:
    await serve(await Wire.over(end), Surroundings(find=_find, on_gone=_go_too))


def _find(begin: Begin) -> AnyAgent:
    """Import the code of the agent, as the worker did."""
    origin = begin.origin
    if origin is None:
        raise ProtocolError("the worker did not say where the agent is")
    sys.path[:] = origin.path
    return agent_at(origin.place, origin.agent, origin.version)


def _go_too() -> None:
    """The worker has gone: nothing that this process does can be recorded any more."""
    os.killpg(0, signal.SIGKILL)


def _die_with_the_worker() -> None:
    """A worker that is killed takes its runs along, also those whose code holds the loop. One that died before leaves a
    socket without another end."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
