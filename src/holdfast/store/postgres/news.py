"""News of other processes: NOTIFY, gathered and apart from every transaction that writes. A hint: it may be late, or
never come (a pooler, a lost connection), and then asking now and then does."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Callable
from concurrent.futures import Executor
from typing import Final

import psycopg

from holdfast.store.postgres.connection import Connection, connect
from holdfast.store.postgres.target import Target
from holdfast.store.transactions.connection import Row

AT_MOST_EVERY_S: Final = 0.05
"""Every notice wakes every process: 20 a second of each are plenty. The first after a pause goes out at once."""
_HINT: Final = "BEGIN; SET LOCAL synchronous_commit = off"
"""A hint may be lost: no disk is waited for, which others wait for."""
AGAIN_AFTER_S: Final = 5.0
"""How long after a lost connection it is listened again."""


class Listener:
    """A connection that does nothing but listen."""

    def __init__(self, target: Target) -> None:
        self._target = target
        self._raw: psycopg.Connection[Row] | None = None

    def listen(self, channel: str) -> int:
        """Connect anew and listen; the descriptor that becomes readable."""
        self.close()
        self._raw = connect(self._target)
        self._raw.execute(f"LISTEN {channel}".encode())
        return self._raw.fileno()

    def notices(self) -> list[str]:
        """What was sent since, without waiting. Raises when the connection is lost."""
        assert self._raw is not None, "it listens"
        self._raw.pgconn.consume_input()
        sent: list[str] = []
        while (notice := self._raw.pgconn.notifies()) is not None:
            sent.append(notice.extra.decode())
        return sent

    def close(self) -> None:
        """Close it. Idempotent."""
        raw, self._raw = self._raw, None
        if raw is not None:
            raw.close()


class News:
    """What is told and heard of one store, on the event loop; its connections are on threads, and its own."""

    def __init__(self, target: Target, threads: Executor, heard: Callable[[], None]) -> None:
        self._channel = f"holdfast_{target.schema}"
        self._threads = threads
        self._heard = heard
        self._me = secrets.token_hex(4)
        self._speaker = Connection(target, None)
        self._listener = Listener(target)
        self._fd: int | None = None
        self._telling = False
        self._told_s = float("-inf")
        self._again: asyncio.TimerHandle | None = None
        self._tasks: set[asyncio.Future[None]] = set()
        self._over = False

    # --- telling --------------------------------------------------------------------------------------------

    def tell(self) -> None:
        """Tell the others: now, or soon, and then once for all that happens until then."""
        if self._telling or self._over:
            return
        loop = asyncio.get_running_loop()
        due_s = self._told_s + AT_MOST_EVERY_S
        if due_s <= loop.time():
            self._send()
        else:
            self._telling = True
            loop.call_at(due_s, self._send)

    def _send(self) -> None:
        self._telling = False
        if not self._over:
            self._told_s = asyncio.get_running_loop().time()
            self._do(self._notify)

    def _notify(self) -> None:
        try:
            self._speaker.script(f"{_HINT}; SELECT pg_notify('{self._channel}', '{self._me}'); COMMIT")
        except psycopg.Error:
            self._speaker.close()  # a hint that is lost

    # --- hearing --------------------------------------------------------------------------------------------

    def listen(self) -> None:
        """Listen from now on, if that is possible."""
        if self._fd is None and self._again is None and not self._over:
            self._again = asyncio.get_running_loop().call_later(AGAIN_AFTER_S, self._retry)
            self._do(self._begin)

    def _retry(self) -> None:
        self._again = None
        self.listen()

    def _begin(self) -> None:
        """On a thread: connect, listen, and hand the socket to the event loop."""
        loop = self._loop
        try:
            fd = self._listener.listen(self._channel)
        except psycopg.Error:
            return
        loop.call_soon_threadsafe(self._watch, fd)

    def _watch(self, fd: int) -> None:
        if self._over:
            return
        self._fd = fd
        asyncio.get_running_loop().add_reader(fd, self._readable)
        self._heard()  # what happened while nobody listened

    def _readable(self) -> None:
        try:
            senders = self._listener.notices()
        except psycopg.Error:
            self._stop()
            self.listen()
            return
        if any(sender != self._me for sender in senders):
            self._heard()

    def _stop(self) -> None:
        fd, self._fd = self._fd, None
        if fd is not None:
            asyncio.get_running_loop().remove_reader(fd)

    # --- both -----------------------------------------------------------------------------------------------

    def _do(self, work: Callable[[], None]) -> None:
        self._loop = asyncio.get_running_loop()
        task = self._loop.run_in_executor(self._threads, work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def stop(self) -> None:
        """Hear no more and tell no more. Before the connections are closed."""
        self._over = True
        self._stop()
        if self._again is not None:
            self._again.cancel()

    def close(self) -> None:
        """Close the connections."""
        self._speaker.close()
        self._listener.close()
