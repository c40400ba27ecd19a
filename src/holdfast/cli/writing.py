"""Writing to a stream whose reader may never read: it waits, but can be told to give up."""

from __future__ import annotations

import asyncio
import select
from contextlib import suppress
from os import write as write_now
from typing import Final

AT_ONCE_BYTES: Final = select.PIPE_BUF
"""What a pipe takes whole, without waiting, when it says that it takes anything."""


class Writing:
    """Writes to file descriptors, to each by one at a time."""

    def __init__(self) -> None:
        self._turns: dict[int, asyncio.Lock] = {}

    async def write(self, stream: int, data: bytes) -> None:
        """Write it, as long as anybody reads: a program goes on without its spectators. While the reader does not read,
        only the caller waits, until it is cancelled. Raises OSError as the system does."""
        left = memoryview(data)
        async with self._turns.setdefault(stream, asyncio.Lock()):
            with suppress(BrokenPipeError):
                while left:
                    await _writable(stream)
                    with suppress(BlockingIOError):  # somebody else wrote meanwhile
                        left = left[write_now(stream, left[:AT_ONCE_BYTES]) :]


async def _writable(stream: int) -> None:
    loop = asyncio.get_running_loop()
    ready: asyncio.Future[None] = loop.create_future()

    def tell() -> None:
        if not ready.done():
            ready.set_result(None)

    try:
        loop.add_writer(stream, tell)
    except PermissionError:  # a file: it never lets wait
        return
    try:
        await ready
    finally:
        loop.remove_writer(stream)
