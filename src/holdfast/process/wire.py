"""Both ends of the socket: frames in order, whole or not at all."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable
from typing import Final, TypeVar

from holdfast.process.frames import LENGTH, Frame, length_of, pack

T = TypeVar("T")

MAX_UNSENT: Final = 256 * 1024 * 1024
"""Bytes that may wait for a process that does not read: two frames of the largest kind. More is no slowness."""


class Wire:
    """One end of the socket between a worker and the process of a run."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    @classmethod
    async def over(cls, end: socket.socket) -> Wire:
        """The wire over this end of a socket pair, which it closes in the end."""
        return cls(*await asyncio.open_connection(sock=end))

    @property
    def unsent(self) -> int:
        """How many bytes the other side has not taken yet."""
        return self._writer.transport.get_write_buffer_size()

    def send(self, frame: Frame) -> None:
        """Send the frame soon; to a side that has gone, nothing is sent."""
        if not self._writer.is_closing():
            self._writer.write(pack(frame))

    async def receive(self, decode: Callable[[bytes], T]) -> T | None:
        """The next frame; None when the other side has gone. Raises ProtocolError for what is none."""
        try:
            head = await self._reader.readexactly(LENGTH.size)
            return decode(await self._reader.readexactly(length_of(head)))
        except (asyncio.IncompleteReadError, ConnectionError):
            return None

    async def sent(self) -> None:
        """Wait until the other side has taken everything, or has gone."""
        try:
            while self.unsent and not self._writer.is_closing():
                await asyncio.sleep(0.001)
                await self._writer.drain()
        except ConnectionError:
            return

    def close(self) -> None:
        """Send and receive nothing more."""
        self._writer.close()

    async def closed(self) -> None:
        """Wait until nothing of it is left."""
        closing = asyncio.get_running_loop().create_task(self._writer.wait_closed())
        await asyncio.wait([closing])  # awaited, it would be cancelled with whoever waits, for everybody
        if not closing.cancelled():
            closing.exception()
