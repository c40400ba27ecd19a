"""Both ends of the socket: frames in order, whole or not at all.

What was sent before a side went is still received: reading goes on to the very end, whatever becomes of writing. For
that the two have a transport each, over one socket: a write to a side that has gone would close the reading one, too.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable
from typing import Final, TypeVar

from holdfast.process.frames import LENGTH, MAX_FRAME, Frame, length_of, pack

T = TypeVar("T")

MAX_UNSENT: Final = 256 * 1024 * 1024
"""Bytes that may wait for a process that does not read: two of the largest payloads. More is no slowness."""
AHEAD_BYTES: Final = 1024 * 1024
"""Reading pauses when a whole frame is there and so much waits: the rest is left to the socket, and to its sender."""
QUIET_S: Final = 2.0
"""A side that has gone has sent everything; who else holds its end of the socket keeps nobody waiting longer."""


class Wire:
    """One end of the socket between a worker and the process of a run."""

    def __init__(self, incoming: _Incoming, outgoing: _Outgoing, max_frame: int) -> None:
        self._incoming = incoming
        self._outgoing = outgoing
        self._max_frame = max_frame

    @classmethod
    async def over(cls, end: socket.socket, *, max_frame: int = MAX_FRAME) -> Wire:
        """The wire over this end of a socket pair, which it closes in the end. It takes no frame over `max_frame`."""
        loop = asyncio.get_running_loop()
        end.setblocking(False)
        _, outgoing = await loop.create_connection(_Outgoing, sock=end.dup())
        # Only now, and at once: the first Pythons 3.11 begin to read after `connection_made`, paused there or not.
        outgoing.transport.pause_reading()
        _, incoming = await loop.create_connection(_Incoming, sock=end)
        return cls(incoming, outgoing, max_frame)

    @property
    def unsent(self) -> int:
        """How many bytes the other side has not taken yet."""
        return self._outgoing.transport.get_write_buffer_size()

    def send(self, frame: Frame) -> None:
        """Send the frame soon; to a side that has gone, nothing is sent. Raises PayloadTooLarge."""
        packed = pack(frame)
        if not self._outgoing.over.done():
            self._outgoing.transport.write(packed)

    async def receive(self, decode: Callable[[bytes], T]) -> T | None:
        """The next frame; None when the other side has gone. Raises ProtocolError for what is none."""
        incoming = self._incoming
        while True:
            if len(incoming.came) >= LENGTH.size:
                whole = LENGTH.size + length_of(incoming.came, self._max_frame)
                if len(incoming.came) >= whole:
                    return decode(incoming.take(whole)[LENGTH.size :])
            if incoming.over.done():
                return None
            await incoming.more()

    async def sent(self) -> None:
        """Wait until the other side has taken everything, or has gone."""
        await self._outgoing.taken.wait()

    async def finish(self) -> None:
        """The other side has gone: read what it sent, and close when no more comes. It can be received later."""
        while not self._incoming.over.done():
            before = self._incoming.count
            await asyncio.wait([self._incoming.over], timeout=QUIET_S)
            if self._incoming.count == before and not self._incoming.paused:
                break
        self.abort()

    def close(self) -> None:
        """Send what waits, receive nothing more."""
        self._outgoing.transport.close()
        self._incoming.transport.close()

    def abort(self) -> None:
        """Send and receive nothing more."""
        self._outgoing.transport.abort()
        self._incoming.transport.abort()

    async def closed(self) -> None:
        """Wait until nothing of it is left."""
        await asyncio.wait([self._incoming.over, self._outgoing.over])


class _Half(asyncio.Protocol):
    """One direction. `over` ends with it, however that came about."""

    transport: asyncio.Transport

    def __init__(self) -> None:
        self.over: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport

    def connection_lost(self, exc: Exception | None) -> None:
        self.over.set_result(None)


class _Outgoing(_Half):
    """Writes, and never reads. `taken` is set while nothing waits to be written."""

    def __init__(self) -> None:
        super().__init__()
        self.taken = asyncio.Event()
        self.taken.set()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        self.transport.set_write_buffer_limits(high=0)

    def pause_writing(self) -> None:
        self.taken.clear()

    def resume_writing(self) -> None:
        self.taken.set()

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        self.taken.set()


class _Incoming(_Half):
    """Reads, and never writes. `came` is what nobody has taken yet, `count` all that ever came."""

    def __init__(self) -> None:
        super().__init__()
        self.came = bytearray()
        self.count = 0
        self.paused = False
        self._news: asyncio.Future[None] | None = None

    def data_received(self, data: bytes) -> None:
        self.came += data
        self.count += len(data)
        whole = len(self.came) >= LENGTH.size and len(self.came) >= LENGTH.unpack_from(self.came)[0]
        if whole and len(self.came) > AHEAD_BYTES:
            self.paused = True
            self.transport.pause_reading()
        self._tell()

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        self._tell()

    def take(self, size: int) -> bytes:
        """The first bytes, which are there."""
        taken = bytes(memoryview(self.came)[:size])
        del self.came[:size]
        if self.paused and len(self.came) <= AHEAD_BYTES:
            self._go_on()
        return taken

    async def more(self) -> None:
        """Wait until more has come, or nothing more will."""
        if self.paused:  # a frame that is larger than what may wait
            self._go_on()
        self._news = asyncio.get_running_loop().create_future()
        await self._news

    def _go_on(self) -> None:
        self.paused = False
        self.transport.resume_reading()

    def _tell(self) -> None:
        if self._news is not None and not self._news.done():
            self._news.set_result(None)
