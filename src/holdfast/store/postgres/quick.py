"""A step by itself, sent and answered on the event loop: no thread is woken for it, and it is one journey.

Laws of this file:
1. The loop never waits for the database: it sends, goes on, and is called when there is an answer.
2. The connection is the loop's while it is at hand, and a thread's while it is opened or something is looked up.
3. What is not a plain yes is None: the general way does it, or says why not. A lost answer is looked up first.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import Executor
from typing import Final

import psycopg
from psycopg import pq

from holdfast.clock import Clock
from holdfast.model import Change, Committed
from holdfast.store.postgres import hot
from holdfast.store.postgres.connection import STATEMENTS, Connection
from holdfast.store.postgres.target import Target

Answered = Callable[[Committed | Exception | None], None]
LookUp = Callable[[Connection, Change, psycopg.Error], Committed | None]
"""On a thread: what became of a Change whose answer was lost; None when nothing did. Raises StoreUnavailable."""

AGAIN_AFTER_S: Final = 1.0
"""How long after it could not be opened it is tried again; until then the general way says what is wrong."""


class Quick:
    """One connection, with at most one statement under way."""

    def __init__(self, target: Target, clock: Clock | None, threads: Executor, look_up: LookUp) -> None:
        self._connection = Connection(target, clock)
        self._clock = clock
        self._threads = threads
        self._look_up = look_up
        self._line: tuple[int, pq.abc.PGconn] | None = (
            None  # while the loop has it at hand: what to watch and to ask
        )
        self._away = False  # a thread has it
        self._under_way: tuple[Change, Answered] | None = None
        self._result: pq.abc.PGresult | None = None
        self._quiet = asyncio.Event()  # set by each end
        self._record_step = target.text(STATEMENTS["hot.record_step"]).encode()
        self._not_before_s = 0.0
        self._opening: asyncio.Future[pq.abc.PGconn] | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    async def record(self, change: Change) -> Committed | None:
        """Record a Change that is one step. None: nothing was done; the general way does it, or says why it cannot be.

        What was begun is finished, also when the caller is cancelled. Raises StoreUnavailable when nobody knows.
        """
        if not hot.is_step(change) or not await self._at_hand():
            return None
        told: asyncio.Future[Committed | Exception | None] = asyncio.get_running_loop().create_future()
        if not self.begin(change, told.set_result):
            return None
        answer = await asyncio.shield(told)
        if isinstance(answer, Exception):
            raise answer
        return answer

    def begin(self, change: Change, answered: Answered) -> bool:
        """The same without waiting; False when the connection is not at hand, or the Change is more than a step."""
        if self._line is None or self._under_way is not None or not hot.is_step(change):
            return False
        fd, pgconn = self._line
        given_us = None if self._clock is None else self._clock.wall_us()
        values = hot.step_values(self._connection, change, given_us)
        self._under_way = change, answered
        try:
            pgconn.send_query_params(self._record_step, values, hot.STEP_TYPES, hot.STEP_FORMATS, 0)
            if pgconn.flush():
                asyncio.get_running_loop().add_writer(fd, self._flush)
        except psycopg.Error as error:
            self._lost(error)
        return True

    # --- on the loop ----------------------------------------------------------------------------------------

    def _flush(self) -> None:
        """The socket takes more of what is left."""
        assert self._line is not None, "only while it is at hand"
        fd, pgconn = self._line
        try:
            if not pgconn.flush():
                asyncio.get_running_loop().remove_writer(fd)
        except psycopg.Error as error:
            self._lost(error)

    def _readable(self) -> None:
        assert self._line is not None, "only while it is at hand"
        _, pgconn = self._line
        try:
            pgconn.consume_input()
            while not pgconn.is_busy():
                result = pgconn.get_result()
                if result is None:
                    break
                self._result = result
            else:
                return
            if pgconn.status != pq.ConnStatus.OK:
                raise psycopg.OperationalError("the connection is lost")
        except psycopg.Error as error:
            self._lost(error)
            return
        if self._under_way is not None:
            self._answered()

    def _answered(self) -> None:
        assert self._under_way is not None, "who asks nothing is answered nothing"
        (change, answered), self._under_way = self._under_way, None
        result, self._result = self._result, None
        done: Committed | None = None
        if result is not None and result.status == pq.ExecStatus.TUPLES_OK:
            now_us, event = hot.step_answer(result.get_value(0, 0))
            if now_us is None:  # its row is gone: the next one makes another
                self._put_down()
                self._connection.disown()
            else:
                self._connection.written += 1
                if event is not None:
                    done = Committed(change.position + 1, event, now_us)
        self._quiet.set()
        answered(done)

    def _lost(self, error: psycopg.Error) -> None:
        """The connection is gone, with what was under way."""
        self._put_down()
        under_way, self._under_way = self._under_way, None
        self._result = None
        self._quiet.set()
        if under_way is not None:
            self._away = True
            task = asyncio.get_running_loop().create_task(self._find_out(*under_way, error))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _find_out(self, change: Change, answered: Answered, error: psycopg.Error) -> None:
        def look_up() -> Committed | None:
            self._connection.close()
            return self._look_up(self._connection, change, error)

        answer: Committed | Exception | None
        try:
            answer = await asyncio.get_running_loop().run_in_executor(self._threads, look_up)
        except Exception as unknown:  # noqa: BLE001 - whatever it is, it is the caller's
            answer = unknown
        self._away = False
        answered(answer)

    # --- at hand, and put down ------------------------------------------------------------------------------

    async def _at_hand(self) -> bool:
        """Whether the loop has it; opened before, on a thread, when nobody has."""
        loop = asyncio.get_running_loop()
        if self._line is None and not self._away and loop.time() >= self._not_before_s:
            self._away = True
            self._opening = loop.run_in_executor(self._threads, self._connection.register)
            self._opening.add_done_callback(self._opened)
            await asyncio.wait([self._opening])
        return self._line is not None

    def _opened(self, opening: asyncio.Future[pq.abc.PGconn]) -> None:
        loop = asyncio.get_running_loop()
        self._away = False
        if opening.cancelled() or opening.exception() is not None:
            self._not_before_s = loop.time() + AGAIN_AFTER_S
        else:
            pgconn = opening.result()
            self._line = pgconn.socket, pgconn
            loop.add_reader(pgconn.socket, self._readable)

    def _put_down(self) -> None:
        line, self._line = self._line, None
        if line is not None:
            loop = asyncio.get_running_loop()
            loop.remove_reader(line[0])
            loop.remove_writer(line[0])

    async def stop(self) -> None:
        """Finish what is under way, and leave the loop."""
        if self._opening is not None:
            await asyncio.wait([self._opening])
        while self._under_way is not None:
            self._quiet.clear()
            await self._quiet.wait()
        if self._tasks:
            await asyncio.wait(self._tasks)
        self._put_down()

    def close(self) -> None:
        """Close the connection. After `stop`, on whatever thread."""
        self._connection.close()
